#!/usr/bin/env python3
"""Say what is wrong with a data directory, line by line; exit code 1 if anything is."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from espnet_like.data.validation import problems, summary
from espnet_like.errors import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("dir", help="data directory")
    parser.add_argument("--audio", action="store_true", help="decode every recording")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="DIR",
        help="a set that must share no group with this one (may be repeated)",
    )
    parser.add_argument("--no-labels", action="store_true", help="the set has no labels")
    args = parser.parse_args()
    found = problems(args.dir, audio=args.audio, against=args.against, labels=not args.no_labels)
    print("\n".join(found) if found else summary(args.dir))
    return 1 if found else 0


if __name__ == "__main__":
    run(main)
