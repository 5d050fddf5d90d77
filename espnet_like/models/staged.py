"""What networks share: stages with taps between, bands of bins, the mean over a clip, logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

#: Called as `x = tap(k, x)` at tap k of a network: what a plan of `espnet_like.augment` is.
Tap = Callable[[int, Tensor], Tensor]


def through(stages: Iterable[Callable[[Tensor], Tensor]], x: Tensor, tap: Tap | None) -> Tensor:
    """(B, C, F, T) through the stages: tap 0 before the first, tap k after the k-th."""
    if tap is not None:
        x = tap(0, x)
    for k, stage in enumerate(stages, start=1):
        x = stage(x)
        if tap is not None:
            x = tap(k, x)
    return x


def bands(x: Tensor, count: int) -> list[Tensor]:
    """(B, C, F, T) cut along F; where that leaves a rest, the lower bands have a bin more.

    Raises:
        RuntimeError: fewer bins than bands.
    """
    bins = int(x.shape[2])  # a number, when the network is traced for export too
    least, more = divmod(bins, count)
    if least == 0:
        raise RuntimeError(f"{bins} frequency bins cannot be cut into {count} bands")
    cuts = [k * least + min(k, more) for k in range(count + 1)]
    return [x[:, :, a:b] for a, b in pairwise(cuts)]


def mean_of_clips(x: Tensor, lengths: Tensor | None, frames: int) -> Tensor:
    """Mean over frequency and over the time that is not padding.

    Args:
        x: the last map, (B, C, F', T').
        lengths: (B,) frames of each clip among the input's; None: every frame counts. A frame of
            the map counts when it begins within the clip.
        frames: T of the input.

    Returns:
        (B, C), single precision or better, also under autocast.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    if lengths is None:
        return x.mean((2, 3), dtype=exact)
    valid = -(-lengths.to(x.device) * x.shape[-1] // frames)  # rounded up
    inside = torch.arange(x.shape[-1], device=x.device) < valid[:, None]
    profile = torch.where(inside[:, None], x.mean(2, dtype=exact), 0)  # (B, C, T')
    return profile.sum(2) / valid.clamp(min=1)[:, None]


def single_precision(device: torch.device) -> AbstractContextManager[None]:
    """No autocast, on devices that have it: logits of bfloat16 would often be equal."""
    if torch.amp.is_autocast_available(device.type):  # not on meta
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def start_at(prior: float | None, last: nn.Module) -> None:
    """Let sigmoids start at a share of the clips that a class is expected to be in.

    Args:
        prior: the share; the bias becomes its log-odds. None: the bias stays.
        last: the layer with a bias (K,) whose outputs the logits are.

    Raises:
        ValueError: a share that is not between 0 and 1.
    """
    if prior is None:
        return
    if not 0 < prior < 1:
        raise ValueError(f"prior must be between 0 and 1, not {prior}")
    bias: Any = last.bias
    nn.init.constant_(bias, math.log(prior / (1 - prior)))
