"""PEAS's mask position selector (section III.B): which blocks of an axis are the hardest.

Errors are added up as integers, so that equal blocks tie exactly; the first of them wins.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Choice = Literal["residual", "topk", "nms"]
Placement = Literal["start", "center", "best", "random_inside"]

BITS = 40  # of an error: a sum over 2**20 cells still fits


def choose_windows(profile: Tensor, widths: Tensor, valid: Tensor, choice: Choice) -> Tensor:
    """First cells of the windows with the largest mean error, the largest first.

    `residual`: each window is taken out of the profile before the next is sought. `topk`: the
    ranks as they are; the best windows lie side by side. `nms`: no window touches another one;
    where no room is left, as `residual`.

    Args:
        profile: (B, L) mean error of each cell of the axis, not negative.
        widths: (B, n) cells of each window.
        valid: (B,) cells of the axis that windows may cover; a wider window begins at 0.
        choice: how several windows of one clip are kept apart.

    Returns:
        (B, n) long.
    """
    left = _integers(profile)
    whole, free = left, torch.ones_like(left, dtype=torch.bool)
    starts: list[Tensor] = []
    for rank, width in enumerate(widths.unbind(1)):
        if choice == "topk":
            scores = _scores(whole, width, valid)
            order = scores.argsort(dim=1, descending=True, stable=True)
            start = order[:, min(rank, order.shape[1] - 1)].minimum((valid - width).clamp(min=0))
        else:
            start = _first_best(_scores(left, width, valid))
        if choice == "nms":
            scores = _scores(whole, width, valid)
            open_ = _sums((~free).long(), width) == 0
            apart = torch.where(open_, scores, -1)
            start = torch.where((apart >= 0).any(1), _first_best(apart), start)
        starts.append(start)
        cell = torch.arange(profile.shape[1], device=profile.device)
        inside = (cell >= start[:, None]) & (cell < (start + width)[:, None])
        left, free = torch.where(inside, 0, left), free & ~inside
    return torch.stack(starts, 1)


def place_in_windows(
    profile: Tensor,
    starts: Tensor,
    windows: Tensor,
    widths: Tensor,
    units: Tensor,
    valid: Tensor,
    placement: Placement,
) -> Tensor:
    """First cells of blocks whose windows have been chosen.

    A block narrower than its window lies within it, a wider one around it: at its `start`, its
    `center`, where the error is largest (`best`), or anywhere (`random_inside`).

    Args:
        profile, valid: as in `choose_windows`.
        starts, windows: (B, n) first cells and widths of the windows.
        widths: (B, n) of the blocks.
        units: (B, n) numbers of [0, 1).
        placement: where.

    Returns:
        (B, n) long; every block lies within the first `valid` cells.
    """
    room = windows - widths
    last = (valid[:, None] - widths).clamp(min=0)
    if placement == "best":
        low, high = (starts + room.clamp(max=0)).clamp(min=0), starts + room.clamp(min=0)
        cell = torch.arange(profile.shape[1], device=profile.device)
        found = []
        for k, width in enumerate(widths.unbind(1)):
            within = (cell >= low[:, k, None]) & (cell <= high[:, k, None])
            scores = _scores(_integers(profile), width, valid)
            found.append(_first_best(torch.where(within, scores, -1)))
        return torch.stack(found, 1).minimum(last)
    if placement == "center":
        starts = starts + torch.div(room, 2, rounding_mode="floor")
    elif placement == "random_inside":
        starts = starts + room.clamp(max=0) + (units * (room.abs() + 1)).long()
    return starts.clamp(min=0).minimum(last)


def _integers(profile: Tensor) -> Tensor:
    """(B, L) long: errors in units of 2**-BITS of the power of two above a clip's largest."""
    profile = profile.double()
    top = torch.frexp(profile.amax(1, keepdim=True)).exponent.clamp(min=-900)
    return (profile * torch.exp2((BITS - top).double())).round().long()


def _scores(values: Tensor, width: Tensor, valid: Tensor) -> Tensor:
    """(B, L) sum over the window that begins at each cell; -1 where it would not fit."""
    cell = torch.arange(values.shape[1], device=values.device)
    return torch.where(cell <= (valid - width).clamp(min=0)[:, None], _sums(values, width), -1)


def _sums(values: Tensor, width: Tensor) -> Tensor:
    """(B, L) sum over `width` (B,) cells from each cell on."""
    size = values.shape[1]
    total = torch.nn.functional.pad(values.cumsum(1), (1, 0))
    end = torch.arange(size, device=values.device) + width[:, None]
    return total.gather(1, end.clamp(max=size)) - total[:, :-1]


def _first_best(scores: Tensor) -> Tensor:
    """(B,) the first index of each row's maximum."""
    cell = torch.arange(scores.shape[1], device=scores.device)
    best = scores == scores.amax(1, keepdim=True)
    return torch.where(best, cell, scores.shape[1]).amin(1)
