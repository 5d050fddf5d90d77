"""SSAST's mixup: weighted sums of waveforms without their means.

Gong et al., "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022, as in its data
loader.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_like.augment.base import Batch, Waves
from espnet_like.augment.mixup import beta
from espnet_like.augment.none import NoAugmentation
from espnet_like.augment.partner import draw_shift, partners
from espnet_like.augment.waveforms import WaveMethod, content, mix_targets


class WaveMixup(WaveMethod):
    """With probability p: m = lambda w_1 + (1 - lambda) w_2, then m - mean(m); targets likewise.

    lambda ~ Beta(alpha, alpha). w_1 and w_2 are clips less their own means, w_2 filled with
    zeros or cut to the length of w_1. A clip that is not mixed loses its mean too. (The authors
    draw w_2 from the whole training part.)

    Args:
        probability: of mixing, clip by clip; 0.6 for Speech Commands, 0 for ESC-50.
        alpha: of the Beta distribution, > 0.
        allow_self: let a clip be its own partner, for a whole batch at once.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self, probability: float = 0.6, alpha: float = 10.0, allow_self: bool = False
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, not {probability}")
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        self.probability = probability
        self.alpha = alpha
        self.allow_self = allow_self

    def mix_waves(self, batch: Batch) -> Waves:
        wave, targets, lengths = batch.features, batch.targets, batch.lengths
        size = len(wave)
        lam = batch.move(beta(self.alpha, size, batch.generator))
        lam = torch.where(batch.uniform(size) < self.probability, lam, 1)
        partner = partners(size, draw_shift(batch, self.allow_self), wave.device)
        inside = content(wave, lengths)
        own = lam[:, None, None]
        centred = without_mean(wave, inside)
        mixed = without_mean(own * centred + (1 - own) * centred[partner], inside)
        return Waves(mixed, mix_targets(targets, lam, partner), lengths, NoAugmentation())


def without_mean(wave: Tensor, inside: Tensor | None) -> Tensor:
    """Each channel less its mean over the clip, zero after the clip's end."""
    if inside is None:
        return wave - wave.mean(2, keepdim=True)
    mean = (wave * inside).sum(2, keepdim=True) / inside.sum(2, keepdim=True)
    return (wave - mean) * inside
