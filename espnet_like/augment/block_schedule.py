"""How many of PEAS's blocks are adaptive, epoch by epoch (equation 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from espnet_like.augment.base import Batch, Progress

Rounding = Literal["floor", "round", "ceil", "bernoulli"]

FREQUENCY, TIME = 2, 3  # axes of (B, C, F, T)


@dataclass(frozen=True)
class Schedule:
    """How many blocks are adaptive (equation 3), and when the last fifth has begun.

    Args: as `PEAS` explains; `joint` is its count.
    """

    joint: bool = False
    single: bool = False
    rounding: Rounding = "floor"
    first_epoch: int = 0

    def late(self, progress: Progress) -> bool:
        """e >= 0.8 e_t, in integers."""
        return 5 * (progress.epoch + self.first_epoch) >= 4 * progress.epochs

    def number(self, blocks: int, progress: Progress, unit: int = 0) -> int:
        """n_a of `blocks` blocks; `unit`, of 0 .. 9, decides where `bernoulli` rounds up."""
        if blocks <= 1 and not self.single:
            return blocks
        tenths = progress.epoch + self.first_epoch + 9 * blocks * self.late(progress)
        more = {"floor": 0, "round": 5, "ceil": 9, "bernoulli": 9 - unit}[self.rounding]
        return min(blocks, (tenths + more) // 10)

    def adaptive(self, blocks: dict[int, int], batch: Batch) -> dict[int, int]:
        """n_a of each axis."""
        unit = batch.integer(0, 10) if self.rounding == "bernoulli" else 0
        if not self.joint:
            return {axis: self.number(n, batch.progress, unit) for axis, n in blocks.items()}
        total = self.number(sum(blocks.values()), batch.progress, unit)
        time = min(blocks[TIME], max(-(-total // 2), total - blocks[FREQUENCY]))
        return {FREQUENCY: total - time, TIME: time}
