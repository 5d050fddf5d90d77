"""Unpacking .tar.gz archives: plain files in directories, whole or refused."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from espnet_like.data.download import BLOCK, require_inside, require_space
from espnet_like.errors import UserError


def extract_tar(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> None:
    """Unpack a gzipped tar archive straight into `root`.

    Raises:
        UserError: not such an archive, a broken one, one with a link, a device or a member outside
            `root`, or no space; a part of the members may be there then.
    """
    path, root = Path(path), Path(root)
    try:
        with gzip.open(path) as stream:
            if not stream.peek(1):
                raise EOFError("it is empty")
            require_space(root, _unpacked_size(path), f"unpack {path}")
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    _extract(path, archive, member, root)
            while stream.read(BLOCK):  # to its end, where the checksum stands
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the archive's
        raise UserError(
            f"{path}: not a whole tar.gz file ({error}): remove it and run again"
        ) from None


def _extract(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    """One member, with the rights of a new file."""
    require_inside(path, member.name, root)
    target = root / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    source = archive.extractfile(member) if member.isreg() else None
    if source is None:
        raise UserError(
            f"{path}: member {member.name!r} is a link or a device: not unpacked; fetch the "
            "archive from its publisher"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, open(target, "wb") as file:
        shutil.copyfileobj(source, file, BLOCK)


def _unpacked_size(path: Path) -> int:
    """Bytes of the tar file: the archive's last four, so modulo 4 GiB."""
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")
