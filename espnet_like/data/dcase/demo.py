"""A tiny corpus in the layout of one of the published ones: its directories, tables, names, rate,
24 bit and channels, with synthetic scenes of 10 s.

Each scene has two locations to train on and one to test on, with two clips each, and each corpus
some clips that are in neither part, as the published ones have.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from espnet_like.data import synthesis as syn
from espnet_like.data.corpus import read_table
from espnet_like.data.dcase.corpora import SCENES, SECONDS, Corpus, Release
from espnet_like.data.dcase.layout import META, find_root, tables
from espnet_like.data.scenes import DEVICES, synthesize
from espnet_like.data.synthesis import Wave
from espnet_like.errors import MissingInput, UserError
from espnet_like.files import write_text

UNSEEN_CITY = "milan"  # of the corpora that train on nine cities of ten
FIRST = 9000  # number of the first location; the published ones end before
NOTE = "Synthetic clips, made by code in the layout of {}: CC0.\n"


class DemoClip(NamedTuple):
    """One clip and the part that it is in."""

    scene: str
    city: str
    location: int
    segment: int
    device: str
    part: str

    @property
    def name(self) -> str:
        return f"audio/{self.scene}-{self.city}-{self.location}-{self.segment}-{self.device}.wav"


def demo_clips(corpus: Corpus) -> list[DemoClip]:
    """All clips, in the order of their names."""
    training = [city for city in corpus.cities if city != UNSEEN_CITY]
    known, strange = corpus.devices[1:6], corpus.devices[6:]  # beside a; b to s3, s4 to s6
    clips = []
    for i, scene in enumerate(SCENES):
        places = (
            ("train", training, FIRST + 2 * i),
            ("train", training, FIRST + 2 * i + 1),
            ("test", corpus.cities, FIRST + 203 + i),
        )
        for place, (part, cities, location) in enumerate(places):
            where = scene, cities[(i + place) % len(cities)], location
            others = known if part == "train" else known + strange
            if others:  # a second recorder at the same time
                device = others[(i + place) % len(others)]
                clips += [DemoClip(*where, 10 * location, "a", part)]
                clips += [DemoClip(*where, 10 * location, device, part)]
            else:
                clips += [DemoClip(*where, 10 * location + n, "a", part) for n in range(2)]
    if UNSEEN_CITY in corpus.cities:
        for i in range(2):
            clips.append(DemoClip(SCENES[i], UNSEEN_CITY, FIRST + 300 + i, 3000 + i, "a", "unused"))
    return sorted(clips, key=lambda clip: clip.name)


def release(corpus: Corpus) -> Release:
    """The counts of the demo."""

    def counts(clips: Iterable[DemoClip]) -> tuple[int, ...]:
        found = Counter(clip.scene for clip in clips)
        return tuple(found[scene] for scene in SCENES)

    clips = demo_clips(corpus)
    train, test = (counts(c for c in clips if c.part == part) for part in ("train", "test"))
    return Release("demo", counts(clips), train, test)


def is_demo(root: Path, corpus: Corpus) -> bool:
    """Whether the copy is one that `write_demo` made, whole or not."""
    rows = read_table(tables(root, corpus)["all"], META, "\t")
    return not {row["filename"] for _, row in rows}.isdisjoint(c.name for c in demo_clips(corpus))


def samples(corpus: Corpus, clip: DemoClip) -> Wave:
    """(frames, channels) float32."""
    base = clip.device if clip.device in DEVICES else "a"
    where = clip.scene, clip.city, clip.location, clip.segment
    wave = synthesize(0, *where, base, SECONDS, corpus.rate)
    if base != clip.device:  # as the published ones are: a recording of `a` through a filter
        number = int(clip.device.removeprefix("s"))
        curve = ((80, -24 + 3 * number), (500, 0), (700.0 * number, 5), (9000, -4 * number))
        wave = np.asarray(np.tanh(4 * syn.shaped(wave, corpus.rate, curve)) / 4, np.float32)
    if corpus.channels == 1:
        return wave[:, None]
    # The second ear: a little later, duller and softer.
    shadow = syn.shaped(np.roll(wave, corpus.rate // 2500), corpus.rate, ((500, -1), (8000, -9)))
    return np.stack([wave, shadow], axis=1)


def write_demo(db: Path, corpus: Corpus) -> bool:
    """Write `db`/<directory>, which appears whole; return whether anything was made.

    Raises:
        UserError: another copy is there.
    """
    try:
        root = find_root(db, corpus)
    except MissingInput:
        pass
    else:
        if not is_demo(root, corpus):
            raise UserError(f"{root}: holds {corpus.title}, not its demo: give another --db-root")
        return False
    db.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo.", dir=db) as scratch:
        root = Path(scratch) / corpus.directory
        (root / "audio").mkdir(parents=True)
        clips = demo_clips(corpus)
        for clip in clips:
            soundfile.write(root / clip.name, samples(corpus, clip), corpus.rate, subtype="PCM_24")
        _write_tables(root, corpus, clips)
        os.replace(root, db / corpus.directory)
    return True


def _write_tables(root: Path, corpus: Corpus, clips: Sequence[DemoClip]) -> None:
    """README.md, meta.csv and the three fold files."""

    def rows(part: str) -> list[tuple[str, ...]]:
        return [(clip.name, corpus.label(clip.scene)) for clip in clips if clip.part == part]

    def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        lines = [header, *rows] if header else rows
        write_text(path, "".join("\t".join(line) + "\n" for line in lines))

    paths = tables(root, corpus)
    meta = [
        (clip.name, corpus.label(clip.scene), f"{clip.city}-{clip.location}", clip.device)
        for clip in clips
    ]
    write(paths["all"], META, meta)
    header = META[:2] if corpus.header else ()
    write(paths["train"], header, rows("train"))
    write(paths["test"], header, rows("test"))
    unlabelled = paths["test"].with_name(f"fold1_test.{corpus.folds}")
    write(unlabelled, header[:1], [row[:1] for row in rows("test")])
    write_text(root / "README.md", NOTE.format(corpus.title))


def main(corpus: Corpus, argv: Sequence[str] | None = None) -> None:
    """A recipe's local/demo.py."""
    parser = argparse.ArgumentParser(description=f"a tiny corpus like {corpus.title}")
    parser.add_argument(
        "--db-root", type=Path, default=Path("db/demo"), help=f"gets {corpus.directory}"
    )
    args = parser.parse_args(argv)
    made = write_demo(args.db_root, corpus)
    print(f"{args.db_root / corpus.directory}: {'made' if made else 'fresh, nothing to do'}")
