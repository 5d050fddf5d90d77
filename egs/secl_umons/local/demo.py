#!/usr/bin/env python3
"""Stage 0 of secl_umons with --demo: a tiny corpus in the official layout.

Three synthetic sequences, one a subclass, of each class in each room: same directories, names,
lists, metadata columns that are known, rate, depth and length. The seven microphones' files of a
sequence are one file with seven names.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import secl_umons
import soundfile
from secl_umons import CLASSES, MICROPHONES, RATE, ROOMS, SECONDS, Counts

from espnet_like.data import synthesis as syn
from espnet_like.data.synthesis import Wave
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.files import write_text

DIRECTORY, NOTE = "SECL-UMONS", "SYNTHETIC.txt"
SUBCLASSES = 3
SPLITS = {1: Counts(44, 22, 1), 2: Counts(44, 22, 1)}
N, R = int(SECONDS * RATE), RATE
SCRAPE = ((80, -10), (500, 0), (2500, -6), (12000, -30))
HISS = ((60, -6), (400, 0), (2000, -10), (16000, -24))


def _once(rng: np.random.Generator, sound: Wave) -> Wave:
    return syn.strikes(rng, N, R, 1 / SECONDS, 0.0, sound)


# A sound of each class; `p` is the subclass's factor of pitch.
SOUNDS: dict[str, Callable[[np.random.Generator, float], Wave]] = {
    "chair_movement": lambda rng, p: syn.passes(rng, N, R, 2, SCRAPE),
    "cup_drop_off": lambda rng, p: _once(rng, syn.ring(rng, R, [1900 * p, 4700 * p], 0.3)),
    "furniture_drawer": lambda rng, p: (
        syn.passes(rng, N, R, 1, SCRAPE) + 3 * _once(rng, syn.ring(rng, R, [150 * p], 0.2))
    ),
    "hand_clap": lambda rng, p: syn.strikes(
        rng, N, R, 2 * p, 0.1, syn.ring(rng, R, [1100 * p, 2300], 0.04)
    ),
    "keyboard": lambda rng, p: syn.strikes(
        rng, N, R, 7 * p, 0.3, syn.ring(rng, R, [2800 * p, 5200], 0.03)
    ),
    "knock": lambda rng, p: syn.strikes(rng, N, R, 3 * p, 0.05, syn.ring(rng, R, [220 * p], 0.08)),
    "phone_ring": lambda rng, p: syn.strikes(
        rng, N, R, 12, 0.0, syn.ring(rng, R, [1300 * p, 1650 * p], 0.09)
    ),
    "radio": lambda rng, p: syn.chords(rng, N, R, 220 * p),
    "speaker": lambda rng, p: syn.voice(rng, N, R, 150 * p, pauses=0.2),
    "step": lambda rng, p: syn.strikes(rng, N, R, 1.8 * p, 0.05, syn.ring(rng, R, [90 * p], 0.12)),
    "whistle": lambda rng, p: np.sin(2 * np.pi * syn.glide(rng, N, R, 1500 * p, 4.0)),
}


def clip(number: int, room: int, subclass: int) -> Wave:
    """One sequence, int16 samples (132300,)."""
    rng = np.random.default_rng([number, room, subclass])
    dry = syn.unit(np.asarray(SOUNDS[CLASSES[number]](rng, 0.8 + 0.2 * subclass), np.float32))
    echoes = syn.room(np.random.default_rng(room), N, R, 0.3 * room, 0.5 * room)
    wave = syn.unit(syn.echo(dry, echoes)) + 0.02 * syn.unit(syn.noise(rng, N, R, HISS))
    return np.rint(wave * (rng.uniform(6000, 20000) / np.abs(wave).max())).astype(np.int16)


def is_test(split: int, number: int, room: int, subclass: int) -> bool:
    """Split 2 tests on a subclass of its own."""
    return subclass == ((number + room) % SUBCLASSES if split == 1 else SUBCLASSES - 1)


def write_demo(db: Path) -> bool:
    """Write `db`/SECL-UMONS, which appears whole; return whether anything was made.

    Raises:
        UserError: another copy is there.
    """
    try:
        root = secl_umons.find_root(db)
    except MissingInput:
        pass
    else:
        if not (root / NOTE).exists():
            raise UserError(f"{root}: holds SECL-UMONS, not its demo: give another --db-root")
        return False
    db.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo.", dir=db) as scratch:
        root = Path(scratch) / DIRECTORY
        _write(root)
        os.replace(root, db / DIRECTORY)
    return True


def _write(root: Path) -> None:
    lists = defaultdict(lambda: ["0"])
    for room in ROOMS:
        for number, category in enumerate(CLASSES):
            folder = Path("Unilabel") / f"room{room}" / category
            (root / folder).mkdir(parents=True)
            for subclass in range(SUBCLASSES):
                names = [
                    f"room{room}_array_micro{micro}_{number}_{subclass}_0.wav"
                    for micro in range(MICROPHONES)
                ]
                first = root / folder / names[0]
                soundfile.write(first, clip(number, room, subclass), R, subtype="PCM_16")
                for name in names[1:]:
                    os.link(first, root / folder / name)
                _write_metadata(root / folder, category, number, room, subclass)
                for split in SPLITS:
                    part = "test" if is_test(split, number, room, subclass) else "train"
                    lists[split, part].append(str(folder / names[0]))
    for (split, part), lines in lists.items():
        write_text(secl_umons.list_of(root, split, part), "\n".join(lines) + "\n")
    write_text(root / NOTE, "Synthetic clips, made by code in SECL-UMONS's layout: CC0.\n")


def _write_metadata(folder: Path, category: str, number: int, room: int, subclass: int) -> None:
    columns = ("File name", "class", "class number", "subclass", "x", "y", "z", "room number")
    name = f"room{room}_array_{number}_{subclass}_0.wav"
    row = (name, category, number, subclass, 1.0, 2.0, 1.5, room)
    lines = (",".join(map(str, fields)) for fields in (columns, row))
    write_text(folder / f"room{room}_metadata_{number}_{subclass}.csv", "\n".join(lines) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--db-root", type=Path, default=Path("db"), help=f"gets {DIRECTORY}")
    args = parser.parse_args(argv)
    made = write_demo(args.db_root)
    print(f"{args.db_root}: {'demo made' if made else 'the demo is there, nothing to do'}")


if __name__ == "__main__":
    run(main)
