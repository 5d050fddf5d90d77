"""Sound by code: noise beds, voices, engines, bells, rooms and recorders, in numpy.

The parts that `scenes` mixes. Every function draws from the generator that it is given and
returns float32 samples of shape (n,), not normalised. Convolutions are circular (the tail of an
event near the end comes back at the start): harmless in a texture, and one FFT length per clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Curve = Sequence[tuple[float, float]]  # (Hz, dB) points of a frequency response


@lru_cache(maxsize=8)
def _octaves(n: int, rate: int) -> Wave:
    """log2 of the frequency of each FFT bin; bin 0 takes bin 1's."""
    frequency = np.fft.rfftfreq(n, 1 / rate)
    frequency[0] = frequency[1]
    octaves: Wave = np.log2(frequency).astype(np.float32)
    octaves.setflags(write=False)
    return octaves


def response(n: int, rate: int, curve: Curve) -> Wave:
    """Amplitude of each FFT bin for a curve of (Hz, dB) points, linear over log frequency."""
    hertz, decibel = np.array(sorted(curve)).T
    return decibels(np.interp(_octaves(n, rate), np.log2(hertz), decibel))


def decibels(level: NDArray[np.floating] | float) -> Wave:
    """Amplitude factor of a level in dB."""
    return np.power(np.float32(10), np.asarray(level, np.float32) / 20)


def shaped(wave: Wave, rate: int, curve: Curve) -> Wave:
    """Filter `wave` with zero phase by a curve of (Hz, dB) points."""
    n = len(wave)
    return np.fft.irfft(np.fft.rfft(wave) * response(n, rate, curve), n).astype(np.float32)


def noise(rng: np.random.Generator, n: int, rate: int, curve: Curve) -> Wave:
    """Gaussian noise whose spectrum follows a curve of (Hz, dB) points."""
    draw = rng.standard_normal((n // 2 + 1, 2), dtype=np.float32)
    spectrum = draw.view(np.complex64)[:, 0] * response(n, rate, curve)
    return np.fft.irfft(spectrum, n).astype(np.float32)


def drift(rng: np.random.Generator, n: int, rate: int, per_second: float) -> Wave:
    """A slow random line of zero mean and unit deviation, `per_second` knots each second."""
    knots = rng.standard_normal(max(2, round(n / rate * per_second)) + 1)
    return np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots).astype(
        np.float32
    )


def echo(wave: Wave, impulse: Wave) -> Wave:
    """Circular convolution with a response no longer than the wave."""
    n = len(wave)
    kept = impulse[:n]
    return np.fft.irfft(np.fft.rfft(wave) * np.fft.rfft(kept, n), n).astype(np.float32)


def strikes(
    rng: np.random.Generator, n: int, rate: int, per_second: float, jitter: float, sound: Wave
) -> Wave:
    """`sound` repeated `per_second` times a second, onsets jittered by a share of the period."""
    period = rate / per_second
    count = max(1, int(n / period))
    onsets = (np.arange(count) + rng.uniform() + jitter * rng.standard_normal(count)) * period
    train = np.zeros(n, np.float32)
    np.add.at(train, onsets.astype(np.int64) % n, rng.uniform(0.4, 1.0, count).astype(np.float32))
    return echo(train, sound)


def ring(rng: np.random.Generator, rate: int, hertz: Sequence[float], decay: float) -> Wave:
    """Struck resonances at `hertz`, each falling by 60 dB in `decay` seconds, with a click."""
    time = np.arange(int(rate * decay), dtype=np.float32) / rate
    phase = rng.uniform(0, 2 * np.pi, (len(hertz), 1)).astype(np.float32)
    tones = np.sin(2 * np.pi * np.asarray(hertz, np.float32)[:, None] * time + phase).mean(0)
    burst = rng.standard_normal(len(time), dtype=np.float32) * np.exp(-time / (0.04 * decay))
    return ((tones + 0.5 * burst) * np.exp(-6.9 * time / decay)).astype(np.float32)


def glide(rng: np.random.Generator, n: int, rate: int, hertz: float, semitones: float) -> Wave:
    """Phase in turns of a tone at `hertz` that wanders by about `semitones`."""
    pitch = hertz * np.exp2(semitones / 12 * drift(rng, n, rate, 1.5))
    return (np.cumsum(pitch / rate, dtype=np.float64) % 1.0).astype(np.float32)


def voice(rng: np.random.Generator, n: int, rate: int, pitch: float, pauses: float) -> Wave:
    """Speech-like sound: a wandering harmonic source, two alternating vowels, syllables.

    Args:
        pitch: fundamental in Hz.
        pauses: share of the time without speech, 0..1.
    """
    source = glide(rng, n, rate, pitch, 2.5) - np.float32(0.5)
    source += 0.03 * rng.standard_normal(n, dtype=np.float32)
    spectrum = np.fft.rfft(source)
    frequency = np.exp2(_octaves(n, rate))
    vowels = []
    for _ in range(2):
        centres = rng.uniform((280, 850, 2300), (800, 2200, 3100))
        gains, widths = (1.0, 0.6, 0.3), (90.0, 130.0, 200.0)
        peaks = sum(
            g / (1 + ((frequency - c) / w) ** 2)
            for g, c, w in zip(gains, centres, widths, strict=True)
        )
        vowels.append(np.fft.irfft(spectrum * peaks, n).astype(np.float32))
    blend = np.clip(0.5 + drift(rng, n, rate, 5.0), 0, 1)
    syllables = np.clip(0.3 + drift(rng, n, rate, 8.0), 0, None)
    phrases = drift(rng, n, rate, 1.2)
    mixed: Wave = (vowels[0] * blend + vowels[1] * (1 - blend)) * syllables
    mixed[phrases < np.quantile(phrases, pauses)] = 0
    return mixed


def babble(rng: np.random.Generator, n: int, rate: int, pitch: float) -> Wave:
    """Many talkers: two voices an interval apart, each heard at several delays."""
    total = np.zeros(n, np.float32)
    for factor in (1.0, rng.uniform(1.4, 1.9)):
        talker = voice(rng, n, rate, pitch * factor, pauses=0.1)
        for shift in rng.integers(0, n, 4):
            total += np.roll(talker, shift) * np.float32(rng.uniform(0.3, 1.0))
    return total


def song(rng: np.random.Generator, n: int, rate: int, hertz: float, per_second: float) -> Wave:
    """A bird: a motif of short sweeps around `hertz`, sung `per_second` times a second."""
    parts = []
    for _ in range(rng.integers(2, 6)):
        length = int(rate * rng.uniform(0.04, 0.14))
        time = np.linspace(0, 1, length, dtype=np.float32)
        start, end = np.clip(hertz * rng.uniform(0.75, 1.35, 2), 0, 0.45 * rate)
        turns = (start * time + (end - start) * time**2 / 2) * (length / rate)
        parts += [np.sin(2 * np.pi * turns) * np.sin(np.pi * time) ** 2]
        parts += [np.zeros(int(rate * rng.uniform(0.01, 0.06)), np.float32)]
    return strikes(rng, n, rate, per_second, 0.25, np.concatenate(parts).astype(np.float32))


def engine(rng: np.random.Generator, n: int, rate: int, hertz: float, wander: float) -> Wave:
    """Firing pulses at `hertz` (wandering by `wander` semitones) and noise that pulses along."""
    phase = glide(rng, n, rate, hertz, wander)
    pulses = np.exp(-6 * phase) - np.float32(0.166)
    hiss = 0.5 * rng.standard_normal(n, dtype=np.float32) * (0.4 + pulses)
    curve = ((30, 0), (120, 0), (400, -9), (1500, -24), (8000, -50))
    return shaped((pulses + hiss).astype(np.float32), rate, curve)


def whine(rng: np.random.Generator, n: int, rate: int, hertz: float, wander: float) -> Wave:
    """An electric motor: three gliding partials."""
    phase = 2 * np.pi * glide(rng, n, rate, hertz, wander)
    tones: Wave = np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase)
    return tones


def passes(rng: np.random.Generator, n: int, rate: int, count: int, curve: Curve) -> Wave:
    """Vehicles going by: shaped noise that swells and falls `count` times."""
    time = np.arange(n, dtype=np.float32) / n
    swell = np.full(n, 0.08, np.float32)
    for _ in range(count):
        centre, width = rng.uniform((-0.1, 0.08), (1.1, 0.3))
        swell += 1 / (1 + ((time - np.float32(centre)) / np.float32(width)) ** 2) ** 2
    return noise(rng, n, rate, curve) * swell


def chime(rng: np.random.Generator, n: int, rate: int, hertz: float, notes: int) -> Wave:
    """`notes` soft bells one after another, a third apart, somewhere in the clip."""
    total = np.zeros(n, np.float32)
    onset = int(rng.uniform(0, 0.6) * n)
    for note in range(notes):
        bell = ring(rng, rate, [hertz * 0.8**note, 2.0 * hertz * 0.8**note], 0.9)
        at = (onset + int(0.35 * note * rate) + np.arange(len(bell))) % n
        np.add.at(total, at, bell)
    return total


def chords(rng: np.random.Generator, n: int, rate: int, hertz: float) -> Wave:
    """Background music: triads on a scale, two chords a second, without treble."""
    time = np.arange(n, dtype=np.float32) / rate
    total = np.zeros(n, np.float32)
    beat = (np.floor(time * 2)).astype(np.int64)
    steps = rng.choice([0, 2, 4, 5, 7, 9, 12], (int(beat.max()) + 1, 2))
    for part in range(2):
        pitch = hertz * np.exp2(steps[:, part][beat] / 12)
        turns = np.cumsum(pitch / rate)
        total += np.sin(2 * np.pi * turns) + 0.4 * np.sin(4 * np.pi * turns)
    decay: Wave = np.exp(-2.5 * (time * 2 % 1.0))
    return total * decay


def room(rng: np.random.Generator, n: int, rate: int, seconds: float, wet: float) -> Wave:
    """Impulse response: the direct sound and a diffuse tail of `seconds` (RT60), `wet` times it."""
    length = max(2, min(n, int(rate * seconds)))
    time = np.arange(length, dtype=np.float32) / rate
    tail = rng.standard_normal(length, dtype=np.float32) * np.exp(-6.9 * time / seconds)
    tail *= np.float32(wet) / np.sqrt(np.sum(tail**2))
    tail[0] += 1
    return tail.astype(np.float32)


def unit(wave: Wave) -> Wave:
    """Scale to an RMS of one; silence stays silent."""
    level = np.sqrt(np.mean(np.square(wave), dtype=np.float64))
    return wave if level < 1e-9 else (wave / np.float32(level)).astype(np.float32)
