"""The masks of UPB's audio tagging: one over time, one over frequency, filled with the mean.

Ebbers and Haeb-Umbach, "Convolutional Recurrent Neural Network and Data Augmentation for Audio
Tagging with Noisy Labels and Minimal Supervision", DCASE 2019 Task 2 technical report, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Literal

import torch
from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op, check_layers
from espnet_like.augment.stripes import FillOp, HiddenWidth, MaxWidth, Placed, Stripes


class UPBMasks(Augmentation):
    """x = 0 where n0 <= n < n0 + W, and where f0 <= f < f0 + H, over all channels.

        W ~ U(0, min(70, 0.2 N)),  n0 ~ U(0, N - W)     N: the clip's own frames
        H ~ U(0, 16),              f0 ~ U(0, F - H)     F = 128 mel bins

    All four are whole numbers and both ends can be drawn; 0.2 N is rounded down, so that clips of
    less than five frames keep all of them. Features are normalised: 0 is their mean. At a hidden
    layer the numbers of cells scale with the map, the shares do not.

    Args:
        layers: taps; one of them is drawn per batch.
        time_width, freq_width: largest W and H in cells of the input; None for no such bound.
        time_ratio, freq_ratio: largest W and H as shares of N and F. The lesser bound counts.
        start: `inside` as in the report, or `anywhere`: n0 ~ U{0 .. N - 1}, f0 ~ U{0 .. F - 1},
            cut off at the end, as in the authors' code (masks are then smaller on average).
        hidden_width: what cells mean at a hidden layer (see `stripes.MaxWidth`).

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        layers: tuple[int, ...] = (0,),
        time_width: int | None = 70,
        time_ratio: float = 0.2,
        freq_width: int | None = 16,
        freq_ratio: float = 1.0,
        start: Literal["inside", "anywhere"] = "inside",
        hidden_width: HiddenWidth = "scale",
    ) -> None:
        if start not in ("inside", "anywhere"):
            raise ValueError(f"start must be inside or anywhere, not {start!r}")
        self.layers = check_layers(layers)
        self.time = LesserWidth(time_ratio, time_width, hidden_width)
        self.freq = LesserWidth(freq_ratio, freq_width, hidden_width)
        self.stripes: type[Stripes] = Stripes if start == "inside" else CutOffStripes

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        time = self.stripes.draw(batch, self.time, axis=3)
        freq = self.stripes.draw(batch, self.freq, axis=2)
        return [FillOp(layer, time, freq)]


@dataclass(frozen=True)
class LesserWidth(MaxWidth):
    """min(`count`, `ratio` of the axis), the latter rounded down; `count` may be None."""

    def cells(self, size: int, base: int, valid: Tensor | None = None) -> int | Tensor:
        most = size if self.count is None else int(super().cells(size, base))
        tiny = 1e-9  # 0.29 * 100 is 29, whatever floating point makes of it
        if valid is None:
            return min(most, floor(size * self.ratio + tiny))
        return (valid.double() * self.ratio + tiny).floor().long().clamp(max=most)


@dataclass(frozen=True)
class CutOffStripes(Stripes):
    """Stripes that start anywhere and end with the axis."""

    def place(self, size: int, valid: Tensor | None = None) -> Placed:
        whole = super().place(size, valid)
        end = size if valid is None else valid[:, None]
        start = (self.units[1] * end).long()
        return Placed(start, torch.minimum(whole.width, end - start))
