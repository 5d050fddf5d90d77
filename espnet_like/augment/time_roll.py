"""Circular shift of each clip in time.

Preset `ssast`: Gong et al., "SSAST", AAAI 2022, the authors' code; their last step, after masks
and noise. Preset `cpjku`: the code of CP-ResNet (Koutini et al., DCASE 2019), first of all steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op, Share, check_layers
from espnet_like.augment.gather import take_frames


class TimeRoll(Augmentation):
    """x'(t) = x((t - s) mod N), s ~ U{low .. high} in every sample, N its frames.

    With lengths the clip turns within its own frames and padding stays where it is. (SSAST rolls
    the padding too: give no lengths for that.) At a hidden layer s scales with the map and is
    rounded.

    Args:
        layers: taps; one of them is drawn per batch.
        low, high: bounds of s in frames of the input, both included. Preset `ssast` is -10 .. 9,
            the default; `cpjku` -50 .. 50.

    Raises:
        ValueError: high below low.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "ssast": {"low": -10, "high": 9},
        "cpjku": {"low": -50, "high": 50},
    }

    def __init__(self, layers: tuple[int, ...] = (0,), low: int = -10, high: int = 9) -> None:
        if high < low:
            raise ValueError(f"high must not be below low: {low} .. {high}")
        self.layers = check_layers(layers)
        self.low, self.high = low, high

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        shape = batch.features.shape
        shift = torch.randint(self.low, self.high + 1, shape[:1], generator=batch.generator)
        return [RollOp(layer, batch.move(shift), shape[3])]


@dataclass(frozen=True, eq=False)
class RollOp(Op):
    """`shift` (B,) in frames of the input, of which there are `frames`."""

    layer: int
    shift: Tensor
    frames: int

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        size = x.shape[3]
        shift = (self.shift * (size / self.frames)).round().long()[:, None]
        frame = torch.arange(size, device=x.device)
        if valid is None:
            return take_frames(x, (frame - shift) % size), None
        n = valid[:, None]
        turned = (frame - shift) % n.clamp(min=1)
        return take_frames(x, torch.where(frame < n, turned, frame)), None
