"""Rows of different tables that are one configuration share their runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from espnet_like.config import experiment
from espnet_like.experiments.runs import config_digest, row_layers
from espnet_like.experiments.tables import Table
from espnet_like.layers import merge
from espnet_like.results.store import Result, merge_results


def share(results: Sequence[Result], tables: Mapping[str, Table], conf: Path) -> list[Result]:
    """`results` with every run of a configuration in every row that asks for that configuration.

    A row of `tables` is filled in where it has no result, or one of the same configuration with
    fewer runs; a result of other settings stays. Tables of another corpus are not looked at.

    Raises:
        UserError: a row whose configuration is wrong.
    """
    runs_of: dict[str, Result] = {}
    for result in results:
        known = replace(runs_of.get(result.config, result), table="", row="")
        (runs_of[result.config],) = merge_results([known], [replace(result, table="", row="")])
    configs = {(r.corpus, r.table, r.row): r.config for r in results}
    for corpus, stem, row, config in _rows(tables, conf, {r.corpus for r in results}):
        configs.setdefault((corpus, stem, row), config)
    wanted = {place: config for place, config in configs.items() if config in runs_of}
    filled = [replace(runs_of[c], table=table, row=row) for (_, table, row), c in wanted.items()]
    return merge_results(results, filled)


def _rows(
    tables: Mapping[str, Table], conf: Path, corpora: set[str]
) -> Iterator[tuple[str, str, str, str]]:
    """Corpus, table, row and digest of the row's configuration."""
    for stem, table in tables.items():
        if table.corpus in corpora:
            for row in (row for row in table.rows if row.augment):
                corpus = {"data": {"corpus": table.corpus}}
                config = experiment(merge(row_layers(conf, table, row), corpus))
                yield table.corpus, stem, row.name, config_digest(config)
