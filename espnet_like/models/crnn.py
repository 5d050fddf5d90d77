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
Padding = tuple[Tensor, ...]  # an index into (B, T): one of booleans, or rows and steps


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
                ConvNorm(nn.Conv2d(inputs, out, 3, padding=1, bias=conv_bias))
                for inputs in [width, *[out] * (count - 1)]
            ]
            blocks.append(Block(convolutions, pool))
            width, bins = out, -(-bins // pool[0])
        self.blocks = nn.ModuleList(blocks)
        self.conv1d = Block(
            [
                ConvNorm(nn.Conv1d(inputs, hidden, 3, padding=1, bias=conv_bias))
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
            tap: called as `x = tap(k, x)` at tap k, returns `x` itself where it changes nothing;
                None in evaluation. The map of the 1-d convolutions has F = 1.

        Returns:
            (B, num_classes), in single precision under autocast too.

        Raises:
            RuntimeError: features of another number of bins.
        """
        if x.shape[2] != self.num_bins:
            raise RuntimeError(f"made for {self.num_bins} bins: set --model.num_bins {x.shape[2]}")
        steps = None if lengths is None else lengths.to(x.device)
        padding = self._padding(x, steps)
        x = _cleared(x if tap is None else tap(0, x), padding)
        for k, (block, (_, pool)) in enumerate(zip(self.blocks, BLOCKS, strict=True), start=1):
            x = block(x, padding)
            steps = None if steps is None else -(-steps // pool[1])
            padding = self._padding(x, steps)
            if tap is not None and (changed := tap(k, x)) is not x:
                x = _cleared(changed, padding)
        if self.training and x.shape[0] * x.shape[-1] == 1:
            # One clip of eight frames or fewer: a variance takes two values, padding is the second.
            steps = torch.ones(1, dtype=torch.long, device=x.device)
            x = functional.pad(x, (0, 1))
            padding = self._padding(x, steps)
        x = self.conv1d(x.flatten(1, 2), padding)
        if tap is not None:
            x = tap(len(self.blocks) + 1, x[:, :, None])[:, :, 0]
        outputs, _ = self.gru(x.transpose(1, 2))  # (B, T', hidden); padding comes after the clip
        with single_precision(x.device):
            last = _last(outputs, steps)
            return self.classifier(last.to(torch.promote_types(last.dtype, torch.float32)))

    def _padding(self, x: Tensor, steps: Tensor | None) -> Padding | None:
        """Where `x` (B, ..., T) is at or after its row's `steps` (B,), if that is to be zero."""
        if steps is None or not self.mask_padding:
            return None
        beyond = torch.arange(x.shape[-1], device=x.device) >= steps[:, None]
        # A CPU is many times faster with positions; a GPU would have to wait until they are found.
        return beyond.nonzero(as_tuple=True) if x.device.type == "cpu" else (beyond,)


class Block(nn.Module):
    """Convolutions with batch normalisation and ReLU, then max pooling over (frequency, time).

    The last convolution is pooled before its ReLU, which comes to the same and leaves ReLU a
    quarter of the work. Pooling rounds up: a last frame without a partner counts as if a zero
    followed.

    Args:
        convolutions: one after the other.
        pool: how much of (frequency, time) it takes; None: no pooling.
    """

    def __init__(self, convolutions: list[ConvNorm], pool: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.pool = nn.Identity() if pool is None else nn.MaxPool2d(pool, ceil_mode=True)

    def forward(self, x: Tensor, padding: Padding | None) -> Tensor:
        """The block's map.

        Args:
            x: (B, C, T) or (B, C, F, T), zero where there is padding.
            padding: of `x`, where each convolution's map is put to zero; None: nowhere.
        """
        last = self.convolutions[-1]
        for convolution in self.convolutions:
            x = convolution(x)
            if padding is not None:
                _clear_for_relu(x, padding)
            x = functional.relu(self.pool(x) if convolution is last else x, inplace=True)
        return x


class ConvNorm(nn.Sequential):
    """A convolution initialised as the authors do, and batch normalisation."""

    def __init__(self, convolution: nn.Conv1d | nn.Conv2d) -> None:
        nn.init.xavier_uniform_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        norm = nn.BatchNorm1d if isinstance(convolution, nn.Conv1d) else nn.BatchNorm2d
        super().__init__(convolution, norm(convolution.out_channels))


def _cleared(x: Tensor, padding: Padding | None) -> Tensor:
    """A copy of (B, ..., T), zero where there is padding."""
    if padding is None:
        return x
    return x.movedim(-1, 1).index_put(padding, torch.zeros((), dtype=x.dtype)).movedim(1, -1)


@torch.no_grad()
def _clear_for_relu(x: Tensor, padding: Padding) -> None:
    """Zero in place what ReLU is applied to next, perhaps after pooling.

    Autograd need not know: ReLU passes no gradient to where it gives zero, as it does for a window
    of the pooling whose largest value is such a zero.
    """
    x.movedim(-1, 1).index_put_(padding, torch.zeros((), dtype=x.dtype))


def _last(outputs: Tensor, steps: Tensor | None) -> Tensor:
    """(B, T, H) to (B, H): the output at each clip's last step."""
    if steps is None:
        return outputs[:, -1]
    index = (steps.long() - 1).clamp(min=0)
    return outputs.gather(1, index[:, None, None].expand(-1, 1, outputs.shape[2]))[:, 0]
