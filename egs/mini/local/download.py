#!/usr/bin/env python3
"""Stage 0 of mini: make the corpus of synthetic scenes (nothing is downloaded)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_like.data.scene_corpus import DEMO, Corpus, write_corpus
from espnet_like.errors import run


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help="gets the directory synthetic-scenes"
    )
    parser.add_argument("--demo", action="store_true", help="80 of the 450 clips")
    args = parser.parse_args(argv)
    root = args.db_root / "synthetic-scenes"
    made = write_corpus(root, DEMO if args.demo else Corpus())
    print(f"{root}: {'made' if made else 'fresh, nothing to do'}")


if __name__ == "__main__":
    run(main)
