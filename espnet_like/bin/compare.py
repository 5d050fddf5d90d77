"""Two rows of a list of runs, clip by clip: McNemar's exact test for each seed, then for all.

With several seeds a clip counts once, for the row that is right on it in more of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_like.bin import Parser
from espnet_like.bin.plan import read_plan
from espnet_like.errors import run
from espnet_like.results.sign_test import of_rows


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="compare", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--plan", type=Path, required=True, help="exp/plans/<table>/all.jsonl")
    parser.add_argument("rows", nargs=2, metavar="ROW", help="as the table calls it")
    args = parser.parse_args(argv)
    found = of_rows(read_plan(args.plan), *args.rows)
    print(f"first: {args.rows[0]}; second: {args.rows[1]}\n")
    print("| seed | clips | first (%) | second (%) | only first right | only second right | p |")
    print("| :-- | --: | --: | --: | --: | --: | --: |")
    for seed, pair in found.items():
        accuracies = " | ".join(f"{100 * value:.2f}" for value in pair.accuracy)
        wins = " | ".join(map(str, pair.wins))
        name = "all" if seed is None else seed
        print(f"| {name} | {pair.clips} | {accuracies} | {wins} | {pair.p:.2g} |")


if __name__ == "__main__":
    run(main)
