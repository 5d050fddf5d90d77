"""Pairs of rows that a table compares: collected from runs, kept in pairs.csv, shown."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from espnet_like.config import check, experiment
from espnet_like.data.ark import ArkWriter
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.experiments.runs import Planned, config_digest
from espnet_like.experiments.tables import Table, read_table
from espnet_like.files import write_json
from espnet_like.layers import merge
from espnet_like.results import sign_test as paired
from espnet_like.results.page import render
from espnet_like.results.pairs import Key, collect_pairs, merge_pairs, read_pairs, write_pairs
from espnet_like.results.sign_test import of_rows
from espnet_like.results.store import Result

TABLE = check(
    {
        "title": "T", "model": "m", "corpus": "c", "folds": [1, 2], "compare": [["x", "y"]],
        "rows": [{"name": "x", "augment": "none"}, {"name": "y", "augment": "none"}],
    },
    Table,
)  # fmt: skip
#: row -> seed -> fold -> the clips, of eight, that are right
RIGHT = {
    "x": {0: {1: {0, 1, 2, 3, 4, 5}, 2: {0, 1, 2}}, 1: {1: {0, 1, 2, 3}, 2: {0, 1, 2}}},
    "y": {0: {1: {0, 1}, 2: {0, 7}}, 1: {1: {0, 1, 6}, 2: {0, 7}}, 2: {1: {0}}},
}
CLIPS = 8


class Dump:
    bad: tuple[str, ...] = ()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Planned]:
    """Runs of two classes, in which every clip is of the first; seed 2 has one fold of one row."""
    monkeypatch.setattr(paired, "FeatureDump", lambda path: Dump)
    found = []
    for fold in (1, 2):
        ids = [f"f{fold}_{i}" for i in range(CLIPS)]
        names = dict.fromkeys(ids, "x.wav"), {u: u for u in ids}, dict.fromkeys(ids, ("a",))
        DataDir(None, *names, ("a", "b")).save(tmp_path / f"fold{fold}")
    for row, by_seed in RIGHT.items():
        for seed, by_fold in by_seed.items():
            for fold, right in by_fold.items():
                found.append(scored(tmp_path, row, seed, fold, right))
    return found


def scored(root: Path, row: str, seed: int, fold: int, right: set[int]) -> Planned:
    directory = root / row / f"fold{fold}" / f"seed{seed}"
    scp = directory / "scores/test.scp"
    with ArkWriter(scp.with_suffix(".ark"), scp) as writer:
        for i in range(CLIPS):
            writer.write(f"f{fold}_{i}", np.eye(2, dtype=np.float32)[int(i not in right)])
    layers = {
        "features": {"name": "logmel"},
        "model": {"name": "cp_resnet", "base_width": 8 if row == "x" else 16},
        "seed": seed,
        "data": {"test": str(root / f"fold{fold}"), "dump": "d", "corpus": "c"},
    }
    config = experiment(layers)
    write_json(directory / "result.json", {"config": config_digest(config)})
    return Planned(row, "m", "none", fold, seed, directory, config)


def expected() -> tuple[int, int]:
    """Clips for x, and for y: of seeds 0 and 1, which are whole, by a loop over clips."""
    wins = [0, 0]
    for fold, clip in itertools.product((1, 2), range(CLIPS)):
        x, y = (sum(clip in RIGHT[row][seed][fold] for seed in (0, 1)) for row in "xy")
        wins[0] += x > y
        wins[1] += x < y
    return wins[0], wins[1]


def test_whole_seeds_are_compared(runs):
    ((key, pair),) = collect_pairs("t", TABLE, runs).items()
    assert key == Key("c", "t", "x", "y")
    assert pair.runs == ((0, 1), (0, 2), (1, 1), (1, 2)) and pair.clips == 2 * CLIPS
    assert pair.wins == expected() and sum(pair.wins) > 3
    assert pair.p == pytest.approx(binomtest(pair.wins[0], sum(pair.wins), 0.5).pvalue)


def test_what_was_not_scored_is_not_compared(runs):
    other = merge(runs[0].config.resolved(), {"train": {"epochs": 3}})
    stale = [runs[0]._replace(config=experiment(other)), *runs[1:]]
    (pair,) = collect_pairs("t", TABLE, stale).values()
    assert {seed for seed, _ in pair.runs} == {1}  # the first is of seed 0
    assert not collect_pairs("t", TABLE, [run for run in runs if run.row == "x"])
    assert not collect_pairs("t", replace(TABLE, compare=()), runs)
    for run in runs:
        (run.directory / "scores/test.scp").unlink()
    assert not collect_pairs("t", TABLE, runs)


def test_the_best_mean_has_no_scores_of_its_epoch(runs):
    chosen = {"train": {"selection": "best_mean"}}
    runs = [run._replace(config=experiment(merge(run.config.resolved(), chosen))) for run in runs]
    for run in runs:
        write_json(run.directory / "result.json", {"config": config_digest(run.config)})
    assert not collect_pairs("t", TABLE, runs)
    with pytest.raises(UserError, match="'x' is reported at the epoch with the best mean"):
        of_rows(runs, "x", "y")


def test_pairs_come_back_and_add_up(runs, tmp_path):
    path = tmp_path / "pairs.csv"
    assert read_pairs(path) == {}
    all_ = collect_pairs("t", TABLE, runs)
    first = collect_pairs("t", TABLE, [run for run in runs if run.seed == 0])
    write_pairs(path, all_)
    assert read_pairs(path) == all_
    assert merge_pairs(all_, first) == all_ and merge_pairs(first, all_) == all_
    key = Key("c", "t", "x", "y")
    second = collect_pairs("t", TABLE, [run for run in runs if run.seed == 1])
    assert merge_pairs(first, second) == second  # as many; the newer ones
    changed = {key: first[key]._replace(configs=("new", "new"))}
    assert merge_pairs(all_, changed) == changed
    path.write_text(path.read_text().replace("0:1", "0"))
    with pytest.raises(UserError, match=r"pairs.csv:2: not a line"):
        read_pairs(path)
    write_pairs(path, {})
    assert not path.exists()


def results(runs: list[Planned]) -> list[Result]:
    found = {}
    for run in runs:
        empty = Result("t", run.row, "c", "m", "none", "last", "accuracy", device="cpu")
        result = found.setdefault(run.row, empty)
        result.config = config_digest(run.config)
        result.runs[run.seed, run.fold] = 0.5
        result.clips_of[run.fold] = CLIPS
    return list(found.values())


def test_the_page_shows_the_pairs_of_its_rows(runs):
    pairs = collect_pairs("t", TABLE, runs)
    page = render("C", {"t": TABLE}, results(runs), {}, pairs)
    x, y = expected()
    p = binomtest(x, x + y, 0.5).pvalue
    assert f"| x | y | 2 | {2 * CLIPS} | {x} | {y} | {p:.2g} |" in page
    other = {key._replace(table="t2", first="x2"): pair for key, pair in pairs.items()}
    assert render("C", {"t": TABLE}, results(runs), {}, other) == page  # rows that tables share
    assert "Clip by clip" not in render("C", {"t": TABLE}, [], {}, pairs)
    assert "Clip by clip" not in render("C", {"t": replace(TABLE, compare=())}, results(runs), {})
    page = render("C", {"t": TABLE}, [replace(r, config="new") for r in results(runs)], {}, pairs)
    assert "| x | y | not compared |" in page


def test_rows_that_report_different_epochs_say_so(runs):
    x, y = results(runs)
    assert "| epoch |" not in render("C", {"t": TABLE}, [x, y], {})
    page = render("C", {"t": TABLE}, [replace(x, selection="best_mean"), y], {})
    header = next(line for line in page.splitlines() if line.startswith("| row |"))
    place = header.split(" | ").index("epoch")
    cells = [line.split(" | ")[place] for line in page.splitlines() if line[:4] in ("| x ", "| y ")]
    assert cells[0] == "epoch with the best mean over the test parts (optimistic)"
    assert cells[1] == "last epoch"


def test_a_pair_of_other_rows_is_refused(tmp_path):
    path = tmp_path / "t.yaml"
    rows = "rows: [{name: x, augment: none}]\n"
    path.write_text(f"{{title: T, model: m, corpus: c, compare: [[x, z]], {rows[:-1]}}}\n")
    with pytest.raises(UserError, match="compare: 'z' is none of the rows"):
        read_table(path)
