"""Pretraining's masks against the loop of SSAST's authors and its golden draws."""

from __future__ import annotations

import hashlib
import random

import pytest
import torch

from espnet_like.models.patch_masks import clustered_masks, cover, scattered_masks


def loop(side, starts, rows, columns, number):
    """One clip's mask from the clusters that `starts` gives, and how many were needed."""
    masked: set[int] = set()
    used = 0
    while len(masked) <= number:
        start = next(starts)
        used += 1
        for i in range(side):
            for j in range(side):
                if 0 < start + columns * i + j < rows * columns:
                    masked.add(start + columns * i + j)
    return sorted(masked)[:number], used


def test_masks_equal_the_golden_ones():
    """random.seed(1234), then twice 400 of 8 x 64 patches, as the reference drew them."""
    random.seed(1234)
    found, sides, drawn = [], [], []
    for _ in range(2):
        sides.append(random.randrange(3) + 3)
        drawn.append([])
        found.append(loop(sides[-1], recorded(drawn[-1]), 8, 64, 400)[0])
    assert digest(found) == GOLDEN
    longest = max(map(len, drawn))  # what follows the last cluster needed must not matter
    padded = torch.tensor([log + [7] * (longest - len(log)) for log in drawn])
    masks, complete = cover(padded, torch.tensor(sides), (8, 64), 400)
    assert complete and digest(masks.tolist()) == GOLDEN


def recorded(log):
    """Draws of Python's generator, kept in `log`."""
    while True:
        log.append(random.randrange(512))
        yield log[-1]


def digest(masks: list[list[int]]) -> str:
    return hashlib.sha256(str(masks).encode()).hexdigest()[:16]


GOLDEN = "0ef80c3456a41808"


@pytest.mark.parametrize(
    ("grid", "number"), [((8, 64), 400), ((3, 5), 6), ((1, 9), 7), ((4, 4), 1)]
)
def test_masks_equal_the_loop(grid, number):
    rng = torch.Generator().manual_seed(5)
    side = torch.randint(3, 6, (6,), generator=rng)
    starts = torch.randint(grid[0] * grid[1], (6, 400), generator=rng)
    masks, complete = cover(starts, side, grid, number)
    assert complete
    for i in range(6):
        expected, _ = loop(int(side[i]), iter(starts[i].tolist()), *grid, number)
        assert masks[i].tolist() == expected


def test_too_few_clusters_are_told():
    _, complete = cover(torch.tensor([[0], [5]]), torch.tensor([3, 3]), (8, 64), 10)
    assert not complete


def test_draws_come_from_the_generator_and_never_have_patch_0():
    def draw(seed):
        return clustered_masks(40, (8, 64), 400, torch.Generator().manual_seed(seed))

    state = torch.random.get_rng_state()
    first = draw(1)
    assert first.shape == (40, 400) and torch.equal(first, draw(1))
    assert not torch.equal(first, draw(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert int(first.min()) >= 1 and int(first.max()) <= 511
    assert bool((first.diff(dim=1) > 0).all())
    # the highest indices are dropped, so that the last patches are masked less often
    share = torch.bincount(first.flatten(), minlength=512) / 40
    assert share[450:].mean() < share[100:400].mean()


def test_nearly_all_patches_can_be_masked():
    masks = clustered_masks(3, (3, 5), 13, torch.Generator().manual_seed(0))
    assert masks.tolist() == [list(range(1, 14))] * 3


def test_scattered_masks_are_uniform_and_different():
    masks = scattered_masks(4000, (1, 20), 5, torch.Generator().manual_seed(0))
    assert bool((masks.diff(dim=1) > 0).all())
    share = torch.bincount(masks.flatten(), minlength=20) / 4000
    assert (share - 5 / 20).abs().max() < 0.03


@pytest.mark.parametrize(
    ("draw", "number"), [(clustered_masks, 14), (clustered_masks, 0), (scattered_masks, 16)]
)
def test_too_many_patches(draw, number):
    with pytest.raises(ValueError, match=r"of 3 x 5 patches 1 to \d+ can be masked"):
        draw(2, (3, 5), number)
