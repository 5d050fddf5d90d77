"""mixup: convex combinations of two samples and of their targets.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; at a hidden layer,
Verma et al., "Manifold Mixup", ICML 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from espnet_like.augment.base import Batch, Op, Share
from espnet_like.augment.partner import PartnerMix, Per, blend, partners


class Mixup(PartnerMix):
    """x = lambda x_i + (1 - lambda) x_j, the same for the targets; lambda ~ Beta(alpha, alpha).

    With padding, frames where only x_i has content stay as they are, and the target weight of
    x_i is its measured share of the sample's frames.

    Args:
        alpha: of the Beta distribution, > 0.
        per: draw lambda for every `sample`, or one for the `batch`.
        dominant: lambda <- max(lambda, 1 - lambda), so that x_i keeps the larger part.
        layers: taps; one of them is drawn per batch.
        allow_self: see SpecAugment++.

    The defaults are preset `cpjku`, the mixup of CP-ResNet's authors; `original` is the code of
    the mixup paper.

    Raises:
        ValueError: a setting out of range.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "cpjku": {"alpha": 0.3, "per": "sample", "dominant": True},
        "original": {"alpha": 1.0, "per": "batch", "dominant": False},
    }

    def __init__(
        self,
        alpha: float = 0.3,
        per: Per = "sample",
        dominant: bool = True,
        layers: tuple[int, ...] = (0,),
        allow_self: bool = False,
    ) -> None:
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        super().__init__(layers, per, allow_self)
        self.alpha = alpha
        self.dominant = dominant

    def op(self, batch: Batch, layer: int, shift: int, number: int) -> Op:
        lam = beta(self.alpha, number, batch.generator)
        if self.dominant:
            lam = torch.maximum(lam, 1 - lam)
        return MixupOp(layer, batch.move(lam.expand(len(batch.features))), shift)


@dataclass(frozen=True, eq=False)
class MixupOp(Op):
    """`lam` (B,) is each sample's own share."""

    layer: int
    lam: Tensor
    shift: int

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        partner = partners(len(x), self.shift, x.device)
        part, own = 1 - self.lam, self.lam
        weight = part[:, None, None, None]
        if valid is not None:
            both = torch.minimum(valid, valid[partner])
            inside = torch.arange(x.shape[3], device=x.device) < both[:, None]
            weight = weight * inside[:, None, None, :]
            own = 1 - part * both / valid.clamp(min=1)
        return blend(x, weight.to(x.dtype), self.shift), Share(own, partner)


def beta(alpha: float, size: int, generator: torch.Generator | None) -> Tensor:
    """(size,) draws of Beta(alpha, alpha), single precision.

    X / (X + Y) of two gamma variates. torch.distributions takes no generator; the function that
    it draws from does.
    """
    shape = torch.full((2, size), alpha, dtype=torch.float64)
    x, y = torch._standard_gamma(shape, generator=generator)
    tiny = torch.finfo(torch.float64).tiny  # both underflow only for a very small alpha
    return ((x + tiny / 2) / (x + y + tiny)).float()
