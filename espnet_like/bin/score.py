"""Stage score: result.json of every run of a list."""

from __future__ import annotations

from pathlib import Path

from espnet_like.bin import Parser
from espnet_like.bin.plan import read_plan
from espnet_like.errors import run
from espnet_like.scoring.score import score_run


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="score", description=__doc__, allow_abbrev=False)
    parser.add_argument("--plan", type=Path, required=True, help="list of runs")
    args = parser.parse_args(argv)
    for planned in read_plan(args.plan):
        result = score_run(planned)
        print(
            f"{planned.directory}: {result['metric']} {100 * result[result['metric']]:.2f} % "
            f"of {result['clips']} clips ({result['selection']})"
        )


if __name__ == "__main__":
    run(main)
