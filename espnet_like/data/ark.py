"""Kaldi archives (ark) and their indices (scp); the only module that imports kaldiio.

Forms on disk:

- `float32`: Kaldi's binary matrix (2-D) or vector (1-D).
- `compressed`: Kaldi's compressed matrix, method "automatic" (one byte a value, two bytes for
  up to 8 rows), lossy. Vectors stay float32.
- `float16`, `int16`: a NumPy file inside the archive, kaldiio's "numpy" form. Kaldi and its
  other readers cannot read it: they know float32, float64 and compressed only.

A line of the scp is `utterance path:offset`. The path is the archive's as it was given, so a
relative one starts at the working directory (the recipe); the reader falls back to the scp's own
directory.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np

from espnet_like.errors import MissingInput, UserError
from espnet_like.files import atomic_path, write_text

KINDS = {
    "float32": np.float32,
    "float16": np.float16,
    "compressed": np.float32,
    "int16": np.int16,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "float32": {},
    "compressed": {"compression_method": 1},
    "float16": {"write_function": "numpy"},
    "int16": {"write_function": "numpy"},
}
# Bytes of one map that may stay resident. Without a bound, the memory of a process that reads a
# large set at random grows to the size of the set.
_RESIDENT = 256 << 20


class ArkWriter:
    """Context manager that writes one archive and its index.

    Both appear under their names when the block ends well, the index last. If it fails (an
    exception, a full disk), neither appears and what stood there before stays whole.

    Args:
        ark: path of the archive; goes into the scp as it is given.
        scp: path of the index, sorted by utterance.
        kind: float32, float16, compressed or int16.
    """

    def __init__(
        self, ark: str | os.PathLike[str], scp: str | os.PathLike[str], kind: str = "float32"
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        self.ark = os.fspath(ark)
        self.scp = os.fspath(scp)
        self.kind = kind
        self._offsets: dict[str, int] = {}

    def __enter__(self) -> ArkWriter:
        with ExitStack() as stack:  # left in reverse: close, rename the ark, rename the scp
            self._scp = stack.enter_context(atomic_path(self.scp))
            ark = stack.enter_context(atomic_path(self.ark))
            self._file = stack.enter_context(open(ark, "wb"))
            self._stack = stack.pop_all()
        return self

    def write(self, utt: str, array: np.ndarray) -> None:
        """Append a matrix (T, D) or a vector (T,), converted to the archive's type.

        Raises:
            ValueError: an empty array, another number of axes, numbers out of the type's range,
                an id with a space, or one written before.
            OSError: the disk is full.
        """
        if not utt or utt.split() != [utt]:
            raise ValueError(f"an utterance id has no spaces: {utt!r}")
        if utt in self._offsets:
            raise ValueError(f"{self.ark}: utterance {utt} written twice")
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(f"{self.ark}: {utt}: not a matrix or vector: shape {array.shape}")
        values = _convert(array, self.kind, f"{self.ark}: {utt}")
        options = _OPTIONS[self.kind] if values.ndim == 2 or self.kind != "compressed" else {}
        self._offsets[utt] = self._file.tell() + len(utt.encode()) + 1
        kaldiio.save_ark(self._file, {utt: values}, **options)

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self._stack.__exit__(*error)
            return
        with self._stack:
            lines = [f"{utt} {self.ark}:{self._offsets[utt]}\n" for utt in sorted(self._offsets)]
            self._scp.write_text("".join(lines), encoding="utf-8")
            self._file.close()  # everything is on the disk before anything old is touched
            Path(self.scp).unlink(missing_ok=True)  # an index never points into another archive


class ArkReader(Mapping[str, np.ndarray]):
    """Random access to the arrays of an scp, through memory maps.

    Values are fresh, writable arrays. Archives are mapped at first use, once in each process: the
    reader can be pickled and shared with forked workers. At most 256 MiB of each map stay in
    memory.

    Raises:
        MissingInput: no such scp.
        UserError: a line that is not `utterance path[:offset]`, a missing, truncated or
            unreadable archive; names the archive and utterance.
    """

    def __init__(self, scp: str | os.PathLike[str]) -> None:
        self.scp = os.fspath(scp)
        if not os.path.isfile(self.scp):
            raise MissingInput(f"{self.scp}: no such file: run --stage feats")
        self._places: dict[str, tuple[str, int]] = {}
        names: dict[str, str] = {}  # one string for all the lines of an archive
        for number, utt, place in _scp_lines(self.scp):
            ark, offset = _parse_place(place, f"{self.scp}:{number}")
            if utt in self._places:
                raise UserError(f"{self.scp}:{number}: {utt!r} again: remove one line")
            self._places[utt] = (names.setdefault(ark, ark), offset)
        self._maps: dict[str, _Map] = {}

    def __getitem__(self, utt: str) -> np.ndarray:
        ark, offset = self._places[utt]
        if ark not in self._maps:
            self._maps[ark] = _Map(self._find(ark, utt))
        try:
            return self._maps[ark].read(offset)
        except Exception as error:  # kaldiio raises whatever its parsing ran into
            reason = str(error) or type(error).__name__
            raise UserError(
                f"{ark}: utterance {utt} at byte {offset} is truncated or broken ({reason}): "
                "remake with --stage feats"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, utt: object) -> bool:
        return utt in self._places

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def _find(self, ark: str, utt: str) -> str:
        beside = os.path.join(os.path.dirname(self.scp), ark)
        for path in (ark, beside):
            if os.path.isfile(path):
                return path
        raise UserError(
            f"{ark}: no such archive, wanted for utterance {utt} of {self.scp}: run from the "
            "recipe's directory, or remake with --stage feats"
        )


def is_whole(scp: str | os.PathLike[str]) -> bool:
    """Whether an index and its archives are there and end where they should.

    Reads the last array of each archive: one that was cut off lacks it.
    """
    try:
        reader = ArkReader(scp)
        last: dict[str, tuple[int, str]] = {}
        for utt, (ark, offset) in reader._places.items():
            last[ark] = max(last.get(ark, (0, "")), (offset, utt))
        for _, utt in last.values():
            reader[utt]
    except UserError:
        return False
    return True


def merge_scp(parts: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str]) -> None:
    """Join the indices of several jobs into one, sorted.

    Raises:
        MissingInput: a part is missing.
        UserError: an utterance is in two parts.
    """
    places: dict[str, str] = {}
    for part in parts:
        if not os.path.isfile(part):
            raise MissingInput(f"{part}: no such file: run --stage feats")
        for number, utt, place in _scp_lines(os.fspath(part)):
            if utt in places:
                raise UserError(f"{part}:{number}: {utt!r} is in another part: split the set again")
            places[utt] = place
    write_text(out, "".join(f"{utt} {places[utt]}\n" for utt in sorted(places)))


class _Map:
    """One archive, mapped."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            if empty:  # which cannot be mapped; every read of it fails below
                self._map = mmap.mmap(-1, 1)
            else:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._size = 0 if empty else len(self._map)
        self._read = 0

    def read(self, offset: int) -> np.ndarray:
        if not 0 <= offset < self._size:
            raise EOFError(f"the archive has {self._size} bytes")
        if self._map[offset : offset + 3] == b"PKL":
            raise ValueError("a pickled object, which could run code")
        cursor = _Cursor(self._map, offset)
        value = kaldiio.matio.read_kaldi(cursor)
        if not isinstance(value, np.ndarray):
            raise ValueError("an audio file, not an array")
        value = np.array(value, order="C")
        self._read += cursor.tell() - offset
        if self._read > _RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # the pages stay in the system's cache
            self._read = 0
        return value


class _Cursor:
    """What kaldiio needs of a file, over a map and with its own position.

    Large reads are views of the map, so that `ArkReader` copies the numbers once and not twice.
    """

    def __init__(self, buffer: mmap.mmap, position: int) -> None:
        self._view = memoryview(buffer)
        self._position = position

    def read(self, size: int = -1) -> bytes | memoryview:
        if size < 0:
            raise EOFError("a negative size")
        chunk = self._view[self._position : self._position + size]
        if len(chunk) < size and size > 1:  # a text matrix may end without a line feed
            raise EOFError(f"{size - len(chunk)} bytes missing")
        self._position += len(chunk)
        return chunk if size > 64 else bytes(chunk)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True


def _convert(array: np.ndarray, kind: str, what: str) -> np.ndarray:
    """To the archive's type; refuses what that type would turn into other numbers."""
    dtype = np.dtype(KINDS[kind])
    if kind == "int16":
        if array.dtype != dtype:
            raise ValueError(f"{what}: an int16 archive takes int16 samples, not {array.dtype}")
        return array
    with np.errstate(over="ignore"):
        values = array.astype(dtype, copy=False)
    if kind != "float32" and not np.isfinite(values).all():
        raise ValueError(f"{what}: values that {kind} cannot hold: NaN or too large")
    return values


def _scp_lines(path: str) -> Iterator[tuple[int, str, str]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            utt, _, place = line.strip().partition(" ")
            if not place:
                raise UserError(f"{path}:{number}: not '<utterance> <ark>:<offset>': remake it")
            yield number, utt, place.strip()


def _parse_place(place: str, where: str) -> tuple[str, int]:
    """`path:offset`, or the path of a file that holds one array."""
    if place.endswith(("|", "]")) or place.startswith("|"):
        raise UserError(f"{where}: commands and ranges are not read: copy the features first")
    ark, colon, offset = place.rpartition(":")
    return (ark, int(offset)) if colon and offset.isdecimal() else (place, 0)
