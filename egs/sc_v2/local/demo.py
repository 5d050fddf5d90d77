#!/usr/bin/env python3
"""Stage 0 of sc_v2 with --demo: a tiny corpus in Speech Commands' layout.

35 words by three speakers of the training part and one of each other part: 175 clips of 0.5 to
1 s; the background noises of 3 s under their official names; the lists; and the test set with
twelve classes, an archive of its own officially. A word is two gliding tones, a speaker a pitch.
Which part a speaker belongs to follows from the speaker's name by the corpus's own rule.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import speech_commands as sc
from speech_commands import LONGEST, RATE, WORDS

from espnet_like.data import synthesis as syn
from espnet_like.data.synthesis import Wave
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.files import write_text

NOTE = "SYNTHETIC.txt"
SPEAKERS = {"training": 3, "validation": 1, "testing": 1}
COUNTS = sc.Counts(175, 35, 35, 36, 12, 12, 1)
SECONDS = 3  # of a noise
NOISES = {
    "doing_the_dishes": ((300, -20), (3000, 0), (6000, -6)),
    "dude_miaowing": ((200, -10), (900, 0), (2000, -25)),
    "exercise_bike": ((60, 0), (400, -6), (3000, -30)),
    "pink_noise": ((60, 0), (600, -10), (6000, -20)),
    "running_tap": ((500, -12), (4000, 0), (7000, -3)),
    "white_noise": ((60, 0), (7000, 0)),
}


def part_of(speaker: str) -> str:
    """The part of a speaker: 27 bits of a hash, the lowest tenth validates, the next one tests."""
    most = 2**27 - 1
    number = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1)
    percent = number * (100 / most)
    return "validation" if percent < 10 else "testing" if percent < 20 else "training"


def speakers() -> Iterator[tuple[str, str]]:
    """Names of speakers, with their parts: as many as `SPEAKERS` says."""
    left, number = dict(SPEAKERS), 0
    while any(left.values()):
        name = f"{number:08x}"
        part = part_of(name)
        if left[part]:
            left[part] -= 1
            yield name, part
        number += 1


def clip(word: int, speaker: int) -> Wave:
    """One clip, int16 samples (8000 .. 16000,); one in three has the whole second."""
    rng = np.random.default_rng([word, speaker])
    n = LONGEST if rng.uniform() < 1 / 3 else int(rng.integers(LONGEST // 2, LONGEST))
    time = np.linspace(0, 1, n, dtype=np.float32)
    first, second = (250 * 2 ** (step / 2.2) for step in divmod(word, 6))
    pitch = np.where(time < 0.5, first * (1 + 0.2 * time), second * (1.2 - 0.2 * time))
    phase = np.cumsum(pitch * rng.uniform(0.94, 1.06) / RATE) % 1
    sound = (phase - 0.5) * np.abs(np.sin(2 * np.pi * time))
    wave = syn.unit(sound.astype(np.float32)) + 0.1 * rng.standard_normal(n, dtype=np.float32)
    return np.rint(wave * (rng.uniform(6000, 20000) / np.abs(wave).max())).astype(np.int16)


def write_demo(db: Path) -> bool:
    """Write both directories below `db`, each appearing whole; return whether anything was made.

    Raises:
        UserError: another copy is there.
    """
    try:
        root = sc.find_root(db)
    except MissingInput:
        pass
    else:
        if not (root / NOTE).exists():
            raise UserError(f"{root}: holds Speech Commands, not its demo: give another --db-root")
        return False
    db.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo.", dir=db) as scratch:
        root, test = Path(scratch) / sc.DIRECTORY, Path(scratch) / sc.TEST_12
        _write(root)
        _write_test(root, test)
        shutil.rmtree(db / sc.TEST_12, ignore_errors=True)  # alone, it was stopped half-way
        os.replace(test, db / sc.TEST_12)
        os.replace(root, db / sc.DIRECTORY)
    return True


def _write(root: Path) -> None:
    lists: dict[str, list[str]] = {part: [] for part in SPEAKERS}
    for number, (speaker, part) in enumerate(speakers()):
        for index, word in enumerate(WORDS):
            path = root / word / f"{speaker}_nohash_{index % 2}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, clip(index, number), RATE, subtype="PCM_16")
            lists[part].append(f"{word}/{path.name}\n")
    for part, name in sc.LISTS.items():
        write_text(root / name, "".join(lists[part]))
    (root / sc.NOISE).mkdir()
    for number, (name, curve) in enumerate(NOISES.items()):
        noise = syn.noise(np.random.default_rng(number), SECONDS * RATE, RATE, curve)
        wave = (0.1 * syn.unit(noise)).clip(-1, 1)
        soundfile.write(root / sc.NOISE / f"{name}.wav", wave, RATE, subtype="PCM_16")
    write_text(root / sc.NOISE / "README.md", "Noises made by code.\n")
    write_text(root / "README.md", "A demo in the layout of Speech Commands v0.02.\n")
    for name in ("LICENSE", NOTE):
        write_text(root / name, "Synthetic clips, made by code: CC0.\n")


def _write_test(root: Path, test: Path) -> None:
    """The commands of the testing list, one other word, one silence."""
    for label in (*sc.COMMANDS, sc.UNKNOWN, sc.SILENCE):
        (test / label).mkdir(parents=True)
    for entry in (root / sc.LISTS["testing"]).read_text(encoding="utf-8").splitlines():
        word, _, name = entry.partition("/")
        if word in sc.COMMANDS:
            os.link(root / entry, test / entry)
        elif word == "bird":
            os.link(root / entry, test / sc.UNKNOWN / f"{word}_{name}.wav")
    noise, _ = soundfile.read(root / sc.NOISE / "pink_noise.wav", dtype="int16")
    soundfile.write(test / sc.SILENCE / "17.wav", noise[:RATE], RATE, subtype="PCM_16")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--db-root", type=Path, default=Path("db"), help=f"gets {sc.DIRECTORY}")
    args = parser.parse_args(argv)
    made = write_demo(args.db_root)
    print(f"{args.db_root}: {'demo made' if made else 'the demo is there, nothing to do'}")


if __name__ == "__main__":
    run(main)
