"""Log-mel with its first and second differences in time as further channels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from espnet_like.features.base import (
    Framing,
    FrontEnd,
    MelBank,
    blocks,
    mel_weights,
    power_spectrum,
)

LOST = 8  # frames: four at each end have no second differences of their own


class LogMelDeltas(FrontEnd):
    """ln(Mel |STFT|^2 + offset), its deltas, and the deltas of these: the front end of SpecMix.

    HTK mel filters with peaks of 1, periodic Hann windows, frames centred, ends reflected. The
    delta of frame t is (x[t+1] - x[t-1]) / 10 + (x[t+2] - x[t-2]) / 5, and only of frames that
    have these neighbours; static values, deltas and second deltas are cut to the frames that all
    three have. The channels of the audio come thrice: first all static, then all deltas, then all
    second deltas. A clip of eight frames or fewer has none left.
    Source: the authors' code of SpecMix (Kim et al., Interspeech 2021) for TAU 2020 Mobile (10 s
    give 423 frames) and for SECL-UMONS, of whose clips it takes the first 2 s (79 frames).

    Args:
        sample_rate: Hz.
        n_fft, hop_length: samples.
        n_mels: F.
        fmin, fmax: Hz; fmax None is half the sample rate.
        offset: added to the mel power.
        seconds: of a clip's beginning that are looked at; None for all.
    """

    maps: ClassVar[int] = 3
    window: Tensor

    def __init__(
        self,
        sample_rate: int = 44100,
        n_fft: int = 2048,
        hop_length: int = 1024,
        n_mels: int = 128,
        fmin: float = 0.0,
        fmax: float | None = None,
        offset: float = 1e-8,
        seconds: float | None = None,
    ) -> None:
        super().__init__(sample_rate, n_mels)
        if offset <= 0 or (seconds is not None and seconds <= 0):
            raise ValueError(f"offset {offset} and seconds {seconds} must be positive")
        self.framing = Framing(n_fft, hop_length, center=True, pad_mode="reflect")
        self.offset = offset
        self.samples = None if seconds is None else max(1, round(seconds * sample_rate))
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.mel = MelBank(
            mel_weights(sample_rate, n_fft, n_mels, fmin, fmax, "htk", "none").float()
        )

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        if self.samples is not None:
            lengths = lengths.clamp(max=self.samples)
        return (self.framing.frame_lengths(lengths) - LOST).clamp(min=0)

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        if self.samples is not None:
            wave = wave[..., : self.samples]
            lengths = None if lengths is None else lengths.clamp(max=self.samples)
        frames = self.framing(wave, lengths)
        powers = (power_spectrum(block * self.window) for block in blocks(frames))
        static = torch.cat([(self.mel(power) + self.offset).log() for power in powers], dim=2)
        if static.shape[2] <= LOST:
            return static.new_zeros(len(static), self.maps * static.shape[1], 0, self.num_bins)
        first = deltas(static)
        return torch.cat([static[:, :, 4:-4], first[:, :, 2:-2], deltas(first)], dim=1)


def deltas(x: Tensor) -> Tensor:
    """Differences in time of (B, C, T, F), T >= 5, where both neighbours exist: T - 4 frames."""
    near, far = x[:, :, 3:-1] - x[:, :, 1:-3], x[:, :, 4:] - x[:, :, :-4]
    return near / 10 + far / 5
