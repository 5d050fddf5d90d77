"""What every front end shares: framing, mel filter banks, and batches of unequal lengths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

CPU_BLOCK = 2**19  # samples in flight: what fits the caches of one core
GPU_BLOCK = 2**27


class FrontEnd(nn.Module):
    """Waveforms to features: (B, C, L) float32 to (B, maps * C, F, T) float32.

    The result of one clip does not depend on what it was batched with: it is as if each clip
    had been cut to its length and put through alone.

    Args:
        sample_rate: rate of the waveforms in Hz.
        num_bins: F.
    """

    #: Feature maps that each channel of the audio gives.
    maps: ClassVar[int] = 1
    #: Every clip gets the same number of frames, and all of them count.
    one_length = False

    def __init__(self, sample_rate: int, num_bins: int) -> None:
        super().__init__()
        if sample_rate <= 0 or num_bins <= 0:
            raise ValueError(f"sample_rate {sample_rate} and bins {num_bins} must be positive")
        self.sample_rate = sample_rate
        self.num_bins = num_bins

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that clips of `lengths` samples give; any integer tensor, same shape out."""
        raise NotImplementedError

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, C, L) to (B, maps * C, T, F); what stands beyond a clip's frames does not matter."""
        raise NotImplementedError

    def num_frames(self, samples: int) -> int:
        """Frames that a clip of `samples` samples gives."""
        return int(self.frame_lengths(torch.tensor(samples)))

    @property
    def frames_per_second(self) -> float:
        """Frames that a longer clip has for each second that it is longer."""
        return (self.num_frames(61 * self.sample_rate) - self.num_frames(self.sample_rate)) / 60

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features of a batch.

        Args:
            wave: (B, C, L) in [-1, 1]; what stands beyond a clip's length is not looked at.
            lengths: (B,) samples per clip, 1 to L; all L when left out.

        Returns:
            features: (B, maps * C, F, T) float32 (its memory lies as (B, ..., T, F)), 0 in padded
                frames.
            frame_lengths: (B,) long.

        Raises:
            ValueError: `wave` has not three axes.
        """
        if wave.dim() != 3:
            raise ValueError(f"waveforms come as (batch, channel, sample), not {tuple(wave.shape)}")
        wave = wave.float()
        samples = wave.new_full((len(wave),), wave.shape[-1], dtype=torch.long)
        with full_precision(wave.device.type):
            features = self.compute(wave, lengths)
        if lengths is None:
            return features.transpose(-1, -2), self.frame_lengths(samples)
        frames = self.frame_lengths(lengths.to(wave.device, torch.long))
        padded = beyond(frames, features.shape[-2])[:, None, :, None]
        return features.masked_fill(padded, 0.0).transpose(-1, -2), frames


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Neither autocast nor TF32: a logarithm makes their rounding audible in quiet bins."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def beyond(lengths: Tensor, size: int) -> Tensor:
    """(B, size) bool: the positions past each of the (B,) lengths."""
    return torch.arange(size, device=lengths.device) >= lengths[:, None]


class Framing:
    """Cuts clips into overlapping frames as librosa does.

    A clip shorter than the framing can take (reflection needs n_fft // 2 + 1 samples, frames
    that are not centred need n_fft) is first filled with zeros up to that minimum, so that a clip
    of any length >= 1 has at least one frame.

    Args:
        n_fft, hop_length: samples.
        center: frame t is centred on sample t * hop_length, the ends being padded.
        pad_mode: "reflect" or "constant" (zeros); without `center` of no account.
    """

    def __init__(self, n_fft: int, hop_length: int, center: bool, pad_mode: str) -> None:
        if n_fft < 2 or hop_length < 1:
            raise ValueError(f"n_fft {n_fft} must be >= 2, hop_length {hop_length} >= 1")
        if pad_mode not in ("reflect", "constant"):
            raise ValueError(f"pad_mode {pad_mode!r} is neither reflect nor constant")
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.pad = n_fft // 2 if center else 0
        self.reflect = center and pad_mode == "reflect"
        self.minimum = max(1, n_fft - 2 * self.pad, self.pad + 1 if self.reflect else 0)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames per clip; see `FrontEnd.frame_lengths`."""
        return (lengths.clamp(min=self.minimum) + 2 * self.pad - self.n_fft) // self.hop_length + 1

    def __call__(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, C, L) to a view (B, C, T, n_fft)."""
        if lengths is not None:
            lengths = lengths.to(wave.device, torch.long)
            wave = wave.masked_fill(beyond(lengths, wave.shape[-1])[:, None], 0.0)
        wave = functional.pad(wave, (0, max(0, self.minimum - wave.shape[-1])))
        if self.reflect and lengths is None:
            before, after = wave[..., 1 : self.pad + 1], wave[..., -self.pad - 1 : -1]
            wave = torch.cat([before.flip(-1), wave, after.flip(-1)], -1)  # pad() takes 8 times it
        elif self.pad:
            wave = functional.pad(wave, (self.pad, self.pad))
            if self.reflect and lengths is not None:
                wave = self._mirror(wave, lengths.clamp(min=self.minimum))
        return wave.unfold(-1, self.n_fft, self.hop_length)

    def _mirror(self, wave: Tensor, lengths: Tensor) -> Tensor:
        """Reflect each clip's own two ends into the zeros around it, (B, C, pad + L + pad)."""
        step = torch.arange(1, self.pad + 1, device=wave.device)
        first = torch.full_like(lengths, self.pad)
        for edge, outwards in ((first, -step), (first + lengths - 1, step)):
            shape = (-1, wave.shape[1], -1)
            inside = wave.gather(-1, (edge[:, None] - outwards)[:, None].expand(shape))
            wave = wave.scatter(-1, (edge[:, None] + outwards)[:, None].expand(shape), inside)
        return wave


def blocks(frames: Tensor) -> Iterator[Tensor]:
    """Cut (B, C, T, n) along T so that the work on a block stays in cache (or in GPU memory)."""
    budget = CPU_BLOCK if frames.device.type == "cpu" else GPU_BLOCK
    per_frame = frames.shape[0] * frames.shape[1] * frames.shape[3]
    yield from frames.split(max(1, budget // max(1, per_frame)), dim=2)


def power_spectrum(frames: Tensor, n_fft: int | None = None) -> Tensor:
    """|rfft|^2 over the last axis."""
    pairs = torch.view_as_real(torch.fft.rfft(frames, n_fft))
    squares = pairs * pairs
    return squares[..., 0] + squares[..., 1]


class MelBank(nn.Module):
    """A filter bank as a few narrow matrix products.

    A mel filter is zero but for a few FFT bins, so the filters are taken in groups and each group
    sees only the bins it needs: the same sums at a tenth of the dense product's work.

    Args:
        weights: (n_freqs, n_mels).
        group: filters per product.
    """

    def __init__(self, weights: Tensor, group: int = 16) -> None:
        super().__init__()
        self.bands: list[tuple[int, int]] = []
        for index, columns in enumerate(weights.split(group, dim=1)):
            used = columns.abs().sum(1).nonzero().flatten().tolist() or [0]
            self.bands.append((used[0], used[-1] + 1))
            weight = columns[used[0] : used[-1] + 1].contiguous()
            self.register_buffer(f"weight{index}", weight, persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        """(..., n_freqs) to (..., n_mels)."""
        rows = spectrum.reshape(-1, spectrum.shape[-1])
        weights = self.buffers(recurse=False)
        parts = [rows[:, a:b] @ w for (a, b), w in zip(self.bands, weights, strict=True)]
        return torch.cat(parts, 1).view(*spectrum.shape[:-1], -1)


def mel_weights(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    fmin: float,
    fmax: float | None,
    scale: str = "slaney",
    norm: str = "slaney",
) -> Tensor:
    """Triangular mel filters as librosa's, (n_fft // 2 + 1, n_mels) float64.

    Args:
        fmin, fmax: Hz; fmax None is half the sample rate.
        scale: "slaney" or "htk".
        norm: "slaney" (unit area) or "none" (peaks of 1).

    Raises:
        ValueError: an odd sample rate (torchaudio would round its half), or limits out of range.
    """
    top = sample_rate / 2 if fmax is None else fmax
    if sample_rate % 2:
        raise ValueError(f"sample_rate {sample_rate} is odd: mel filters need an even one")
    if not 0 <= fmin < top <= sample_rate / 2:
        raise ValueError(f"0 <= fmin {fmin} < fmax {top} <= {sample_rate / 2} does not hold")
    if scale not in ("slaney", "htk") or norm not in ("slaney", "none"):
        raise ValueError(f"mel_scale {scale!r} is slaney or htk, norm {norm!r} slaney or none")
    standard = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # torchaudio's float32 slopes are off by 1e-5
    try:
        return melscale_fbanks(
            n_fft // 2 + 1, fmin, top, n_mels, sample_rate, None if norm == "none" else norm, scale
        )
    finally:
        torch.set_default_dtype(standard)
