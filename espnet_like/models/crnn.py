"""CRNN: convolutions, a recurrent sequence encoder and a classifier, for clips of any length.

Ebbers and Haeb-Umbach (UPB, DCASE 2019 Task 2), Table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_like.models.staged import Tap, single_precision, start_at

# Convolutions of the five blocks, and how much of frequency and time their pooling takes.
BLOCKS = ((2, (2, 2)), (2, (2, 2)), (2, (2, 2)), (2, (2, 1)), (1, (2, 1)))


class CRNN(nn.Module):
    """2-d and 1-d convolutions, two GRU layers whose last output stands for the clip, a classifier.

    Five blocks of 3 x 3 convolutions (w, 2w, 4w, 8w and 16w channels for base width w) halve
    frequency, the first three time as well, rounding up: N frames become ceil(N / 8) steps, N >= 1.
    Three 1-d convolutions see all frequencies, and 132 frames with all before them; the GRU runs
    forward. Every convolution has a bias, batch normalisation and ReLU. The defaults are Table 1's
    network: 2,647,680 parameters.

    A clip's logits do not depend on what it was batched with: in evaluation, what a convolution
    made beyond the clip's own frames is put back to zero before the next, so that each sees what it
    would see of the clip alone. The authors' code does not (`mask_padding` false), and padding
    changes what stands next to it. In training, batch normalisation counts padded frames in its
    statistics, here as there: batches should be of clips of similar length.

    Args:
        num_classes: number of logits.
        in_channels: 1 (mono) or 2 (stereo) spectrograms.
        num_bins: F of the features; the first 1-d convolution is made for it.
        base_width: channels of the first block.
        hidden: channels of the 1-d convolutions and units of the GRU and of the classifier.
        conv_bias: the report does not say; the authors' code has it. (Batch normalisation takes
            its effect away.)
        mask_padding: keep padding at zero.
        prior: share of the clips that a class is expected to be in, 0 .. 1: the logits start at
            its log-odds. None, as published: at zero; the first steps then push all of many
            classes' logits down by whatever leads there, which saturates the GRU, and it takes
            thousands of steps to come out of that.

    Raises:
        ValueError: an argument out of range.
    """

    #: The GRU carries the whole clip to the logits.
    global_reach = True
    taps: tuple[str, ...] = (
        "input", "block1", "block2", "block3", "block4", "block5", "conv1d",
    )  # fmt: skip

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 1,
        num_bins: int = 128,
        base_width: int = 16,
        hidden: int = 256,
        conv_bias: bool = True,
        mask_padding: bool = True,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels, num_bins, base_width, hidden) < 1:
            raise ValueError(
                "num_classes, in_channels, num_bins, base_width and hidden must be at least 1"
            )
        self.num_bins = num_bins
        self.mask_padding = mask_padding
        width, bins = in_channels, num_bins
        blocks = []
        for index, (count, pool) in enumerate(BLOCKS):
            out = base_width << index
            convolutions = [
                ConvNormReLU(nn.Conv2d(inputs, out, 3, padding=1, bias=conv_bias))
                for inputs in [width, *[out] * (count - 1)]
            ]
            blocks.append(Block(convolutions, pool))
            width, bins = out, -(-bins // pool[0])
        self.blocks = nn.ModuleList(blocks)
        self.conv1d = Block(
            [
                ConvNormReLU(nn.Conv1d(inputs, hidden, 3, padding=1, bias=conv_bias))
                for inputs in (width * bins, hidden, hidden)
            ]
        )
        self.gru = nn.GRU(hidden, hidden, num_layers=2, batch_first=True)
        last = nn.Linear(hidden, num_classes)
        self.classifier = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), last)
        start_at(prior, last)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        """Logits.

        Args:
            x: features, (B, C, F, T).
            lengths: (B,) frames of each sample that are not padding, at least 1; None: all.
            tap: called as `x = tap(k, x)` at tap k; None in evaluation. The map of the 1-d
                convolutions has F = 1.

        Returns:
            (B, num_classes), in single precision under autocast too.

        Raises:
            RuntimeError: features of another number of bins.
        """
        if x.shape[2] != self.num_bins:
            raise RuntimeError(f"made for {self.num_bins} bins: set --model.num_bins {x.shape[2]}")
        steps = None if lengths is None else lengths.to(x.device)
        if tap is not None:
            x = tap(0, x)
        for k, block in enumerate(self.blocks, start=1):
            x, steps = block(x, steps, self.mask_padding)
            if tap is not None:
                x = tap(k, x)
        if self.training and x.shape[0] * x.shape[-1] == 1:
            # One clip of eight frames or fewer: a variance takes two values, padding is the second.
            steps = torch.ones(1, dtype=torch.long, device=x.device)
            x = functional.pad(x, (0, 1))
        x, steps = self.conv1d(x.flatten(1, 2), steps, self.mask_padding)
        if tap is not None:
            x = tap(len(self.blocks) + 1, x[:, :, None])[:, :, 0]
        outputs, _ = self.gru(x.transpose(1, 2))  # (B, T', hidden); padding comes after the clip
        with single_precision(x.device):
            last = _last(outputs, steps)
            return self.classifier(last.to(torch.promote_types(last.dtype, torch.float32)))


class Block(nn.Module):
    """Convolutions, then max pooling over so much of (frequency, time), if any.

    Pooling rounds up: a last frame without a partner counts as if a zero followed; after ReLU that
    changes nothing.
    """

    def __init__(
        self, convolutions: list[ConvNormReLU], pool: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.pool = nn.Identity() if pool is None else nn.MaxPool2d(pool, ceil_mode=True)
        self.factor = 1 if pool is None else pool[1]

    def forward(self, x: Tensor, steps: Tensor | None, mask: bool) -> tuple[Tensor, Tensor | None]:
        """The map, and how many of its steps belong to each clip.

        Args:
            x: (B, C, T) or (B, C, F, T).
            steps: (B,) steps of `x` that belong to each clip; None: all.
            mask: zero what lies beyond them, before each convolution and before pooling.
        """
        beyond = None
        if mask and steps is not None:
            beyond = torch.arange(x.shape[-1], device=x.device) >= steps[:, None]
            beyond = beyond.view(len(x), *[1] * (x.dim() - 2), -1)
        x = _cleared(x, beyond)
        for convolution in self.convolutions:
            x = _cleared(convolution(x), beyond)
        return self.pool(x), None if steps is None else -(-steps // self.factor)


class ConvNormReLU(nn.Sequential):
    """A convolution initialised as the authors do, batch normalisation and ReLU."""

    def __init__(self, convolution: nn.Conv1d | nn.Conv2d) -> None:
        nn.init.xavier_uniform_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        norm = nn.BatchNorm1d if isinstance(convolution, nn.Conv1d) else nn.BatchNorm2d
        super().__init__(convolution, norm(convolution.out_channels), nn.ReLU())


def _cleared(x: Tensor, beyond: Tensor | None) -> Tensor:
    # Not masked_fill: on a CPU `where` keeps the layout that the next steps are fastest with.
    return x if beyond is None else torch.where(beyond, 0.0, x)


def _last(outputs: Tensor, steps: Tensor | None) -> Tensor:
    """(B, T, H) to (B, H): the output at each clip's last step."""
    if steps is None:
        return outputs[:, -1]
    index = (steps.long() - 1).clamp(min=0)
    return outputs.gather(1, index[:, None, None].expand(-1, 1, outputs.shape[2]))[:, 0]
