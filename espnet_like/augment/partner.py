"""Each sample's other sample, and the blend of the two.

The partner of sample i is sample (i + shift) mod B with one random shift per batch. A batch is
drawn in random order, so the pairs are as random as those of a random permutation, no sample is
its own partner, and the partners' tensor is two slices of the batch: nothing is gathered.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnet_like.augment.base import Augmentation, Batch, Op, check_layers

Per = Literal["sample", "batch"]


class PartnerMix(Augmentation):
    """What methods that mix each sample with its partner have in common.

    Args:
        layers: taps; one of them is drawn per batch.
        per: draw the mix for every `sample`, or one for the `batch`.
        allow_self: let a sample be its own partner (for a whole batch at once).

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(self, layers: tuple[int, ...], per: Per, allow_self: bool) -> None:
        if per not in ("sample", "batch"):
            raise ValueError(f"per must be sample or batch, not {per!r}")
        self.layers = check_layers(layers)
        self.per = per
        self.allow_self = allow_self

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        shift = draw_shift(batch, self.allow_self)
        op = self.op(batch, layer, shift, len(batch.features) if self.per == "sample" else 1)
        return [op] if shift else []

    @abstractmethod
    def op(self, batch: Batch, layer: int, shift: int, number: int) -> Op:
        """The mix at `layer`, of `number` draws: the batch's size, or one for all."""


def draw_shift(batch: Batch, allow_self: bool = False) -> int:
    """A shift of 1 .. B - 1; of 0 .. B - 1 with `allow_self`; 0 and a warning for B = 1."""
    size = len(batch.features)
    if size == 1:
        warnings.warn("a batch of one has no partners: it is not augmented", stacklevel=2)
        return 0
    return batch.integer(0 if allow_self else 1, size)


def partners(size: int, shift: int, device: torch.device) -> Tensor:
    """(B,) index of each sample's partner."""
    return (torch.arange(size, device=device) + shift) % size


def blend(x: Tensor, weight: Tensor, shift: int) -> Tensor:
    """x + weight (y - x), where y is the batch of partners.

    Reads the batch twice and writes it once; the result keeps the memory format of `x`, and
    gradients reach x along both ways.

    Args:
        x: (B, C, F, T).
        weight: the partner's share in 0 .. 1, of x's dtype, (B, 1, F, T) or with ones for F, T.
    """
    result: Tensor = _Blend.apply(x, weight, shift)
    return result


class _Blend(torch.autograd.Function):
    """`blend` without a copy of the partners, forward or backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shift: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shift = shift
        out = torch.empty_like(x)
        n = len(x) - shift
        torch.lerp(x[:n], x[shift:], weight[:n], out=out[:n])
        torch.lerp(x[n:], x[:shift], weight[n:], out=out[n:])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        shift, n = ctx.shift, len(grad) - ctx.shift
        out = torch.addcmul(grad, grad, weight, value=-1)
        out[shift:].addcmul_(grad[:n], weight[:n])
        out[:shift].addcmul_(grad[n:], weight[n:])
        return out, None, None
