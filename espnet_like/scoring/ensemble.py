"""Several runs as one system: the mean of their scores, scored like a run's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.files import digest, read_json, write_json
from espnet_like.scoring.results import Result
from espnet_like.scoring.score import evaluate, may_be_several, read_scores
from espnet_like.scoring.table_files import Row
from espnet_like.scoring.tables import Planned, config_digest


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
                "give --folds with it"
            )
        found += [own[fold] for fold in folds]
    return found


def mean_scores(
    directories: Sequence[Path], name: str, data: DataDir
) -> tuple[list[str], NDArray[np.float64]]:
    """Utterances with scores and the mean of the runs' scores of a set, (N, K).

    Raises:
        MissingInput: a run has not scored the set. UserError: a run lacks an utterance of it.
    """
    total: NDArray[np.float64] | None = None
    for directory in directories:
        utterances, scores = read_scores(directory / "scores" / f"{name}.scp", data)
        total = scores.astype(np.float64) if total is None else total + scores
    assert total is not None
    return utterances, total / len(directories)


def score_ensemble(row: Row, runs: Sequence[Planned], seed: int, exp: Path) -> dict[str, Any]:
    """Score the mean of the members' scores of the test part; write result.json.

    Args:
        row: with `ensemble`.
        runs: all that are planned.
        seed: of the members.
        exp: directory of the runs; the ensemble's is exp/ensemble/<row>/seed<s>.
    """
    own = members(row, runs, seed)
    tests = [DataDir.load(path) for path in sorted({run.config.data.test for run in own})]
    if other := [test for test in tests if test.tags != tests[0].tags]:
        raise UserError(
            f"row {row.name!r}: its runs were scored on {tests[0].path} and on {other[0].path}, "
            "which are not the same clips"
        )
    for run in own:
        if not (run.directory / "result.json").is_file():
            raise MissingInput(f"stage ensemble needs {run.directory}/result.json: --stage score")
    parts = [read_json(run.directory / "result.json") for run in own]
    data = tests[0]
    utterances, scores = mean_scores([run.directory for run in own], "test", data)
    result = {
        "row": row.name,
        "corpus": own[0].config.data.corpus,
        "seed": seed,
        "model": own[0].model,
        "augment": own[0].augment,
        "selection": parts[0]["selection"],
        "clips": len(utterances),
        "labels": list(data.labels),
        **evaluate(scores, utterances, data, may_be_several(own[0].config)),
        "members": [str(run.directory) for run in own],
        "parameters": sum(part["parameters"] for part in parts),
        "bytes": sum(part["bytes"] for part in parts),
        "train_seconds": sum(part["train_seconds"] for part in parts),
        "environment": parts[0]["environment"],
        "config": ensemble_digest(row, own),
    }
    write_json(result_path(exp, row, seed), result)
    return result


def ensemble_digest(row: Row, own: Sequence[Planned]) -> str:
    """Identifies the members, whatever their seed."""
    return digest("ensemble", [(config_digest(run.config), run.fold) for run in own])


def result_path(exp: Path, row: Row, seed: int) -> Path:
    """Where an ensemble's result lies."""
    name = re.sub(r"[^\w.=+-]+", "-", row.name).strip("-")
    return exp / "ensemble" / name / f"seed{seed}" / "result.json"


def collect_ensembles(
    table: str, rows: Sequence[Row], runs: Sequence[Planned], exp: Path
) -> list[Result]:
    """The rows of results that ensembles make; those of other members are left out."""
    found = []
    for row in (row for row in rows if row.ensemble):
        result: Result | None = None
        for seed in sorted({run.seed for run in runs}):
            path = result_path(exp, row, seed)
            made = read_json(path) if path.is_file() else None
            if made is None or made["config"] != ensemble_digest(row, members(row, runs, seed)):
                continue
            result = result or Result.of_run(table, row.name, made)
            result.add(seed, 1, made)
        if result:
            found.append(result)
    return found
