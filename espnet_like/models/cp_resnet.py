"""CP-ResNet: a residual network whose receptive field is set by one number, rho.

Koutini et al., "The Receptive Field as a Regularizer in Deep Convolutional Neural Networks for
Acoustic Scene Classification", EUSIPCO 2019; Table 1 of SpecAugment++ (Wang et al., 2021).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from espnet_like.models.residual import ResidualBlock, init_fixup
from espnet_like.models.staged import Tap, mean_of_clips, start_at, through

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
        prior: share of the clips that a class is expected to be in, 0 .. 1: the logits start at
            its log-odds, for a loss of sigmoids. None, as published: at zero.

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
        prior: float | None = None,
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
            init_fixup(self, self.head[0], BLOCKS)
        start_at(prior, self.head[1])

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        """Logits.

        Args:
            x: features, (B, C, F, T).
            lengths: (B,) frames of each clip that are not padding; the head averages over
                these alone. (Padding still meets the convolutions at a clip's last frames and
                the statistics of batch normalisation.) None: every frame counts.
            tap: called as `x = tap(k, x)` at tap k; None in evaluation.

        Returns:
            (B, num_classes).
        """
        frames = x.shape[-1]
        x = through((self.stem, self.stage1, self.stage2, self.stage3), x, tap)
        return mean_of_clips(self.head(x), lengths, frames)
