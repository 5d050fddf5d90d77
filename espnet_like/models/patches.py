"""Spectrograms as overlapping patches, there and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from espnet_like.errors import UserError

Overlap = Literal["mean", "sum"]


@dataclass(frozen=True)
class Patches:
    """How patches lie on a spectrogram of `bins` x `frames` cells.

    Args:
        bins, frames: cells of the spectrogram.
        size: (F, T) cells of a patch.
        stride: (F, T) cells from one patch to the next.
        grid: (f, t) patches.
    """

    bins: int
    frames: int
    size: tuple[int, int]
    stride: tuple[int, int]
    grid: tuple[int, int]

    @property
    def reach(self) -> tuple[int, int]:
        """(F, T) cells from the first patch's start to the last one's end."""
        pairs = zip(self.grid, self.stride, self.size, strict=True)
        f, t = ((n - 1) * step + cells for n, step, cells in pairs)
        return f, t

    def pad(self, x: Tensor) -> Tensor:
        """`x` (B, C, F, T) with zeros after its end as far as the last patch goes."""
        return functional.pad(x, (0, max(0, self.reach[1] - self.frames)))

    def columns(self, lengths: Tensor) -> Tensor:
        """Columns of patches that begin within `lengths` (B,) frames, at least 1."""
        return (-(-lengths // self.stride[1])).clamp(1, self.grid[1])

    def cut(self, x: Tensor) -> Tensor:
        """The patches of `x` (B, C, F, T), (B, f t, C h w); a patch is frequency-major."""
        return functional.unfold(self.pad(x), self.size, stride=self.stride).transpose(1, 2)

    def join(self, patches: Tensor, overlap: Overlap = "mean") -> Tensor:
        """(B, f t, C h w) to (B, C, F, T): where patches overlap their mean, or their sum.

        Cells that no patch covers are 0.
        """
        joined = self._fold(patches.float().transpose(1, 2))
        return joined / self.count(patches.device).clamp(min=1) if overlap == "mean" else joined

    def count(self, device: torch.device) -> Tensor:
        """(F, T) float: patches over each cell."""
        cells, patches = self.size[0] * self.size[1], self.grid[0] * self.grid[1]
        return self._fold(torch.ones(1, cells, patches, device=device))[0, 0]

    def _fold(self, vectors: Tensor) -> Tensor:
        joined = functional.fold(vectors, self.reach, self.size, stride=self.stride)
        missing = (0, max(0, self.frames - self.reach[1]), 0, self.bins - self.reach[0])
        return functional.pad(joined[..., : self.frames], missing)


def lay_out(
    shape: tuple[int, int], size: tuple[int, int], stride: tuple[int, int], frames: int
) -> Patches:
    """Patches on a spectrogram of `shape` (F, T), of a network made for `frames` frames.

    Whole patches only, as in a convolution, and nothing after the last of them; but a spectrogram
    of fewer frames than the network's has every patch that begins within it, as if zeros followed.

    Raises:
        UserError: the spectrogram is smaller than a patch.
    """
    for name, cells, least in zip(("mel bins", "frames"), shape, size, strict=True):
        if cells < least:
            raise UserError(
                f"a spectrogram of {shape[0]} mel bins and {shape[1]} frames is smaller than a "
                f"patch of {size[0]} x {size[1]}: it needs at least {least} {name}"
            )
    f, t, own = (
        (cells - least) // step + 1
        for cells, least, step in (
            (shape[0], size[0], stride[0]),
            (shape[1], size[1], stride[1]),
            (frames, size[1], stride[1]),
        )
    )
    t = max(t, min(own, -(-shape[1] // stride[1])))
    return Patches(*shape, size, stride, (f, t))
