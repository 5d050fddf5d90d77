"""ESC-50 as it is published: its clips, classes and folds, and a check of a copy against them.

A copy is ESC-50-master/{audio/*.wav, meta/esc50.csv, LICENSE}. GitHub makes the archive anew from
time to time, so its checksum says nothing; what counts is looked at clip by clip: the 2000 names
(clips.txt), what each row of the csv says against its file's name
(<fold>-<Freesound id>-<take>-<target>.wav), and each wav header. The publisher gives no checksum
of a clip, so a clip of the right length with other samples would pass.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_like.data import audio
from espnet_like.data.corpus import read_table
from espnet_like.errors import MissingInput, UserError

URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
LICENCE = "ESC-50: CC BY-NC 3.0, its subset ESC-10: CC BY 3.0 (K. J. Piczak, 2015)"
DIRECTORY = "ESC-50-master"
FOLDS, SECONDS, RATE = 5, 5.0, 44100
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
CATEGORIES = (
    "dog", "rooster", "pig", "cow", "frog",
    "cat", "hen", "insects", "sheep", "crow",
    "rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds",
    "water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm",
    "crying_baby", "sneezing", "clapping", "breathing", "coughing",
    "footsteps", "laughing", "brushing_teeth", "snoring", "drinking_sipping",
    "door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening",
    "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking",
    "helicopter", "chainsaw", "siren", "car_horn", "engine",
    "train", "church_bells", "airplane", "fireworks", "hand_saw",
)  # fmt: skip
ESC10 = (0, 1, 10, 11, 12, 20, 21, 38, 40, 41)
CORPORA = {"esc50": tuple(range(50)), "esc10": ESC10}
NAME = re.compile(r"([1-5])-(\d+)-([A-Z]+)-(\d{1,2})\.wav")
AGAIN = "remove the copy and run --stage download, or point --db-root to a whole one"


class Clip(NamedTuple):
    """One clip: its file, and what the csv and its name say of it."""

    path: Path
    fold: int
    source: str
    take: str
    target: int
    line: int

    @property
    def utterance(self) -> str:
        return self.path.stem

    @property
    def group(self) -> str:
        """Clips cut from one Freesound recording. Four recordings (131943, 134049, 209698, 234879)
        were cut into clips of two classes that lie in different folds (clock_alarm and clock_tick,
        hen and rooster): the folds are the publisher's, so the class is part of the group."""
        return f"{self.source}-{self.target}"


def official_names() -> list[str]:
    """The file names of all 2000 clips."""
    return (Path(__file__).parent / "clips.txt").read_text(encoding="ascii").split()


def target_of(name: str) -> int:
    """The class that a file name says."""
    return int(name.removesuffix(".wav").rpartition("-")[2])


def find_root(db: Path) -> Path:
    """The copy below `db`, or `db` itself."""
    for root in (db / DIRECTORY, db):
        if (root / "meta" / "esc50.csv").is_file():
            return root
    raise MissingInput(
        f"{db / DIRECTORY / 'meta' / 'esc50.csv'}: no such file: run --stage download, or point "
        f"--db-root to the directory that holds {DIRECTORY}"
    )


def read_clips(root: Path) -> list[Clip]:
    """All rows of meta/esc50.csv, each checked against its file name. UserError names the line."""
    table = root / "meta" / "esc50.csv"
    clips: dict[str, Clip] = {}
    for line, row in read_table(table, COLUMNS):
        name, where = row["filename"], f"{table}:{line}"
        match = NAME.fullmatch(name)
        if not match or int(match[4]) >= len(CATEGORIES):
            raise UserError(
                f"{where}: {name!r} is not <fold>-<source>-<take>-<target>.wav: "
                "restore the official file"
            )
        target = int(match[4])
        facts = dict(zip(("fold", "src_file", "take", "target"), match.groups(), strict=True))
        facts |= {"category": CATEGORIES[target], "esc10": str(target in ESC10)}
        for field, fact in facts.items():
            if row[field] != fact:
                raise UserError(
                    f"{where}: {name} has {field} {row[field]!r}, its name says {fact!r}: "
                    "restore the official file"
                )
        if name in clips:
            raise UserError(
                f"{where}: {name} is in line {clips[name].line} already: restore the official file"
            )
        path = root / "audio" / name
        clips[name] = Clip(path, int(match[1]), match[2], match[3], target, line)
    return sorted(clips.values(), key=lambda clip: clip.utterance)


def check_names(root: Path, clips: Sequence[Clip], corpus: str) -> list[Clip]:
    """The clips of `corpus`; refuse rows that are not ESC-50's and clips that have no row."""
    table = root / "meta" / "esc50.csv"
    official = set(official_names())
    for clip in clips:
        if clip.path.name not in official:
            raise UserError(
                f"{table}:{clip.line}: {clip.path.name} is not a clip of ESC-50: remove the line "
                "(or add --demo, if the copy was made by it)"
            )
    wanted = {name for name in official if target_of(name) in CORPORA[corpus]}
    absent = sorted(wanted - {clip.path.name for clip in clips})
    if absent:
        folds = Counter(name[0] for name in absent)
        raise UserError(
            f"{table}: {len(absent)} of the {len(wanted)} clips of {corpus} are not listed ("
            + ", ".join(f"fold {fold}: {count}" for fold, count in sorted(folds.items()))
            + f"), first {absent[0]}: {AGAIN}"
            + (", or take --subset esc10" if corpus == "esc50" else "")
        )
    return [clip for clip in clips if clip.target in CORPORA[corpus]]


def check_counts(clips: Sequence[Clip], targets: Sequence[int], per_class: int) -> None:
    """Refuse anything but `per_class` clips of each of these classes in each fold."""
    counts = Counter((clip.fold, clip.target) for clip in clips)
    for cell in sorted({(f, t) for f in range(1, FOLDS + 1) for t in targets} | counts.keys()):
        wanted = per_class if cell[1] in targets else 0
        if counts[cell] != wanted:
            raise UserError(
                f"{clips[0].path.parent}: fold {cell[0]} has {counts[cell]} clips of "
                f"{CATEGORIES[cell[1]]}, must be {wanted}: {AGAIN}"
            )


def check_audio(root: Path, clips: Sequence[Clip], all_clips: Sequence[Clip]) -> dict[str, float]:
    """Look at the header of every clip; return utterance -> seconds.

    Every clip is mono, 5 s long, and at one rate; 44.1 kHz is the published one, another is a
    resampled copy and is only said.
    """
    table = root / "meta" / "esc50.csv"
    missing = [clip for clip in clips if not clip.path.exists()]
    if missing:
        raise UserError(
            f"{table}:{missing[0].line}: {missing[0].path} is missing ({len(missing)} in all): "
            f"{AGAIN}"
        )
    named = {clip.path.name for clip in all_clips}
    for path in sorted((root / "audio").glob("*.wav")):
        if path.name not in named:
            raise UserError(f"{path}: no line of {table} names it: remove it or restore the line")
    durations: dict[str, float] = {}
    rate = 0
    for clip in clips:
        header = audio.info(clip.path)
        rate = rate or header.rate
        if header.channels != 1 or header.rate != rate:
            raise UserError(
                f"{clip.path}: {header.rate} Hz, {header.channels} channels, must be {rate} Hz "
                f"mono as the other clips: {AGAIN}"
            )
        if abs(header.frames - SECONDS * rate) > 1:
            raise UserError(
                f"{clip.path}: {header.frames} samples, must be {SECONDS * rate:.0f} "
                f"({SECONDS:g} s): {AGAIN}"
            )
        durations[clip.utterance] = header.frames / header.rate
    if rate != RATE:
        print(f"{root}: a copy at {rate} Hz; the published clips have {RATE} Hz")
    return durations
