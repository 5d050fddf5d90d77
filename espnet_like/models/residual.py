"""The residual blocks of CP-ResNet and Shared-ResNet, and how both start."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


class ResidualBlock(nn.Module):
    """Two convolutions (kernels k1, k2; stride 1; the map keeps its size) around a shortcut.

    The shortcut is a 1 x 1 convolution with batch normalisation when the channels change. `norm`
    makes the normalisation after the second convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, k1: int, k2: int, *, norm: Norm = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, k1, padding=k1 // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, k2, padding=k2 // 2, bias=False)
        self.bn2 = norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class SharedBlock(nn.Module):
    """`repeats` residual blocks of 1 x 1 convolutions that share their weights.

    x <- relu(x + BN2_i(W2 relu(BN1_i(W1 x)))) for i = 1 .. repeats: W1 and W2 are the same each
    time, every BN is another.
    """

    def __init__(self, channels: int, repeats: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1 = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(repeats))
        self.bn2 = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(repeats))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for bn1, bn2 in zip(self.bn1, self.bn2, strict=True):
            y = self.relu(bn1(self.conv1(x)))
            x = self.relu(x + bn2(self.conv2(y)))
        return x


def init_fixup(model: nn.Module, head: nn.Module, blocks: int) -> None:
    """Kaiming-normal, then residual branches and a head that start at zero (Zhang et al., 2019).

    Args:
        model: its convolutions are set.
        head: the last convolution.
        blocks: L, the residual blocks that a map passes. (The code of CP-ResNet's authors counts
            every block built since the process started.)
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for module in model.modules():
        if isinstance(module, (ResidualBlock, SharedBlock)):
            k, out = module.conv1.kernel_size[0], module.conv1.out_channels
            nn.init.normal_(module.conv1.weight, 0, blocks**-0.5 * (2 / (k * k * out)) ** 0.5)
            nn.init.zeros_(module.conv2.weight)
        if isinstance(module, ResidualBlock):
            for conv in module.shortcut.modules():
                if isinstance(conv, nn.Conv2d):
                    nn.init.normal_(conv.weight, 0, (2 / conv.out_channels) ** 0.5)
    for weight in head.parameters():
        nn.init.zeros_(weight)
