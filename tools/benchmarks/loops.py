"""The augmentations as one first writes them: sample by sample, with slices. What `methods` times.

Each takes features (B, C, F, T) or waveforms (B, C, L) and targets (B, K), and returns new ones;
the settings are those of egs/common/conf/augment.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from espnet_like.augment.bc_learning import a_weighting

Pair = tuple[Tensor, Tensor]
Loop = Callable[[Tensor, Tensor], Pair]
RATE = 22050


def _stripe(size: int, most: int) -> slice:
    width = random.randint(0, most)
    start = random.randint(0, size - width)
    return slice(start, start + width)


def _other(i: int, size: int) -> int:
    return (i + random.randint(1, size - 1)) % size


def _mix(y: Tensor, i: int, j: int, own: float) -> Tensor:
    return own * y[i] + (1 - own) * y[j]


def zeros(time: int, freq: int) -> Loop:
    """Stripes of zeros, `time` frames and `freq` bins at most."""

    def loop(x: Tensor, y: Tensor) -> Pair:
        out = x.clone()
        for i in range(len(x)):
            out[i, :, :, _stripe(x.shape[3], time)] = 0
            out[i, :, _stripe(x.shape[2], freq)] = 0
        return out, y

    return loop


def partner(part: float) -> Loop:
    """Stripes that take `part` of another sample's cells."""

    def loop(x: Tensor, y: Tensor) -> Pair:
        out = x.clone()
        for i in range(len(x)):
            j = _other(i, len(x))
            mask = torch.zeros(x.shape[2:], dtype=torch.bool)
            mask[:, _stripe(x.shape[3], round(0.1 * x.shape[3]))] = True
            mask[_stripe(x.shape[2], round(0.1 * x.shape[2]))] = True
            out[i, :, mask] = (1 - part) * x[i, :, mask] + part * x[j, :, mask]
        return out, y

    return loop


def mixup(x: Tensor, y: Tensor) -> Pair:
    """cpjku's: a weight for each sample."""
    out, targets = torch.empty_like(x), torch.empty_like(y)
    for i in range(len(x)):
        j, own = _other(i, len(x)), float(np.random.beta(0.3, 0.3))
        own = max(own, 1 - own)
        out[i] = own * x[i] + (1 - own) * x[j]
        targets[i] = _mix(y, i, j, own)
    return out, targets


def speechmix(x: Tensor, y: Tensor) -> Pair:
    """A weight and a partner of another class for each sample."""
    out, targets = torch.empty_like(x), torch.empty_like(y)
    for i in range(len(x)):
        j, own = random.choice([j for j in range(len(x)) if y[i] @ y[j] == 0]), random.random()
        out[i] = own * x[i] + (1 - own) * x[j]
        targets[i] = _mix(y, i, j, own)
    return out, targets


def cutmix(x: Tensor, y: Tensor) -> Pair:
    """A box for each sample, cut off at the ends."""
    out, targets = x.clone(), torch.empty_like(y)
    for i in range(len(x)):
        j, side = _other(i, len(x)), (1 - np.random.beta(1, 1)) ** 0.5
        box = []
        for size in x.shape[2:]:
            centre, half = random.randrange(size), int(size * side) // 2
            box.append((max(centre - half, 0), min(centre + half, size)))
        (f0, f1), (t0, t1) = box
        out[i, :, f0:f1, t0:t1] = x[j, :, f0:f1, t0:t1]
        own = 1 - (f1 - f0) * (t1 - t0) / (x.shape[2] * x.shape[3])
        targets[i] = _mix(y, i, j, own)
    return out, targets


def specmix(x: Tensor, y: Tensor) -> Pair:
    """Up to two bands along each axis, the targets by a mask's area."""
    out, targets = torch.empty_like(x), torch.empty_like(y)
    for i in range(len(x)):
        j, mask = _other(i, len(x)), torch.ones(x.shape[2:])
        for axis, size in enumerate(x.shape[2:]):
            for _ in range(random.randint(0, 2)):
                width = int(0.3 * size)
                start = random.randint(0, size - width)
                mask.narrow(axis, start, width).zero_()
        out[i] = mask * x[i] + (1 - mask) * x[j]
        targets[i] = _mix(y, i, j, float(mask.mean()))
    return out, targets


def freqmix(x: Tensor, y: Tensor) -> Pair:
    """One band of a batch kept, the rest of another sample."""
    bins = x.shape[2]
    width, centre = round(bins * float(np.random.beta(1, 1))), random.randrange(bins)
    low = max(centre - width // 2, 0)
    high = min(centre - width // 2 + width, bins)
    out, targets = torch.empty_like(x), torch.empty_like(y)
    for i in range(len(x)):
        j = _other(i, len(x))
        out[i] = x[j]
        out[i, :, low:high] = x[i, :, low:high]
        targets[i] = _mix(y, i, j, (high - low) / bins)
    return out, targets


def frequency_warp(x: Tensor, y: Tensor) -> Pair:
    """Bin by bin of each sample."""
    out, bins = torch.zeros_like(x), x.shape[2]
    for i in range(len(x)):
        alpha = (1 + np.random.exponential(0.07)) ** random.choice((-1, 1))
        fs = 2 * np.random.exponential(0.5 * bins) / (1 + alpha)
        fd = alpha * fs
        for f in range(bins):
            g = f / alpha
            if f > fd and max(fs, fd) < bins:
                g = bins - (bins - f) * (bins - fs) / (bins - fd)
            low = int(g)
            if low < bins:
                out[i, :, f] = (1 - g + low) * x[i, :, low]
            if low + 1 < bins:
                out[i, :, f] += (g - low) * x[i, :, low + 1]
    return out, y


def noise(x: Tensor, y: Tensor) -> Pair:
    """Uniform in each cell, its level drawn for each sample."""
    out = torch.empty_like(x)
    for i in range(len(x)):
        out[i] = x[i] + torch.rand(x.shape[1:]) * random.uniform(0, 0.1)
    return out, y


def time_roll(x: Tensor, y: Tensor) -> Pair:
    """Each sample rolled by its own shift."""
    out = torch.empty_like(x)
    for i in range(len(x)):
        out[i] = torch.roll(x[i], random.randint(-50, 50), -1)
    return out, y


def wave_mixup(x: Tensor, y: Tensor) -> Pair:
    """With probability 0.6 two waveforms less their means."""
    out, targets = torch.empty_like(x), y.clone()
    for i in range(len(x)):
        mixed = x[i] - x[i].mean()
        if random.random() < 0.6:
            j, own = _other(i, len(x)), float(np.random.beta(10, 10))
            mixed = own * mixed + (1 - own) * (x[j] - x[j].mean())
            targets[i] = _mix(y, i, j, own)
        out[i] = mixed - mixed.mean()
    return out, targets


def superposition(x: Tensor, y: Tensor) -> Pair:
    """With probability 2/3 another sound, louder or softer, and earlier or later."""
    size, channels, samples = x.shape
    longest = 30 * RATE
    waves, targets = [], y.clone()
    for i in range(size):
        mixed = x[i] * random.uniform(1, 2) ** random.choice((-1, 1))
        if random.random() < 2 / 3 and samples <= longest:
            j = _other(i, size)
            tau = random.randint(max(-samples, samples - longest), min(samples, longest - samples))
            other = x[j] * x[i].abs().max() / x[j].abs().max()
            other = other * random.uniform(1, 2) ** random.choice((-1, 1))
            both = torch.zeros(channels, samples + abs(tau))
            both[:, max(-tau, 0) :][:, :samples] += mixed
            both[:, max(tau, 0) :][:, :samples] += other
            mixed, targets[i] = both, torch.maximum(y[i], y[j])
        waves.append(mixed)
    out = torch.zeros(size, channels, max(wave.shape[1] for wave in waves))
    for i, wave in enumerate(waves):
        out[i, :, : wave.shape[1]] = wave
    return out, targets


def bc_learning(x: Tensor, y: Tensor) -> Pair:
    """Both sounds' levels by A-weighted windows, then the mix."""
    out, targets = torch.empty_like(x), torch.empty_like(y)
    window, weight = torch.hann_window(2048), a_weighting(RATE, 2048)
    for i in range(len(x)):
        j, own = random.choice([j for j in range(len(x)) if y[i] @ y[j] == 0]), random.random()
        level = []
        for wave in (x[i], x[j]):
            bins = torch.stft(wave, 2048, 1024, 2048, window, False, return_complex=True)
            level.append(float((weight @ bins.abs().square()).amax().clamp(min=1e-8).sqrt()))
        t = 1 / (1 + level[0] / level[1] * (1 - own) / own)
        out[i] = (t * x[i] + (1 - t) * x[j]) / (t**2 + (1 - t) ** 2) ** 0.5
        targets[i] = _mix(y, i, j, own)
    return out, targets
