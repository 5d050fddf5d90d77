"""Additive noise of SSAST's fine-tuning.

Gong et al., "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022, and the authors'
code, which adds it in both of its recipes (ESC-50, Speech Commands V2).
"""

from __future__ import annotations

import math
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
        keys = torch.randint(-(2**63), 2**63 - 1, (size,), generator=batch.generator)
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
    """Numbers of [0, 1), multiples of 2**-16, for every cell of every sample: float32 (B, *shape).

    A function of key and cell: no state, no transfer, and the same numbers on any device, which
    generators of two devices never give. It is SplitMix64 (Steele, Lea and Flood, "Fast
    Splittable Pseudorandom Number Generators", OOPSLA 2014) with the sample's key as its seed:
    word n of 64 bits holds cells 4 n .. 4 n + 3. Integers wrap around.
    """
    count = math.prod(shape)
    n = torch.arange(1, -(-count // 4) + 1, device=keys.device)
    z = keys[:, None] + n * _GAMMA
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    z = z ^ _shifted(z, 31)
    signed = z.view(torch.int16)[:, :count].reshape(-1, *shape)
    return (signed.float() + 2**15) * 2**-16


# SplitMix64's constants, as signed numbers of 64 bits.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def _shifted(x: Tensor, bits: int) -> Tensor:
    """`x` shifted to the right as an unsigned number."""
    return (x >> bits) & (2 ** (64 - bits) - 1)
