"""The lines of a data directory's tables: `<id> <value>`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from espnet_like.errors import UserError
from espnet_like.files import atomic_path


class Segment(NamedTuple):
    """A part of a recording, in seconds; `end` None: to its end."""

    recording: str
    start: float
    end: float | None


class Line(NamedTuple):
    """One line of a table: its number (from 1), its id, and the rest."""

    number: int
    key: str
    value: str


def by_group(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Group -> its utterances, both sorted (`spk2utt`)."""
    members: dict[str, list[str]] = {}
    for utt in sorted(groups):
        members.setdefault(groups[utt], []).append(utt)
    return dict(sorted(members.items()))


def read_lines(path: Path) -> list[Line]:
    """The lines of a table that are not blank.

    Raises:
        UserError: the file is not UTF-8 text.
    """
    return list(_lines(path))


def read_labels(path: Path) -> tuple[str, ...]:
    """The file `labels`: classes in order; none if there is no such file.

    Raises:
        UserError: a label with a space, or one that comes twice.
    """
    labels: list[str] = []
    for number, label, rest in read_lines(path) if path.exists() else []:
        if rest:
            raise UserError(f"{path}:{number}: '{label} {rest}' has a space: write one word a line")
        if label in labels:
            raise UserError(f"{path}:{number}: {label!r} again: remove one line")
        labels.append(label)
    return tuple(labels)


def _lines(path: Path) -> Iterator[Line]:
    # Split at "\n" alone: str.splitlines would also split at characters that an id may hold.
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            parts = re.split("[ \t]+", raw.decode("utf-8").strip(" \t\r"), maxsplit=1)
        except UnicodeDecodeError:
            raise UserError(f"{path}:{number}: not UTF-8 text: convert the file") from None
        if parts[0]:
            yield Line(number, parts[0], parts[1] if len(parts) > 1 else "")


def write_tables(root: Path, texts: Mapping[str, str]) -> None:
    """Write several files (name -> contents): none changes before all are on the disk."""
    with ExitStack() as stack:  # left in reverse, so that the first file appears last
        for name, text in texts.items():
            path = stack.enter_context(atomic_path(root / name))
            path.write_text(text, encoding="utf-8", newline="\n")


def parse_path(value: str) -> str:
    """The value of a `wav.scp` line."""
    if not value:
        raise ValueError("has no path: write '<id> <path>'")
    if value.endswith("|") or value.startswith("|"):
        raise ValueError("is a command, which is not run: decode to a file and write its path")
    return value


def parse_group(value: str) -> str:
    """The value of an `utt2spk` line."""
    if not value or " " in value:
        raise ValueError(f"has {'several groups' if value else 'no group'}: write '<id> <group>'")
    return value


def parse_domain(value: str) -> str:
    """The value of an `utt2<domain>` line."""
    if not value or " " in value:
        raise ValueError(f"has {'several values' if value else 'no value'}: write '<id> <value>'")
    return value


def parse_tags(value: str) -> tuple[str, ...]:
    """The value of an `utt2labels` line."""
    if not value:
        raise ValueError("has no label: write '<id> <label> [<label> ...]'")
    tags = tuple(value.split(" "))
    if "" in tags:
        raise ValueError("has an empty label: separate labels by one space")
    if len(set(tags)) < len(tags):
        raise ValueError("has a label twice: remove one")
    return tags


def parse_duration(value: str) -> float:
    """The value of an `utt2dur` line."""
    seconds = _seconds(value)
    if seconds <= 0:
        raise ValueError(f"lasts {value} s: write '<id> <seconds>', more than 0")
    return seconds


def parse_segment(value: str) -> Segment:
    """The value of a `segments` line."""
    parts = value.split()
    if len(parts) != 3:
        raise ValueError("is not a segment: write '<id> <recording> <start> <end>'")
    start, end = _seconds(parts[1]), _seconds(parts[2])
    if start < 0 or (end <= start and end != -1):
        raise ValueError(f"goes from {parts[1]} s to {parts[2]} s: write 0 <= start < end, or -1")
    return Segment(parts[0], start, None if end == -1 else end)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"has {value or 'nothing'!r} for a time: write a number of seconds")
    return seconds


REQUIRED = ("wav.scp", "utt2spk")
PARSERS: dict[str, Callable[[str], Any]] = {
    "wav.scp": parse_path,
    "segments": parse_segment,
    "utt2spk": parse_group,
    "utt2labels": parse_tags,
    "utt2dur": parse_duration,
}


_RESERVED = ("spk", "labels", "dur", "num_frames")
_DOMAIN = re.compile("[a-z][a-z0-9_]*")


def domain_table(name: str) -> str:
    """The table of a domain: city -> utt2city.

    Raises:
        UserError: a name that another table has, or that is none for a file.
    """
    if name in _RESERVED or not _DOMAIN.fullmatch(name):
        taken = ", ".join(_RESERVED)
        raise UserError(f"domain {name!r}: take a word in small letters, and none of {taken}")
    return f"utt2{name}"


def parsers(root: Path) -> dict[str, Callable[[str], Any]]:
    """`PARSERS`, and one for every domain's table in `root`."""
    names = sorted(path.name.removeprefix("utt2") for path in root.glob("utt2*") if path.is_file())
    own = [name for name in names if _DOMAIN.fullmatch(name) and name not in _RESERVED]
    return {**PARSERS, **{domain_table(name): parse_domain for name in own}}
