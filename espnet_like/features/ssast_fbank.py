"""The input of SSAST: Kaldi's filter banks, of one length and normalised."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from espnet_like.features.base import beyond
from espnet_like.features.kaldi_fbank import KaldiFbank


class SSASTFbank(KaldiFbank):
    """Log mel energies, padded with 0 or cut to `frames`, then (x - mean) / (2 std).

    Mean and deviation are two numbers of a whole corpus; the presets hold those of SSAST's
    recipes, which the released weights know. Twice the deviation is the authors' choice. Padding
    is not silence: 0 lies above the mean energy, and SSAST's networks look at it, so that every
    clip counts as `frames` long. Configure with `normalize: false`.
    Source: Gong et al., "SSAST", AAAI 2022, and the authors' code; PEAS, Table I.

    Args:
        frames: T; None leaves each clip its own frames.
        mean, std: of log mel energies.

    Raises:
        ValueError: a setting out of range.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "esc50": {"frames": 512, "mean": -6.6268077, "std": 5.358466},
        "sc_v2": {"frames": 128, "mean": -6.845978, "std": 5.5654526},
        "pretraining": {"frames": 1024, "mean": -4.2677393, "std": 4.5689974},
    }

    def __init__(
        self, frames: int | None = 512, mean: float = -6.6268077, std: float = 5.358466
    ) -> None:
        super().__init__()
        if std <= 0 or (frames is not None and frames < 1):
            raise ValueError(f"std {std} and frames {frames} must be positive")
        self.frames, self.mean, self.std = frames, mean, std
        self.one_length = frames is not None

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        own = super().frame_lengths(lengths)
        return own if self.frames is None else torch.where(own > 0, self.frames, 0)

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate / self.shift

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        x = super().compute(wave, lengths)
        if self.frames is not None:
            if lengths is not None:
                own = super().frame_lengths(lengths.to(wave.device, torch.long))
                x = x.masked_fill(beyond(own, x.shape[2])[:, None, :, None], 0.0)
            x = functional.pad(x, (0, 0, 0, self.frames - x.shape[2]))  # a negative one cuts
        return (x - self.mean) / (2 * self.std)
