"""Log-mel energies with a partial last frame: the front end of UPB's audio tagging."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from espnet_like.features.base import (
    Framing,
    FrontEnd,
    MelBank,
    blocks,
    mel_weights,
    power_spectrum,
)


class Upb(FrontEnd):
    """ln max(Mel |STFT|^2, floor), each mel filter being a weighted mean over its FFT bins.

    Blackman windows (periodic), the first centred on sample 0, as many as it takes to cover the
    last sample: L samples give ceil(L / hop_length) + 1 frames, and zeros stand beyond both ends
    of a clip. The window is divided by its own sum, as scipy.signal.stft does. HTK mel filters,
    each divided by its own sum over the FFT bins.
    Source: Ebbers and Haeb-Umbach (UPB, DCASE 2019 Task 2), section 1.1; what the report does not
    say is as in the authors' code.

    Args:
        sample_rate: Hz.
        frame_length: samples of a window, even; filled with zeros up to `n_fft`.
        hop_length: samples.
        n_fft: FFT size in samples.
        n_mels: F.
        fmin, fmax: Hz; fmax None is half the sample rate.
        floor: smallest mel value that counts.

    Raises:
        ValueError: a setting out of range, or a mel filter without an FFT bin.
    """

    window: Tensor

    def __init__(
        self,
        sample_rate: int = 44100,
        frame_length: int = 1764,
        hop_length: int = 882,
        n_fft: int = 2048,
        n_mels: int = 128,
        fmin: float = 50.0,
        fmax: float | None = 16000.0,
        floor: float = 1e-18,
    ) -> None:
        super().__init__(sample_rate, n_mels)
        if not 0 < frame_length <= n_fft or frame_length % 2:
            raise ValueError(f"frame_length {frame_length} is not even and 2 to n_fft {n_fft}")
        if floor <= 0:
            raise ValueError(f"floor {floor} must be positive")
        self.framing = Framing(frame_length, hop_length, center=True, pad_mode="constant")
        self.n_fft = n_fft
        self.floor = floor
        window = torch.blackman_window(frame_length, dtype=torch.float64)
        self.register_buffer("window", (window / window.sum()).float(), persistent=False)
        weights = mel_weights(sample_rate, n_fft, n_mels, fmin, fmax, "htk", "none")
        sums = weights.sum(0)
        if empty := (sums == 0).nonzero().flatten().tolist():
            raise ValueError(f"n_mels {n_mels}: filter {empty[0]} has no FFT bin: take fewer")
        self.mel = MelBank((weights / sums).float())

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        hop = self.framing.hop_length
        return self.framing.frame_lengths(-(-lengths // hop) * hop)

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        wave = functional.pad(wave, (0, -wave.shape[-1] % self.framing.hop_length))
        frames = self.framing(wave, lengths)
        spectra = (power_spectrum(block * self.window, self.n_fft) for block in blocks(frames))
        mel = torch.cat([self.mel(spectrum) for spectrum in spectra], dim=2)
        return mel.clamp_(min=self.floor).log_()
