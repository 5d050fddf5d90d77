"""Mean and standard deviation per bin: gathered once over the training part, applied everywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from espnet_like.errors import MissingInput, UserError
from espnet_like.files import read_json, write_json


class Stats:
    """Count, mean and squared deviations per bin, pooled over frames, clips and channels.

    Float64; parts are joined by the pairwise update of Chan, Golub and LeVeque (1983), which
    does not lose a small spread under a large mean as the sum of squares does.

    Args:
        num_bins: F.

    Attributes:
        count: values per bin.
        mean: (F,) float64.
        deviations: (F,) float64, sum of squared distances from the mean.
        made: what they were made of; plain data.
        sets: the same of parts of the clips (utt2portion), where there are several.
    """

    def __init__(self, num_bins: int) -> None:
        self.count = 0
        self.mean = np.zeros(num_bins)
        self.deviations = np.zeros(num_bins)
        self.made: dict[str, Any] = {}
        self.sets: dict[str, Stats] = {}

    def add(self, features: np.ndarray) -> None:
        """Take in (C, F, T), every frame counts; raises ValueError for another F."""
        if features.ndim != 3 or features.shape[1] != len(self.mean):
            raise ValueError(f"(C, {len(self.mean)}, T) expected, not {features.shape}")
        part = Stats(len(self.mean))
        part.count = features.shape[0] * features.shape[2]
        if part.count:
            values = features.astype(np.float64)
            part.mean = values.mean((0, 2))
            part.deviations = np.square(values - part.mean[:, None]).sum((0, 2))
        self.merge(part)

    def merge(self, other: Stats) -> None:
        """Take in what another has gathered."""
        total = self.count + other.count
        if total == 0:
            return
        shift = other.mean - self.mean
        self.mean = self.mean + shift * (other.count / total)
        between = np.square(shift) * (self.count * (other.count / total))
        self.deviations = self.deviations + other.deviations + between
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """(F,) float64, unbiased (divided by count - 1); zeros for fewer than two values."""
        return np.sqrt(self.deviations / max(1, self.count - 1))

    @property
    def scale(self) -> float:
        """Deviation from the bins' own means over all bins, sqrt(mean of (x - mean_f)^2)."""
        return float(np.sqrt(self.deviations.mean() / max(1, self.count)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, whole."""
        sets = {name: own.numbers() for name, own in self.sets.items()}
        write_json(path, {**self.numbers(), "made": self.made, **({"sets": sets} if sets else {})})

    def numbers(self) -> dict[str, Any]:
        """Of all clips, as plain data."""
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "deviations": self.deviations.tolist(),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Stats:
        """Read what `save` wrote.

        Raises:
            MissingInput: no such file.
            UserError: not a file of statistics.
        """
        if not os.path.isfile(path):
            raise MissingInput(f"{path}: no such file: run --stage stats")
        value = read_json(path)
        try:
            stats = cls._of(value)
            stats.made = dict(value["made"])
            stats.sets = {name: cls._of(own) for name, own in value.get("sets", {}).items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{path}: not statistics: remove it and run --stage stats") from None
        return stats

    @classmethod
    def _of(cls, numbers: Mapping[str, Any]) -> Stats:
        stats = cls(len(numbers["mean"]))
        stats.count = int(numbers["count"])
        stats.mean = np.array(numbers["mean"], np.float64)
        stats.deviations = np.array(numbers["deviations"], np.float64)
        return stats


class Normalize(nn.Module):
    """(x - mean) / std, with a mean and a deviation for each bin.

    A bin that never changes (its spread is nothing beside float32's rounding, as in an empty mel
    filter) is only centred. The buffers are part of the state: a packed model carries them.

    Args:
        mean, std: (F,).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: np.ndarray | Tensor, std: np.ndarray | Tensor) -> None:
        super().__init__()
        mean = torch.as_tensor(mean, dtype=torch.float64)
        std = torch.as_tensor(std, dtype=torch.float64)
        if mean.dim() != 1 or mean.shape != std.shape:
            raise ValueError(
                f"mean {tuple(mean.shape)} and std {tuple(std.shape)} are not both (F,)"
            )
        constant = std <= 1e-6 * mean.abs()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.masked_fill(constant, 1.0).float())

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], how: bool | Literal["one_scale"] = True
    ) -> Normalize:
        """From the statistics of stage 3; errors as `Stats.load`.

        Args:
            path: JSON of the statistics.
            how: true: (x - mean) / std per bin; `one_scale`: (x - mean) / scale, the mean per bin
                and one scale for all, `Stats.scale`; false: features stay as they are.
        """
        return cls.of(Stats.load(path), how)

    @classmethod
    def of(cls, stats: Stats, how: bool | Literal["one_scale"] = True) -> Normalize:
        """From statistics; see `load`."""
        if how == "one_scale":
            return cls(stats.mean, np.full_like(stats.mean, stats.scale))
        if not how:
            return cls(np.zeros_like(stats.mean), np.ones_like(stats.mean))
        return cls(stats.mean, stats.std)

    def forward(self, features: Tensor) -> Tensor:
        """(..., F, T) to the same shape."""
        return (features - self.mean[:, None]) / self.std[:, None]
