"""Reading a map at other positions, each sample at its own."""

from __future__ import annotations

import torch
from torch import Tensor


def take_bins(x: Tensor, index: Tensor) -> Tensor:
    """x[b, :, index[b, n], :]: (B, C, N, T), in x's memory format.

    Copies whole rows, which is many times faster than to gather their cells.

    Args:
        x: (B, C, F, T).
        index: (B, N) bins of each sample.
    """
    size, channels, bins, frames = x.shape
    sample = torch.arange(size, device=x.device)[:, None]
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        rows = x.permute(0, 2, 3, 1).reshape(size * bins, frames * channels)
        taken = rows.index_select(0, (sample * bins + index).flatten())
        return taken.view(size, -1, frames, channels).permute(0, 3, 1, 2)
    channel = torch.arange(channels, device=x.device)[:, None]
    row = (sample[:, None] * channels + channel) * bins + index[:, None]
    taken = x.reshape(size * channels * bins, frames).index_select(0, row.flatten())
    return taken.view(size, channels, -1, frames)


def take_frames(x: Tensor, index: Tensor) -> Tensor:
    """x[b, :, :, index[b, n]]: (B, C, F, N), in x's memory format.

    Args:
        x: (B, C, F, T).
        index: (B, N) frames of each sample.
    """
    size, channels, bins, _ = x.shape
    index = index[:, None, None, :].expand(size, channels, bins, -1)
    result = x.gather(3, index)
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return result.contiguous(memory_format=torch.channels_last)
    return result
