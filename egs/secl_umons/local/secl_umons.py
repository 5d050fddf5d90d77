"""SECL-UMONS as it is published: its sequences and classes, and a check of a copy against them.

A copy has unilabel_split<k>_{train,test}.csv (one column, "0": a path below the copy) and the
directory Unilabel, with seven mono files for each sequence, one a microphone, and csv files that
describe each sequence:

    Unilabel/<room>/<class>/room<r>_array_micro<m>_<class number>_<subclass>_<recording>.wav
    room<r>_metadata_<class number>_<subclass>.csv

A list names one microphone's file of each sequence; that is the clip. Multilabel, the sequences of
two events, is not looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_like.data import audio
from espnet_like.data.corpus import expect, read_table
from espnet_like.errors import MissingInput, UserError

CLASSES = (
    "chair_movement", "cup_drop_off", "furniture_drawer", "hand_clap", "keyboard", "knock",
    "phone_ring", "radio", "speaker", "step", "whistle",
)  # fmt: skip
ROOMS, MICROPHONES, SECONDS, RATE = (1, 2), 7, 3.0, 44100
USED = 2.0  # seconds that SpecMix's front end takes of a clip
COLUMNS = ("File name", "class number", "room number")
NAME = re.compile(r"room(?P<room>\d+)_array_micro(?P<micro>\d+)_(\d+)_(\d+)_(\d+)\.wav")
AGAIN = "restore the official file, or point --db-root to a whole copy"


class Counts(NamedTuple):
    """Sequences of a split, and test sequences of a class in a room (0: not the same for all)."""

    train: int
    test: int
    per_room: int


SPLITS = {1: Counts(2178, 484, 22), 2: Counts(1991, 671, 0)}


class Clip(NamedTuple):
    """One sequence by one microphone."""

    path: Path
    category: str
    number: int
    room: int
    micro: int
    subclass: int
    take: int
    where: str

    @property
    def utterance(self) -> str:
        return self.path.stem

    @property
    def sequence(self) -> str:
        """What all microphones' files of a recording share."""
        return f"room{self.room}_array_{self.number}_{self.subclass}_{self.take}"


def list_of(root: Path, split: int, part: str) -> Path:
    """The file that lists a part."""
    return root / f"unilabel_split{split}_{part}.csv"


def find_root(db: Path) -> Path:
    """The copy: `db` itself or a directory in it."""
    for root in (db, *sorted(path for path in db.glob("*") if path.is_dir())):
        if list_of(root, 1, "train").is_file():
            return root
    raise MissingInput(
        f"{list_of(db, 1, 'train')}: no such file: run --stage download, or point --db-root to the "
        "directory that holds it"
    )


def read_part(root: Path, split: int, part: str) -> list[Clip]:
    """The clips that a list names; its order. UserError names the line."""
    table = list_of(root, split, part)
    clips: dict[str, Clip] = {}
    for line, row in read_table(table, ("0",)):
        path, where = Path(row["0"].strip()), f"{table}:{line}"
        category = next((name for name in path.parts[:-1] if name in CLASSES), None)
        match = NAME.fullmatch(path.name)
        if category is None or match is None:
            raise UserError(
                f"{where}: {row['0']!r}: must be .../<class>/room<r>_array_micro<m>_<class number>_"
                f"<subclass>_<recording>.wav with one of the {len(CLASSES)} classes: {AGAIN}"
            )
        room, micro, number, subclass, take = map(int, match.groups())
        clip = Clip(root / path, category, number, room, micro, subclass, take, where)
        if room not in ROOMS:
            raise UserError(f"{where}: {path.name} is of room {room}, must be 1 or 2: {AGAIN}")
        if clip.sequence in clips:
            raise UserError(
                f"{where}: {clip.sequence} is listed in {clips[clip.sequence].where} already: "
                f"{AGAIN}"
            )
        clips[clip.sequence] = clip
    return list(clips.values())


def check_counts(parts: Mapping[str, Sequence[Clip]], counts: Counts) -> None:
    """Refuse other numbers of sequences than the published ones."""
    for part, wanted in (("train", counts.train), ("test", counts.test)):
        table = parts[part][0].where.rpartition(":")[0] if parts[part] else part
        expect(f"{table}: sequences", len(parts[part]), wanted, AGAIN)
    if counts.per_room:
        found = Counter((clip.category, clip.room) for clip in parts["test"])
        for category in CLASSES:
            for room in ROOMS:
                what = f"{table}: sequences of {category} in room {room}"
                expect(what, found[category, room], counts.per_room, AGAIN)


def check_metadata(root: Path, clips: Sequence[Clip]) -> None:
    """Compare each clip with the row that describes its sequence, and class names with numbers."""
    names: dict[int, Clip] = {}
    for clip in clips:
        first = names.setdefault(clip.number, clip)
        if first.category != clip.category:
            raise UserError(
                f"{clip.where}: class number {clip.number} is {clip.category} here and "
                f"{first.category} in {first.where}: {AGAIN}"
            )
    rows: dict[str, tuple[str, dict[str, str]]] = {}
    for table in sorted((root / "Unilabel").rglob("room*_metadata_*.csv")):
        for line, row in read_table(table, COLUMNS):
            rows[row["File name"].removesuffix(".wav")] = (f"{table}:{line}", row)
    for clip in clips:
        if clip.sequence not in rows:
            raise UserError(
                f"{root / 'Unilabel'}: no room{clip.room}_metadata_{clip.number}_{clip.subclass}"
                f".csv with a row {clip.sequence}.wav: {AGAIN}"
            )
        where, row = rows[clip.sequence]
        for column, fact in (("class number", clip.number), ("room number", clip.room)):
            if row[column].strip() != str(fact):
                raise UserError(
                    f"{where}: {clip.sequence} has {column} {row[column]!r}, its name says {fact}: "
                    f"{AGAIN}"
                )


def check_audio(root: Path, clips: Sequence[Clip]) -> dict[str, float]:
    """Look at each clip's header, and for sequences that no list names; utterance -> seconds."""
    if missing := [clip for clip in clips if not clip.path.is_file()]:
        raise UserError(
            f"{missing[0].where}: {missing[0].path} is missing ({len(missing)} in all): {AGAIN}"
        )
    listed = {clip.sequence for clip in clips}
    for path in sorted((root / "Unilabel").rglob("room*.wav")):
        if re.sub(r"_micro\d+", "", path.stem) not in listed:
            raise UserError(f"{path}: no list names this sequence: remove it or {AGAIN}")
    durations = {}
    for clip in clips:
        header = audio.info(clip.path)
        if (header.rate, header.channels) != (RATE, 1) or header.duration < USED:
            raise UserError(
                f"{clip.path}: {header.rate} Hz, {header.channels} channels, "
                f"{header.duration:.2f} s; must be {RATE} Hz, mono, {USED:g} s at least: {AGAIN}"
            )
        durations[clip.utterance] = header.duration
    return durations
