"""A tiny corpus in ESC-50's layout: same folders, columns, rate, depth, length and names.

Two synthetic clips of each of ESC-10's classes in each fold (100 clips). As in the real corpus,
short sounds are followed by digital silence up to 5 s, and some clips share their recording.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import esc50
import numpy as np
import soundfile

from espnet_like.data import synthesis as syn
from espnet_like.data.synthesis import Wave

PER_CLASS = 2
N, R = int(esc50.SECONDS * esc50.RATE), esc50.RATE
HISS = ((300, -20), (2000, 0), (9000, -6))
SURF = ((60, 0), (600, -4), (6000, -22))


def _calls(rng: np.random.Generator, hertz: float, per_second: float) -> Wave:
    """Voiced cries: `per_second` bursts of a harmonic sound."""
    long = syn.voice(rng, N, R, hertz * rng.uniform(0.8, 1.25), pauses=0.0)
    bursts = (np.arange(N) / R * per_second + rng.uniform()) % 1.0
    return np.asarray(long * (bursts < 0.4) * np.sin(np.pi * bursts / 0.4), np.float32)


def _strikes(
    rng: np.random.Generator, hertz: float, decay: float, rate: float, jitter: float
) -> Wave:
    sound = syn.ring(rng, R, [hertz * rng.uniform(0.8, 1.25), 2.7 * hertz], decay)
    return syn.strikes(rng, N, R, rate, jitter, sound)


SOUNDS: dict[str, Callable[[np.random.Generator], Wave]] = {
    "dog": lambda rng: _calls(rng, 300, 1.6),
    "rooster": lambda rng: _calls(rng, 700, 0.7),
    "rain": lambda rng: syn.noise(rng, N, R, HISS),
    "sea_waves": lambda rng: (
        syn.noise(rng, N, R, SURF) * syn.decibels(8 * syn.drift(rng, N, R, 0.4))
    ),
    "crackling_fire": lambda rng: _strikes(rng, 1800, 0.02, 18, 0.8),
    "crying_baby": lambda rng: _calls(rng, 450, 0.9),
    "sneezing": lambda rng: syn.passes(rng, N, R, 1, HISS) ** 3,
    "clock_tick": lambda rng: _strikes(rng, 2600, 0.03, 2, 0.0),
    "helicopter": lambda rng: _strikes(rng, 90, 0.08, 11, 0.0),
    "chainsaw": lambda rng: syn.engine(rng, N, R, 110 * rng.uniform(0.8, 1.2), 5.0),
}
SHORT = {"dog", "rooster", "sneezing"}


def clip(category: str, seed: int) -> Wave:
    """One clip, int16 samples (220500,)."""
    rng = np.random.default_rng(seed)
    wave = SOUNDS[category](rng)
    wave = wave + syn.noise(rng, N, R, SURF) * np.abs(wave).mean() * syn.decibels(
        rng.uniform(-20, 0)
    )
    wave = wave / np.abs(wave).max() * rng.uniform(0.2, 0.9)
    if category in SHORT:
        wave[int(rng.uniform(0.3, 0.8) * N) :] = 0
    return np.rint(wave * 32767).astype(np.int16)


def write_demo(db: Path) -> None:
    """Write `db`/ESC-50-master; it appears whole."""
    db.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo.", dir=db) as scratch:
        root = Path(scratch) / esc50.DIRECTORY
        for name in ("audio", "meta"):
            (root / name).mkdir(parents=True)
        (root / "LICENSE").write_text("Synthetic clips, made by code: CC0.\n", encoding="utf-8")
        rows = []
        for fold in range(1, esc50.FOLDS + 1):
            for target in esc50.ESC10:
                for number in range(PER_CLASS):
                    # In odd folds the two clips are takes A and B of one recording.
                    shared = fold % 2
                    source = 900000 + 1000 * fold + 10 * target + (0 if shared else number)
                    take = "AB"[number] if shared else "A"
                    category = esc50.CATEGORIES[target]
                    name = f"{fold}-{source}-{take}-{target}.wav"
                    samples = clip(category, 10 * source + number)
                    soundfile.write(root / "audio" / name, samples, R, subtype="PCM_16")
                    rows.append((name, fold, target, category, True, source, take))
        with open(root / "meta" / "esc50.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(esc50.COLUMNS)
            writer.writerows(sorted(rows))
        os.replace(root, db / esc50.DIRECTORY)
    print(f"{db / esc50.DIRECTORY}: {len(rows)} synthetic clips")
