"""Zip archives in parts (name.z01, name.z02, ..., name.zip), read in place as one archive.

In such an archive the directory at the end counts each member's place from the start of its own
part, so joining the parts end to end does not give a zip file. Here the parts are read one after
the other, and the directory is replaced by one that counts from the start of the first. Nothing is
copied. Layout: PKWARE's APPNOTE.TXT, sections 4.3.12 to 4.3.16, 4.4 and 4.5.3.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from espnet_like.errors import UserError

PART = re.compile(r"(?P<stem>.+)\.z(?P<number>\d{2,})")
_END = struct.Struct("<4s4H2LH")  # end of central directory
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s4B4HL2L5H2L")  # central directory header
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF


def parts_of(path: str | os.PathLike[str]) -> list[Path]:
    """The files that make the archive `path`: name.z01, name.z02, ..., and `path` itself, last.

    Raises:
        UserError: a part is missing between those that are there, or before the last.
    """
    path = Path(path)
    found = {}
    for other in path.parent.iterdir():
        match = PART.fullmatch(other.name)
        if match and match["stem"] == path.stem:
            found[int(match["number"])] = other
    last = _last_disk(path) if path.is_file() else 0
    for number in range(1, max([last, *found]) + 1):
        if number not in found:
            raise UserError(
                f"{path.with_suffix(f'.z{number:02d}')}: part {number} of {path.name} is missing: "
                "run again"
            )
    return [*(found[number] for number in sorted(found)), path]


@contextmanager
def open_zip(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open an archive for reading, in one part or in several.

    Raises:
        UserError: a part is missing.
        zipfile.BadZipFile: not a zip file, or a broken one.
    """
    parts = parts_of(path)
    if len(parts) == 1:
        with zipfile.ZipFile(path) as archive:
            yield archive
        return
    with ExitStack() as stack:
        files = [stack.enter_context(open(part, "rb")) for part in parts]
        try:
            archive = zipfile.ZipFile(_Joined(files))
        except struct.error as error:
            raise zipfile.BadZipFile(f"its directory is cut off: {error}") from None
        yield archive


def _last_disk(path: Path) -> int:
    """The number of the disk that `path` is, from 0; 0 where no end of a directory is found."""
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _END.size - _MAX16))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + _END.size:
        return 0
    disk = int(_END.unpack_from(tail, at)[1])
    if disk == _MAX16 and at >= _LOCATOR.size:
        signature, _, _, disks = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        return int(disks) - 1 if signature == b"PK\6\7" else 0
    return disk


class _Joined(io.RawIOBase):
    """The members of all parts, then a directory of one disk, as one seekable file."""

    def __init__(self, parts: Sequence[BinaryIO]) -> None:
        self._files: list[BinaryIO] = list(parts)
        self._starts = [0, *accumulate(part.seek(0, io.SEEK_END) for part in parts)]
        self._size, self._at = self._starts[-1], 0
        count, first, length = self._directory()
        entries = self._entries(self._slice(first, length), count)
        self._files.append(io.BytesIO(entries + _ending(count, first, len(entries))))
        # What follows the members in the parts, the old directory, is hidden behind the new one.
        self._starts = [*(min(start, first) for start in self._starts[:-1]), first]
        self._size = first + len(entries) + _END64.size + _LOCATOR.size + _END.size

    def _directory(self) -> tuple[int, int, int]:
        """Entries, first byte and length of the directory."""
        end = self._slice(max(0, self._size - _END.size - _MAX16), _END.size + _MAX16)
        at = end.rfind(b"PK\5\6")
        if at < 0:
            raise zipfile.BadZipFile("its last part has no directory")
        _, _, disk, _, count, length, offset, _ = _END.unpack_from(end, at)
        if at >= _LOCATOR.size and end[at - _LOCATOR.size :].startswith(b"PK\6\7"):
            _, disk64, place, _ = _LOCATOR.unpack_from(end, at - _LOCATOR.size)
            record = self._slice(self._absolute(disk64, place), _END64.size)
            _, _, _, _, _, disk, _, count, length, offset = _END64.unpack(record)
        return count, self._absolute(disk, offset), length

    def _absolute(self, disk: int, offset: int) -> int:
        if disk >= len(self._starts) - 1:
            raise zipfile.BadZipFile(f"its directory names part {disk + 1}, which there is not")
        return self._starts[disk] + offset

    def _entries(self, old: bytes, count: int) -> bytes:
        """The directory with every member's place counted from the first part."""
        new, at = bytearray(), 0
        for _ in range(count):
            fields = list(_ENTRY.unpack_from(old, at))
            if fields[0] != b"PK\1\2":
                raise zipfile.BadZipFile("its directory is broken")
            at += _ENTRY.size
            name_length, extra_length, comment_length = fields[12:15]
            name = old[at : at + name_length]
            extra = old[at + name_length : at + name_length + extra_length]
            comment_at = at + name_length + extra_length
            at = comment_at + comment_length
            numbers, extra = _take_64(extra, (fields[11], fields[10], fields[18], fields[15]))
            unpacked, packed, offset, disk = numbers
            wide = struct.pack("<2H3Q", 1, 24, unpacked, packed, self._absolute(disk, offset))
            fields[10] = fields[11] = fields[18] = _MAX32  # all three stand in `wide`
            fields[13], fields[15] = len(wide + extra), 0
            new += _ENTRY.pack(*fields) + name + wide + extra + old[comment_at:at]
        return bytes(new)

    def _slice(self, start: int, length: int) -> bytes:
        self.seek(start)
        return self.read(length) or b""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        index = bisect_right(self._starts, self._at) - 1
        if self._at >= self._size or index >= len(self._files):
            return 0
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._size
        self._files[index].seek(self._at - self._starts[index])
        data = self._files[index].read(min(len(buffer), end - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, over the bounds of parts."""
        wanted = self._size - self._at if size is None or size < 0 else size
        pieces = []
        while wanted > 0 and (piece := super().read(min(wanted, 1 << 20))):
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _take_64(extra: bytes, numbers: tuple[int, int, int, int]) -> tuple[list[int], bytes]:
    """Replace saturated numbers (unpacked and packed size, offset, disk) by those of the 64-bit
    extra field; return them and the other extra fields."""
    values, rest, at = list(numbers), b"", 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if kind == 1:
            place = 0
            for i, (limit, form) in enumerate([(_MAX32, "<Q")] * 3 + [(_MAX16, "<L")]):
                if values[i] == limit:
                    (values[i],) = struct.unpack_from(form, field, place)
                    place += struct.calcsize(form)
        else:
            rest += extra[at : at + 4 + length]
        at += 4 + length
    return values, rest


def _ending(count: int, first: int, length: int) -> bytes:
    """The records after a directory of `count` entries that lies at `first`."""
    return (
        _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, length, first)
        + _LOCATOR.pack(b"PK\6\7", 0, first + length, 1)
        + _END.pack(b"PK\5\6", 0, 0, _MAX16, _MAX16, _MAX32, _MAX32, 0)
    )
