"""The conventional log-mel spectrogram: power, mel, log, every parameter open."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from espnet_like.features.base import (
    Framing,
    FrontEnd,
    MelBank,
    beyond,
    blocks,
    mel_weights,
    power_spectrum,
)

WINDOWS = {
    "hann": torch.hann_window,
    "hamming": torch.hamming_window,
    "blackman": torch.blackman_window,
}


class LogMel(FrontEnd):
    """log max(Mel |STFT|^power, floor), as librosa computes it.

    Args:
        sample_rate: Hz.
        n_fft: FFT size in samples.
        win_length: window size in samples, centred in the FFT; None is `n_fft`.
        hop_length: samples.
        window: "hann", "hamming" or "blackman".
        periodic: False for the symmetric window of filter design.
        center: frame t is centred on sample t * hop_length.
        pad_mode: "reflect" or "constant", what stands beyond the clip's ends with `center`.
        power: exponent of the magnitude, 2 for power.
        n_mels: F.
        fmin, fmax: Hz; fmax None is half the sample rate.
        mel_scale: "slaney" or "htk".
        norm: "slaney" (filters of unit area) or "none" (peaks of 1).
        log: "natural" (ln) or "db10" (10 log10).
        floor: smallest mel value that counts.
        top_db: what lies more than `top_db` dB of mel value under the channel's own peak over the
            clip is raised to there; None for no limit.
    """

    window: Tensor

    def __init__(
        self,
        sample_rate: int = 22050,
        n_fft: int = 2048,
        win_length: int | None = None,
        hop_length: int = 512,
        window: str = "hann",
        periodic: bool = True,
        center: bool = True,
        pad_mode: str = "reflect",
        power: float = 2.0,
        n_mels: int = 128,
        fmin: float = 0.0,
        fmax: float | None = None,
        mel_scale: str = "slaney",
        norm: str = "slaney",
        log: str = "natural",
        floor: float = 1e-10,
        top_db: float | None = None,
    ) -> None:
        super().__init__(sample_rate, n_mels)
        size = n_fft if win_length is None else win_length
        if not 0 < size <= n_fft:
            raise ValueError(f"win_length {size} is not between 1 and n_fft {n_fft}")
        if window not in WINDOWS:
            raise ValueError(f"window {window!r} is unknown; choose from {', '.join(WINDOWS)}")
        if log not in ("natural", "db10"):
            raise ValueError(f"log {log!r} is neither natural nor db10")
        if power <= 0 or floor <= 0 or (top_db is not None and top_db < 0):
            raise ValueError(f"power {power} and floor {floor} must be > 0, top_db {top_db} >= 0")
        self.framing = Framing(n_fft, hop_length, center, pad_mode)
        self.power = power
        self.log = log
        self.floor = floor
        self.top_db = top_db
        left = (n_fft - size) // 2
        shape = WINDOWS[window](size, periodic=periodic, dtype=torch.float64)
        shape = functional.pad(shape, (left, n_fft - size - left)).float()
        self.register_buffer("window", shape, persistent=False)
        weights = mel_weights(sample_rate, n_fft, n_mels, fmin, fmax, mel_scale, norm)
        self.mel = MelBank(weights.float())

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        return self.framing.frame_lengths(lengths)

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        frames = self.framing(wave, lengths)
        mel = torch.cat([self.mel(self._spectrum(block)) for block in blocks(frames)], dim=2)
        mel = mel.maximum(self._limit(mel, lengths))
        return mel.log() if self.log == "natural" else 10.0 * mel.log10()

    def _spectrum(self, frames: Tensor) -> Tensor:
        power = power_spectrum(frames * self.window)
        return power if self.power == 2 else power.pow(self.power / 2)

    def _limit(self, mel: Tensor, lengths: Tensor | None) -> Tensor:
        """The smallest mel value that counts, (B, C, 1, 1)."""
        if self.top_db is None:
            return mel.new_full((1, 1, 1, 1), self.floor)
        peaks = mel.amax(-1)
        if lengths is not None:
            own = self.frame_lengths(lengths.to(mel.device, torch.long))
            peaks = peaks.masked_fill(beyond(own, peaks.shape[-1])[:, None], 0.0)
        peak = peaks.amax(-1)[..., None, None]
        return (peak * 10.0 ** (-self.top_db / 10.0)).clamp(min=self.floor)
