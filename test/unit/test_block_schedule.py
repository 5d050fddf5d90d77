"""PEAS's equation 3 and its other readings."""

from __future__ import annotations

from math import ceil, floor

import pytest

from espnet_like.augment import Progress
from espnet_like.augment.block_schedule import FREQUENCY, TIME, Schedule


def equation_3(n, e, epochs, rounding=floor):
    """Floating point as the paper writes it, with a tenth as exact as it gets."""
    heaviside = 1 if e >= 0.8 * epochs else 0
    return min(n, rounding(round(0.1 * e + 0.9 * n * heaviside, 6)))


@pytest.mark.parametrize("epochs", [25, 30])
@pytest.mark.parametrize("n", [2, 3])
def test_equation_3(n, epochs):
    for rounding, name in ((floor, "floor"), (ceil, "ceil")):
        schedule = Schedule(rounding=name)
        found = [schedule.number(n, Progress(e, epochs)) for e in range(epochs)]
        assert found == [equation_3(n, e, epochs, rounding) for e in range(epochs)]
    half_up = [Schedule(rounding="round").number(n, Progress(e, epochs)) for e in (4, 5, 14, 15)]
    assert half_up == [0, 1, 1, min(n, 2)]


def test_published_schedules():
    """(epochs with 0, 1, 2, 3 adaptive blocks)."""

    def runs(n, epochs):
        numbers = [Schedule().number(n, Progress(e, epochs)) for e in range(epochs)]
        assert numbers == sorted(numbers)
        return [numbers.count(k) for k in range(n + 1)]

    assert runs(2, 25) == [10, 10, 5] and runs(3, 25) == [10, 10, 0, 5]
    assert runs(2, 30) == [10, 10, 10] and runs(3, 30) == [10, 10, 4, 6]
    assert runs(1, 25) == [0, 25]
    assert [Schedule(single=True).number(1, Progress(e, 25)) for e in (9, 10)] == [0, 1]


def test_other_readings_of_the_schedule():
    counted = [Schedule(first_epoch=1).number(2, Progress(e, 25)) for e in range(25)]
    assert counted == [equation_3(2, e, 25) for e in range(1, 26)]
    drawn = [Schedule(rounding="bernoulli").number(3, Progress(13, 30), u) for u in range(10)]
    assert sorted(drawn) == [1] * 7 + [2] * 3
    late = [e for e in range(25) if Schedule().late(Progress(e, 25))]
    assert late == [20, 21, 22, 23, 24]


@pytest.mark.parametrize(
    ("total", "expected"), [(0, (0, 0)), (1, (1, 0)), (3, (2, 1)), (4, (2, 2))]
)
def test_joint_blocks_become_adaptive_in_turn(total, expected):
    class Fixed(Schedule):
        def number(self, blocks, progress, unit=0):
            assert blocks == 5
            return total

    class Nothing:
        progress = Progress()

    found = Fixed(joint=True).adaptive({FREQUENCY: 3, TIME: 2}, Nothing())
    assert (found[TIME], found[FREQUENCY]) == expected
