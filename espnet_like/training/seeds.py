"""Every random number of a run comes from (seed, epoch, step, rank)."""

from __future__ import annotations

import numpy as np
import torch

ORDER, PLAN, MODEL, WEIGHTS = range(4)  # what the numbers are for: streams never meet


def derive(seed: int, stream: int, epoch: int = 0, step: int = 0, rank: int = 0) -> int:
    """A 63-bit seed; any change of an argument gives an unrelated one."""
    words = np.random.SeedSequence((seed, stream, epoch, step, rank)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def generator(
    seed: int, stream: int, epoch: int = 0, step: int = 0, rank: int = 0
) -> torch.Generator:
    """A CPU generator in the state that the arguments name."""
    return torch.Generator().manual_seed(derive(seed, stream, epoch, step, rank))
