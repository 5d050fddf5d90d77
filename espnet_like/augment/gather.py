"""Reading a map at other positions, each sample at its own."""

from __future__ import annotations

import torch
from torch import Tensor


def take(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """x[b, ..., index[b, n], ...]: the cells of `axis` in another order.

    Args:
        x: (B, C, F, T).
        index: (B, N) cells of the axis, for N new ones.
        axis: 2 frequency, 3 time.

    Returns:
        A new tensor like x, in x's memory format, with N cells along the axis.
    """
    shape = list(x.shape)
    shape[axis] = index.shape[1]
    index = index[:, None, :, None] if axis == 2 else index[:, None, None, :]
    result = x.gather(axis, index.expand(shape))
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return result.contiguous(memory_format=torch.channels_last)
    return result
