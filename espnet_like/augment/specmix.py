"""SpecMix: bands of time and of frequency from another sample, the targets by their area.

Kim, Han and Ko, "SpecMix: A Mixed Sample Data Augmentation Method for Training with
Time-Frequency Domain Features", Interspeech 2021, as the slides (Lukianov, 2021) and the authors'
code describe it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from espnet_like.augment.base import Batch, Op
from espnet_like.augment.mask_mix import MaskMixOp
from espnet_like.augment.partner import PartnerMix, Per
from espnet_like.augment.stripes import Placed


class SpecMix(PartnerMix):
    """x = M x_i + (1 - M) x_j, y = lambda y_i + (1 - lambda) y_j, lambda the share of x_i in x.

    M is 0 inside any of n_f frequency and n_t time bands, n_f, n_t ~ U{0 .. max_bands}. A
    frequency band has floor(gamma F) bins and starts anywhere it fits, a time band floor(gamma T)
    frames; bands may overlap. (The slides' lambda ~ Beta is CutMix's; SpecMix draws none.)

    Args:
        gamma: share of an axis that a band takes, 0 .. 1, or `uniform`: drawn from [0, 1) with
            each mask.
        max_bands: the most bands along one axis; 2 in the authors' code, 3 in other readings.
        per: draw a mask for every `sample`, or one for the `batch`.
        layers: taps; one of them is drawn per batch.
        allow_self: see SpecAugment++.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        gamma: float | Literal["uniform"] = 0.3,
        max_bands: int = 2,
        per: Per = "sample",
        layers: tuple[int, ...] = (0,),
        allow_self: bool = False,
    ) -> None:
        if isinstance(gamma, str):
            if gamma != "uniform":
                raise ValueError(f"gamma must be a number or uniform, not {gamma!r}")
        elif not 0 <= gamma <= 1:
            raise ValueError(f"gamma must be between 0 and 1, not {gamma}")
        if max_bands < 0:
            raise ValueError(f"max_bands must not be negative: {max_bands}")
        super().__init__(layers, per, allow_self)
        self.gamma = gamma
        self.max_bands = max_bands

    def op(self, batch: Batch, layer: int, shift: int, number: int) -> Op:
        size = len(batch.features)
        counts = (batch.uniform(2, number) * (self.max_bands + 1)).long().expand(2, size)
        units = batch.uniform(2, number, self.max_bands).expand(2, size, self.max_bands)
        if isinstance(self.gamma, str):
            gamma = batch.uniform(number).double().expand(size)
        else:
            gamma = batch.move(torch.full((size,), self.gamma, dtype=torch.float64))
        return SpecMixOp(layer, shift, gamma, counts, units)


@dataclass(frozen=True, eq=False)
class SpecMixOp(MaskMixOp):
    """The bands, before the size of the map is known.

    Args:
        gamma: (B,) float64.
        counts: (2, B) bands along frequency and time.
        units: (2, B, max_bands) of [0, 1), for the starts.
    """

    gamma: Tensor
    counts: Tensor
    units: Tensor
    union: ClassVar[bool] = True

    def covers(self, bins: int, frames: int, both: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return (
            self.place(0, bins).cover(bins),
            self.place(1, frames if both is None else both).cover(frames),
        )

    def place(self, axis: int, extent: Tensor | int) -> Placed:
        """The bands along frequency (0) or time (1), those that are not there of width 0."""
        extent = extent[:, None] if isinstance(extent, Tensor) else extent
        width = (self.gamma[:, None] * extent + 1e-9).long()  # 0.29 x 100 is 29
        there = torch.arange(self.units.shape[2], device=width.device) < self.counts[axis][:, None]
        start = (self.units[axis] * (extent - width + 1)).long()
        return Placed(start, torch.where(there, width, 0))
