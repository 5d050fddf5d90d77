"""The masks of SSAST's fine-tuning: torchaudio's FrequencyMasking, then its TimeMasking.

Gong et al., "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022, and its authors'
code; the row "conventional" of PEAS. The draw is `torchaudio.functional.mask_along_axis`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op, check_layers
from espnet_like.augment.stripes import FillOp, HiddenWidth, MaxWidth, Placed, Stripes


class SSASTMasks(Augmentation):
    """One frequency and one time stripe per clip, with P the size of an axis' largest mask:

        value = u P,  width = floor(value),  start = floor(v (size - value)),  u, v ~ U[0, 1)

    So the width is uniform on 0 .. P - 1 (P itself is not reached), and P is at most the axis.

    SSAST masks the log mel energies with 0 before it normalises them by (x - mean) / (2 std). Here
    features are normalised already: its fill is `value` = -mean / (2 std), which the presets
    `esc50` and `sc_v2` hold for SSAST's own statistics. It suits no other front end; 0, the
    default, is the mean of any normalised features. All that SSAST does to a spectrogram is a
    `chain` of ssast_masks, noise and time_roll.

    Args:
        layers: taps; one of them is drawn per batch.
        freq_width, time_width: P in cells of the input; None for the ratio.
        freq_ratio, time_ratio: P as shares of the axes.
        value: what masked cells hold.
        padding: the time stripe is placed on the axis with its padding, as SSAST does, and may
            fall into it; False: within each clip's own frames. Padding itself is never changed.
        hidden_width: what cells mean at a hidden layer (see `stripes.MaxWidth`).

    Raises:
        ValueError: a setting out of range.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "esc50": {"freq_width": 24, "time_width": 96, "value": 6.6268077 / (2 * 5.358466)},
        "sc_v2": {"freq_width": 48, "time_width": 48, "value": 6.845978 / (2 * 5.5654526)},
    }

    def __init__(
        self,
        layers: tuple[int, ...] = (0,),
        freq_width: int | None = 24,
        time_width: int | None = 96,
        freq_ratio: float = 0.1875,
        time_ratio: float = 0.1875,
        value: float = 0.0,
        padding: bool = True,
        hidden_width: HiddenWidth = "scale",
    ) -> None:
        self.layers = check_layers(layers)
        self.freq = MaxWidth(freq_ratio, freq_width, hidden_width)
        self.time = MaxWidth(time_ratio, time_width, hidden_width)
        self.value = value
        self.padding = padding

    def ops(self, batch: Batch) -> list[Op]:
        layer = self.layers[batch.integer(0, len(self.layers))]
        size, _, bins, frames = batch.features.shape
        freq = TorchaudioStripes(self.freq, bins, batch.uniform(2, size, 1))
        time = TorchaudioStripes(self.time, frames, batch.uniform(2, size, 1), self.padding)
        return [FillOp(layer, time, freq, self.value)]


@dataclass(frozen=True)
class TorchaudioStripes(Stripes):
    """Stripes by torchaudio's rule. `padding` counts as part of the axis."""

    padding: bool = True

    def place(self, size: int, valid: Tensor | None = None) -> Placed:
        own = None if self.padding else valid
        most = self.most.cells(size, self.base, own)
        end: int | Tensor = size
        if own is not None:
            assert isinstance(most, Tensor)
            most, end = most[:, None], own[:, None]
        value = self.units[0] * most
        start, width = (self.units[1] * (end - value)).long(), value.long()
        if valid is not None:
            width = width.minimum((valid[:, None] - start).clamp(min=0))
        return Placed(start, width)
