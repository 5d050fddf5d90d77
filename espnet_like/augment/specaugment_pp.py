"""SpecAugment++: masks at the input or in hidden space.

Wang, Zou and Wang, "SpecAugment++: A Hidden Space Data Augmentation Method for Acoustic Scene
Classification", Interspeech 2021, section 2 and Algorithms 1-3.
"""

from __future__ import annotations

from typing import Literal

from espnet_like.augment.base import Augmentation, Batch, Op, check_layers
from espnet_like.augment.partner import draw_shift
from espnet_like.augment.stripes import FillOp, HiddenWidth, MaxWidth, PartnerOp, Stripes


class SpecAugmentPP(Augmentation):
    """One time and one frequency stripe per sample, at one layer drawn per batch.

    With x the map of a sample, y the same layer's map of another sample of the batch and m the
    union of the two stripes, over all channels:

        zero     (ZM, Algorithm 1)  x' = 0             in m
        mixture  (MM, Algorithm 2)  x' = (x + y) / 2   in m
        cutting  (CM, Algorithm 3)  x' = y             in m

    Targets stay. Gradients flow through y. A batch of one is left alone by MM and CM.

    Args:
        mode: zero, mixture or cutting.
        layers: taps to draw from, each equally likely; the paper's layers 0-4.
        time_ratio, freq_ratio: largest widths as shares of the map's axes; 0 for no stripe.
        time_width, freq_width: largest widths t', f' in cells of the input, instead of the
            ratios (the paper prints 43 and 26, 10 % of 431 frames and 256 bins).
        hidden_width: t' and f' of the paper exceed its deeper maps (26 frames, 15 bins), and it
            does not say what happens there: `scale` them with the map, or `clamp` them to it.
        allow_self: let a sample be its own partner (for a whole batch at once, with
            probability 1 / B); the paper says "another sample".

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        mode: Literal["zero", "mixture", "cutting"] = "mixture",
        layers: tuple[int, ...] = (0, 1, 2, 3, 4),
        time_ratio: float = 0.1,
        freq_ratio: float = 0.1,
        time_width: int | None = None,
        freq_width: int | None = None,
        hidden_width: HiddenWidth = "scale",
        allow_self: bool = False,
    ) -> None:
        if mode not in ("zero", "mixture", "cutting"):
            raise ValueError(f"mode must be zero, mixture or cutting, not {mode!r}")
        self.mode = mode
        self.layers = check_layers(layers)
        self.time = MaxWidth(time_ratio, time_width, hidden_width)
        self.freq = MaxWidth(freq_ratio, freq_width, hidden_width)
        self.allow_self = allow_self

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        time = Stripes.draw(batch, self.time, axis=3)
        freq = Stripes.draw(batch, self.freq, axis=2)
        if self.mode == "zero":
            return [FillOp(layer, time, freq)]
        shift = draw_shift(batch, self.allow_self)
        part = 0.5 if self.mode == "mixture" else 1.0
        return [PartnerOp(layer, time, freq, shift, part)] if shift else []
