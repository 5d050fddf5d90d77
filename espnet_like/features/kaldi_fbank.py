"""Kaldi's filter bank features over batches, as SSAST and PEAS use them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.compliance.kaldi import get_mel_banks

from espnet_like.features.base import FrontEnd, MelBank, beyond, blocks, power_spectrum

PREEMPHASIS = 0.97
SMALLEST = torch.finfo(torch.float32).eps  # ln of it, -15.9424, is digital silence

WINDOWS = ("hanning", "hamming", "povey", "rectangular", "blackman")


class KaldiFbank(FrontEnd):
    """`torchaudio.compliance.kaldi.fbank` with `htk_compat`, no energy and no dither, in batches.

    Only frames that lie wholly within a clip count (Kaldi's snip_edges): a clip shorter than one
    frame has none. The features are neither padded nor normalised here.
    Source: SSAST (Gong et al., 2022), PEAS, section IV.

    Args:
        sample_rate: Hz.
        num_mel_bins: F.
        frame_length, frame_shift: milliseconds.
        low_freq, high_freq: Hz; a high_freq <= 0 counts from half the sample rate.
        window: "hanning", "hamming", "povey", "rectangular" or "blackman".
        remove_mean: subtract the mean of the whole clip first, as SSAST does.
    """

    window: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        num_mel_bins: int = 128,
        frame_length: float = 25.0,
        frame_shift: float = 10.0,
        low_freq: float = 20.0,
        high_freq: float = 0.0,
        window: str = "hanning",
        remove_mean: bool = True,
    ) -> None:
        super().__init__(sample_rate, num_mel_bins)
        self.size = int(sample_rate * frame_length * 0.001)
        self.shift = int(sample_rate * frame_shift * 0.001)
        if self.size < 2 or self.shift < 1:
            raise ValueError(f"frames of {self.size} every {self.shift} samples: too short")
        if num_mel_bins < 4:
            raise ValueError(f"num_mel_bins {num_mel_bins} must be at least 4")
        top = high_freq if high_freq > 0 else high_freq + sample_rate / 2
        if not 0 <= low_freq < top <= sample_rate / 2:
            raise ValueError(f"0 <= low {low_freq} < high {top} <= {sample_rate / 2} does not hold")
        self.n_fft = 1 << (self.size - 1).bit_length()
        self.remove_mean = remove_mean
        self.register_buffer("window", window_function(window, self.size), persistent=False)
        filters, _ = get_mel_banks(
            num_mel_bins, self.n_fft, float(sample_rate), low_freq, high_freq, 100.0, -500.0, 1.0
        )
        self.mel = MelBank(functional.pad(filters, (0, 1)).T)  # nothing from the Nyquist bin

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        return ((lengths - self.size) // self.shift + 1).clamp(min=0)

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        if wave.shape[-1] < self.size:
            return wave.new_zeros(*wave.shape[:2], 0, self.num_bins)
        if self.remove_mean:
            wave = wave - clip_mean(wave, lengths)
        frames = wave.unfold(-1, self.size, self.shift)
        return torch.cat([self._log_mel(block) for block in blocks(frames)], dim=2)

    def _log_mel(self, frames: Tensor) -> Tensor:
        """(B, C, T, size) to (B, C, T, F), each step in Kaldi's order."""
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - PREEMPHASIS * before) * self.window
        return self.mel(power_spectrum(frames, self.n_fft)).clamp(min=SMALLEST).log()


def clip_mean(wave: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean of each clip's own samples, (B, C, L) to (B, C, 1).

    Quiet bins feel its last bit, so on a CPU every clip is summed as it would be alone; on other
    devices that would wait for `lengths`, and a masked sum in double precision comes close.
    """
    if lengths is None:
        return wave.mean(-1, keepdim=True)
    if wave.device.type == "cpu":
        rows = zip(wave, lengths.tolist(), strict=True)
        return torch.stack([row[:, :n].contiguous().mean(-1, keepdim=True) for row, n in rows])
    lengths = lengths.to(wave.device, torch.long)
    own = wave.masked_fill(beyond(lengths, wave.shape[-1])[:, None], 0.0)
    return (own.sum(-1, keepdim=True, dtype=torch.float64) / lengths[:, None, None]).float()


def window_function(name: str, size: int) -> Tensor:
    """Kaldi's windows: symmetric; povey is Hann to the power of 0.85."""
    if name not in WINDOWS:
        raise ValueError(f"window {name!r} is unknown; choose from {', '.join(WINDOWS)}")
    if name == "rectangular":
        return torch.ones(size)
    if name == "hamming":
        return torch.hamming_window(size, periodic=False)
    if name == "blackman":
        return torch.blackman_window(size, periodic=False)
    hann = torch.hann_window(size, periodic=False)
    return hann.pow(0.85) if name == "povey" else hann
