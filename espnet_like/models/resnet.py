"""ResNet with bottleneck blocks, in torchvision's layout: its weights load by name."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from espnet_like.models.staged import Tap, mean_of_clips, single_precision, through

EXPANSION = 4  # channels that leave a bottleneck for each one within


class ResNet(nn.Module):
    """ResNet-50, -101 or -152 (He et al., 2016) over spectrograms.

    A 7 x 7 convolution of stride 2 and a 3 x 3 max pooling of stride 2, then four layers of
    bottleneck blocks, of which the last three halve the map, the mean over the map, and a linear
    layer. Parameters have the names and shapes of torchvision's `resnet50`, `resnet101` and
    `resnet152` (stride on the 3 x 3 convolution). SpecMix trains ResNet-101 on three channels:
    42,520,650 parameters for ten classes.

    Args:
        num_classes: number of logits.
        in_channels: C; torchvision's weights have 3.
        blocks: of each of the four layers: (3, 4, 6, 3) is ResNet-50, (3, 4, 23, 3) ResNet-101,
            (3, 8, 36, 3) ResNet-152.
        width: channels of the stem; layer k puts out width * 2^(k + 1).

    Raises:
        ValueError: an argument out of range.
    """

    taps: ClassVar[tuple[str, ...]] = ("input", "stem", "layer1", "layer2", "layer3", "layer4")

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        blocks: tuple[int, ...] = (3, 4, 23, 3),
        width: int = 64,
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks must be four numbers of at least 1, not {list(blocks)}")
        if min(num_classes, in_channels, width) < 1:
            raise ValueError("num_classes, in_channels and width must be at least 1")
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(width, width, blocks[0], 1)
        self.layer2 = _layer(EXPANSION * width, 2 * width, blocks[1], 2)
        self.layer3 = _layer(2 * EXPANSION * width, 4 * width, blocks[2], 2)
        self.layer4 = _layer(4 * EXPANSION * width, 8 * width, blocks[3], 2)
        self.fc = nn.Linear(8 * EXPANSION * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, lengths: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits (B, num_classes) of features (B, C, F, T); see `CPResNet.forward`."""
        frames = x.shape[-1]
        stages = (self._stem, self.layer1, self.layer2, self.layer3, self.layer4)
        pooled = mean_of_clips(through(stages, x, tap), lengths, frames)
        with single_precision(x.device):
            return self.fc(pooled)

    def _stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride) and 1 x 1 convolution around a shortcut.

    Args:
        inputs: channels that come in.
        width: channels within; four times as many go out.
        stride: of the map.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.downsample(x))


def _layer(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    rest = (Bottleneck(EXPANSION * width, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
