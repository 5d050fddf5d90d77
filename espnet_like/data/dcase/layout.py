"""A copy of one of the corpora: its metadata read, its files compared with what was published."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_like.data import audio, wav24
from espnet_like.data.corpus import read_table
from espnet_like.data.dcase.corpora import CORPORA, SCENES, SECONDS, Corpus, Release
from espnet_like.errors import MissingInput, UserError

META = ("filename", "scene_label", "identifier", "source_label")
NAME = re.compile(r"audio/([a-z_]+)-([a-z]+)-([0-9]+)-([0-9]+)-([a-z0-9]+)\.wav")
FORM = "audio/<scene>-<city>-<location>-<segment>-<device>.wav"
RESTORE = "restore the official file, or correct --db-root"
AGAIN = "remove the copy and run --stage download, or point --db-root to a whole one"
TOLERANCE = 0.1  # seconds that a clip may be longer or shorter


class Clip(NamedTuple):
    """One clip: its file, and what its row in meta.csv and its name say of it."""

    path: Path
    scene: str
    label: str
    city: str
    location: str
    device: str
    line: int

    @property
    def utterance(self) -> str:
        return self.path.stem


def find_root(db: Path, corpus: Corpus) -> Path:
    """The copy below `db`, or `db` itself.

    Raises:
        MissingInput: there is none. UserError: there is a part of one, or another corpus.
    """
    for root in (db / corpus.directory, db):
        if (root / "meta.csv").is_file():
            return root
    if (db / corpus.directory).is_dir():
        raise UserError(
            f"{db / corpus.directory}: is there, but without meta.csv: run --stage download, which "
            "completes it, or give another --db-root"
        )
    if others := sorted(path.name for path in db.glob("T??-urban-acoustic-scenes-*")):
        raise UserError(
            f"{db}: holds {others[0]}, not {corpus.directory}: correct --db-root, or take that "
            "corpus's own recipe"
        )
    raise MissingInput(
        f"{db / corpus.directory / 'meta.csv'}: no such file: run --stage download, or point "
        f"--db-root to the directory that holds {corpus.directory}"
    )


def tables(root: Path, corpus: Corpus) -> dict[str, Path]:
    """meta.csv, and the fold files of training and of testing with labels."""
    setup = root / "evaluation_setup"
    return {
        "all": root / "meta.csv",
        "train": setup / f"fold1_train.{corpus.folds}",
        "test": setup / f"fold1_evaluate.{corpus.folds}",
    }


def read_clips(root: Path, corpus: Corpus) -> dict[str, Clip]:
    """File name -> clip for all rows of meta.csv, each checked against its name.

    Raises:
        UserError: a row that cannot be; names its line.
    """
    table = tables(root, corpus)["all"]
    clips: dict[str, Clip] = {}
    for line, row in read_table(table, META, "\t"):
        name, where = row["filename"], f"{table}:{line}"
        match = NAME.fullmatch(name)
        if not match:
            raise UserError(f"{where}: {name!r} is not {FORM}: {RESTORE}")
        scene, city, location, _, device = match.groups()
        _known(where, "scene", scene, SCENES)
        _known(where, "city", city, corpus.cities)
        _known(where, "device", device, corpus.devices)
        _known(where, "scene label", row["scene_label"], corpus.labels)
        said = (row["scene_label"], row["identifier"], row["source_label"])
        named = (corpus.label(scene), f"{city}-{location}", device)
        if said != named:
            raise UserError(
                f"{where}: {name} has {', '.join(said)} in its row, its name says "
                f"{', '.join(named)}: {RESTORE}"
            )
        if name in clips:
            raise UserError(f"{where}: {name} is in line {clips[name].line} already: {RESTORE}")
        clips[name] = Clip(root / name, scene, row["scene_label"], city, named[1], device, line)
    return clips


def read_fold(table: Path, corpus: Corpus, clips: Mapping[str, Clip]) -> list[Clip]:
    """The clips of one part.

    Raises:
        UserError: a row that meta.csv does not have, has otherwise, or that comes twice.
    """
    part: dict[str, int] = {}
    for line, row in read_table(table, ("filename", "scene_label"), "\t", corpus.header):
        name, label, where = row["filename"], row["scene_label"], f"{table}:{line}"
        if name not in clips:
            raise UserError(f"{where}: {name} is not in meta.csv: {RESTORE}")
        if label != clips[name].label:
            raise UserError(
                f"{where}: {name} is {label!r} here and {clips[name].label!r} in meta.csv: "
                f"{RESTORE}"
            )
        if name in part:
            raise UserError(f"{where}: {name} is in line {part[name]} already: {RESTORE}")
        part[name] = line
    return [clips[name] for name in part]


def check_names(root: Path, clips: Mapping[str, Clip]) -> None:
    """Refuse a row of meta.csv without its file, and a file that no row names."""
    table = root / "meta.csv"
    present = {f"audio/{path.name}" for path in (root / "audio").glob("*.wav")}
    if missing := sorted(clips.keys() - present, key=lambda name: clips[name].line):
        first = clips[missing[0]]
        raise UserError(
            f"{table}:{first.line}: {first.path} is missing ({len(missing)} in all): run --stage "
            "download, or point --db-root to a whole copy"
        )
    if unknown := sorted(present - clips.keys()):
        raise UserError(
            f"{root / unknown[0]}: no row of {table} names it ({len(unknown)} such files): remove "
            "it or restore the table"
        )


def check_counts(
    root: Path, corpus: Corpus, parts: Mapping[str, Iterable[Clip]], releases: Sequence[Release]
) -> Release:
    """The release that a copy is: its clips of every scene counted in all, train and test.

    Raises:
        UserError: it is none of `releases`; says what the nearest one would have.
    """
    found = {part: Counter(clip.scene for clip in clips) for part, clips in parts.items()}

    def apart(release: Release) -> list[tuple[str, str, int, int]]:
        return [
            (part, scene, found[part][scene], wanted)
            for part in parts
            for scene, wanted in zip(SCENES, getattr(release, part), strict=True)
            if found[part][scene] != wanted
        ]

    differences = {release.name: apart(release) for release in releases}
    for release in releases:
        if not differences[release.name]:
            return release
    for other in CORPORA:
        if other is not corpus and not all(map(apart, other.releases)):
            raise UserError(f"{root}: holds {other.title}, not {corpus.title}: correct --db-root")
    nearest = min(releases, key=lambda release: len(differences[release.name]))
    part, scene, count, wanted = differences[nearest.name][0]
    of = f" of {nearest.name}" if nearest.name else ""
    raise UserError(
        f"{tables(root, corpus)[part]}: {count} clips of {scene}, must be {wanted}{of} "
        f"({sum(found[part].values())} of {sum(getattr(nearest, part))} in all): {AGAIN}"
    )


def check_audio(root: Path, corpus: Corpus, clips: Iterable[Clip]) -> dict[str, float]:
    """Look at the header of every clip; return utterance -> seconds.

    A copy at another rate or depth is taken, and said.

    Raises:
        UserError: a clip unlike the others, of another length, or with other channels.
    """
    durations: dict[str, float] = {}
    rate, depths = 0, set()
    for clip in clips:
        header, bits = _header(clip.path)
        rate = rate or header.rate
        depths.add(bits)
        if (header.rate, header.channels) != (rate, corpus.channels):
            raise UserError(
                f"{clip.path}: {header.rate} Hz, {header.channels} channel(s), must be {rate} Hz "
                f"as the first clip, {corpus.channels} channel(s) as published: {AGAIN}"
            )
        if abs(header.duration - SECONDS) > TOLERANCE:
            raise UserError(
                f"{clip.path}: lasts {header.duration:.3f} s, must be {SECONDS:g} s: {AGAIN}"
            )
        durations[clip.utterance] = header.duration
    if rate != corpus.rate or depths != {"24 bit"}:
        print(
            f"{root}: a copy at {rate} Hz, {' and '.join(sorted(depths))}; the published clips "
            f"have {corpus.rate} Hz, 24 bit"
        )
    return durations


def _header(path: Path) -> tuple[audio.AudioInfo, str]:
    """What a file's header says, and its depth in words."""
    try:
        with open(path, "rb") as file:
            if plain := wav24.layout(file):
                return audio.AudioInfo(*plain[:3]), "24 bit"
    except OSError:
        pass  # audio.info says what it is
    return audio.info(path), "not 24 bit"


def _known(where: str, what: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that the corpus does not have."""
    if value not in allowed:
        raise UserError(f"{where}: {what} {value!r} is not among {', '.join(allowed)}: {RESTORE}")
