"""Frequency warping: each clip's frequency axis is stretched below a corner, squeezed above.

Ebbers and Haeb-Umbach, DCASE 2019 Task 2 technical report (see `upb_masks`), section 2, after
vocal tract length perturbation (Jaitly and Hinton, ICML workshop 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op, Share, check_layers
from espnet_like.augment.gather import take_bins

Corner = Literal["mid", "vtlp"]
Edge = Literal["zero", "clamp"]


class FrequencyWarp(Augmentation):
    """x'(f) = x(g(f)), linear between bins, with one warp per clip:

        alpha = (1 + u)^(2 s - 1),  u ~ Exp(0.07),  s ~ Bernoulli(1/2)
        f_c ~ Exp(0.5 F)                                            (means, not rates)

        g(f) = f / alpha                                for f <= f_d
             = F - (F - f) (F - f_s) / (F - f_d)        for f_d < f <= F

    The corner f_s moves to f_d = alpha f_s, and F, one above the last bin, stays. Where f_s or
    f_d is F or more, g(f) = f / alpha on the whole axis. For alpha > 1 content moves up.

    The report does not say where the corner lies on the way from f_s to f_d; its authors' code
    has f_c in the middle. Neither does it say what lies beyond the last bin, which is read only
    where alpha < 1.

    At a hidden layer f_c scales with the map. Time and padding are not touched.

    Args:
        layers: taps; one of them is drawn per batch.
        strength: mean of u; 0 for no warp.
        corner_scale: mean of f_c, as a share of F.
        corner: `mid`: f_c = (f_s + f_d) / 2. `vtlp`: f_c = max(f_s, f_d), as Jaitly and Hinton.
        edge: beyond the last bin is `zero` (the mean, as in the authors' code), or `clamp`: the
            last bin.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        layers: tuple[int, ...] = (0,),
        strength: float = 0.07,
        corner_scale: float = 0.5,
        corner: Corner = "mid",
        edge: Edge = "zero",
    ) -> None:
        if strength < 0:
            raise ValueError(f"strength must not be negative: {strength}")
        if corner_scale <= 0:
            raise ValueError(f"corner_scale must be positive, not {corner_scale}")
        if corner not in ("mid", "vtlp"):
            raise ValueError(f"corner must be mid or vtlp, not {corner!r}")
        if edge not in ("zero", "clamp"):
            raise ValueError(f"edge must be zero or clamp, not {edge!r}")
        self.layers = check_layers(layers)
        self.strength = strength
        self.corner_scale = corner_scale
        self.corner: Corner = corner
        self.edge: Edge = edge

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        size = len(batch.features)
        u, fc = torch.empty(2, size, dtype=torch.float64).exponential_(generator=batch.generator)
        up = torch.rand(size, generator=batch.generator) < 0.5
        alpha = 1 + self.strength * u
        alpha = torch.where(up, alpha, 1 / alpha)
        fc = self.corner_scale * fc
        return [WarpOp(layer, batch.move(alpha), batch.move(fc), self.corner, self.edge)]


@dataclass(frozen=True, eq=False)
class WarpOp(Op):
    """`alpha` (B,) and `fc` (B,), the corner as a share of F, in double precision."""

    layer: int
    alpha: Tensor
    fc: Tensor
    corner: Corner = "mid"
    edge: Edge = "zero"

    def source(self, size: int) -> Tensor:
        """g of the bins 0 .. F - 1, (B, F), for F = `size`."""
        alpha, fc = self.alpha[:, None], self.fc[:, None] * size
        fs = 2 * fc / (1 + alpha) if self.corner == "mid" else fc / alpha.clamp(min=1)
        fd = alpha * fs
        f = torch.arange(size, device=alpha.device)
        above = size - (size - f) * (size - fs) / (size - fd)
        return torch.where((f <= fd) | (fs >= size) | (fd >= size), f / alpha, above)

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        last = x.shape[2] - 1
        g = self.source(x.shape[2])
        if self.edge == "clamp":
            g = g.clamp(max=last)
        low = g.floor()
        part = (g - low)[:, None, :, None]
        own = 1 - part
        low = low.long()
        if self.edge == "zero":
            own = own * (low <= last)[:, None, :, None]
            part = part * (low < last)[:, None, :, None]
        below = take_bins(x, low.clamp(max=last)) * own.to(x.dtype)
        above = take_bins(x, (low + 1).clamp(max=last))
        return torch.addcmul(below, above, part.to(x.dtype)), None
