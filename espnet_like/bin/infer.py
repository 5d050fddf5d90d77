"""Stage infer: posteriors of the test part, or of other sets, of one run of a list or of all."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from espnet_like.bin import Parser
from espnet_like.bin.plan import add_share, read_plan
from espnet_like.bin.train import add_device, device
from espnet_like.errors import run
from espnet_like.training.runs import Run


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="infer", description=__doc__, allow_abbrev=False)
    parser.add_argument("--plan", type=Path, required=True, help="list of runs")
    add_share(parser)
    parser.add_argument(
        "--sets", nargs="+", type=Path, default=[], help="data directories instead of the test part"
    )
    add_device(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for planned in read_plan(args.plan, args.job, args.jobs):
        own = Run(planned.directory, planned.config)
        sets = {path.name: str(path) for path in args.sets}
        for name, directory in sets.items() or [("test", planned.config.data.test)]:
            own.infer(device(args.device), name, directory)


if __name__ == "__main__":
    run(main)
