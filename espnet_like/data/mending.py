"""Mend a data directory: sort it, and keep what all of its files agree on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from espnet_like.data import audio
from espnet_like.data.tables import (
    PARSERS,
    REQUIRED,
    Segment,
    by_group,
    parsers,
    read_lines,
    write_tables,
)
from espnet_like.errors import MissingInput, UserError

Rows = dict[str, str]


def fix(path: str | os.PathLike[str]) -> list[str]:
    """Mend a data directory in place; what is changed is first copied to `path/.backup`.

    Sorts; removes repeated lines; keeps the utterances that every file has and whose lines can be
    read; rebuilds `spk2utt`; measures what `utt2dur` lacks from the headers of the audio. Labels
    outside `labels` are left as they are: only their author knows what was meant.

    Returns:
        What was done, a line each; none if nothing had to be.

    Raises:
        MissingInput: no directory, or no `wav.scp` or `utt2spk`.
        UserError: two lines contradict each other, or nothing would be left. Nothing is changed.
    """
    root = Path(path)
    for name in REQUIRED:
        if not (root / name).is_file():
            raise MissingInput(f"{root / name}: no such file: make it, nothing else can stand in")
    done: list[str] = []
    known = parsers(root)
    tables = {
        name: _rows(root, name, known[name], done) for name in known if (root / name).is_file()
    }
    _keep_common(root, tables, done)
    _measure(root, tables, done)
    _keep_common(root, tables, done)
    if not tables["utt2spk"]:
        raise UserError(f"{root}: no utterance would be left: nothing was changed")

    tables["spk2utt"] = {g: " ".join(utts) for g, utts in by_group(tables["utt2spk"]).items()}
    texts = {
        name: "".join(f"{key} {rows[key]}\n" for key in sorted(rows))
        for name, rows in tables.items()
    }
    if (root / "labels").is_file():  # in class order: not sorted
        lines = read_lines(root / "labels")
        labels = dict.fromkeys(f"{line.key} {line.value}".strip() for line in lines)
        texts["labels"] = "".join(f"{label}\n" for label in labels)
    changed = {name: text for name, text in texts.items() if _current(root / name) != text}
    for name in changed:
        if (root / name).exists():
            (root / ".backup").mkdir(exist_ok=True)
            shutil.copy2(root / name, root / ".backup" / name)
    write_tables(root, changed)
    return done + [f"{root / name}: rewritten" for name in sorted(changed)]


def _rows(root: Path, name: str, parse: Callable[[str], Any], done: list[str]) -> Rows:
    """Id -> value of the lines that can be read."""
    rows: Rows = {}
    numbers: dict[str, int] = {}
    for number, key, value in read_lines(root / name):
        where = f"{root / name}:{number}"
        value = " ".join(dict.fromkeys(value.split())) if name == "utt2labels" else value
        if key not in numbers:
            numbers[key] = number
            rows[key] = value
        elif rows[key] == value:
            done.append(f"{where}: {key!r} again: removed")
        else:
            raise UserError(
                f"{where}: {key!r} is {value!r} here and {rows[key]!r} in line {numbers[key]}: "
                "remove the wrong line; nothing was changed"
            )
    for key in list(rows):
        try:
            parse(rows[key])
        except ValueError as error:
            done.append(f"{root / name}:{numbers[key]}: {key!r} {error}: removed")
            del rows[key]
    return rows


def _keep_common(root: Path, tables: dict[str, Rows], done: list[str]) -> None:
    """Keep the utterances that all files but `utt2dur` have, and the recordings of those."""

    def keep(name: str, wanted: set[str], why: str) -> None:
        for key in sorted(tables[name].keys() - wanted):
            done.append(f"{root / name}: {key!r} removed: {why}")
            del tables[name][key]

    if "segments" in tables:
        rows = tables["segments"]
        known = {utt for utt, row in rows.items() if row.split()[0] in tables["wav.scp"]}
        keep("segments", known, "its recording is not in wav.scp")
    source = "segments" if "segments" in tables else "wav.scp"
    names = [source, *(n for n in tables if n.startswith("utt2") and n != "utt2dur")]
    common = set.intersection(*(set(tables[name]) for name in names))
    for name in names:
        keep(name, common, f"not in each of {', '.join(names)}")
    if "utt2dur" in tables:
        keep("utt2dur", common, f"not in each of {', '.join(names)}")
    if "segments" in tables:
        used = {row.split()[0] for row in tables["segments"].values()}
        keep("wav.scp", used, "no segment is cut from it")


def _measure(root: Path, tables: dict[str, Rows], done: list[str]) -> None:
    """Add the durations that are missing; an utterance without readable audio is removed."""
    durations = tables.setdefault("utt2dur", {})
    source = "segments" if "segments" in tables else "wav.scp"
    for utt in sorted(tables["utt2spk"].keys() - durations.keys()):
        segment = Segment(utt, 0.0, None)
        if source == "segments":
            segment = PARSERS["segments"](tables["segments"][utt])
        end = segment.end
        try:
            if end is None:
                end = audio.info(tables["wav.scp"][segment.recording]).duration
            durations[utt] = repr(round(end - segment.start, 6))
            done.append(f"{root / 'utt2dur'}: {utt!r} measured: {durations[utt]} s")
        except UserError as error:
            done.append(f"{root / source}: {utt!r} removed: {error}")
            del tables[source][utt]


def _current(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
