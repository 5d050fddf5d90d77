"""Stage report: results.csv, counts.csv, pairs.csv, RESULTS.md and figures of a list of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_like.bin import Parser
from espnet_like.bin.plan import read_plan
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.experiments.runs import Planned
from espnet_like.experiments.tables import Table, read_tables
from espnet_like.files import read_json, update_text
from espnet_like.results import figures
from espnet_like.results.counts import (
    Counts,
    Run,
    collect_counts,
    counts_of,
    read_counts,
    shown,
    write_counts,
)
from espnet_like.results.domains import section
from espnet_like.results.page import of_table, render
from espnet_like.results.pairs import collect_pairs, merge_pairs, read_pairs, write_pairs
from espnet_like.results.sharing import share
from espnet_like.results.store import Result, collect, merge_results, read_csv, write_csv
from espnet_like.results.sweeps import sweep
from espnet_like.scoring.ensemble import collect_ensembles, scored


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="report", description=__doc__, allow_abbrev=False)
    parser.add_argument("--plan", type=Path, help="list of runs; without it those of results.csv")
    parser.add_argument("--table", default="", help="stem of the table that the runs belong to")
    parser.add_argument("--conf", type=Path, default=Path("conf"))
    parser.add_argument("--exp", type=Path, default=Path("exp"), help="of the ensembles")
    parser.add_argument("--corpus", required=True, help="title of the page")
    parser.add_argument("--out", type=Path, default=Path("."), help="of results.csv, RESULTS.md")
    parser.add_argument("--figures", type=Path, help="directory of the figures")
    parser.add_argument("--domain", default="", help="print accuracy by this: city, device, ...")
    args = parser.parse_args(argv)
    results = read_csv(args.out / "results.csv")
    tables = read_tables(args.conf)
    if args.table and args.table not in tables:
        there = ", ".join(tables) or "none"
        raise MissingInput(
            f"{args.conf}/tables/{args.table}.yaml: no such table; there are: {there}"
        )
    runs = read_plan(args.plan) if args.plan else []
    found = collect(args.table, runs)
    if args.table:
        found += collect_ensembles(args.table, tables[args.table].rows, runs, args.exp)
    if runs and not found and not results:
        raise MissingInput(f"stage report needs {runs[0].directory}/result.json: run --stage score")
    results = merge_results(results, found)
    results = share(results, tables, args.conf)
    write_csv(args.out / "results.csv", results, tables)
    counts = {**read_counts(args.out / "counts.csv"), **collect_counts(runs)}
    if args.table:
        for _, seed, made in scored(tables[args.table].rows, runs, args.exp):
            counts[Run(made["config"], seed, 1)] = counts_of(made)
    kept = shown(counts, _wanted(results, tables))
    write_counts(args.out / "counts.csv", kept)
    table = tables.get(args.table)
    pairs = read_pairs(args.out / "pairs.csv")
    if table:
        pairs = merge_pairs(pairs, collect_pairs(args.table, table, runs))
    write_pairs(args.out / "pairs.csv", pairs)
    if args.figures:
        draw(runs, args.figures)
    if args.figures and table and table.figure:
        picture = sweep(table, of_table(args.table, table, results))
        figures.save(picture, args.figures / f"{args.table}.png")
    page = render(args.corpus, tables, results, kept, pairs)
    update_text(args.out / "RESULTS.md", page)
    print(f"{args.out / 'RESULTS.md'}: {len(results)} rows")
    if args.domain:
        own = found or [r for r in results if r.table == args.table]
        text = _by(args.domain, own, counts)
        print(f"\n{text}", end="")
        if args.figures:
            update_text(args.figures / f"by_{args.domain}.md", text)


def _by(domain: str, results: Sequence[Result], counts: Counts) -> str:
    """Accuracy of these rows by a domain.

    Raises:
        UserError: no run has it.
    """
    configs = {r.config for r in results}
    parts = {part for run_, own in counts.items() if run_.config in configs for part in own}
    there = sorted({part.domain for part in parts} - {""})
    if domain not in there:
        names = ", ".join(there) or "none: make utt2<domain> in stage data, then --stage score"
        raise UserError(f"--domain {domain}: these runs have no such counts; there are {names}")
    return section(domain, {r.row: r for r in results}, counts)


def _wanted(results: Sequence[Result], tables: Mapping[str, Table]) -> dict[str, set[str]]:
    """Configuration -> the domains that its tables show, `""` for the classes alone."""
    wanted: dict[str, set[str]] = {}
    for r in results:
        table = tables.get(r.table)
        if table and (table.domains or "per_class" in table.columns):
            classes = [""] if "per_class" in table.columns else []
            wanted.setdefault(r.config, set()).update((*classes, *table.domains))
    return wanted


def draw(runs: list[Planned], directory: Path) -> None:
    """Learning curves of all rows; confusion matrices, summed over a row's folds and seeds."""
    by_row: dict[str, list[Planned]] = {}
    for planned in runs:
        if (planned.directory / "result.json").is_file():
            by_row.setdefault(planned.row, []).append(planned)
    if not by_row:
        return
    histories = {
        row: [read_json(p.directory / "train.json")["history"] for p in own]
        for row, own in by_row.items()
    }
    figures.save(figures.learning_curves(histories), directory / "learning_curves.png")
    matrices = 0
    for row, own in by_row.items():
        results = [read_json(p.directory / "result.json") for p in own]
        if any("confusion" not in result for result in results):
            continue  # clips of several tags
        counts = np.sum([result["confusion"] for result in results], 0)
        accuracy = counts.trace() / counts.sum()
        title = f"{row}: {100 * accuracy:.1f} % of {counts.sum()} scored clips"
        name = f"confusion_{own[0].directory.parents[1].name}.png"  # fold and seed are below
        figures.save(figures.confusion(counts, results[0]["labels"], title), directory / name)
        matrices += 1
    print(f"{directory}: learning curves of {len(by_row)} row(s), {matrices} confusion matrices")


if __name__ == "__main__":
    run(main)
