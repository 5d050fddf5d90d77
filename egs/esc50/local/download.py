#!/usr/bin/env python3
"""Stage 0 of esc50: fetch and unpack the official archive (600 MB), unless a copy is there.

The archive is continued after a break if the server can, and its clips are checked before it
counts as fetched. GitHub's archives are not stable: no checksum of the whole is asked for.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import demo
import esc50

from espnet_like.data.download import fetch, unpack_zip
from espnet_like.errors import MissingInput, UserError, run


def have(db: Path, wants_demo: bool) -> bool:
    """Whether a copy is there; whether it is whole enough is stage 1's question (--subset).

    Raises:
        UserError: it is the demo's and the real one is wanted, or the other way, or no copy at all.
    """
    try:
        root = esc50.find_root(db)
    except MissingInput:
        if (db / esc50.DIRECTORY).exists():
            raise UserError(
                f"{db / esc50.DIRECTORY}: is there, but without meta/esc50.csv: remove it and run "
                "again, or give another --db-root"
            ) from None
        return False
    clips = esc50.read_clips(root)
    is_demo = any(clip.path.name not in esc50.official_names() for clip in clips[:1])
    if is_demo != wants_demo:
        kinds = ("the demo", "ESC-50") if is_demo else ("ESC-50", "the demo")
        raise UserError(f"{root}: holds {kinds[0]}, not {kinds[1]}: give another --db-root")
    print(f"{root}: {len(clips)} clips, nothing to fetch")
    return True


def fetch_official(db: Path) -> None:
    """Fetch, unpack, check all 2000 clips; only then the copy gets its name."""
    archive = db / "ESC-50-master.zip"
    print(f"{esc50.LICENCE}\n{esc50.URL} -> {archive}", flush=True)
    fetch(esc50.URL, archive)
    with tempfile.TemporaryDirectory(prefix=".unpacked.", dir=db) as scratch:
        unpack_zip(archive, scratch)
        try:
            root = esc50.find_root(Path(scratch))
            clips = esc50.check_names(root, esc50.read_clips(root), "esc50")
            esc50.check_audio(root, clips, clips)
        except UserError as error:
            reason = str(error).replace(f"{scratch}/", "").rpartition(":")[0]
            raise UserError(
                f"{archive}: not the whole ESC-50 ({reason}): remove it and run again"
            ) from None
        os.replace(root, db / esc50.DIRECTORY)
    archive.unlink()
    print(f"{db / esc50.DIRECTORY}: {len(clips)} clips")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help=f"directory of {esc50.DIRECTORY}"
    )
    parser.add_argument(
        "--demo", action="store_true", help="make 100 synthetic clips in the same layout instead"
    )
    args = parser.parse_args(argv)
    if have(args.db_root, args.demo):
        return
    if args.demo:
        demo.write_demo(args.db_root)
    else:
        fetch_official(args.db_root)


if __name__ == "__main__":
    run(main)
