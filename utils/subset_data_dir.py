#!/usr/bin/env python3
"""Write a part of a data directory to another: filter by --list, --labels, --groups, then take
the --first N or draw --n N."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from espnet_like.data.directory import DataDir
from espnet_like.data.selection import select
from espnet_like.data.tables import read_lines
from espnet_like.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("dir", help="data directory to read")
    parser.add_argument("out", help="data directory to write")
    parser.add_argument("--list", type=Path, help="file whose lines start with an utterance")
    parser.add_argument("--labels", type=names, help="a,b: keep these classes only")
    parser.add_argument("--groups", type=names, help="a,b: keep these groups only")
    parser.add_argument("--first", type=int, metavar="N", help="the first N utterances")
    parser.add_argument("--n", type=int, metavar="N", help="N utterances drawn at random")
    parser.add_argument("--per-label", action="store_true", help="--n of each label")
    parser.add_argument("--seed", type=int, default=0, help="of --n")
    args = parser.parse_args()
    choice = {name: getattr(args, name) for name in ("list", "labels", "groups", "first", "n")}
    if all(value is None for value in choice.values()):
        parser.error("choose by --list, --labels, --groups, --first or --n")
    if args.first is not None and args.n is not None:
        parser.error("--first and --n exclude each other")
    if args.per_label and args.n is None:
        parser.error("--per-label needs --n")
    part = select(
        DataDir.load(args.dir),
        ids=None if args.list is None else {line.key for line in read_lines(args.list)},
        labels=args.labels,
        groups=args.groups,
        first=args.first,
        number=args.n,
        per_label=args.per_label,
        seed=args.seed,
    )
    part.save(args.out)
    print(f"{args.out}: {len(part.utterances)} utterances")


def names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    run(main)
