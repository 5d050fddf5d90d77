"""Files that are either whole or absent."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from espnet_like.files import atomic_path, write_text


def test_a_full_disk_says_where_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError) as error, atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(path)
    assert [p.read_text() for p in path.parent.iterdir()] == ["old"]
