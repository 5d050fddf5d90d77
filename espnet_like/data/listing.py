"""What a publisher offers: the table of a corpus's archives, and Zenodo's records.

A table (a recipe's local/archives.tsv) is comment lines, then four columns with TABs between:

    # licence: said before anything is fetched
    # holds: a file of the unpacked corpus, a pattern below --db-root; there may be several
    # into: the directory that its archives unpack into, where they bring none of their own
    file	url	bytes	checksum
    meta.zip	https://.../meta.zip	69272	md5:e196065ee83c07af03a11a310364377d
    *	https://zenodo.org/api/records/3632377	-	-

The last line is all files of a record, whose sizes and checksums the record itself has; a name
instead of `*` is one of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from espnet_like.data.split_zip import PART
from espnet_like.errors import MissingInput, UserError

COLUMNS = ("file", "url", "bytes", "checksum")
CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")
NAME = re.compile(r"[^/\\]*[^/\\.][^/\\]*")


@dataclass(frozen=True)
class File:
    """One file of a publisher.

    Attributes:
        name: its name; "*" for all files of a record.
        url: where it is; of a record, where the record is.
        size: bytes; None where a record says it.
        checksum: "md5:<hex>" or "sha256:<hex>"; "" where a record says it.
        source: the address that the table has: `url`, or the record that named this file.
    """

    name: str
    url: str
    size: int | None
    checksum: str
    source: str


@dataclass(frozen=True)
class Listing:
    """A table of archives.

    Attributes:
        path: where it was read from.
        licence: what the licence line says.
        holds: patterns of files that the unpacked corpus has.
        files: its rows.
        into: name of the directory that the archives unpack into; "" where they have it in them.
    """

    path: Path
    licence: str
    holds: tuple[str, ...]
    files: tuple[File, ...]
    into: str = ""


@dataclass(frozen=True)
class Archive:
    """A zip archive with its parts, the last of which names it, a tar.gz archive, or a file to be
    kept as it is."""

    name: str
    parts: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size or 0 for part in self.parts)

    @property
    def kind(self) -> Literal["zip", "tar", "file"]:
        name = self.name.lower()
        if name.endswith(".zip"):
            return "zip"
        return "tar" if name.endswith((".tar.gz", ".tgz")) else "file"


def read_listing(path: str | os.PathLike[str]) -> Listing:
    """Read a table.

    Raises:
        MissingInput: no such file.
        UserError: names the line that is not as described above.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"{path}: no such table of archives")
    notes: dict[str, list[str]] = {"licence": [], "holds": [], "into": []}
    rows: list[File] = []
    header = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        key, colon, text = line.removeprefix("#").partition(":")
        if line.startswith("#"):
            if colon and key.strip() in notes:
                notes[key.strip()].append(text.strip())
        elif line.strip() and not header:
            header = tuple(line.split("\t")) == COLUMNS
            if not header:
                raise UserError(
                    f"{path}:{number}: the header must be {', '.join(COLUMNS)}, with TABs between"
                )
        elif line.strip():
            rows.append(_row(f"{path}:{number}", line.split("\t"), rows))
    for key in ("licence", "holds"):
        if not notes[key]:
            raise UserError(f"{path}: no line `# {key}: ...`: add it")
    into = notes["into"]
    if len(into) > 1 or not all(NAME.fullmatch(name) for name in into):
        raise UserError(f"{path}: `# into: {', '.join(into)}`: must be one directory's name")
    if not rows:
        raise UserError(f"{path}: no archive in it: add a line")
    licence, holds = " ".join(notes["licence"]), tuple(notes["holds"])
    return Listing(path, licence, holds, tuple(rows), "".join(into))


def _row(where: str, fields: Sequence[str], before: Iterable[File]) -> File:
    if len(fields) != len(COLUMNS):
        raise UserError(
            f"{where}: {len(fields)} fields, must be {len(COLUMNS)}: {', '.join(COLUMNS)}, with "
            "TABs between"
        )
    name, url, size, checksum = fields
    if name != "*" and not NAME.fullmatch(name):
        raise UserError(f"{where}: file {name!r}: must be a name without a directory, or *")
    if any(file.name == name and (name != "*" or file.url == url) for file in before):
        raise UserError(f"{where}: {name} is listed twice: remove a line")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{where}: url {url!r}: must begin with https://")
    if size == checksum == "-" and "/api/records/" in url:
        return File(name, url, None, "", url)
    if name == "*" or not size.isdigit() or not CHECKSUM.fullmatch(checksum):
        raise UserError(
            f"{where}: bytes {size!r}, checksum {checksum!r}: must be a number and md5:<hex> or "
            "sha256:<hex>, or - and - for a record's url (https://zenodo.org/api/records/<number>)"
        )
    return File(name, url, int(size), checksum, url)


def read_record(record: Any, url: str, names: Iterable[str]) -> tuple[list[File], str]:
    """Files of a Zenodo record, and its licence.

    Args:
        record: the JSON at `url`.
        url: the record's address.
        names: those wanted; "*" for all.

    Raises:
        UserError: not such a record, or it has no file of that name.
    """
    files = {}
    try:
        for entry in record["files"]:
            name, size, checksum = str(entry["key"]), int(entry["size"]), str(entry["checksum"])
            if not CHECKSUM.fullmatch(checksum) or not NAME.fullmatch(name):
                raise ValueError(f"{name!r}, {checksum!r}")
            files[name] = File(name, str(entry["links"]["self"]), size, checksum, url)
        licence = (record.get("metadata", {}).get("license") or {}).get("id", "not said")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{url}: not a record with files, sizes and checksums ({type(error).__name__}: "
            f"{error}): see whether the publisher has moved it"
        ) from None
    wanted = dict.fromkeys(name for name in names if name != "*")
    if absent := [name for name in wanted if name not in files]:
        raise UserError(f"{url}: no file {absent[0]} in this record: correct the table of archives")
    if "*" in names:
        wanted |= dict.fromkeys(files)
    return [files[name] for name in wanted], str(licence)


def group(files: Sequence[File]) -> list[Archive]:
    """Put the parts of a split archive (name.z01, ..., name.zip) together, in their order."""
    parts: dict[str, list[File]] = {}
    for file in files:
        match = PART.fullmatch(file.name)
        parts.setdefault(f"{match['stem']}.zip" if match else file.name, []).append(file)

    def place(file: File) -> tuple[bool, int]:
        match = PART.fullmatch(file.name)
        return match is None, int(match["number"]) if match else 0

    return [Archive(name, tuple(sorted(of, key=place))) for name, of in parts.items()]
