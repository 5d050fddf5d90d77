"""Stage ensemble: the rows of a table that are means of several runs' scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_like.bin.plan import read_plan
from espnet_like.errors import UserError, run
from espnet_like.scoring.ensemble import score_ensemble
from espnet_like.scoring.table_files import read_table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="ensemble", description=__doc__, allow_abbrev=False)
    parser.add_argument("--plan", type=Path, required=True, help="list of runs")
    parser.add_argument("--table", required=True, help="stem of conf/tables/<table>.yaml")
    parser.add_argument("--conf", type=Path, default=Path("conf"))
    parser.add_argument("--exp", type=Path, default=Path("exp"))
    args = parser.parse_args(argv)
    table = read_table(args.conf / "tables" / f"{args.table}.yaml")
    rows = [row for row in table.rows if row.ensemble]
    if not rows:
        raise UserError(f"table {args.table} has no row with an ensemble")
    runs = read_plan(args.plan)
    for seed in sorted({planned.seed for planned in runs}):
        for row in rows:
            found = score_ensemble(row, runs, seed, args.exp)
            value = 100 * found[found["metric"]]
            print(f"{row.name}, seed {seed}: {found['metric']} {value:.2f} %")


if __name__ == "__main__":
    run(main)
