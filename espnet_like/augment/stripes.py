"""Stripes across a map: bands of consecutive frames or frequency bins, one set per sample.

SpecAugment++ (section 2.1) and SpecAugment draw a width t ~ U{0 .. t'} and a start
t0 ~ U{0 .. T - t}, and change the cells t0 <= i < t0 + t over the whole other axis. (The papers'
loops read as if both ends belonged to the stripe; then a width of 0 would still mask.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from espnet_like.augment.base import Batch, Op, Share
from espnet_like.augment.partner import blend

HiddenWidth = Literal["scale", "clamp"]


@dataclass(frozen=True)
class MaxWidth:
    """The largest width t' of a stripe along one axis.

    Args:
        ratio: share of the axis, 0 .. 1; at least one cell when it is not 0.
        count: cells of the input's axis; overrides `ratio`.
        hidden: what `count` means on a smaller map: `scale` it with the axis, or keep it and
            `clamp` it to the axis.

    Raises:
        ValueError: a ratio outside 0 .. 1 or a negative count.
    """

    ratio: float = 0.1
    count: int | None = None
    hidden: HiddenWidth = "scale"

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"a stripe's ratio must be between 0 and 1, not {self.ratio}")
        if self.count is not None and self.count < 0:
            raise ValueError(f"a stripe's width must not be negative: {self.count}")

    def cells(self, size: int, base: int, valid: Tensor | None = None) -> int | Tensor:
        """t' on an axis of `size` cells that has `base` cells at the input.

        With `valid` (B,), the cells of each sample that are not padding, a ratio is a ratio of
        these, and the result is (B,).
        """
        if self.count is None and valid is not None:
            widest = (valid * self.ratio).round().clamp(min=1 if self.ratio else 0).long()
            return torch.minimum(widest, valid)
        if self.count is None:
            width = self.ratio * size
        else:
            width = self.count * size / base if self.hidden == "scale" else self.count
        most = min(size, max(1, round(width)) if width else 0)
        return most if valid is None else valid.clamp(max=most)


class Placed(NamedTuple):
    """Where the stripes of one axis lie: (B, n) first cells and widths."""

    start: Tensor
    width: Tensor

    def cover(self, size: int) -> Tensor:
        """(B, size) bool: cells inside any stripe."""
        cell = torch.arange(size, device=self.start.device)[:, None]
        start, width = self.start[:, None], self.width[:, None]
        return ((cell >= start) & (cell < start + width)).any(-1)


@dataclass(frozen=True)
class Stripes:
    """n stripes per sample along one axis, before the size of the map is known.

    Args:
        most: the largest width.
        base: cells of this axis at the input.
        units: (2, B, n) numbers of [0, 1), for the widths and the starts.
    """

    most: MaxWidth
    base: int
    units: Tensor

    @classmethod
    def draw(cls, batch: Batch, most: MaxWidth, axis: int, number: int = 1) -> Stripes:
        """`number` stripes for each sample along `axis` (2 frequency, 3 time)."""
        units = batch.uniform(2, len(batch.features), number)
        return cls(most, batch.features.shape[axis], units)

    def place(self, size: int, valid: Tensor | None = None) -> Placed:
        """Integers for an axis of `size` cells, of which the first `valid` (B,) may be used.

        A single-precision unit u < 1 keeps floor(u n) < n for every n below 2**24.
        """
        most = self.most.cells(size, self.base, valid)
        most = most if isinstance(most, int) else most[:, None]
        width = (self.units[0] * (most + 1)).long()
        room = (size if valid is None else valid[:, None]) - width
        return Placed((self.units[1] * (room + 1)).long(), width)


@dataclass(frozen=True, eq=False)
class StripeOp(Op):
    """What masks have in common: time and frequency stripes at a layer."""

    layer: int
    time: Stripes
    freq: Stripes

    def stripes(
        self, shape: torch.Size | tuple[int, ...], valid: Tensor | None = None
    ) -> tuple[Placed, Placed]:
        """The time and the frequency stripes on a map (B, C, F, T), as integers."""
        return self.time.place(shape[3], valid), self.freq.place(shape[2])

    def mask(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """(B, 1, F, T) bool: inside a stripe, and not padding."""
        time, freq = self.stripes(x.shape, valid)
        frames = time.cover(x.shape[3])[:, None, None, :]
        bins = freq.cover(x.shape[2])[:, None, :, None]
        if valid is not None:
            inside = torch.arange(x.shape[3], device=x.device) < valid[:, None]
            bins = bins & inside[:, None, None, :]
        return frames | bins


@dataclass(frozen=True, eq=False)
class FillOp(StripeOp):
    """Stripes of one value: `fill` is a number, or None for each channel's mean in the sample."""

    fill: float | None = 0.0

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        mask = self.mask(x, valid)
        if self.fill is not None:
            return torch.where(mask, self.fill, x), None
        if valid is None:
            return torch.where(mask, x.mean((2, 3), keepdim=True), x), None
        inside = torch.arange(x.shape[3], device=x.device) < valid[:, None]
        profile = x.mean(2, keepdim=True) * inside[:, None, None, :]
        mean = profile.sum(3, keepdim=True) / valid.clamp(min=1)[:, None, None, None]
        return torch.where(mask, mean.to(x.dtype), x), None


@dataclass(frozen=True, eq=False)
class PartnerOp(StripeOp):
    """Stripes that take `part` of their content from the partner's same cells.

    Both stripes mix the tensors as they came, so where they cross nothing is mixed twice. With
    padding, stripes lie where both samples have content.
    """

    shift: int = 1
    part: float = 1.0

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        if valid is not None:
            valid = torch.minimum(valid, valid.roll(-self.shift))
        time, freq = self.stripes(x.shape, valid)
        frames = self.part * time.cover(x.shape[3]).to(x.dtype)[:, None, None, :]
        bins = self.part * freq.cover(x.shape[2]).to(x.dtype)[:, None, :, None]
        weight = torch.maximum(frames, bins)  # of the map's size: nothing else of that size is made
        if valid is not None:
            inside = torch.arange(x.shape[3], device=x.device) < valid[:, None]
            weight = weight * inside[:, None, None, :]
        return blend(x, weight, self.shift), None
