"""Windows of the largest error and blocks in them, against loops and a reference run."""

from __future__ import annotations

from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.augment.block_selector import choose_windows, place_in_windows


def best_window(profile, width, end, taken=()):
    """The first window of the largest sum, by trying all of them."""
    best, start = -1.0, 0
    for s in range(max(0, end - width) + 1):
        if any(s < t + w and t < s + width for t, w in taken):
            continue
        total = sum(profile[s : min(s + width, len(profile))])
        if total > best:
            best, start = total, s
    return start if best >= 0 else None


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(2, 14), number=st.integers(1, 3))
@pytest.mark.parametrize("choice", ["residual", "topk", "nms"])
def test_windows_equal_the_loop(choice, data, size, number):
    profile = data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    widths = [data.draw(st.integers(1, size)) for _ in range(number)]
    end = data.draw(st.integers(1, size))
    found = choose_windows(
        torch.tensor([profile, profile]).double(),
        torch.tensor([widths, widths]),
        torch.tensor([end, end]),
        choice,
    )
    left, taken, expected = [float(p) for p in profile], [], []
    for rank, width in enumerate(widths):
        if choice == "topk":
            fits = range(max(0, end - width) + 1)
            order = sorted(fits, key=lambda s: -sum(profile[s : s + width]))
            if rank >= len(order):
                return  # more windows than places: only within the axis
            start = order[rank]
        else:
            start = best_window(profile, width, end, taken) if choice == "nms" else None
            start = best_window(left, width, end) if start is None else start
        expected.append(start)
        taken.append((start, width))
        left[start : start + width] = [0.0] * len(left[start : start + width])
    assert found.tolist() == [expected, expected]


def test_windows_equal_the_golden_ones():
    """Profile over time of a clip (thousandths) and starts of windows of 48, of the reference."""
    profile = torch.tensor([GOLDEN_PROFILE]).double()
    for choice, starts in (("residual", [20, 69, 0]), ("topk", [20, 23, 24])):
        found = choose_windows(profile, torch.full((1, 3), 48), torch.tensor([128]), choice)
        assert found.tolist() == [starts]


GOLDEN_PROFILE = [
    514, 391, 390, 588, 409, 594, 492, 661, 617, 532, 432, 463, 543, 513, 667, 375, 342, 238,
    364, 361, 456, 707, 446, 533, 803, 445, 551, 374, 482, 362, 528, 414, 435, 437, 394, 659,
    231, 909, 500, 667, 1145, 343, 447, 328, 553, 641, 628, 377, 399, 374, 463, 497, 463, 544,
    420, 498, 919, 483, 340, 280, 507, 621, 557, 498, 438, 672, 459, 503, 326, 711, 563, 435,
    515, 390, 504, 494, 542, 427, 517, 370, 312, 593, 272, 635, 264, 442, 355, 324, 758, 484,
    404, 324, 351, 490, 487, 351, 626, 574, 323, 397, 285, 476, 303, 411, 675, 454, 530, 386,
    389, 438, 699, 368, 287, 411, 482, 422, 421, 389, 365, 570, 665, 367, 344, 373, 323, 357,
    535, 291,
]  # fmt: skip


def test_equal_errors_give_the_first_window_whatever_their_scale():
    for scale in (1e-30, 1 / 3, 1e30):
        profile = torch.full((1, 50), scale)
        starts = choose_windows(profile, torch.full((1, 2), 7), torch.tensor([50]), "residual")
        assert starts.tolist() == [[0, 7]]
    nothing = choose_windows(torch.zeros(1, 5), torch.tensor([[2]]), torch.tensor([5]), "nms")
    assert nothing.tolist() == [[0]]


@pytest.mark.parametrize("placement", ["start", "center", "best", "random_inside"])
@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 12), data=st.data())
def test_blocks_lie_in_or_around_their_windows(placement, size, data):
    window, width = data.draw(st.integers(0, size)), data.draw(st.integers(0, size))
    start = data.draw(st.integers(0, min(size - window, size - 1)))
    profile = data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    unit = data.draw(st.sampled_from([0.0, 0.4, 0.999]))
    found = place_in_windows(
        torch.tensor([profile]).double(), torch.tensor([[start]]), torch.tensor([[window]]),
        torch.tensor([[width]]), torch.tensor([[unit]]), torch.tensor([size]), placement,
    )  # fmt: skip
    s, room = int(found), window - width
    assert 0 <= s <= size - width
    if width <= window:
        assert start <= s <= start + room
    else:
        assert s == 0 or s <= start <= start + window <= s + width
    if placement == "start":
        assert s == min(start, size - width)
    elif placement == "center":
        assert s == min(max(0, start + floor(room / 2)), size - width)
    elif placement == "best" and width:
        places = range(max(0, start + min(0, room)), min(size - width, start + max(0, room)) + 1)
        assert s == max(places, key=lambda p: sum(profile[p : p + width]))
