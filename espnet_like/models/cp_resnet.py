"""CP-ResNet: a residual network whose receptive field is set by one number, rho.

Koutini et al., "The Receptive Field as a Regularizer in Deep Convolutional Neural Networks for
Acoustic Scene Classification", EUSIPCO 2019; Table 1 of SpecAugment++ (Wang et al., 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

BLOCKS = 12
POOLED = (1, 2, 4)  # residual blocks followed by 2 x 2 max pooling, counted from 1
MAX_RHO = 2 * BLOCKS - 2  # RB1 is always (3, 1); every other block has two convolutions


class CPResNet(nn.Module):
    """Stem, three stages of four residual blocks, and a head that averages over the map.

    Stem: 5 x 5 convolution, stride 2. Stage 1 has `base_width` channels and a 2 x 2 max pooling
    after blocks 1, 2 and 4; stages 2 and 3 double the channels and keep the map. The head is a
    1 x 1 convolution, batch normalisation and the mean over frequency and time.

    Table 1, the receptive field (87 x 87) and the parameter count (6,053,780) that the
    SpecAugment++ paper prints belong to three different networks: presets `paper_table1`,
    `paper_rf87` and `paper_params`.

    Args:
        num_classes: number of logits.
        in_channels: 1 (mono) or 2 (stereo) spectrograms.
        base_width: channels of stage 1; stages 2 and 3 have two and four times as many.
        rho: how many of the convolutions after RB1 are 3 x 3, counted from the input; the
            others are 1 x 1. Receptive field 23 at rho 0, 87 at 5, 135 at 7, 263 at 11.
        stem_padding: 1 as published (odd map sizes), 2 for maps that halve evenly.
        stem_width: channels of the stem; None for `base_width`. Table 1 prints 64, which fits
            none of the published counts.
        init: `fixup` starts every block as the identity and the logits at zero, as the authors'
            code does; `default` is torch's own initialisation.

    Raises:
        ValueError: an argument out of range.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper_table1": {"rho": 7},
        "paper_rf87": {"rho": 5},
        "paper_params": {"rho": 11, "in_channels": 1},
        "ch64": {"rho": 5, "base_width": 64},  # the baseline of the FreqMix report
    }
    #: What the SpecAugment++ paper says of the network that these presets describe.
    published: ClassVar[dict[str, dict[str, Any]]] = {
        name: {"parameters": 6_053_780, "receptive_field": [87, 87]}
        for name in ("paper_table1", "paper_rf87", "paper_params")
    }
    #: Layers 0 to 4 of SpecAugment++ (section 3).
    taps: tuple[str, ...] = ("input", "stem", "stage1", "stage2", "stage3")

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        base_width: int = 128,
        rho: int = 7,
        stem_padding: int = 1,
        stem_width: int | None = None,
        init: Literal["fixup", "default"] = "fixup",
    ) -> None:
        super().__init__()
        if not 0 <= rho <= MAX_RHO:
            raise ValueError(f"rho must be between 0 and {MAX_RHO}, not {rho}")
        if min(num_classes, in_channels, base_width) < 1 or (stem_width or 1) < 1:
            raise ValueError("num_classes, in_channels and the widths must be at least 1")
        if not 0 <= stem_padding <= 2:
            raise ValueError(f"stem_padding must be 0, 1 or 2, not {stem_padding}")
        width = stem_width or base_width
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 5, stride=2, padding=stem_padding, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        kernels = [3, 1] + [3] * rho + [1] * (MAX_RHO - rho)
        stages = []
        for stage in range(3):
            layers: list[nn.Module] = []
            for block in range(4 * stage + 1, 4 * stage + 5):
                out = base_width << stage
                layers.append(ResidualBlock(width, out, *kernels[2 * block - 2 : 2 * block]))
                width = out
                if block in POOLED:
                    layers.append(nn.MaxPool2d(2))
            stages.append(nn.Sequential(*layers))
        self.stage1, self.stage2, self.stage3 = stages
        self.head = nn.Sequential(
            nn.Conv2d(width, num_classes, 1, bias=False), nn.BatchNorm2d(num_classes)
        )
        if init == "fixup":
            self._init_fixup()

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        tap: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Logits.

        Args:
            x: features, (B, C, F, T).
            lengths: (B,) frames of each sample that are not padding; the head averages over
                these alone. (Padding still meets the convolutions at a clip's last frames and
                the statistics of batch normalisation.) None: every frame counts.
            tap: called as `x = tap(k, x)` at tap k; None in evaluation.

        Returns:
            (B, num_classes).
        """
        frames = x.shape[-1]
        if tap is not None:
            x = tap(0, x)
        for k, stage in enumerate((self.stem, self.stage1, self.stage2, self.stage3), start=1):
            x = stage(x)
            if tap is not None:
                x = tap(k, x)
        x = self.head(x)
        exact = torch.promote_types(x.dtype, torch.float32)  # also under autocast
        if lengths is None:
            return x.mean((2, 3), dtype=exact)
        valid = -(-lengths.to(x.device) * x.shape[-1] // frames)  # rounded up
        inside = torch.arange(x.shape[-1], device=x.device) < valid[:, None]
        profile = torch.where(inside[:, None], x.mean(2, dtype=exact), 0)  # (B, classes, T')
        return profile.sum(2) / valid.clamp(min=1)[:, None]

    def _init_fixup(self) -> None:
        """Kaiming-normal, then residual branches that start at zero (Zhang et al., 2019).

        L is the number of residual blocks of this network. (The authors' code counts every
        block built since the process started.)
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                k, out = module.conv1.kernel_size[0], module.conv1.out_channels
                nn.init.normal_(module.conv1.weight, 0, BLOCKS**-0.5 * (2 / (k * k * out)) ** 0.5)
                nn.init.zeros_(module.conv2.weight)
                for conv in module.shortcut.modules():
                    if isinstance(conv, nn.Conv2d):
                        nn.init.normal_(conv.weight, 0, (2 / out) ** 0.5)
        for weight in self.head[0].parameters():
            nn.init.zeros_(weight)


class ResidualBlock(nn.Module):
    """Two convolutions (kernels k1, k2; stride 1; the map keeps its size) around a shortcut.

    The shortcut is a 1 x 1 convolution with batch normalisation when the channels change.
    """

    def __init__(self, inputs: int, outputs: int, k1: int, k2: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, k1, padding=k1 // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, k2, padding=k2 // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
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
