"""Augmentation of spectrograms and hidden maps; `base` tells how it works.

Tensors in, tensors out: usable with any model that calls `x = tap(k, x)` between its stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espnet_like.augment.base import Augmentation, Plan, Progress, one_hot
from espnet_like.augment.chain import Chain
from espnet_like.augment.mixup import Mixup
from espnet_like.augment.none import NoAugmentation
from espnet_like.augment.specaugment import SpecAugment
from espnet_like.augment.specaugment_pp import SpecAugmentPP
from espnet_like.registry import build

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "none": NoAugmentation,
    "specaugment": SpecAugment,
    "specaugment_pp": SpecAugmentPP,
    "mixup": Mixup,
    "chain": Chain,
}


def build_augmentation(spec: Mapping[str, Any], where: str = "augment") -> Augmentation:
    """The augmentation that `spec` = `{name: ..., [preset: ...,] ...}` describes.

    Raises:
        UserError: unknown name, preset or key, a wrong type or a value out of range.
    """
    return build(AUGMENTATIONS, spec, where)


__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Chain",
    "Mixup",
    "NoAugmentation",
    "Plan",
    "Progress",
    "SpecAugment",
    "SpecAugmentPP",
    "build_augmentation",
    "one_hot",
]
