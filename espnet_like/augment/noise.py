"""Additive noise of SSAST's fine-tuning.

Gong et al., "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022, and the authors'
code, which adds it in both of its recipes (ESC-50, Speech Commands V2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op, Share, check_layers


class Noise(Augmentation):
    """x' = x + level V, with V ~ U[0, 1) in every cell and level ~ U[0, 0.1) in every sample.

    Features are normalised (by twice their standard deviation in SSAST, which adds the noise
    after its masks and before its roll). The noise is not centred: it also lifts x by level / 2.
    Padding stays as it is; where SSAST's padding counts as signal, give no lengths.

    At a hidden layer every channel has noise of its own, with the same levels.

    Args:
        layers: taps; one of them is drawn per batch.
        amplitude: upper bound of `level`.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(self, layers: tuple[int, ...] = (0,), amplitude: float = 0.1) -> None:
        if amplitude < 0:
            raise ValueError(f"amplitude must not be negative: {amplitude}")
        self.layers = check_layers(layers)
        self.amplitude = amplitude

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        size = len(batch.features)
        keys = torch.randint(2**32, (size,), generator=batch.generator)
        return [NoiseOp(layer, batch.move(keys), batch.uniform(size) * self.amplitude)]


@dataclass(frozen=True, eq=False)
class NoiseOp(Op):
    """`keys` (B,) say which noise each sample gets, `level` (B,) how much of it."""

    layer: int
    keys: Tensor
    level: Tensor

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        level = self.level[:, None, None, None]
        if valid is not None:
            inside = torch.arange(x.shape[3], device=x.device) < valid[:, None]
            level = level * inside[:, None, None, :]
        return x + (uniform_field(self.keys, x.shape[1:]) * level).to(x.dtype), None


def uniform_field(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Numbers of [0, 1) for every cell of every sample, float32 (B, *shape).

    A function of key and cell: no state, no transfer, and the same numbers on any device, which
    generators of two devices never give. With h a mixing function of 32 bits, a cell's number is
    h(h(cell) + key), of which the upper 24 bits count.
    """
    count = 1
    for n in shape:
        count *= n
    cells = _mix(torch.arange(count, device=keys.device).view(1, *shape))
    bits = _mix((cells + keys.view(-1, *[1] * len(shape))) & _LOW)
    return (bits >> 8).float() * 2.0**-24


_LOW = 2**32 - 1


def _mix(x: Tensor) -> Tensor:
    """A bijection of 0 .. 2**32 - 1 that spreads every bit over all (C. Wellons' lowbias32).

    The second factor is 0x846CA68B - 2**32, so that no product leaves 64 bits.
    """
    x = ((x ^ x >> 16) * 0x7FEB352D) & _LOW
    x = ((x ^ x >> 15) * -0x7B935975) & _LOW
    return x ^ x >> 16
