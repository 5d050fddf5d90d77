"""PEAS's auxiliary tasks (section III.A): where a network reconstructs a spectrogram badly.

The network is one that guesses the content of patches from its tokens: `guess`, `layout` and
`mask_embed` as SSAST has them (`models.ssast`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from espnet_like.errors import UserError

Score = Literal["e_pred", "e_rec", "rec_pred", "masked_rec"]
Scaling = Literal["raw", "standardize", "log1p", "sqrt"]
Overlap = Literal["mean", "sum"]
Stride = tuple[int, int] | None

MASKED_PASSES = 4  # of `masked_rec`: each hides every fourth patch


@dataclass(frozen=True)
class ErrorMaps:
    """What the auxiliary tasks give, each (B, C, F, T) float32.

    Args:
        reconstruction: G(E(x)).
        e_rec: its squared error (equation 1), scaled as asked.
        prediction: G(E(e_rec)); None where the score does without it.
        e_pred: its squared error (equation 2); likewise.
        score: the map that ranks blocks, not negative where it counts.
        covered: (1 or B, F, T) bool: cells that count. Elsewhere the maps mean nothing: no patch
            lies there, or padding is to be left out.
    """

    reconstruction: Tensor
    e_rec: Tensor
    prediction: Tensor | None
    e_pred: Tensor | None
    score: Tensor
    covered: Tensor

    def mean(self, errors: Tensor) -> Tensor:
        """(B,) mean of a map's covered cells."""
        inside = self.covered.float()
        total = (errors.mean(1) * inside).sum((1, 2))
        return total / inside.sum((1, 2)).clamp(min=1)

    def profile(self, axis: int) -> Tensor:
        """(B, F) or (B, T) mean score of the covered cells at each place of `axis` (2 or 3)."""
        across = 5 - axis  # the other axis
        inside = self.covered.double()
        total = (self.score.double().mean(1) * inside).sum(across - 1)
        return total / inside.sum(across - 1).clamp(min=1)


def error_maps(
    model: nn.Module | None,
    x: Tensor,
    score: Score = "e_pred",
    scaling: Scaling = "raw",
    stride: Stride = None,
    overlap: Overlap = "mean",
    lengths: Tensor | None = None,
    content: Tensor | None = None,
    gradients: bool = False,
) -> ErrorMaps:
    """Run the auxiliary tasks; the network and the state of random numbers stay as they are.

    Args:
        model: a network that reconstructs.
        x: features, (B, C, F, T).
        score: `e_pred`, as equation 2; `e_rec`, one pass instead of two; `rec_pred`: the guess
            G(E(e_rec)) itself, as HPM ranks patches; `masked_rec`: e_rec of patches that the
            network does not see, in four passes.
        scaling: what stands for e_rec from then on: itself, (e - mean) / (2 std) of each clip,
            log(1 + e), or its root.
        stride: of the patches; None for the network's own.
        overlap: what a cell gets that several patches guess.
        lengths: (B,) frames that are not padding, as the network is told; None when all are.
        content: (B, T) bool: frames whose cells count; None: all. Others are 0 in e_rec.
        gradients: the maps can be differentiated.

    Raises:
        UserError: a network that does not reconstruct, or a spectrogram smaller than a patch.
    """
    net = _reconstructing(model)
    patches = net.layout(x, stride)
    covered = (patches.count(x.device) > 0)[None]
    inside = torch.ones_like(covered) if content is None else content[:, None]
    covered = covered & inside
    with torch.set_grad_enabled(gradients), at_rest(net):
        blind = score == "masked_rec"
        guess = (_blind_guess if blind else _guess)(net, x, lengths, stride)
        reconstruction = patches.join(guess, overlap)
        e_rec = _scaled((reconstruction - x.float()).square(), scaling, covered)
        e_rec = torch.where(inside[:, None], e_rec, 0)  # it is the next pass's input, padded as x
        if blind or score == "e_rec":
            ranks = _from_zero(e_rec, covered)
            return ErrorMaps(reconstruction, e_rec, None, None, ranks, covered)
        prediction = patches.join(_guess(net, e_rec, lengths, stride), overlap)
        e_pred = (prediction - e_rec).square()
    ranks = _from_zero(e_pred if score == "e_pred" else prediction, covered)
    return ErrorMaps(reconstruction, e_rec, prediction, e_pred, ranks, covered)


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """In this context dropout and batch normalisation are those of evaluation."""
    learning = [module for module in model.modules() if module.training]
    for module in learning:
        module.training = False
    try:
        yield
    finally:
        for module in learning:
            module.training = True


def _reconstructing(model: nn.Module | None) -> Any:
    if not hasattr(model, "guess") or not hasattr(model, "gpredlayer"):
        raise UserError(
            "augment peas needs a network that reconstructs: model ssast with pretext frozen or "
            f"trained, not {type(model).__name__}"
        )
    return model


def _guess(net: Any, x: Tensor, lengths: Tensor | None, stride: Stride) -> Tensor:
    return net.guess(x, lengths, stride=stride)


def _blind_guess(net: Any, x: Tensor, lengths: Tensor | None, stride: Stride) -> Tensor:
    """Every patch as guessed in the pass that hides it; neighbours are hidden in others."""
    f, t = net.layout(x, stride).grid
    row, column = torch.arange(f, device=x.device)[:, None], torch.arange(t, device=x.device)
    turn = ((2 * row + column) % MASKED_PASSES).flatten()
    total: Any = 0
    for k in range(MASKED_PASSES):
        hidden = turn == k
        guess = net.guess(x, lengths, hidden.expand(len(x), -1), stride)
        total = torch.where(hidden[:, None], guess, total)
    return total


def _scaled(errors: Tensor, scaling: Scaling, covered: Tensor) -> Tensor:
    if scaling == "sqrt":
        return errors.sqrt()
    if scaling == "log1p":
        return errors.log1p()
    if scaling == "raw":
        return errors
    covered = covered[:, None]
    count = covered.sum((1, 2, 3), keepdim=True).clamp(min=1) * errors.shape[1]
    mean = (errors * covered).sum((1, 2, 3), keepdim=True) / count
    spread = ((errors - mean).square() * covered).sum((1, 2, 3), keepdim=True) / count
    return (errors - mean) / (2 * spread.sqrt()).clamp(min=1e-12)


def _from_zero(ranks: Tensor, covered: Tensor) -> Tensor:
    """`ranks`, raised where a clip has negative ones: what is taken out of it counts 0."""
    return ranks - torch.where(covered[:, None], ranks, 0).amin((1, 2, 3), keepdim=True).clamp(
        max=0
    )
