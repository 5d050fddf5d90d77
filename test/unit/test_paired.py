"""Clip-by-clip comparison: against scipy, a loop over all outcomes, and scores made by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from espnet_like.bin.compare import main
from espnet_like.bin.plan import write_plan
from espnet_like.config import experiment
from espnet_like.data.ark import ArkWriter
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned
from espnet_like.results import sign_test as paired
from espnet_like.results.sign_test import compare, of_rows, sign_test


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 17), (0, 9)])
def test_the_p_value_is_scipys(first, second):
    n = first + second
    expected = binomtest(first, n, 0.5).pvalue if n else 1.0
    assert sign_test(first, second) == pytest.approx(expected)
    assert sign_test(first, second) == sign_test(second, first)


def test_the_p_value_is_the_share_of_outcomes_as_uneven():
    for wins in range(7):
        outcomes = [sum(o) for o in itertools.product((0, 1), repeat=6)]
        uneven = [abs(2 * o - 6) >= abs(2 * wins - 6) for o in outcomes]
        assert sign_test(wins, 6 - wins) == pytest.approx(sum(uneven) / len(uneven))


def test_thousands_of_clips():
    assert sign_test(5000, 5200) == pytest.approx(binomtest(5000, 10200, 0.5).pvalue)
    assert 0 < sign_test(0, 1000) == 2 / 2**1000
    assert not math.isnan(sign_test(10**4, 10**4))


def test_each_clip_counts_once_however_many_seeds():
    """Clip a: 2 of 2 against 1; b: 1 against 1; c: 0 against 2; d: 0 against 1."""
    first = {"0": {"a": 1, "b": 1, "c": 0, "d": 0}, "1": {"a": 1, "b": 0, "c": 0, "d": 0}}
    second = {"0": {"a": 1, "b": 0, "c": 1, "d": 1}, "1": {"a": 0, "b": 1, "c": 1, "d": 0}}
    found = compare(first, second)
    assert found.wins == (1, 2) and found.p == 1.0
    assert (found.clips, found.repeats) == (4, 2)
    assert found.accuracy == (3 / 8, 5 / 8)


def test_other_clips_or_runs_are_refused():
    with pytest.raises(UserError, match="same folds and seeds"):
        compare({"0": {"a": 1}}, {"1": {"a": 1}})
    with pytest.raises(UserError, match="different clips"):
        compare({"0": {"a": 1}}, {"0": {"b": 1}})


class Dump:
    bad: tuple[str, ...] = ()


@pytest.fixture
def runs(tmp_path, monkeypatch) -> list[Planned]:
    """Rows x and y on two folds of three clips, seed 0; x on seed 1 as well."""
    monkeypatch.setattr(paired, "FeatureDump", lambda path: Dump)
    labels, found = ("c0", "c1", "c2"), []
    guesses = {  # row, seed, fold -> the class that scores highest
        ("x", 0, 1): (0, 1, 2), ("x", 0, 2): (0, 0, 2), ("x", 1, 1): (1, 1, 1),
        ("y", 0, 1): (0, 1, 1), ("y", 0, 2): (1, 0, 0),
    }  # fmt: skip
    for fold in (1, 2):
        ids = [f"f{fold}_{i}" for i in range(3)]
        data = DataDir(None, dict.fromkeys(ids, "x.wav"), {u: u for u in ids},
                       {u: (f"c{i}",) for i, u in enumerate(ids)}, labels)  # fmt: skip
        data.save(tmp_path / f"fold{fold}")
    for (row, seed, fold), best in guesses.items():
        directory = tmp_path / row / f"fold{fold}" / f"seed{seed}"
        scp = directory / "scores/test.scp"
        with ArkWriter(scp.with_suffix(".ark"), scp) as writer:
            for i, place in enumerate(best):
                writer.write(f"f{fold}_{i}", np.eye(3, dtype=np.float32)[place])
        layers = {"features": {"name": "logmel"}, "model": {"name": "cp_resnet"}, "seed": seed,
                  "data": {"test": str(tmp_path / f"fold{fold}"), "dump": "d"}}  # fmt: skip
        found.append(Planned(row, "m", "none", fold, seed, directory, experiment(layers)))
    return found


def test_scores_of_runs(runs):
    """x is right on clips 1, 2, 3 of fold 1 and 1, 3 of fold 2; y on 1, 2 and on none."""
    (both,) = of_rows(runs, "x", "y").values()  # seed 0: y has no other
    assert both.wins == (3, 0) and both.clips == 6
    assert both.accuracy == pytest.approx((5 / 6, 2 / 6))
    assert both.p == pytest.approx(0.25)


def test_the_table_on_the_command_line(runs, tmp_path, capsys):
    write_plan(tmp_path / "all.jsonl", runs)
    main(["--plan", str(tmp_path / "all.jsonl"), "x", "y"])
    assert "| 0 | 6 | 83.33 | 33.33 | 3 | 0 | 0.25 |" in capsys.readouterr().out
    with pytest.raises(UserError, match="no row 'z'"):
        main(["--plan", str(tmp_path / "all.jsonl"), "x", "z"])
    Path(runs[0].directory / "scores/test.scp").unlink()
    with pytest.raises(MissingInput, match="--stage infer"):
        main(["--plan", str(tmp_path / "all.jsonl"), "x", "y"])
