"""The processes that train together (torchrun), or the one that trains alone."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import distributed, nn


class Ranks:
    """Rank, size and the few exchanges that the trainer needs; one process when not in torchrun."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.local = int(os.environ.get("LOCAL_RANK", 0))
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @property
    def first(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    def wrap(self, model: Any) -> Any:
        """The model whose gradients are averaged over ranks."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model

    def share(self, batch: list[int]) -> list[int]:
        """This rank's clips of a batch; the same number on every rank."""
        whole = len(batch) // self.size * self.size
        return batch[self.rank : whole : self.size]

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=self._device)
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return bool(value.item())

    def total(self, sums: dict[str, float]) -> dict[str, float]:
        """Each sum over all ranks."""
        if self.size == 1:
            return sums
        values = torch.tensor(list(sums.values()), dtype=torch.float64, device=self._device)
        distributed.all_reduce(values)
        return dict(zip(sums, values.tolist(), strict=True))

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leave the others, all at once: one that exits early would tear the rest down."""
        if self.size > 1 and distributed.is_initialized():
            distributed.barrier()
            distributed.destroy_process_group()

    @property
    def _device(self) -> torch.device:
        cuda = torch.cuda.is_available()
        return torch.device("cuda", self.local) if cuda else torch.device("cpu")
