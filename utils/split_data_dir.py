#!/usr/bin/env python3
"""Split a data directory for N jobs: DIR/split<N>/1 .. DIR/split<N>/<N>, of near-equal length."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from espnet_like.data.directory import DataDir
from espnet_like.data.sets import split
from espnet_like.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("dir", help="data directory")
    parser.add_argument("n", type=int, help="number of parts")
    parser.add_argument("--by-group", action="store_true", help="keep groups whole")
    parser.add_argument("--out", help="make split<N> there instead of in DIR")
    args = parser.parse_args()
    root = Path(args.out or args.dir) / f"split{args.n}"
    parts = split(DataDir.load(args.dir), args.n, keep_groups=args.by_group)
    for number, part in enumerate(parts, 1):
        part.save(root / str(number))
    print(f"{root}: {', '.join(str(len(part.utterances)) for part in parts)} utterances")


if __name__ == "__main__":
    run(main)
