"""Files that are either whole or absent."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from espnet_like.errors import UserError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it there on success, remove it on failure.

    The directory is made. What stood at `path` stays whole until the rename. An OSError that does
    not say where it happened, as of a full disk, gets `path`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Keep a second process off what the lock file `path` stands for.

    Raises:
        UserError: one is there; `what` says what it does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        lock(file, what)
        yield


def lock(file: IO[Any], what: str) -> None:
    """Lock an open file for as long as it, or a child's copy, is open; errors as `alone`."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{what}: wait for it or end it") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise  # a file system without locks goes without


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 in one piece."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def update_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` unless that is what the file holds."""
    if not (os.path.isfile(path) and Path(path).read_text(encoding="utf-8") == text):
        write_text(path, text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON in one piece."""
    write_text(path, _json_text(value))


def update_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as `write_json` does, unless that is what the file holds."""
    update_text(path, _json_text(value))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; a broken one is a UserError naming file and line."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg}): remake it") from None


def _json_text(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def digest(*parts: Any) -> str:
    """16 hex digits that change when any part does: bytes, text, or what JSON can hold."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        elif not isinstance(part, bytes):
            part = json.dumps(part, sort_keys=True, default=str).encode()
        state.update(len(part).to_bytes(8, "big") + part)
    return state.hexdigest()[:16]
