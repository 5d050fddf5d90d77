"""Between-class learning: two sounds of different classes in a ratio that the ear would name.

Tokozume, Ushiku and Harada, "Learning from Between-class Examples for Deep Sound Recognition",
ICLR 2018; a baseline of SpecAugment++ (Table 2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from espnet_like.augment.base import Batch, Waves
from espnet_like.augment.none import NoAugmentation
from espnet_like.augment.pairs import choose, different_classes
from espnet_like.augment.waveforms import WaveMethod, content, mix_targets

FLOOR = 1e-8  # of the weighted power of a window: -80 dB
BLOCK = 2**20  # samples of windows at a time: more would not stay in a CPU's cache


class BCLearning(WaveMethod):
    """x = (t x_1 + (1 - t) x_2) / sqrt(t^2 + (1 - t)^2), y = r y_1 + (1 - r) y_2, r ~ U(0, 1).

    t = 1 / (1 + 10^((G_1 - G_2) / 20) (1 - r) / r), so that the sounds' levels, not their
    samples, stand in the ratio r : 1 - r. G is a sound's level in dB: the loudest window's
    A-weighted power, at least -80 dB.

    The second sound is one of the batch that has no class in common with the first; a clip
    without such a partner is left as it is. A shorter partner ends in silence, a longer one is
    cut. (The authors draw both sounds from the whole training part, one fresh pair for each
    place in a batch, and train for twice as many epochs.)

    Args:
        window: samples of a window; None for theirs, 2048 at 16 kHz and 4096 at 44.1 kHz, of
            which the shorter serves up to 22.05 kHz. Windows overlap by half.

    Raises:
        ValueError: a window of less than two samples.
    """

    def __init__(self, window: int | None = None) -> None:
        if window is not None and window < 2:
            raise ValueError(f"window must be at least 2 samples, not {window}")
        self.window = window

    def mix_waves(self, batch: Batch) -> Waves:
        wave, targets, lengths = batch.features, batch.targets, batch.lengths
        size = len(wave)
        partner, found = choose(batch.uniform(size, size), different_classes(targets))
        ratio = torch.where(found, batch.uniform(size), 1)
        mixed = mix(wave, lengths, batch.sample_rate, ratio, partner, self.window)
        return Waves(mixed, mix_targets(targets, ratio, partner), lengths, NoAugmentation())


def mix(
    wave: Tensor,
    lengths: Tensor | None,
    sample_rate: int,
    ratio: Tensor,
    partner: Tensor,
    window: int | None = None,
) -> Tensor:
    """The formula of `BCLearning` with r = `ratio` (B,) and the `partner` (B,) of each clip."""
    window = window or (2048 if sample_rate <= 22050 else 4096)
    inside = content(wave, lengths)
    clean = wave if inside is None else wave * inside
    level = loudest(clean, lengths, sample_rate, window).sqrt()  # 10^(G / 20)
    t = ratio * level[partner] / (ratio * level[partner] + (1 - ratio) * level)
    norm = (t.square() + (1 - t).square()).sqrt()
    own, part = (t / norm)[:, None, None], ((1 - t) / norm)[:, None, None]
    mixed = clean[partner].mul_(part if inside is None else part * inside)
    return mixed.addcmul_(clean, own)


def loudest(wave: Tensor, lengths: Tensor | None, sample_rate: int, window: int) -> Tensor:
    """(B,) A-weighted power of the loudest window, the channels' mean, at least FLOOR.

    Windows stand every `window // 2` samples within the clip, which is zero after its end; a
    clip shorter than one window is one window.
    """
    size, channels, samples = wave.shape
    wave = functional.pad(wave, (0, max(0, window - samples)))
    stride = window // 2
    frames = wave.flatten(0, 1).unfold(-1, window, stride)  # (B C, windows, window), a view
    hann = torch.hann_window(window, device=wave.device)
    weight = a_weighting(sample_rate, window).to(wave.device).repeat_interleave(2)  # re, im
    levels = []
    for block in frames.split(max(1, BLOCK // frames[0].numel())):
        spectrum = torch.view_as_real(torch.fft.rfft(block * hann))
        levels.append(spectrum.square_().flatten(2) @ weight)
    level = torch.cat(levels).unflatten(0, (size, channels)).mean(1)
    if lengths is not None:
        windows = (lengths.to(wave.device) - window).div(stride, rounding_mode="floor") + 1
        number = torch.arange(level.shape[1], device=wave.device)
        level = level.masked_fill(number >= windows.clamp(min=1)[:, None], 0)
    return level.amax(1).clamp(min=FLOOR)


def a_weighting(sample_rate: int, n_fft: int) -> Tensor:
    """(n_fft // 2 + 1,) factors of the power of each bin: IEC 61672, not below -80 dB."""
    f2 = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64).square()
    low, high, *middle = (f * f for f in (20.598997, 12194.217, 107.65265, 737.86223))
    gain = high * f2 * f2 / ((f2 + low) * (f2 + high))
    for corner in middle:
        gain = gain / (f2 + corner).sqrt()
    return (gain * 10**0.1).square().clamp(min=1e-8).float()  # 2 dB, so that 1 kHz has 0
