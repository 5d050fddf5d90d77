"""Speech Commands v0.02 as it is published: clips, lists, and a check of a copy against them.

A copy is speech_commands_v0.02/ with

    <word>/<speaker>_nohash_<n>.wav   16 kHz, 16 bit, mono, 1 s or shorter; 35 words
    validation_list.txt, testing_list.txt   <word>/<file> in each line; the rest is for training
    _background_noise_/*.wav          six minutes-long noises: no class, in no list

The test set of the task with twelve classes is an archive of its own, with a directory of each of
ten words, `_unknown_` (<word>_<speaker>_nohash_<n>.wav.wav) and `_silence_` (<number>.wav).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from espnet_like.data import audio
from espnet_like.data.corpus import expect
from espnet_like.errors import MissingInput, UserError

DIRECTORY, TEST_12 = "speech_commands_v0.02", "speech_commands_test_set_v0.02"
LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four",
    "go", "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right",
    "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
RATE, SHORTEST, LONGEST = 16000, 400, 16000  # in samples; the shortest gives one frame
NAME = re.compile(r"(?P<speaker>[0-9a-f]{8})_nohash_(?P<number>\d+)")
AGAIN = "restore the official copy, or point --db-root to a whole one"


class Counts(NamedTuple):
    """Clips of the corpus, of its two lists, and of the parts of the task with twelve classes."""

    all: int
    validation: int
    testing: int
    training_12: int
    validation_12: int
    testing_12: int
    unknown_12: int  # of the test part; as many are silences


OFFICIAL = Counts(105829, 9981, 11005, 36923, 4445, 4890, 408)


class Clip(NamedTuple):
    """One clip: its file, the word that is said, who says it."""

    path: Path
    word: str
    speaker: str
    number: str

    @property
    def utterance(self) -> str:
        """File names repeat from word to word."""
        return f"{self.word}_{self.speaker}_nohash_{self.number}"

    @property
    def name(self) -> str:
        """As the lists have it."""
        return f"{self.word}/{self.path.name}"


def find_root(db: Path, task: str = "35") -> Path:
    """The copy of the corpus, or of the test set with twelve classes: below `db`, or `db` itself.

    Raises:
        MissingInput: it is not there.
    """
    directory, mark = (DIRECTORY, LISTS["testing"]) if task == "35" else (TEST_12, SILENCE)
    for root in (db / directory, db):
        if (root / mark).exists():
            return root
    option = "" if task == "35" else f" --task {task}"
    raise MissingInput(
        f"{db / directory / mark}: not there: run --stage download{option}, or point --db-root to "
        f"the directory that holds {directory}"
    )


def read_clips(root: Path) -> dict[str, Clip]:
    """All clips, by their names in the lists.

    Raises:
        UserError: a directory that is no word of the corpus, a file without speaker.
    """
    clips = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name in (NOISE, TEST_12) or folder.name.startswith("."):
            continue
        if folder.name not in WORDS:
            raise UserError(f"{folder}: not one of the {len(WORDS)} words: move it elsewhere")
        for path in sorted(folder.glob("*.wav")):
            clip = clip_of(path, folder.name, path.stem)
            clips[clip.name] = clip
    if absent := [word for word in WORDS if not (root / word).is_dir()]:
        raise UserError(f"{root / absent[0]}: no such word directory: {AGAIN}")
    return clips


def clip_of(path: Path, word: str, stem: str) -> Clip:
    """The clip at `path`, whose name without the word and the ending is `stem`."""
    match = NAME.fullmatch(stem)
    if not match:
        raise UserError(f"{path}: must be called <8 hex digits>_nohash_<number>.wav: {AGAIN}")
    return Clip(path, word, match["speaker"], match["number"])


def read_lists(root: Path, clips: Mapping[str, Clip]) -> dict[str, list[Clip]]:
    """The clips of `validation`, `testing`, and `training`, the rest.

    Raises:
        MissingInput: a list is not there.
        UserError: names the line whose clip is not there, or is listed already.
    """
    parts: dict[str, list[Clip]] = {part: [] for part in (*LISTS, "training")}
    where: dict[str, str] = {}
    for part, name in LISTS.items():
        table = root / name
        if not table.is_file():
            raise MissingInput(f"{table}: no such list: {AGAIN}")
        for line, entry in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            if not entry.strip():
                continue
            if entry not in clips:
                raise UserError(f"{table}:{line}: {root / entry}: no such clip: {AGAIN}")
            if entry in where:
                raise UserError(
                    f"{table}:{line}: {entry} is listed in {where[entry]} already: {AGAIN}"
                )
            where[entry] = f"{table}:{line}"
            parts[part].append(clips[entry])
    parts["training"] = [clip for name, clip in clips.items() if name not in where]
    return parts


def check_counts(root: Path, parts: Mapping[str, list[Clip]], counts: Counts) -> None:
    """Refuse other numbers of clips than the published ones."""
    expect(f"{root}: clips", sum(map(len, parts.values())), counts.all, AGAIN)
    for part, name in LISTS.items():
        expect(f"{root / name}: clips", len(parts[part]), getattr(counts, part), AGAIN)


def read_test_12(root: Path, counts: Counts) -> tuple[list[Clip], list[Path]]:
    """The test set with twelve classes: words (of other words than `COMMANDS` too), silences.

    Raises:
        UserError: a class is missing, a name is not as described above, other counts.
    """
    clips = []
    for label in (*COMMANDS, UNKNOWN, SILENCE):
        if not (root / label).is_dir():
            raise UserError(f"{root / label}: no such class: {AGAIN}")
    for word in COMMANDS:
        clips += [clip_of(path, word, path.stem) for path in sorted((root / word).glob("*.wav"))]
    unknown = sorted((root / UNKNOWN).glob("*.wav"))
    for path in unknown:
        word, _, stem = path.name.partition("_")
        if word not in WORDS or word in COMMANDS:
            raise UserError(f"{path}: must begin with one of the corpus's other words: {AGAIN}")
        clips.append(clip_of(path, word, stem.replace(".wav", "")))
    silences = sorted((root / SILENCE).glob("*.wav"))
    expect(f"{root / UNKNOWN}: clips", len(unknown), counts.unknown_12, AGAIN)
    expect(f"{root / SILENCE}: clips", len(silences), counts.unknown_12, AGAIN)
    expect(f"{root}: clips", len(clips) + len(silences), counts.testing_12, AGAIN)
    return clips, silences


def check_audio(paths: Iterable[Path]) -> dict[Path, float]:
    """Look at the header of every clip; return its seconds."""
    durations = {}
    for path in paths:
        header = audio.info(path)
        right = (header.rate, header.channels) == (RATE, 1)
        if not right or not SHORTEST <= header.frames <= LONGEST:
            raise UserError(
                f"{path}: {header.rate} Hz, {header.channels} channels, {header.frames} samples; "
                f"must be {RATE} Hz, mono, {SHORTEST} to {LONGEST} samples: {AGAIN}"
            )
        durations[path] = header.duration
    return durations


def listing(root: Path) -> list[tuple[str, int, int]]:
    """Every file with its size and time: what a copy is known by."""
    files = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            state = os.stat(path)
            files.append((path, state.st_size, state.st_mtime_ns))
    return sorted(files)
