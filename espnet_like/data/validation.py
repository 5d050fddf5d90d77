"""What is wrong with a data directory, line by line (`mending.fix` mends what it can)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_like.data import audio as audio_files
from espnet_like.data.directory import DataDir
from espnet_like.data.mending import fix
from espnet_like.data.tables import PARSERS, REQUIRED, by_group, parsers, read_lines
from espnet_like.errors import UserError

__all__ = ["fix", "problems", "summary"]

FIX = "utils/fix_data_dir.py"
# utt2dur may differ from the audio by this many seconds: durations are often rounded.
DURATION_TOLERANCE = 0.02
_ID_PUNCTUATION = frozenset("_-.+=@:,%#~()")


def problems(
    path: str | os.PathLike[str],
    *,
    audio: bool = False,
    against: Iterable[str | os.PathLike[str]] = (),
    labels: bool = True,
    limit: int = 20,
) -> list[str]:
    """Everything that is wrong with a data directory.

    Args:
        path: the directory.
        audio: decode every recording, and compare times with what is there.
        against: directories that must share no group, utterance or recording with this one
            (the test side of a split), and have the same labels.
        labels: whether the set must have `labels` and `utt2labels`.
        limit: lines of each kind; the rest are counted.

    Returns:
        Lines `file:line: what is wrong: how to mend it`; none if all is well.
    """
    root = Path(path)
    if not root.is_dir():
        return [f"{root}: no such directory: correct the path or run the stage that makes it"]
    report = _Report(limit)
    needed = {*REQUIRED, "spk2utt", *(["utt2labels", "labels"] if labels else [])}
    known: dict[str, Callable[[str], Any]] = {**parsers(root), "spk2utt": str.split, "labels": str}
    tables = {
        name: _read(root / name, parse, name in needed, report) for name, parse in known.items()
    }
    _compare_ids(tables, report)
    _check_labels(tables, report)
    _check_groups(tables, report)
    seconds = _check_audio(tables, audio, report)
    _check_times(tables, seconds, report)
    for other in against:
        _check_split(tables, Path(other), report)
    return report.lines()


def summary(path: str | os.PathLike[str]) -> str:
    """One line on a sound data directory: utterances, groups, labels, hours."""
    data = DataDir.load(path)
    length = "length not known (no utt2dur)"
    if data.durations:
        length = f"{sum(data.durations.values()) / 3600:.2f} hours"
    groups = len(set(data.groups.values()))
    return (
        f"{path}: {len(data.utterances)} utterances, {groups} groups, {len(data.labels)} labels, "
        f"{length}"
    )


@dataclass
class _Report:
    """Problems by kind, in the order in which kinds were met."""

    limit: int
    kinds: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str, what: str) -> None:
        self.kinds.setdefault(kind, []).append(f"{where}: {what}")

    def lines(self) -> list[str]:
        out = []
        for kind, found in self.kinds.items():
            out += found[: self.limit]
            if len(found) > self.limit:
                out.append(f"... and {len(found) - self.limit} more of this kind ({kind})")
        return out


@dataclass
class _Table:
    """One file: what could be parsed, and where every id stands."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    exists: bool = True

    def at(self, key: str) -> str:
        return f"{self.path}:{self.numbers[key]}"


def _read(path: Path, parse: Callable[[str], Any], needed: bool, report: _Report) -> _Table:
    """Read a file, reporting what is wrong with it alone."""
    table = _Table(path, exists=path.exists())
    if not table.exists:
        if needed:
            hint = f"rebuild it with {FIX}" if path.name == "spk2utt" else "make it"
            report.add("missing file", str(path), f"no such file: {hint}")
        return table
    try:
        lines = read_lines(path)
    except UserError as error:
        report.add("not text", str(error).rsplit(": not", 1)[0], "not UTF-8 text: convert the file")
        return table
    if not lines:
        report.add("empty file", str(path), "empty: there must be one line or more")
    previous = ""
    for number, key, value in lines:
        where = f"{path}:{number}"
        if key in table.numbers:
            first = table.numbers[key]
            report.add("duplicate ids", where, f"{key!r} again, first in line {first}: remove one")
            continue
        if key < previous and path.name != "labels":
            report.add("unsorted", where, f"{key!r} after {previous!r}: sort (C locale, {FIX})")
        if path.name == "labels":
            if value:
                report.add("bad label", where, f"{key + ' ' + value!r}: a label has no spaces")
        elif odd := sorted({c for c in key if not (c.isalnum() or c in _ID_PUNCTUATION)}):
            names = ", ".join(map(repr, odd))
            report.add("odd ids", where, f"{key!r} holds {names}: use letters, digits and _-.")
        table.numbers[key] = number
        previous = max(previous, key)
        try:
            table.values[key] = parse(value)
        except ValueError as error:
            report.add(f"bad {path.name}", where, f"{key!r} {error}")
    return table


def _compare_ids(tables: Mapping[str, _Table], report: _Report) -> None:
    """Ids in one file and not in another."""
    source = tables["segments"] if tables["segments"].exists else tables["wav.scp"]
    for name, table in tables.items():
        if not name.startswith("utt2") or not table.exists or not source.exists:
            continue
        for here, there in ((source, table), (table, source)):
            for key in here.numbers:
                if key not in there.numbers:
                    report.add(
                        f"not in {there.path.name}",
                        here.at(key),
                        f"{key!r} is not in {there.path.name}: add it there or remove it ({FIX})",
                    )
    recordings = tables["wav.scp"]
    for key, segment in tables["segments"].values.items():
        if segment.recording not in recordings.numbers:
            where = tables["segments"].at(key)
            what = f"recording {segment.recording!r} is not in wav.scp: add it there or remove it"
            report.add("recording not in wav.scp", where, f"{what} ({FIX})")


def _check_labels(tables: Mapping[str, _Table], report: _Report) -> None:
    """Labels outside the file `labels`."""
    for key, tags in tables["utt2labels"].values.items():
        for tag in tags:
            if tag not in tables["labels"].numbers and tables["labels"].exists:
                where = tables["utt2labels"].at(key)
                what = f"{key!r} has the label {tag!r}: add it to the file labels or correct it"
                report.add("unknown label", where, what)


def _check_groups(tables: Mapping[str, _Table], report: _Report) -> None:
    """`spk2utt` against `utt2spk`."""
    inverse = tables["spk2utt"]
    expected = by_group(tables["utt2spk"].values)
    for group, utts in inverse.values.items():
        if utts != expected.get(group, []):
            what = f"group {group!r} does not list its utterances of utt2spk: rebuild it ({FIX})"
            report.add("spk2utt", inverse.at(group), what)
    for group, utts in expected.items():
        if inverse.exists and group not in inverse.numbers:
            where = tables["utt2spk"].at(utts[0])
            report.add("spk2utt", where, f"group {group!r} is not in spk2utt: rebuild it ({FIX})")


def _check_audio(tables: Mapping[str, _Table], decode: bool, report: _Report) -> dict[str, float]:
    """Missing, empty and (`decode`) unreadable files; recording -> seconds of the decoded ones."""
    seconds = {}
    for recording, path in tables["wav.scp"].values.items():
        where = tables["wav.scp"].at(recording)
        if not os.path.isfile(path):
            hint = "; does the id hold a space?" if " " in path else ""
            what = f"{recording!r}: no such file {path}: copy it or correct the path{hint}"
            report.add("missing audio", where, what)
        elif os.path.getsize(path) == 0:
            what = f"{recording!r}: {path} is empty (0 bytes): copy it again or remove the line"
            report.add("empty audio", where, what)
        elif decode:
            try:
                seconds[recording] = audio_files.check(path).duration
            except UserError as error:
                report.add("unreadable audio", where, f"{recording!r}: {error}")
    return seconds


def _check_times(
    tables: Mapping[str, _Table], seconds: Mapping[str, float], report: _Report
) -> None:
    """Segments within their recordings, `utt2dur` as long as the audio."""
    lengths = {} if tables["segments"].exists else dict(seconds)
    for key, (recording, start, end) in tables["segments"].values.items():
        total = seconds.get(recording)
        if end is not None:
            lengths[key] = end - start
        elif total is not None:
            lengths[key] = total - start
        if total is not None and (start >= total or (end or 0) > total + audio_files.TOLERANCE):
            stop = "the end" if end is None else f"{end:g} s"
            what = f"{key!r} goes from {start:g} s to {stop} of {recording!r}, which lasts"
            report.add("segment", tables["segments"].at(key), f"{what} {total:.3f} s: correct it")
    for key, duration in tables["utt2dur"].values.items():
        if key in lengths and abs(duration - lengths[key]) > DURATION_TOLERANCE:
            what = f"{key!r} lasts {lengths[key]:.3f} s, not {duration:g} s: correct it"
            report.add("utt2dur", tables["utt2dur"].at(key), what)


def _check_split(tables: Mapping[str, _Table], other: Path, report: _Report) -> None:
    """Groups, utterances and recordings on both sides of a split."""
    if not (other / "utt2spk").exists() or not (other / "wav.scp").exists():
        report.add("missing file", str(other), "no utt2spk or wav.scp there: correct --against")
        return
    labels = _read(other / "labels", str, False, _Report(0)).numbers
    if labels and list(labels) != list(tables["labels"].numbers):
        what = f"not the labels of {other} in the same order: make them alike"
        report.add("other labels", str(tables["labels"].path), what)
    ours = tables["utt2spk"]
    theirs = _read(other / "utt2spk", PARSERS["utt2spk"], True, _Report(0))
    here, there = by_group(ours.values), by_group(theirs.values)
    for group in sorted(here.keys() & there.keys()):
        first, second = here[group][0], there[group][0]
        what = (
            f"group {group!r} is on both sides: {first} here, {second} in {theirs.at(second)}: "
            "move all its utterances to one side"
        )
        report.add("group on both sides", ours.at(first), what)
    for utt in sorted(ours.numbers.keys() & theirs.numbers.keys()):
        what = f"utterance {utt!r} is also in {theirs.at(utt)}: remove it from one side"
        report.add("utterance on both sides", ours.at(utt), what)
    recordings = _read(other / "wav.scp", PARSERS["wav.scp"], True, _Report(0))
    places = {path: key for key, path in recordings.values.items()}
    for key, path in tables["wav.scp"].values.items():
        if path in places:
            what = f"{path} is also in {recordings.at(places[path])}: remove it from one side"
            report.add("recording on both sides", tables["wav.scp"].at(key), what)
