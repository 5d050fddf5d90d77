"""Facts about a network, measured on the network itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module, trainable: bool = False) -> int:
    """Number of parameters; of those that get gradients with `trainable`."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def num_bytes(model: nn.Module) -> int:
    """Bytes of the parameters at their own precision; running statistics are not counted."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def tap_shapes(model: nn.Module, input_shape: Sequence[int]) -> dict[str, list[int]]:
    """Tap name -> [C, F, T] for an input of `input_shape` = (C, F, T).

    Raises:
        RuntimeError: the network cannot take such an input.
    """
    shapes: dict[str, list[int]] = {}

    def record(k: int, x: Tensor) -> Tensor:
        shapes[str(model.taps[k])] = list(x.shape[1:])  # type: ignore[index]
        return x

    twin = _twin(model)
    twin(torch.empty(1, *input_shape, device="meta"), tap=record)
    return shapes


def macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-accumulate operations of one input (C, F, T): convolutions and matrix products.

    Raises:
        RuntimeError: the network cannot take such an input.
    """
    twin = _twin(model)
    with FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, *input_shape, device="meta"))
    return int(counter.get_total_flops()) // 2


@torch.enable_grad()
def receptive_field(model: nn.Module, largest: int = 4096) -> list[int]:
    """[F, T] bins and frames of the input that reach one cell of the last tap's map.

    The cell is in the middle of the map; where a model has parts of the frequency axis go apart
    (`paths_apart`), in the middle of the first part.

    The extent of a gradient that cannot vanish: every convolution is replaced by the mean of its
    window over all channels, max pooling by average pooling, and normalisations, ReLUs and linear
    layers are taken out. (Through max pooling, ReLU and signed weights many gradients are zero by
    chance, and the extent comes out too small.) The input grows until the field does not touch its
    edge.

    Args:
        model: a network of convolutions and pooling whose layers are modules.
        largest: input size at which to stop growing; the field is at least what is returned.
    """
    linear = _linearised(model)
    last = len(model.taps) - 1  # type: ignore[arg-type]
    parts: Any = getattr(model, "paths_apart", 1)
    kept: list[Tensor] = []

    def keep(k: int, x: Tensor) -> Tensor:
        if k == last:
            kept.append(x)
        return x

    size = 256
    while True:
        x = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
        linear(x, tap=keep)
        end = kept.pop()
        cell = end[0, :, end.shape[2] // (2 * parts), end.shape[3] // 2]
        (grad,) = torch.autograd.grad(cell.sum(), x)
        reached = grad[0, 0] != 0
        spans = [reached.any(1).nonzero(), reached.any(0).nonzero()]
        if size >= largest or all(s[0] > 0 and s[-1] < size - 1 for s in spans):
            return [int(s[-1] - s[0]) + 1 for s in spans]
        size *= 2


def describe(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Any]:
    """All of the above as plain data.

    The receptive field of a model with `global_reach`, as attention has, is its whole input.
    """
    everywhere = getattr(model, "global_reach", False)
    return {
        "parameters": parameters(model),
        "trainable": parameters(model, trainable=True),
        "receptive_field": list(input_shape[1:]) if everywhere else receptive_field(model),
        "macs": macs(model, input_shape),
        "bytes": num_bytes(model),
        "taps": tap_shapes(model, input_shape),
    }


def _twin(model: nn.Module) -> nn.Module:
    """A copy for evaluation that has shapes and no data."""
    return copy.deepcopy(model).to("meta").eval()


class _Window(nn.Module):
    """A convolution's reach: the sum over its window of the mean over the channels."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        kernel = torch.ones(1, 1, *conv.kernel_size, dtype=torch.float64)
        self.register_buffer("kernel", kernel / kernel.numel())
        self.place: Any = (conv.stride, conv.padding, conv.dilation)

    def forward(self, x: Tensor) -> Tensor:
        kernel: Any = self.kernel
        return functional.conv2d(x.mean(1, keepdim=True), kernel, None, *self.place)


def _linearised(model: nn.Module) -> nn.Module:
    if any(p.is_meta for p in model.parameters()):
        model = copy.deepcopy(model).to_empty(device="cpu")
    model = copy.deepcopy(model).eval()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, _Window(child))
            elif isinstance(child, nn.MaxPool2d):
                pool = (child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, nn.AvgPool2d(*pool))
            elif isinstance(child, (nn.BatchNorm2d, nn.ReLU, nn.Linear)):
                setattr(parent, name, nn.Identity())
    return model
