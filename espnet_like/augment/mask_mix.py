"""Mixes by a binary mask: each cell comes from one of two samples, the targets by area.

    x = M x_i + (1 - M) x_j,   y = own y_i + (1 - own) y_j,   own = mean of M

CutMix takes a box from the other sample, SpecMix a union of bands, FreqMix all but one band: the
mask is made of covered bins and covered frames, and its area of the numbers of these.

With padding, the other sample is seen only where both have content, and `own` is measured over
the sample's own frames.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from espnet_like.augment.base import Op, Share
from espnet_like.augment.partner import blend, partners

Edges = Literal["clip", "wrap", "shift"]
Anchor = Literal["centre", "start"]


@dataclass(frozen=True, eq=False)
class MaskMixOp(Op):
    """What mixes by a mask have in common; `shift` tells the partners (see `partner`)."""

    layer: int
    shift: int
    union: ClassVar[bool] = False  # of covered bins and frames; else where they cross

    @abstractmethod
    def covers(self, bins: int, frames: int, both: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Cells of x_j: (B, F) bool and, before frame `both` (B,), (B, T) bool or None for all."""

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        size, _, bins, frames = x.shape
        partner = partners(size, self.shift, x.device)
        both = None if valid is None else torch.minimum(valid, valid[partner])
        freq, time = self.covers(bins, frames, both)
        rows = freq.sum(1)
        columns = (frames if both is None else both) if time is None else time.sum(1)
        inside = None if both is None else torch.arange(frames, device=x.device) < both[:, None]
        weight = freq.to(x.dtype)[:, None, :, None]
        if self.union and time is not None:
            if inside is not None:
                weight = weight * inside.to(x.dtype)[:, None, None, :]
            weight = torch.maximum(weight, time.to(x.dtype)[:, None, None, :])
            changed = rows * (frames if both is None else both) + (bins - rows) * columns
        else:
            time = inside if time is None else time
            if time is not None:
                weight = weight * time.to(x.dtype)[:, None, None, :]
            changed = rows * columns
        area = bins * (frames if valid is None else valid.clamp(min=1))
        return blend(x, weight, self.shift), Share(self.own(changed / area, both, valid), partner)

    def own(self, changed: Tensor, both: Tensor | None, valid: Tensor | None) -> Tensor:
        """(B,) weight of the sample's own targets, `changed` being the share that it lost."""
        return 1 - changed


def band(
    cells: int,
    extent: Tensor | int,
    width: Tensor,
    unit: Tensor,
    edges: Edges = "clip",
    anchor: Anchor = "centre",
) -> Tensor:
    """One band for each sample along an axis, (B, cells) bool.

    Args:
        cells: of the axis.
        extent: (B,) or one number: the band lies in the cells before it.
        width: (B,) integers, 0 .. extent.
        unit: (B,) of [0, 1), for the place.
        edges: what happens to a band whose anchor lies near an end: it is cut off (`clip`), goes
            on at the other end (`wrap`), or is drawn among the places where it fits (`shift`).
        anchor: what is uniform over the cells, for `clip` and `wrap`: the band's cell
            `width // 2`, or its first.
    """
    if isinstance(extent, Tensor):
        extent = extent.clamp(min=1)[:, None]
    width, unit = width[:, None], unit[:, None]
    cell = torch.arange(cells, device=unit.device)
    if edges == "shift":
        first = (unit * (extent - width + 1)).long()
    else:
        first = (unit * extent).long()
        if anchor == "centre":
            first = first - width // 2
    after = cell - first
    if edges == "wrap":
        after = after % extent
    return (after >= 0) & (after < width) & (cell < extent)
