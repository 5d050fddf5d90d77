#!/usr/bin/env python3
"""Stage 0 of fsdkaggle19 with --demo: a tiny corpus in the official layout.

All 80 classes are in its vocabulary; clips are of the ten that SOUNDS can make. Most last about a
second, a few up to 57 s. As in the real corpus some curated clips are known to be bad, a clip has
several tags, and the noisy part has wrong labels: here exactly WRONG of its clips, each with as
many other labels as it ought to have. The true ones are in FSDKaggle2019.meta/train_noisy_true.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import fsd
import numpy as np
import soundfile

from espnet_like.data import synthesis as syn
from espnet_like.data.synthesis import Wave
from espnet_like.errors import MissingInput, UserError, run

R = fsd.RATE
WRONG = 0.3  # share of the noisy clips whose labels are wrong
MANY = {"curated": 0.2, "noisy": 0.2, "test": 0.4}  # share of the clips with two tags
SECONDS = {"curated": (0.3, 1.4), "noisy": (1.0, 1.15), "test": (0.3, 1.4)}  # shortest, usual
LONG = {"curated": (57.6, 8.0), "noisy": (15.0,), "test": (33.0,)}  # the first clips
BACKGROUND = {"curated": (-45, -30), "noisy": (-30, -18), "test": (-45, -30)}  # dB
TEXTURE = 4.0  # seconds that are made; longer clips repeat them
Rng = np.random.Generator


def _strikes(rng: Rng, n: int, hertz: Sequence[float], decay: float, rate: float) -> Wave:
    sound = syn.ring(rng, R, np.asarray(hertz) * rng.uniform(0.95, 1.05), decay)
    return syn.strikes(rng, n, R, rate * rng.uniform(0.9, 1.1), 0.02, sound)


def _clicks(rng: Rng, n: int, rate: float, jitter: float, curve: syn.Curve) -> Wave:
    burst = syn.noise(rng, R // 25, R, curve) * np.exp(-np.arange(R // 25) / (R / 150))
    return syn.strikes(rng, n, R, rate, jitter, burst.astype(np.float32))


def _pulsed(rng: Rng, n: int, wave: Wave, per_second: float, share: float) -> Wave:
    turns = (np.arange(n) / R * per_second + rng.uniform()) % 1.0
    return np.asarray(wave * (turns < share) * np.sin(np.pi * turns / share), np.float32)


def _tone(rng: Rng, n: int, hertz: float) -> Wave:
    return np.sin(2 * np.pi * syn.glide(rng, n, R, hertz * rng.uniform(0.95, 1.05), 0.3))


# Each fills its clip, so that any excerpt of it has the sound.
SOUNDS: dict[str, Callable[[Rng, int], Wave]] = {
    "Bass_drum": lambda rng, n: _strikes(rng, n, [55, 80], 0.25, 5),
    "Bicycle_bell": lambda rng, n: _strikes(rng, n, [2700, 6900], 0.4, 6),
    "Buzz": lambda rng, n: syn.glide(rng, n, R, 230 * rng.uniform(0.9, 1.1), 0.2) - np.float32(0.5),
    "Chirp_and_tweet": lambda rng, n: syn.song(rng, n, R, 7500, 6.0),
    "Cricket": lambda rng, n: _pulsed(rng, n, _tone(rng, n, 4600), 28, 0.6),
    "Hi-hat": lambda rng, n: _clicks(rng, n, 8, 0.02, ((4000, -40), (9000, 0), (16000, -3))),
    "Male_singing": lambda rng, n: syn.voice(rng, n, R, 110 * rng.uniform(0.9, 1.1), 0.0),
    "Motorcycle": lambda rng, n: syn.engine(rng, n, R, 140 * rng.uniform(0.9, 1.1), 3.0),
    "Tick-tock": lambda rng, n: _strikes(rng, n, [3300], 0.02, 9),
    "Waves_and_surf": lambda rng, n: syn.noise(rng, n, R, ((60, 0), (600, -4), (6000, -22))),
}  # fmt: skip


class DemoClip(NamedTuple):
    """One clip to be made: what can be heard, and what its row says."""

    name: str
    sounds: tuple[str, ...]
    labels: tuple[str, ...]
    seconds: float
    usage: str
    source: str


def demo_clips(part: fsd.Part) -> list[DemoClip]:
    """The clips of a part; always the same."""
    count = {"curated": fsd.DEMO.curated, "noisy": fsd.DEMO.noisy}.get(
        part.name, fsd.DEMO.public + fsd.DEMO.private
    )
    rng = np.random.default_rng(list(part.name.encode()))
    classes = tuple(SOUNDS)
    names = [f"{number:08x}" for number in rng.choice(2**32, count, replace=False)]
    if part is fsd.CURATED:
        names[len(LONG["curated"]) : len(LONG["curated"]) + len(fsd.KNOWN_BAD)] = sorted(
            fsd.KNOWN_BAD
        )
    usual = np.exp(rng.uniform(*np.log(SECONDS[part.name]), count))
    usual[-1] = SECONDS[part.name][0]
    usual[: len(LONG[part.name])] = LONG[part.name]
    twos = set(rng.choice(count, round(MANY[part.name] * count), replace=False))
    wrong = set(rng.choice(count, round(WRONG * count), replace=False))
    clips = []
    for i, name in enumerate(names):
        first = classes[i % len(classes)]
        others = [c for c in classes if c != first]
        sounds = (first, str(rng.choice(others))) if i in twos else (first,)
        labels = tuple(sorted(sounds))
        if name in fsd.WRONG_LABEL or (part is fsd.NOISY and i in wrong):
            free = [c for c in classes if c not in sounds]
            labels = tuple(sorted(map(str, rng.choice(free, len(sounds), replace=False))))
        # Some sounds have two clips each.
        number = 900000 + 1000 * fsd.PARTS.index(part) + (i // 2 if i < 10 else i)
        video = f"https://www.flickr.com/photos/{number}@N00/{number}/"
        source = video if part is fsd.NOISY else str(number)
        usage = fsd.USAGES[i % 4 > 0] if part is fsd.TEST else ""
        clips.append(DemoClip(name, sounds, labels, float(usual[i]), usage, source))
    return clips


def wave(clip: DemoClip, part: fsd.Part) -> Wave:
    """The sound of a clip, int16 samples (L,)."""
    rng = np.random.default_rng(int(clip.name, 16))
    total = int(clip.seconds * R)
    if clip.name == fsd.SILENT:
        return np.zeros(total, np.int16)
    n = min(total, int(TEXTURE * R))
    mix = np.zeros(n, np.float32)
    for sound in clip.sounds:
        mix += syn.unit(SOUNDS[sound](rng, n)) * syn.decibels(rng.uniform(-3, 3))
    level = syn.decibels(rng.uniform(*BACKGROUND[part.name]))
    mix += level * syn.unit(syn.noise(rng, n, R, ((50, 0), (16000, -12))))
    mix *= rng.uniform(0.2, 0.9) / np.abs(mix).max()
    return np.rint(np.resize(mix, total) * 32767).astype(np.int16)


def write_demo(db: Path) -> None:
    """Write `db`/FSDKaggle2019; it appears whole."""
    db.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo.", dir=db) as scratch:
        root = Path(scratch) / fsd.DIRECTORY
        (root / fsd.META).mkdir(parents=True)
        (root / "FSDKaggle2019.doc").mkdir()
        (root / "FSDKaggle2019.doc" / "LICENSE-DATASET").write_text(
            "Synthetic clips, made by code in the layout of FSDKaggle2019: CC0.\n", encoding="utf-8"
        )
        _table(root / fsd.META / "vocabulary.csv", enumerate(fsd.LABELS))
        number, seconds = 0, 0.0
        for part in fsd.PARTS:
            (root / part.audio).mkdir()
            clips = sorted(demo_clips(part))
            for clip in clips:
                samples = wave(clip, part)
                soundfile.write(root / part.audio / f"{clip.name}.wav", samples, R, "PCM_16")
                number, seconds = number + 1, seconds + len(samples) / R
            rows = [_row(part, clip) for clip in clips]
            _table(root / part.table, [part.columns, *rows])
        true = [
            (f"{clip.name}.wav", ",".join(sorted(clip.sounds))) for clip in demo_clips(fsd.NOISY)
        ]
        _table(root / fsd.TRUTH, [("fname", "labels"), *sorted(true)])
        os.replace(root, db / fsd.DIRECTORY)
    print(f"{db / fsd.DIRECTORY}: {number} synthetic clips, {seconds / 60:.1f} minutes")


def _row(part: fsd.Part, clip: DemoClip) -> tuple[str, ...]:
    usage = (clip.usage,) if part is fsd.TEST else ()
    return (f"{clip.name}.wav", ",".join(clip.labels), *usage, clip.source, "CC0")


def _table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--db-root", type=Path, default=Path("db/demo"), help="where it goes")
    args = parser.parse_args(argv)
    try:
        root = fsd.find_root(args.db_root)
    except MissingInput:
        if (args.db_root / fsd.DIRECTORY).exists():
            raise UserError(
                f"{args.db_root / fsd.DIRECTORY}: is there, but without {fsd.META}: remove it and "
                "run again, or give another --db-root"
            ) from None
        write_demo(args.db_root)
        return
    if not (root / fsd.TRUTH).exists():
        raise UserError(f"{root}: holds FSDKaggle2019, not the demo: give another --db-root")
    print(f"{root}: the demo, nothing to do")


if __name__ == "__main__":
    run(main)
