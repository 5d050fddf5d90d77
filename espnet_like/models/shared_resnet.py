"""Shared-ResNet: CP-ResNet whose later blocks use the same weights several times."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from torch import Tensor, nn

from espnet_like.models.residual import ResidualBlock, SharedBlock, init_fixup
from espnet_like.models.staged import Tap, mean_of_clips, start_at, through
from espnet_like.models.subspectral import SSN

OWN_BLOCKS = 6  # residual blocks with weights of their own


class SharedResNet(nn.Module):
    """Table 1 of the FreqMix report (DCASE 2020 task 1B, low complexity).

    CP-ResNet's stem and first stage, kernels as with rho 6 (receptive field 103 x 103); then,
    twice, a residual block that doubles the channels and a shared block: two 1 x 1 convolutions
    that are applied N times, each time with batch normalisations of their own. The second
    normalisation of a residual block is SubSpectral Normalization. 603,668 parameters for ten
    classes in stereo, 601,862 for three.

    Args:
        num_classes: number of logits.
        in_channels: 1 (mono) or 2 (stereo) spectrograms.
        base_width: channels of stage 1; stages 2 and 3 have two and four times as many.
        repeats: N of a shared block.
        ssn: frequency bands of SubSpectral Normalization; 1 is plain batch normalisation.
        ssn_affine: `shared` (as published: no parameters more than batch normalisation), or
            `separate` for each band.
        stem_padding: 2 for maps that halve evenly; with CP-ResNet's 1 all of them are odd.
        init: `fixup` starts every block as the identity and the logits at zero, `default` is
            torch's own initialisation.
        prior: share of the clips that a class is expected to be in, 0 .. 1: the logits start at
            its log-odds, for a loss of sigmoids. None, as published: at zero.

    Raises:
        ValueError: an argument out of range.
    """

    taps: ClassVar[tuple[str, ...]] = ("input", "stem", "stage1", "stage2", "stage3")

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 2,
        base_width: int = 64,
        repeats: int = 3,
        ssn: int = 2,
        ssn_affine: Literal["shared", "separate"] = "shared",
        stem_padding: int = 2,
        init: Literal["fixup", "default"] = "fixup",
        prior: float | None = None,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels, base_width, repeats, ssn) < 1:
            raise ValueError(
                "num_classes, in_channels, base_width, repeats and ssn must be at least 1"
            )
        if not 0 <= stem_padding <= 2:
            raise ValueError(f"stem_padding must be 0, 1 or 2, not {stem_padding}")
        block = partial(ResidualBlock, norm=partial(SSN, groups=ssn, affine=ssn_affine))
        c = base_width
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c, 5, stride=2, padding=stem_padding, bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU(),
        )
        self.stage1 = nn.Sequential(
            block(c, c, 3, 1),
            nn.MaxPool2d(2),
            block(c, c, 3, 3),
            nn.MaxPool2d(2),
            block(c, c, 3, 3),
            block(c, c, 3, 3),
            nn.MaxPool2d(2),
        )
        self.stage2 = nn.Sequential(block(c, 2 * c, 1, 1), SharedBlock(2 * c, repeats))
        self.stage3 = nn.Sequential(block(2 * c, 4 * c, 1, 1), SharedBlock(4 * c, repeats))
        self.head = nn.Sequential(
            nn.Conv2d(4 * c, num_classes, 1, bias=False), nn.BatchNorm2d(num_classes)
        )
        if init == "fixup":
            init_fixup(self, self.head[0], OWN_BLOCKS + 2 * repeats)
        start_at(prior, self.head[1])

    def forward(self, x: Tensor, lengths: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits (B, num_classes) of features (B, C, F, T); see `CPResNet.forward`."""
        frames = x.shape[-1]
        x = through((self.stem, self.stage1, self.stage2, self.stage3), x, tap)
        return mean_of_clips(self.head(x), lengths, frames)
