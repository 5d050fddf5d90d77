"""Learning rates by epoch or by step, as a factor of the optimiser's `lr`. Both count from 0.

Each is named after the paper or code it is from.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import ClassVar


class Schedule:
    """Maps an epoch (0-based) to a factor of the optimiser's rate.

    With `by_steps` it is given the optimiser's steps since the start instead, over all epochs.
    """

    by_steps: ClassVar[bool] = False

    def __call__(self, epoch: int) -> float:
        raise NotImplementedError


class Constant(Schedule):
    """The same rate throughout."""

    def __call__(self, epoch: int) -> float:
        return 1.0


class SpecAugmentPP(Schedule):
    """SpecAugment++ section 4.2: hold, fall linearly, hold the floor.

    1e-4 up to epoch 50, linearly to 5e-6 at epoch 250, then 5e-6 to epoch 350.

    Args:
        hold: last epoch of the full rate.
        reach: epoch at which the floor is reached.
        floor: the final factor (5e-6 / 1e-4 = 0.05).
    """

    def __init__(self, hold: int = 50, reach: int = 250, floor: float = 0.05) -> None:
        _ordered(hold, reach)
        self.hold, self.reach, self.floor = hold, reach, floor

    def __call__(self, epoch: int) -> float:
        done = min(max((epoch - self.hold) / (self.reach - self.hold), 0.0), 1.0)
        return 1.0 + (self.floor - 1.0) * done


class CPJKU(Schedule):
    """What the CP-ResNet code does: linear towards zero, then a jump up to `after`.

    factor = 1 - (epoch - hold) / (reach - hold) for hold <= epoch < reach, `after` from `reach` on;
    the last value before the jump is 1 / (reach - hold).
    """

    def __init__(self, hold: int = 50, reach: int = 250, after: float = 0.01) -> None:
        _ordered(hold, reach)
        self.hold, self.reach, self.after = hold, reach, after

    def __call__(self, epoch: int) -> float:
        if epoch >= self.reach:
            return self.after
        return 1.0 - max(epoch - self.hold, 0) / (self.reach - self.hold)


class FreqMix(Schedule):
    """FreqMix report section 6: hold 50 epochs, exponential to `floor` in 200, hold 100."""

    def __init__(self, hold: int = 50, reach: int = 250, floor: float = 0.01) -> None:
        _ordered(hold, reach)
        if not 0 < floor <= 1:
            raise ValueError("floor must be in (0, 1]")
        self.hold, self.reach, self.floor = hold, reach, floor

    def __call__(self, epoch: int) -> float:
        done = min(max((epoch - self.hold) / (self.reach - self.hold), 0.0), 1.0)
        return float(self.floor**done)


class MultiStep(Schedule):
    """The rate times `factor` at each milestone: SpecMix's schedule, which counts iterations.

    A milestone m is the first step (0-based, over all epochs) of the lower rate.

    Args:
        milestones: steps, rising.
        factor: of the rate at each of them.
    """

    by_steps: ClassVar[bool] = True

    def __init__(
        self,
        milestones: tuple[int, ...] = (10_000, 30_000, 50_000, 70_000, 90_000),
        factor: float = 0.1,
    ) -> None:
        if any(a >= b for a, b in pairwise((0, *milestones))):
            raise ValueError(f"milestones must be above 0 and rise, not {list(milestones)}")
        if factor <= 0:
            raise ValueError(f"factor must be positive, not {factor}")
        self.milestones, self.factor = tuple(milestones), factor

    def __call__(self, step: int) -> float:
        return float(self.factor ** bisect_right(self.milestones, step))


def _ordered(hold: int, reach: int) -> None:
    if not 0 <= hold < reach:
        raise ValueError(f"0 <= hold < reach does not hold: hold {hold}, reach {reach}")


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "specaugment_pp": SpecAugmentPP,
    "cpjku": CPJKU,
    "freqmix": FreqMix,
    "multistep": MultiStep,
}
