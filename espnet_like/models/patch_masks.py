"""Which patches pretraining masks: the draws of SSAST's authors' code, for a batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor

SIDES = (3, 5)  # the least and the largest side of a cluster


def clustered_masks(
    size: int, grid: tuple[int, int], number: int, generator: torch.Generator | None = None
) -> Tensor:
    """Masks of clusters, for networks whose patches are squares.

    Each clip draws a side C ~ U{3, 4, 5}, then first patches u ~ U{0 .. f t - 1}, of which each
    masks the patches u + t i + j, 0 <= i, j < C, where 0 < u + t i + j < f t (a cluster runs on
    from the last column to the first one of the next row, and patch 0 is never masked), until
    more than `number` are masked. The `number` with the lowest indices are taken.

    Args:
        size: B, clips.
        grid: (f, t) patches.
        number: m, masked patches of each clip.
        generator: on the CPU; None for torch's own.

    Returns:
        (B, m) indices, ascending, on the CPU.

    Raises:
        ValueError: more patches than can be masked: at most f t - 2.
    """
    patches = grid[0] * grid[1]
    if not 1 <= number <= patches - 2:
        raise ValueError(f"of {grid[0]} x {grid[1]} patches 1 to {patches - 2} can be masked")
    side = torch.randint(SIDES[0], SIDES[1] + 1, (size,), generator=generator)
    starts = torch.empty(size, 0, dtype=torch.long)
    while True:
        more = torch.randint(patches, (size, patches), generator=generator)
        starts = torch.cat([starts, more], 1)
        masks, complete = cover(starts, side, grid, number)
        if complete:
            return masks


def cover(starts: Tensor, side: Tensor, grid: tuple[int, int], number: int) -> tuple[Tensor, bool]:
    """The masks of clusters drawn already.

    Args:
        starts: (B, n) first patches of clusters, in the order drawn.
        side: (B,) C.
        grid, number: as in `clustered_masks`.

    Returns:
        (B, m) indices, ascending; whether n clusters were enough for every clip.
    """
    patches, longest = grid[0] * grid[1], int(side.max())
    step = torch.arange(longest)
    offset = (grid[1] * step[:, None] + step).flatten()  # (C C,)
    inside = torch.maximum(step[:, None], step).flatten() < side[:, None]
    cell = starts[:, :, None] + offset
    counts = inside[:, None] & (cell > 0) & (cell < patches)
    drawn = torch.arange(starts.shape[1])[:, None].expand_as(cell)  # which cluster it is
    never = starts.shape[1]
    first = torch.full((len(starts), patches), never)  # cluster that masks the patch first
    first.scatter_reduce_(
        1,
        torch.where(counts, cell, 0).flatten(1),
        torch.where(counts, drawn, never).flatten(1),
        "amin",
    )
    last = first.sort(1).values[:, number]  # with it more than `number` are masked
    masked = first <= last[:, None]
    order = torch.where(masked, torch.arange(patches), patches).sort(1).values
    return order[:, :number], bool((last < never).all())


def scattered_masks(
    size: int, grid: tuple[int, int], number: int, generator: torch.Generator | None = None
) -> Tensor:
    """`number` different patches of each clip, all sets alike, for networks of whole frames.

    Args, returns: as `clustered_masks`.

    Raises:
        ValueError: more patches than there are.
    """
    patches = grid[0] * grid[1]
    if not 1 <= number <= patches:
        raise ValueError(f"of {grid[0]} x {grid[1]} patches 1 to {patches} can be masked")
    order = torch.rand(size, patches, generator=generator).argsort(1)
    return order[:, :number].sort(1).values
