"""What methods on waveforms share."""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op


class WaveMethod(Augmentation):
    """A method that acts before the front end and nowhere else.

    It cannot act at a layer: what it does (a gain by ear, a superposition with its own length)
    has a meaning for sound pressure alone.
    """

    layers: tuple[int, ...] = ()
    needs_wave = True

    def ops(self, batch: Batch) -> list[Op]:
        """Raises ValueError: the waveforms have not been seen."""
        raise ValueError(
            f"{type(self).__name__} mixes waveforms: call draw_wave before the front end, then"
            " draw of the method that it hands back"
        )


def content(wave: Tensor, lengths: Tensor | None) -> Tensor | None:
    """(B, 1, L) bool: samples before each of the (B,) lengths; None when all are."""
    if lengths is None:
        return None
    lengths = lengths.to(wave.device, non_blocking=True)
    return (torch.arange(wave.shape[-1], device=wave.device) < lengths[:, None])[:, None]


def mix_targets(targets: Tensor, own: Tensor, partner: Tensor) -> Tensor:
    """own y_i + (1 - own) y_partner(i), own (B,)."""
    own = own.to(targets.dtype)[:, None]
    return own * targets + (1 - own) * targets[partner]
