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

    def at(self, epoch: int, step: int) -> float:
        """The factor in an epoch, after so many steps since the start."""
        return self(step if self.by_steps else epoch)


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


class SSAST(Schedule):
    """SSAST's fine-tuning: the rate times `decay` after each epoch that follows `hold`.

    In the first `warm_up` steps the rate climbs from 0, in stairs: at step s it is
    floor(s / stair) stair / warm_up of the epoch's. (The authors' code sets it to that share of
    the full rate; the two are the same where the decay begins later, as in their recipe.)
    Source: Gong et al., "SSAST", AAAI 2022, and the authors' code, which counts epochs from 1:
    its decay starts at epoch 6 for ESC-50, at 5 for Speech Commands, there with a warm-up of 1000
    steps.

    Args:
        hold: last epoch of the full rate.
        decay: of the rate in each later epoch.
        warm_up: steps until the full rate; 0 begins with it.
        stair: steps of one rate on the way there.
    """

    def __init__(
        self, hold: int = 5, decay: float = 0.85, warm_up: int = 0, stair: int = 50
    ) -> None:
        if hold < 0 or warm_up < 0 or stair < 1:
            raise ValueError(
                "hold and warm_up must not be negative, stair must be at least 1: "
                f"hold {hold}, warm_up {warm_up}, stair {stair}"
            )
        if not 0 < decay <= 1:
            raise ValueError(f"decay must be in (0, 1], not {decay}")
        self.hold, self.decay, self.warm_up, self.stair = hold, decay, warm_up, stair

    def __call__(self, epoch: int) -> float:
        return float(self.decay ** max(epoch - self.hold, 0))

    def at(self, epoch: int, step: int) -> float:
        if step >= self.warm_up:
            return self(epoch)
        return self(epoch) * (step // self.stair * self.stair) / self.warm_up


def _ordered(hold: int, reach: int) -> None:
    if not 0 <= hold < reach:
        raise ValueError(f"0 <= hold < reach does not hold: hold {hold}, reach {reach}")


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "specaugment_pp": SpecAugmentPP,
    "cpjku": CPJKU,
    "freqmix": FreqMix,
    "multistep": MultiStep,
    "ssast": SSAST,
}
