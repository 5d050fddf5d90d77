"""Perceptually weighted log spectrum, then mel: the front end of CP-ResNet and SpecAugment++."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from espnet_like.features.base import (
    Framing,
    FrontEnd,
    MelBank,
    beyond,
    blocks,
    mel_weights,
    power_spectrum,
)

DB = 10.0 / math.log(10.0)  # decibels per neper of power


def a_weighting(frequencies: Tensor) -> Tensor:
    """IEC 61672 A-weighting in dB at `frequencies` (Hz, float64), not below -80 dB."""
    square = frequencies.square()
    c1, c2, c3, c4 = (f * f for f in (12194.217, 20.598997, 107.65265, 737.86223))
    gain = c1 * square.square() / ((square + c1) * (square + c2))
    gain = gain / ((square + c3) * (square + c4)).sqrt()
    return (2.0 + 20.0 * gain.log10()).clamp(min=-80.0)


class CpJku(FrontEnd):
    """Mel filters over A-weighted decibels: log first, mel second (Koutini et al., CP-ResNet).

    Per channel, with S the power spectrum over periodic Hann windows, centred, reflected ends:
    D = max(10 log10 max(S, amin), peak(D) - top_db), the peak over the whole clip; then
    Mel (D + A), A the A-weighting and Mel the Slaney filters of unit area.
    Source: cpjku_dcase19 `processor_d18`; SpecAugment++ (Wang et al., 2021), section 4.1, where
    "25 % overlap" is a hop of 25 % of the window.

    Args:
        sample_rate: Hz.
        n_fft, hop_length: samples.
        n_mels: F.
        fmin, fmax: Hz; fmax None is half the sample rate.
        top_db: dynamic range in dB, None for no limit.
        amin: smallest power.
    """

    offset: Tensor
    window: Tensor

    def __init__(
        self,
        sample_rate: int = 22050,
        n_fft: int = 2048,
        hop_length: int = 512,
        n_mels: int = 256,
        fmin: float = 0.0,
        fmax: float | None = None,
        top_db: float | None = 80.0,
        amin: float = 1e-10,
    ) -> None:
        super().__init__(sample_rate, n_mels)
        if amin <= 0 or (top_db is not None and top_db < 0):
            raise ValueError(f"amin {amin} must be positive, top_db {top_db} not negative")
        self.framing = Framing(n_fft, hop_length, center=True, pad_mode="reflect")
        self.top_db = top_db
        self.amin = amin
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        weights = mel_weights(sample_rate, n_fft, n_mels, fmin, fmax)
        self.mel = MelBank((weights * DB).float())
        frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
        offset = a_weighting(frequencies) @ weights  # Mel (D + A) = Mel D + Mel A
        self.register_buffer("offset", offset.float(), persistent=False)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        return self.framing.frame_lengths(lengths)

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        frames = self.framing(wave, lengths)
        power = [power_spectrum(block * self.window) for block in blocks(frames)]
        floor = self._floor(power, lengths)
        return torch.cat([self.mel(p.maximum(floor).log_()) + self.offset for p in power], dim=2)

    def _floor(self, power: list[Tensor], lengths: Tensor | None) -> Tensor:
        """The smallest power that counts, (B, C, 1, 1): `top_db` under the clip's own peak."""
        if self.top_db is None:
            return power[0].new_full((1, 1, 1, 1), self.amin)
        peaks = torch.cat([p.amax(-1) for p in power], dim=-1)
        if lengths is not None:
            own = self.frame_lengths(lengths.to(peaks.device, torch.long))
            peaks = peaks.masked_fill(beyond(own, peaks.shape[-1])[:, None], 0.0)
        peak = peaks.amax(-1)[..., None, None]
        return (peak * 10.0 ** (-self.top_db / 10.0)).clamp(min=self.amin)
