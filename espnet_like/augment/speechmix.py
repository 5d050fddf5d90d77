"""SpeechMix: between-class mixes at a layer drawn for each batch.

Jindal et al., "SpeechMix: Augmenting Deep Sound Recognition Using Hidden Space Interpolations",
Interspeech 2020; a baseline of SpecAugment++ (Table 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op, Share, Waves, check_layers
from espnet_like.augment.bc_learning import BCLearning
from espnet_like.augment.pairs import choose, different_classes


class SpeechMix(Augmentation):
    """h = r h_i + (1 - r) h_j at a hidden layer, the same for the targets, r ~ U(0, 1).

    At layer 0 two waveforms are mixed as between-class learning does (see `BCLearning`), or,
    where only spectrograms are at hand, these by the formula above. j is a sample of the batch
    that has no class in common with i; a sample without one is left as it is.

    With padding, frames where only h_i has content stay as they are, and the target weight of
    i is its measured share of the sample's frames.

    Args:
        layers: taps; one of them is drawn per batch.
        waveform: mix waveforms at layer 0 (`draw_wave`); else the spectrograms.
    """

    def __init__(self, layers: tuple[int, ...] = (0, 1, 2, 3, 4), waveform: bool = True) -> None:
        self.layers = check_layers(layers)
        self.needs_wave = waveform and 0 in self.layers

    def mix_waves(self, batch: Batch) -> Waves:
        if not self.needs_wave:
            return super().mix_waves(batch)
        layer = self._layer(batch)
        if layer == 0:
            return BCLearning().mix_waves(batch)
        return SpeechMix((layer,), waveform=False).mix_waves(batch)

    def ops(self, batch: Batch) -> list[Op]:
        layer = self._layer(batch)
        size = len(batch.features)
        partner, found = choose(batch.uniform(size, size), different_classes(batch.targets))
        ratio = torch.where(found, batch.uniform(size), 1)
        return [SpeechMixOp(layer, ratio, partner)] if size > 1 else []

    def _layer(self, batch: Batch) -> int:
        return self.layers[batch.integer(0, len(self.layers))]


@dataclass(frozen=True, eq=False)
class SpeechMixOp(Op):
    """`ratio` (B,) is each sample's own share, `partner` (B,) the index of its other."""

    layer: int
    ratio: Tensor
    partner: Tensor

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        part, own = 1 - self.ratio, self.ratio
        weight = part[:, None, None, None]
        if valid is not None:
            both = torch.minimum(valid, valid[self.partner])
            inside = torch.arange(x.shape[3], device=x.device) < both[:, None]
            weight = weight * inside.to(weight.dtype)[:, None, None, :]
            own = 1 - part * both / valid.clamp(min=1)
        return torch.lerp(x, x[self.partner], weight.to(x.dtype)), Share(own, self.partner)
