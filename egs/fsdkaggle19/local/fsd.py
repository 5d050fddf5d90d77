"""FSDKaggle2019 as it is published: its classes, parts and tables, and a check of a copy against
them.

A copy is FSDKaggle2019.audio_{train_curated,train_noisy,test}/<8 hex digits>.wav, 16 bit, 44.1 kHz,
mono, and FSDKaggle2019.meta/{vocabulary.csv, <part>_post_competition.csv}, in --db-root itself or
in a directory FSDKaggle2019 there.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from espnet_like.data import audio
from espnet_like.data.corpus import expect, read_table
from espnet_like.errors import MissingInput, UserError

DIRECTORY, META = "FSDKaggle2019", "FSDKaggle2019.meta"
RATE = 44100
NAME = re.compile(r"[0-9a-f]{8}\.wav")
RESTORE = "restore the official file"
AGAIN = "run --stage download, or point --db-root to a whole copy"
LABELS = (
    "Accelerating_and_revving_and_vroom", "Accordion", "Acoustic_guitar", "Applause", "Bark",
    "Bass_drum", "Bass_guitar", "Bathtub_(filling_or_washing)", "Bicycle_bell",
    "Burping_and_eructation", "Bus", "Buzz", "Car_passing_by", "Cheering",
    "Chewing_and_mastication", "Child_speech_and_kid_speaking", "Chink_and_clink",
    "Chirp_and_tweet", "Church_bell", "Clapping", "Computer_keyboard", "Crackle", "Cricket",
    "Crowd", "Cupboard_open_or_close", "Cutlery_and_silverware", "Dishes_and_pots_and_pans",
    "Drawer_open_or_close", "Drip", "Electric_guitar", "Fart", "Female_singing",
    "Female_speech_and_woman_speaking", "Fill_(with_liquid)", "Finger_snapping", "Frying_(food)",
    "Gasp", "Glockenspiel", "Gong", "Gurgling", "Harmonica", "Hi-hat", "Hiss", "Keys_jangling",
    "Knock", "Male_singing", "Male_speech_and_man_speaking", "Marimba_and_xylophone",
    "Mechanical_fan", "Meow", "Microwave_oven", "Motorcycle", "Printer", "Purr",
    "Race_car_and_auto_racing", "Raindrop", "Run", "Scissors", "Screaming", "Shatter", "Sigh",
    "Sink_(filling_or_washing)", "Skateboard", "Slam", "Sneeze", "Squeak", "Stream", "Strum",
    "Tap", "Tick-tock", "Toilet_flush", "Traffic_noise_and_roadway_noise", "Trickle_and_dribble",
    "Walk_and_footsteps", "Water_tap_and_faucet", "Waves_and_surf", "Whispering", "Writing",
    "Yell", "Zipper_(clothing)",
)  # fmt: skip
# The publisher's README: five curated clips have another clip's label, one has no signal.
WRONG_LABEL = ("f76181c4", "77b925c2", "6a1f682a", "c7db12aa", "7752cc8a")
SILENT = "1d44b0bd"
KNOWN_BAD = frozenset({*WRONG_LABEL, SILENT})


class Part(NamedTuple):
    """One of the three parts: its name here, in file names, and the column with its source."""

    name: str
    stem: str
    source: str

    @property
    def table(self) -> str:
        return f"{META}/{self.stem}_post_competition.csv"

    @property
    def audio(self) -> str:
        return f"FSDKaggle2019.audio_{self.stem}"

    @property
    def columns(self) -> tuple[str, ...]:
        usage = ("usage",) if self.name == "test" else ()
        return ("fname", "labels", *usage, self.source, "license")


CURATED = Part("curated", "train_curated", "freesound_id")
NOISY = Part("noisy", "train_noisy", "flickr_video_URL")
TEST = Part("test", "test", "freesound_id")
PARTS = (CURATED, NOISY, TEST)
USAGES = ("Public", "Private")
TRUTH = f"{META}/train_noisy_true.csv"  # the demo alone knows what its noisy clips hold


class Counts(NamedTuple):
    """Clips of each part; `test` is Public and Private."""

    curated: int
    noisy: int
    public: int
    private: int


OFFICIAL = Counts(4970, 19815, 1120, 3361)
DEMO = Counts(200, 160, 20, 60)


class Clip(NamedTuple):
    """One row of a table."""

    path: Path
    tags: tuple[str, ...]
    group: str
    usage: str
    line: int


def find_root(db: Path) -> Path:
    """The copy below `db`.

    Raises:
        MissingInput: there is none. UserError: a copy of the Kaggle competition.
    """
    for root in (db / DIRECTORY, db):
        if (root / META).is_dir():
            return root
    if (db / "train_curated.csv").exists():
        raise UserError(
            f"{db}: holds the files of the Kaggle competition, which has no labels for its test "
            f"clips: give a directory for Zenodo's record 3612637, which has {META}"
        )
    raise MissingInput(f"{db / META}: no such directory: {AGAIN}")


def read_vocabulary(root: Path) -> tuple[str, ...]:
    """The 80 classes in the order of vocabulary.csv, which has no header: number, label."""
    path = root / META / "vocabulary.csv"
    if not path.is_file():
        raise MissingInput(f"{path}: no such file: {AGAIN}")
    labels: dict[str, int] = {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        for line, row in enumerate(csv.reader(file), 1):
            known = [field for field in row if field in LABELS]
            if len(known) != 1:
                raise UserError(
                    f"{path}:{line}: {','.join(row)!r} does not name one of the corpus's "
                    f"{len(LABELS)} classes: {RESTORE}"
                )
            if known[0] in labels:
                raise UserError(
                    f"{path}:{line}: {known[0]} is in line {labels[known[0]]} already: {RESTORE}"
                )
            labels[known[0]] = line
    expect(f"{path}: classes", len(labels), len(LABELS), RESTORE)
    return tuple(labels)


def read_part(root: Path, part: Part, labels: Sequence[str]) -> dict[str, Clip]:
    """Utterance -> clip for every row of a part's table.

    Raises:
        UserError: a row that cannot be; names its line.
    """
    table = root / part.table
    clips: dict[str, Clip] = {}
    for line, row in read_table(table, part.columns):
        name, where = row["fname"], f"{table}:{line}"
        if not NAME.fullmatch(name):
            raise UserError(f"{where}: {name!r} is not <8 hex digits>.wav: {RESTORE}")
        utt = name.removesuffix(".wav")
        if utt in clips:
            raise UserError(f"{where}: {name} is in line {clips[utt].line} already: {RESTORE}")
        usage = row.get("usage", "")
        if part is TEST and usage not in USAGES:
            raise UserError(
                f"{where}: {name} has usage {usage!r}, must be {' or '.join(USAGES)}: {RESTORE}"
            )
        clips[utt] = Clip(
            root / part.audio / name,
            parse_tags(where, name, row["labels"], labels),
            _group(part, row[part.source], utt),
            usage,
            line,
        )
    return clips


def parse_tags(where: str, name: str, field: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels of a clip: "A,B".

    Raises:
        UserError: none, one outside `labels`, or one twice.
    """
    if not field.strip():
        raise UserError(f"{where}: {name} has no label, must have one or more: {RESTORE}")
    tags = tuple(field.split(","))
    for tag in tags:
        if tag not in labels:
            near = get_close_matches(tag, labels, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(
                f"{where}: {name} has the label {tag!r}, which vocabulary.csv does not have{hint}: "
                f"{RESTORE}"
            )
        if tags.count(tag) > 1:
            raise UserError(f"{where}: {name} has the label {tag} twice: {RESTORE}")
    return tags


def read_truth(root: Path, noisy: Mapping[str, Clip], labels: Sequence[str]) -> dict[str, Clip]:
    """The noisy clips with the labels that they ought to have, in a copy that knows them."""
    table = root / TRUTH
    if not table.exists():
        return {}
    true = {}
    for line, row in read_table(table, ("fname", "labels")):
        name, where = row["fname"], f"{table}:{line}"
        utt = name.removesuffix(".wav")
        if utt not in noisy:
            raise UserError(f"{where}: {name} is not in {root / NOISY.table}: {RESTORE}")
        true[utt] = noisy[utt]._replace(tags=parse_tags(where, name, row["labels"], labels))
    expect(f"{table}: clips", len(true), len(noisy), RESTORE)
    return true


def check_counts(root: Path, parts: Mapping[str, Mapping[str, Clip]], wanted: Counts) -> None:
    """Refuse anything but the published number of clips, or a clip that is in two parts."""
    usages = Counter(clip.usage for clip in parts["test"].values())
    found = Counts(len(parts["curated"]), len(parts["noisy"]), usages["Public"], usages["Private"])
    if wanted == OFFICIAL and found == DEMO:
        raise UserError(f"{root}: holds the demo, not FSDKaggle2019: give another --db-root")
    if wanted == DEMO and found == OFFICIAL:
        raise UserError(f"{root}: holds FSDKaggle2019, not the demo: give another --db-root")
    tables = (CURATED.table, NOISY.table, TEST.table, TEST.table)
    kinds = ("clips", "clips", "clips with usage Public", "clips with usage Private")
    for table, kind, has, must in zip(tables, kinds, found, wanted, strict=True):
        expect(f"{root / table}: {kind}", has, must, RESTORE)
    seen: dict[str, str] = {}
    for part in PARTS:
        for utt, clip in parts[part.name].items():
            if utt in seen:
                raise UserError(
                    f"{root / part.table}:{clip.line}: {utt}.wav is in {seen[utt]} as well: "
                    f"{RESTORE}"
                )
            seen[utt] = part.table


def check_files(root: Path, part: Part, clips: Mapping[str, Clip]) -> dict[str, float]:
    """Compare the files with the table and look at every header; return utterance -> seconds.

    Raises:
        UserError: a row without its file, a file that no row names, or one of another kind.
    """
    table, folder = root / part.table, root / part.audio
    present = {path.stem for path in folder.glob("*.wav")}
    if missing := sorted(clips.keys() - present, key=lambda utt: clips[utt].line):
        first = clips[missing[0]]
        raise UserError(
            f"{table}:{first.line}: {first.path} is missing ({len(missing)} of {len(clips)}): "
            f"{AGAIN}{_split_archive(root) if part is NOISY else ''}"
        )
    if unknown := sorted(present - clips.keys()):
        raise UserError(
            f"{folder / unknown[0]}.wav: no row of {table} names it ({len(unknown)} such files): "
            "remove it or restore the table"
        )
    durations = {}
    for utt, clip in clips.items():
        header = audio.info(clip.path)
        if (header.rate, header.channels) != (RATE, 1):
            raise UserError(
                f"{clip.path}: {header.rate} Hz, {header.channels} channel(s), must be {RATE} Hz "
                f"mono as published: {AGAIN}"
            )
        durations[utt] = header.duration
    return durations


def crossing(first: Iterable[Clip], second: Iterable[Clip]) -> list[str]:
    """Groups on both sides."""
    return sorted({clip.group for clip in first} & {clip.group for clip in second})


def _group(part: Part, source: str, utt: str) -> str:
    """The Freesound sound or the Flickr video that a clip is of; the clip, where none is given.

    The tables do not name Freesound's uploaders.
    """
    word = re.sub(r"[^\w.@=-]+", "-", source.partition("//")[2] or source).strip("-")
    return f"{part.source.partition('_')[0]}-{word or utt}"


def _split_archive(root: Path) -> str:
    """What to know about the archive of the noisy part, where its clips are not there."""
    parts = [f"{NOISY.audio}.{end}" for end in (*(f"z0{n}" for n in range(1, 7)), "zip")]
    absent = [name for name in parts if not (root / name).exists()]
    if 0 < len(absent) < len(parts):
        return f" (of the archive's seven parts {', '.join(absent)} is not in {root})"
    return " (its archive has seven parts, .z01 to .z06 and .zip, which `cat` does not join)"
