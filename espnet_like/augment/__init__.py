"""Augmentation of spectrograms and hidden maps; `base` tells how it works.

Tensors in, tensors out: usable with any model that calls `x = tap(k, x)` between its stages, and
through `Taps` with any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espnet_like.augment.base import Augmentation, Plan, Progress, Waves, one_hot
from espnet_like.augment.bc_learning import BCLearning
from espnet_like.augment.chain import Chain
from espnet_like.augment.cutmix import CutMix
from espnet_like.augment.freqmix import FreqMix
from espnet_like.augment.frequency_warp import FrequencyWarp
from espnet_like.augment.hooks import Taps
from espnet_like.augment.mixup import Mixup
from espnet_like.augment.noise import Noise
from espnet_like.augment.none import NoAugmentation
from espnet_like.augment.one_of import OneOf
from espnet_like.augment.peas import PEAS
from espnet_like.augment.specaugment import SpecAugment
from espnet_like.augment.specaugment_pp import SpecAugmentPP
from espnet_like.augment.specmix import SpecMix
from espnet_like.augment.speechmix import SpeechMix
from espnet_like.augment.ssast_masks import SSASTMasks
from espnet_like.augment.superposition import Superposition
from espnet_like.augment.time_roll import TimeRoll
from espnet_like.augment.upb_masks import UPBMasks
from espnet_like.augment.wave_mixup import WaveMixup
from espnet_like.registry import build

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "none": NoAugmentation,
    "specaugment": SpecAugment,
    "specaugment_pp": SpecAugmentPP,
    "mixup": Mixup,
    "cutmix": CutMix,
    "specmix": SpecMix,
    "freqmix": FreqMix,
    "wave_mixup": WaveMixup,
    "superposition": Superposition,
    "speechmix": SpeechMix,
    "bc_learning": BCLearning,
    "upb_masks": UPBMasks,
    "ssast_masks": SSASTMasks,
    "peas": PEAS,
    "frequency_warp": FrequencyWarp,
    "noise": Noise,
    "time_roll": TimeRoll,
    "chain": Chain,
    "one_of": OneOf,
}


def build_augmentation(spec: Mapping[str, Any], where: str = "augment") -> Augmentation:
    """The augmentation that `spec` = `{name: ..., [preset: ...,] ...}` describes.

    Raises:
        UserError: unknown name, preset or key, a wrong type or a value out of range.
    """
    return build(AUGMENTATIONS, spec, where)


__all__ = [
    "AUGMENTATIONS",
    "PEAS",
    "Augmentation",
    "BCLearning",
    "Chain",
    "CutMix",
    "FreqMix",
    "FrequencyWarp",
    "Mixup",
    "NoAugmentation",
    "Noise",
    "OneOf",
    "Plan",
    "Progress",
    "SSASTMasks",
    "SpecAugment",
    "SpecAugmentPP",
    "SpecMix",
    "SpeechMix",
    "Superposition",
    "Taps",
    "TimeRoll",
    "UPBMasks",
    "WaveMixup",
    "Waves",
    "build_augmentation",
    "one_hot",
]
