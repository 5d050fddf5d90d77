#!/usr/bin/env python3
"""Mend a data directory: sort, remove what not all files have, rebuild spk2utt and utt2dur.

What is changed is kept in DIR/.backup. What cannot be mended is printed, with exit code 1.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from espnet_like.data.validation import fix, problems, summary
from espnet_like.errors import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("dir", help="data directory")
    parser.add_argument("--no-labels", action="store_true", help="the set has no labels")
    args = parser.parse_args()
    for line in fix(args.dir):
        print(line)
    left = problems(args.dir, labels=not args.no_labels)
    print("\n".join(["left to mend by hand:", *left]) if left else summary(args.dir))
    return 1 if left else 0


if __name__ == "__main__":
    run(main)
