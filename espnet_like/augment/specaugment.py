"""SpecAugment: stripes of one value over time and frequency (no time warping).

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
Interspeech 2019; a baseline of SpecAugment++ (Table 2), which does not state its widths.
"""

from __future__ import annotations

from typing import Literal

from espnet_like.augment.base import Augmentation, Batch, Op, check_layers
from espnet_like.augment.stripes import FillOp, HiddenWidth, MaxWidth, Stripes


class SpecAugment(Augmentation):
    """`time_stripes` and `freq_stripes` stripes per sample, each with its own width and place.

    Args:
        layers: taps; one of them is drawn per batch.
        time_stripes, freq_stripes: how many along each axis.
        time_ratio, freq_ratio: largest width of a stripe as a share of the axis. The default is
            that of SpecAugment++: 43 of 431 frames, 26 of 256 bins.
        time_width, freq_width: largest width in cells of the input, instead of the ratio.
        hidden_width: what these cells mean at a hidden layer (see `stripes.MaxWidth`).
        fill: `zero`, each channel's `mean` in the sample, or `value`.
        value: with fill `value`.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        layers: tuple[int, ...] = (0,),
        time_stripes: int = 1,
        freq_stripes: int = 1,
        time_ratio: float = 0.1,
        freq_ratio: float = 0.1,
        time_width: int | None = None,
        freq_width: int | None = None,
        hidden_width: HiddenWidth = "scale",
        fill: Literal["zero", "mean", "value"] = "zero",
        value: float = 0.0,
    ) -> None:
        if min(time_stripes, freq_stripes) < 0:
            raise ValueError("time_stripes and freq_stripes must not be negative")
        self.layers = check_layers(layers)
        self.numbers = (time_stripes, freq_stripes)
        self.time = MaxWidth(time_ratio, time_width, hidden_width)
        self.freq = MaxWidth(freq_ratio, freq_width, hidden_width)
        self.fill = {"zero": 0.0, "mean": None, "value": value}[fill]

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        time = Stripes.draw(batch, self.time, axis=3, number=self.numbers[0])
        freq = Stripes.draw(batch, self.freq, axis=2, number=self.numbers[1])
        return [FillOp(layer, time, freq, self.fill)]
