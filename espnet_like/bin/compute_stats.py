"""Stage stats: mean and standard deviation per bin over a training part."""

from __future__ import annotations

from pathlib import Path

from espnet_like.bin import Parser
from espnet_like.data.directory import DataDir
from espnet_like.errors import run
from espnet_like.features.stats import compute_stats


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="compute_stats", description=__doc__, allow_abbrev=False)
    parser.add_argument("--dump", type=Path, required=True, help="dump directory")
    parser.add_argument("--data", type=Path, required=True, help="training data directory")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(argv)
    compute_stats(args.dump, DataDir.load(args.data), args.out)


if __name__ == "__main__":
    run(main)
