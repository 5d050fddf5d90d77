"""Stage ensemble: the mean of several runs' scores as one system.

With --plan, the rows of a table that have `ensemble`; without --table, each row's runs together.
With --runs, any runs of the recipe that were scored on the same clips, however configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espnet_like.bin import Parser
from espnet_like.bin.plan import read_plan
from espnet_like.errors import UserError, run
from espnet_like.experiments.runs import Planned
from espnet_like.experiments.tables import Row, read_table
from espnet_like.files import update_json
from espnet_like.scoring.ensemble import members, run_of, score_ensemble, score_mean


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="ensemble", description=__doc__, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--plan", type=Path, help="list of runs")
    what.add_argument("--runs", type=Path, nargs="+", help="directories of runs")
    parser.add_argument("--table", default="", help="stem of conf/tables/<table>.yaml")
    parser.add_argument("--conf", type=Path, default=Path("conf"))
    parser.add_argument("--exp", type=Path, default=Path("exp"))
    parser.add_argument("--out", type=Path, help="with --runs: result.json to write")
    args = parser.parse_args(argv)
    if args.runs:
        result = score_mean([run_of(directory) for directory in args.runs])
        if args.out:
            update_json(args.out, result)
        print(f"{len(args.runs)} runs: {result['metric']} {100 * result[result['metric']]:.2f} %")
        return
    runs = read_plan(args.plan)
    rows = _rows(runs, args.conf / "tables" / f"{args.table}.yaml" if args.table else None)
    for seed in sorted({planned.seed for planned in runs}):
        for row in rows:
            try:
                members(row, runs, seed)
            except UserError as error:
                print(f"left out: {error}")
                continue
            found = score_ensemble(row, runs, seed, args.exp)
            value = 100 * found[found["metric"]]
            print(f"{row.name}, seed {seed}: {found['metric']} {value:.2f} %")


def _rows(runs: Sequence[Planned], table: Path | None) -> list[Row]:
    """The table's ensembles, or one of all folds of each row that is planned."""
    if table:
        rows = [row for row in read_table(table).rows if row.ensemble]
        if not rows:
            raise UserError(f"{table}: no row with an ensemble")
        return rows
    folds: dict[str, list[int]] = {}
    for planned in runs:
        folds[planned.row] = sorted({*folds.get(planned.row, ()), planned.fold})
    return [Row(f"{name}, ensemble", ensemble={name: tuple(f)}) for name, f in folds.items()]


if __name__ == "__main__":
    run(main)
