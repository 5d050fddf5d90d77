"""Fetching archives: resumed after a break, checked, never fetched twice, whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import requests
from tqdm import tqdm

from espnet_like.data.split_zip import open_zip
from espnet_like.errors import UserError
from espnet_like.files import write_text

BLOCK = 1 << 16  # what a break can lose
TIMEOUT = (15.0, 60.0)  # seconds to connect, seconds without a byte
HOPELESS = {400, 401, 403, 404, 405, 410, 451}  # answers that trying again does not change


def fetch(
    url: str,
    path: str | os.PathLike[str],
    size: int | None = None,
    checksum: str | None = None,
    attempts: int = 5,
    wait: float = 1.0,
) -> bool:
    """Fetch `url` to `path`, unless it is there and whole; return whether anything was fetched.

    What arrives goes to `<path>.part`, which a later call continues if the server can (HTTP
    Range) and the file there is still the same one; `path` appears when all is checked.

    Args:
        url: http or https address.
        path: where the file goes.
        size: bytes that it must have.
        checksum: "md5:<hex>" or "sha256:<hex>" that it must have.
        attempts: tries in a row that bring no byte, before giving up.
        wait: seconds before the second try, doubled for each further one.

    Raises:
        UserError: no network, no such file, no space, or another size or checksum than expected.
    """
    path = Path(path)
    if path.exists():
        _verify(path, path, size, checksum, f"remove it to fetch it again from {url}")
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part, tag = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.tag")
    failures = 0
    while True:
        before = _bytes(part)
        try:
            _continue(url, path, part, tag, size, known=bool(size or checksum))
            break
        except requests.RequestException as error:
            failures = 1 if _bytes(part) > before else failures + 1
            if failures >= attempts or isinstance(error, ValueError):  # e.g. a broken address
                raise UserError(
                    f"{url}: cannot be fetched ({_reason(error)}): check the network and run "
                    f"again (it continues from {_bytes(part)} bytes), or put the file at {path}"
                ) from None
            time.sleep(min(60.0, wait * 2 ** (failures - 1)))
    try:
        _verify(part, path, size, checksum, f"the file at {url} has changed or broke on its way: "
                "run again; if it stays so, look for a notice of its publisher")  # fmt: skip
    except UserError:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise
    os.replace(part, path)
    tag.unlink(missing_ok=True)
    return True


def unpack_zip(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> list[Path]:
    """Unpack an archive into `root`; return what it put there (its top-level entries).

    It unpacks into a directory beside, then renames entry by entry: an entry in `root` is whole.
    Entries that `root` has already are not touched.

    Raises:
        UserError: not a zip file, a broken one, one with members outside `root`, or no space.
    """
    path, root = Path(path), Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=root) as scratch:
        extract_zip(path, scratch)
        entries = []
        for entry in sorted(Path(scratch).iterdir()):
            if not (root / entry.name).exists():
                os.replace(entry, root / entry.name)
            entries.append(root / entry.name)
    return entries


def extract_zip(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> None:
    """Unpack an archive, in one part or in several, straight into `root`.

    Raises:
        UserError: not a zip file, a broken one, one with members outside `root`, or no space; a
            part of the members may be there then.
    """
    path, root = Path(path), Path(root)
    try:
        with open_zip(path) as archive:
            members = archive.infolist()
            for member in members:
                require_inside(path, member.filename, root)
            require_space(root, sum(member.file_size for member in members), f"unpack {path}")
            archive.extractall(root)  # compares each member's CRC
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the archive's
        raise UserError(
            f"{path}: not a whole zip file ({error}): remove it and run again"
        ) from None


def require_inside(path: Path, name: str, root: Path) -> None:
    """Refuse an archive whose member `name` would not land below `root`. UserError says so."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or parts[0].endswith(":"):
        raise UserError(
            f"{path}: member {name!r} would land outside {root}: not unpacked; fetch the archive "
            "from its publisher"
        )


def require_space(directory: Path, needed: int, purpose: str) -> None:
    """Refuse to begin where `needed` bytes are not free. UserError says how much there is."""
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise UserError(
            f"{directory}: {needed / 1e6:.0f} MB needed to {purpose}, {free / 1e6:.0f} MB free: "
            "make room or choose another place (--db-root)"
        )


def _continue(url: str, path: Path, part: Path, tag: Path, size: int | None, known: bool) -> None:
    """Fetch what `part` lacks. A server that gives no validator (ETag or date) may have another
    file by now: then only a file with `known` contents is continued."""
    have = _bytes(part)
    if size is not None and have == size:
        return
    validator = tag.read_text(encoding="utf-8") if tag.exists() else ""
    headers = {"Accept-Encoding": "identity"}  # a compressed transfer has other byte positions
    if have and (validator or known) and (size is None or have < size):
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing after `have`: complete, or another file
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have):
                return
            part.unlink()
            raise requests.ConnectionError("the partial file was longer than the server's")
        if answer.status_code in HOPELESS:
            raise UserError(
                f"{url}: HTTP {answer.status_code} {answer.reason}: the file has moved or needs "
                f"permission; get it from its publisher and put it at {path}"
            )
        answer.raise_for_status()
        resumed = answer.status_code == 206 and "Range" in headers
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise requests.ConnectionError("the server answered with another range")
        etag = answer.headers.get("ETag", "")
        strong = etag if not etag.startswith("W/") else ""
        if not resumed:  # before its tag changes: no part may stand under another file's tag
            part.unlink(missing_ok=True)
        write_text(tag, strong or answer.headers.get("Last-Modified", ""))
        length = answer.headers.get("Content-Length")
        rest = int(length) if length else (size or 0) - (have if resumed else 0)
        require_space(part.parent, rest, f"fetch {url}")
        with open(part, "ab" if resumed else "wb") as file:
            _receive(answer, file, path, have if resumed else 0, rest)
    if length and _bytes(part) != (have if resumed else 0) + int(length):
        raise requests.ConnectionError("the connection closed early")


def _receive(answer: requests.Response, file: BinaryIO, path: Path, have: int, rest: int) -> None:
    bar = tqdm(
        desc=path.name, initial=have, total=have + rest if rest > 0 else None, unit="B",
        unit_scale=True, unit_divisor=1024, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        for block in answer.iter_content(BLOCK):
            try:
                file.write(block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise UserError(
                    f"{file.name}: no space left on the disk: make room and run again; what has "
                    "arrived is kept"
                ) from None
            bar.update(len(block))


def _verify(file: Path, path: Path, size: int | None, checksum: str | None, fix: str) -> None:
    if size is not None and file.stat().st_size != size:
        raise UserError(f"{path}: expected {size} bytes, found {file.stat().st_size}: {fix}")
    if checksum is None:
        return
    algorithm, _, expected = checksum.partition(":")
    if algorithm not in ("md5", "sha256"):
        raise ValueError(f"checksum {checksum!r}: must be md5:<hex> or sha256:<hex>")
    state = hashlib.new(algorithm)
    with open(file, "rb") as source:
        while block := source.read(BLOCK):
            state.update(block)
    if state.hexdigest() != expected.lower():
        found = state.hexdigest()
        raise UserError(f"{path}: {algorithm} expected {expected}, found {found}: {fix}")


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}" if error.response is not None else str(error)
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(error).__name__


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
