"""Several runs as one system: the mean of their scores, scored like a run's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_like.config import experiment
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned, config_digest
from espnet_like.experiments.tables import Row
from espnet_like.features.dump import FeatureDump
from espnet_like.files import digest, read_json, update_json
from espnet_like.layers import read_yaml
from espnet_like.results.store import Result
from espnet_like.scoring.score import evaluate, may_be_several, read_scores


def members(row: Row, runs: Sequence[Planned], seed: int) -> list[Planned]:
    """The runs of an ensemble row, in the order in which the row names them.

    Raises:
        UserError: the list of runs lacks one of them.
    """
    found = []
    for name, folds in row.ensemble.items():
        own = {r.fold: r for r in runs if r.row == name and r.seed == seed}
        if lacking := [fold for fold in folds if fold not in own]:
            raise UserError(
                f"row {row.name!r}: no run of {name!r}, fold {lacking[0]}, seed {seed} is planned: "
                "give --folds with it, and no other settings than the table's"
            )
        found += [own[fold] for fold in folds]
    return found


def run_of(directory: Path) -> Planned:
    """A run by its directory alone.

    Raises:
        MissingInput: no run, or one that has not been scored.
    """
    for name, stage in (("config.yaml", "train"), ("result.json", "score")):
        if not (directory / name).is_file():
            raise MissingInput(f"{directory / name}: no such file: name a run, or --stage {stage}")
    config = experiment(read_yaml(directory / "config.yaml"))
    made = read_json(directory / "result.json")
    names = (made["row"], made["model"], made["augment"])
    return Planned(*names, made["fold"], made["seed"], directory, config)


def mean_scores(
    directories: Sequence[Path], name: str, data: DataDir, bad: Collection[str] = ()
) -> tuple[list[str], NDArray[np.float64]]:
    """Utterances with scores and the mean of the runs' scores of a set, (N, K).

    Args:
        directories: of the runs, one or more.
        name: of the set in each run's scores/.
        data: the set; all of it must be there but what is in `bad`.

    Raises:
        MissingInput: a run has not scored the set. UserError: a run lacks an utterance of it.
    """
    total: NDArray[np.float64] | None = None
    for directory in directories:
        utterances, scores = read_scores(directory / "scores" / f"{name}.scp", data, bad)
        total = scores.astype(np.float64) if total is None else total + scores
    assert total is not None
    return utterances, total / len(directories)


def score_mean(own: Sequence[Planned]) -> dict[str, Any]:
    """What a result.json says, of the mean of the runs' scores of their test part.

    Raises:
        MissingInput: a run has not been scored. UserError: runs with different test clips.
    """
    tests = [DataDir.load(path) for path in sorted({run.config.data.test for run in own})]
    data = tests[0]
    for test in tests[1:]:
        if (test.tags, test.labels) != (data.tags, data.labels):
            raise UserError(
                f"{test.path}: not the clips and labels of {data.path}: these runs make no ensemble"
            )
    for run in own:
        if not (run.directory / "result.json").is_file():
            raise MissingInput(f"stage ensemble needs {run.directory}/result.json: --stage score")
    parts = [read_json(run.directory / "result.json") for run in own]
    bad = {u for dump in {run.config.data.dump for run in own} for u in FeatureDump(dump).bad}
    utterances, scores = mean_scores([run.directory for run in own], "test", data, bad)
    where = [part["environment"] for part in parts]
    return {
        "corpus": own[0].config.data.corpus,
        "model": _joined(run.model for run in own),
        "augment": _joined(run.augment for run in own),
        "selection": parts[0]["selection"],
        "clips": len(utterances),
        "labels": list(data.labels),
        **evaluate(scores, utterances, data, may_be_several(own[0].config)),
        "members": [str(run.directory) for run in own],
        "parameters": sum(part["parameters"] for part in parts),
        "bytes": sum(part["bytes"] for part in parts),
        "train_seconds": round(sum(part["train_seconds"] for part in parts), 1),
        "environment": {key: _joined(one[key] for one in where) for key in where[0]},
    }


def _joined(values: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def score_ensemble(row: Row, runs: Sequence[Planned], seed: int, exp: Path) -> dict[str, Any]:
    """Score the mean of the members' scores of the test part; write result.json.

    Args:
        row: with `ensemble`.
        runs: all that are planned.
        seed: of the members.
        exp: directory of the runs; the ensemble's is exp/ensemble/<row>/seed<s>.

    Raises:
        UserError, MissingInput: see `members` and `score_mean`.
    """
    own = members(row, runs, seed)
    result = {"row": row.name, "seed": seed, **score_mean(own), "config": _digest(row, own)}
    update_json(result_path(exp, row, seed), result)
    return result


def _digest(row: Row, own: Sequence[Planned]) -> str:
    """Identifies the members, whatever their seed."""
    return digest("ensemble", [(config_digest(run.config), run.fold) for run in own])


def result_path(exp: Path, row: Row, seed: int) -> Path:
    """Where an ensemble's result lies."""
    name = re.sub(r"[^\w.=+-]+", "-", row.name).strip("-")
    return exp / "ensemble" / name / f"seed{seed}" / "result.json"


def scored(
    rows: Sequence[Row], runs: Sequence[Planned], exp: Path
) -> Iterator[tuple[Row, int, dict[str, Any]]]:
    """Row, seed and result of the ensembles that were scored; those of other members are not."""
    for row in (row for row in rows if row.ensemble):
        for seed in sorted({run.seed for run in runs}):
            path = result_path(exp, row, seed)
            try:
                own = members(row, runs, seed)
            except UserError:  # some of its runs were not asked for
                continue
            if path.is_file() and (made := read_json(path))["config"] == _digest(row, own):
                yield row, seed, made


def collect_ensembles(
    table: str, rows: Sequence[Row], runs: Sequence[Planned], exp: Path
) -> list[Result]:
    """The rows of results that ensembles make."""
    found: dict[str, Result] = {}
    for row, seed, made in scored(rows, runs, exp):
        found.setdefault(row.name, Result.of_run(table, row.name, made)).add(seed, 1, made)
    return list(found.values())
