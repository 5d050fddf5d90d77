#!/usr/bin/env python3
"""Join data directories into one; they must agree on every id that they share."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from espnet_like.data.directory import DataDir
from espnet_like.data.sets import combine
from espnet_like.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("out", help="data directory to write")
    parser.add_argument("dirs", nargs="+", help="data directories to join")
    parser.add_argument("--labels", type=names, help="a,b: class order of the result")
    args = parser.parse_args()
    joined = combine([DataDir.load(path) for path in args.dirs], labels=args.labels)
    joined.save(args.out)
    print(f"{args.out}: {len(joined.utterances)} utterances")


def names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    run(main)
