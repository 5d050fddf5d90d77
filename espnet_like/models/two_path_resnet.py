"""A pre-activation ResNet over the lower and the upper half of the mel bins apart."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from espnet_like.models.staged import Tap, bands, mean_of_clips

STACKS, BLOCKS = 4, 2  # the first block of every stack but the first halves time
PATHS = 2


class TwoPathResNet(nn.Module):
    """Gao and McDonnell's network (ICASSP 2020; DCASE 2020 task 1), as SpecMix's authors use it.

    The mel bins are cut in two halves, and each has a path of its own: batch normalisation and a
    3 x 3 convolution, then four stacks of two residual blocks. The stacks double the channels
    and halve time, never frequency. Both paths meet on the frequency axis before two 1 x 1
    convolutions and the mean over the map. 4,263,882 parameters for ten classes and three
    channels.

    At a tap the paths are put together, so that what acts there sees the whole frequency axis.
    The authors' code ends in a softmax to which its loss applies another one; here come logits.

    Args:
        num_classes: number of logits.
        in_channels: C; three are a log-mel spectrogram with its deltas.
        width: channels of the first stack; the others have two, four and eight times as many.
        conv_bias: whether convolutions have a bias: those of SpecMix's authors have, the ones of
            the original network have not.

    Raises:
        ValueError: an argument out of range.
    """

    taps: ClassVar[tuple[str, ...]] = ("input", "stem", "stack1", "stack2", "stack3", "stack4")
    #: Parts of the frequency axis that do not meet before the head.
    paths_apart: ClassVar[int] = PATHS

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 28,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels, width) < 1:
            raise ValueError("num_classes, in_channels and width must be at least 1")
        self.paths = nn.ModuleList(_path(in_channels, width, conv_bias) for _ in range(PATHS))
        out = width << (STACKS - 1)
        self.head = nn.Sequential(
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 1, bias=conv_bias),
            nn.BatchNorm2d(out),
            nn.Conv2d(out, num_classes, 1, bias=conv_bias),
            nn.BatchNorm2d(num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor, lengths: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits (B, num_classes) of features (B, C, F, T), F >= 2; see `CPResNet.forward`.

        Raises:
            RuntimeError: a single frequency bin.
        """
        frames = x.shape[-1]
        if tap is not None:
            x = tap(0, x)
        parts = bands(x, PATHS)
        for k in range(1, len(self.taps)):
            parts = [
                path[k - 1](part)  # type: ignore[index]
                for path, part in zip(self.paths, parts, strict=True)
            ]
            if tap is not None:
                parts = bands(tap(k, torch.cat(parts, dim=2)), PATHS)
        return mean_of_clips(self.head(torch.cat(parts, dim=2)), lengths, frames)


class PreActivationBlock(nn.Module):
    """Twice batch normalisation (without scale and shift), ReLU and 3 x 3 convolution.

    Where it doubles the channels it halves time; its shortcut is then a 3 x 3 average for the first
    half of them, and nothing for the other.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        stride = (1, 1) if inputs == outputs else (1, 2)
        self.bn1 = nn.BatchNorm2d(inputs, affine=False)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs, affine=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(3, stride, padding=1)
        self.inputs, self.outputs = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        if self.inputs == self.outputs:
            return y + x
        return torch.cat([y[:, : self.inputs] + self.pool(x), y[:, self.inputs :]], dim=1)


def _path(inputs: int, width: int, bias: bool) -> nn.ModuleList:
    """The stem and the stacks of one half."""
    stem = nn.Sequential(
        nn.BatchNorm2d(inputs), nn.Conv2d(inputs, width, 3, (1, 2), padding=1, bias=bias)
    )
    stages = [stem]
    for stack in range(STACKS):
        out = width << stack
        before = out if stack == 0 else out // 2
        rest = (PreActivationBlock(out, out, bias) for _ in range(BLOCKS - 1))
        stages.append(nn.Sequential(PreActivationBlock(before, out, bias), *rest))
    return nn.ModuleList(stages)
