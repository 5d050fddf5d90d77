"""What every recipe's local/data.py does: read tables, count, keep sets apart, write them."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.files import read_json, write_json

STAMP = "prepared.json"


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    delimiter: str = ",",
    header: bool = True,
) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table, each with its line number (a header is line 1).

    Args:
        path: text file, UTF-8.
        columns: those that it must have; others are kept too.
        delimiter: between two fields.
        header: whether the first line names the columns; if not, they are `columns`.

    Raises:
        MissingInput: there is no such file.
        UserError: a column is missing, or a row has more or fewer fields than the header.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"{path}: no such file: run --stage download or correct --db-root")
    rows = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(
                file, None if header else columns, delimiter=delimiter, strict=True
            )
            names = reader.fieldnames or []
            if absent := [name for name in columns if name not in names]:
                raise UserError(
                    f"{path}:1: no column {absent[0]!r} among {', '.join(names) or 'none'}: "
                    "restore the official file"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{path}:{reader.line_num}: not {len(names)} fields "
                        f"({', '.join(names)}): restore the official file"
                    )
                rows.append((reader.line_num, row))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a text table ({error}): restore the official file") from None
    return rows


def expect(what: str, found: int, wanted: int, fix: str) -> None:
    """Refuse a count that is not the published one."""
    if found != wanted:
        raise UserError(f"{what}: {found}, must be {wanted}: {fix}")


def check_apart(sets: Mapping[str, DataDir], first: str, second: str) -> None:
    """Refuse two sets that share an utterance or a recording group."""
    for kind in ("utterance", "group"):
        ids = [
            set(sets[name].utterances if kind == "utterance" else sets[name].groups.values())
            for name in (first, second)
        ]
        if shared := sorted(ids[0] & ids[1]):
            raise UserError(
                f"{kind} {shared[0]!r} ({len(shared)} in all) is in {first} and in {second}: "
                "correct the metadata"
            )


def is_fresh(out: str | os.PathLike[str], key: str) -> bool:
    """Whether `write_sets` has finished in `out` with the same key, and the sets still stand."""
    stamp = Path(out) / STAMP
    if not stamp.exists():
        return False
    made = read_json(stamp)
    return made["key"] == key and all(
        (Path(out) / name / "wav.scp").exists() for name in made["sets"]
    )


def write_sets(out: str | os.PathLike[str], sets: Mapping[str, DataDir], key: str) -> None:
    """Write each set to `out/<name>`, then a stamp with `key` (a digest of all that went in)."""
    out = Path(out)
    (out / STAMP).unlink(missing_ok=True)
    for name, data in sets.items():
        if not data.utterances:
            raise UserError(f"{out / name}: no utterance in this set: check the metadata")
        data.save(out / name)
    write_json(
        out / STAMP, {"key": key, "sets": {name: len(d.utterances) for name, d in sets.items()}}
    )
