"""Ensembles of runs that were never trained: their scores are drawn here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from sklearn.metrics import label_ranking_average_precision_score

from espnet_like.bin import ensemble, report
from espnet_like.bin.plan import write_plan
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Place, Planned, plan
from espnet_like.experiments.tables import Row, read_tables
from espnet_like.files import read_json, write_json
from espnet_like.results.counts import read_counts
from espnet_like.results.page import render
from espnet_like.results.store import read_csv
from espnet_like.scoring.ensemble import collect_ensembles, mean_scores, members, score_ensemble
from espnet_like.scoring.score import score_run

LABELS = tuple(f"c{i:02d}" for i in range(14))  # so many that the page gives them lines
CLIPS = 9
FILES = {
    "features.yaml": "features: {name: cpjku}\n",
    "train.yaml": "train: {epochs: 2}\nloss: {name: binary_cross_entropy}\n",
    "model/m.yaml": "model: {name: cp_resnet, base_width: 8}\n",
    "augment/none.yaml": "augment: {name: none}\n",
    "augment/mm.yaml": "augment: {name: specaugment_pp}\n",
    "tables/t.yaml": """
title: T
model: m
corpus: c
metric: lwlrap
columns: [per_class]
rows:
  - {name: plain, augment: none}
  - {name: masked, augment: mm}
  - {name: both of plain, ensemble: {plain: [1, 2]}, published: 50.0}
  - {name: all, ensemble: {plain: [1, 2], masked: [2]}}
""",
}
BOTH, ALL = "both of plain", "all"


def tags(clip: int) -> tuple[str, ...]:
    """One or two; each class occurs, the last with one clip."""
    return tuple(sorted({LABELS[clip], LABELS[clip + 5] if clip % 2 else LABELS[13 - clip]}))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name, text in FILES.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    clips = {f"u{i}": tags(i) for i in range(CLIPS)}
    data = DataDir(
        wav={utt: f"{utt}.wav" for utt in clips}, groups={utt: utt for utt in clips},
        tags=clips, labels=LABELS,
    )  # fmt: skip
    for fold in (1, 2):
        for part in ("train", "test"):
            data.save(tmp_path / f"data/fold{fold}/{part}")
    tiny.bare_dump(tmp_path / "dump")
    parts = [tmp_path / name for name in ("conf", "data", "dump", "exp")]
    return Place(*parts, "c", (1, 2))


def scores_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).random((CLIPS, len(LABELS)), dtype=np.float32)


@pytest.fixture
def runs(place: Place) -> list[Planned]:
    """Four scored runs: two rows, two folds."""
    planned = list(plan(place, read_tables(place.conf)["t"]))
    for number, run in enumerate(planned):
        rows = {f"u{i}": row for i, row in enumerate(scores_of(number))}
        tiny.write_scores(run.directory, "test", rows)
        done = {"seconds": 1.5, "clips_per_second": 3.0, "epochs": 2}
        history = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5}]
        write_json(run.directory / "train.json", {**done, "history": history})
        where = {"revision": f"r{number % 2}", "torch": "2", "device": "cpu"}
        write_json(run.directory / "env.json", where)
        score_run(run)
    return planned


def lwlrap(scores: np.ndarray) -> float:
    true = np.array([[label in tags(i) for label in LABELS] for i in range(CLIPS)])
    return label_ranking_average_precision_score(true, scores, sample_weight=true.sum(1))


def rows_of(place: Place) -> dict[str, Row]:
    return {row.name: row for row in read_tables(place.conf)["t"].rows}


def test_the_mean_of_the_members_scores(place, runs):
    by_name = {(run.row, run.fold): number for number, run in enumerate(runs)}
    rows = rows_of(place)
    wanted = {BOTH: [("plain", 1), ("plain", 2)]}
    wanted[ALL] = [*wanted[BOTH], ("masked", 2)]
    for name, own in wanted.items():
        numbers = [by_name[key] for key in own]
        mean = np.zeros((CLIPS, len(LABELS)))
        for i in range(CLIPS):
            for k in range(len(LABELS)):
                mean[i, k] = sum(float(scores_of(n)[i, k]) for n in numbers) / len(numbers)
        data = DataDir.load(place.data / "fold1/test")
        utterances, found = mean_scores([runs[n].directory for n in numbers], "test", data)
        assert utterances == [f"u{i}" for i in range(CLIPS)]
        np.testing.assert_allclose(found, mean, rtol=1e-6)
        result = score_ensemble(rows[name], runs, 0, place.exp)
        assert result["metric"] == "lwlrap" and result["clips"] == CLIPS
        assert result["lwlrap"] == pytest.approx(lwlrap(mean), abs=1e-12)
        assert result["members"] == [str(runs[n].directory) for n in numbers]
        assert result["parameters"] == 5 * len(own) and result["train_seconds"] == 1.5 * len(own)
        assert result["environment"]["revision"] == "; ".join(
            dict.fromkeys(f"r{n % 2}" for n in numbers)
        )


def test_stage_ensemble_and_its_page(place, runs, tmp_path, capsys):
    write_plan(tmp_path / "list", runs)
    where = ["--plan", str(tmp_path / "list"), "--table", "t", "--conf", str(place.conf)]
    where += ["--exp", str(place.exp)]
    ensemble.main(where)
    said = capsys.readouterr().out
    assert f"{BOTH}, seed 0: lwlrap " in said and f"{ALL}, seed 0: lwlrap " in said
    made = {p: p.stat().st_mtime_ns for p in (place.exp / "ensemble").rglob("*.json")}
    assert len(made) == 2
    ensemble.main(where)
    assert made == {p: p.stat().st_mtime_ns for p in made}  # nothing is written again
    report.main([*where, "--corpus", "C", "--out", str(tmp_path)])
    page = (tmp_path / "RESULTS.md").read_text()
    value = 100 * read_json(min(made))["lwlrap"]  # all
    assert "lwlrap in percent" in page and f"| {ALL} | {value:.2f} | 1 |" in page
    # by class: the mean of the precisions of its labels, each counted by hand
    assert "### lwlrap by class (%)" in page
    (line,) = [x for x in page.splitlines() if x.startswith(f"| {LABELS[0]} |")]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    clips = [i for i in range(CLIPS) if LABELS[0] in tags(i)]
    first = scores_of(0), scores_of(1)
    for column, scores in ((1, first), (3, (sum(first) / 2,))):
        precisions = []
        for one in scores:
            for i in clips:
                ranks = [LABELS[k] for k in np.argsort(-one[i])]
                upto = ranks[: ranks.index(LABELS[0]) + 1]
                precisions.append(sum(label in tags(i) for label in upto) / len(upto))
        assert cells[column] == f"{100 * np.mean(precisions):.1f}"
    # the same page from what is kept
    results, counts = read_csv(tmp_path / "results.csv"), read_counts(tmp_path / "counts.csv")
    assert render("C", read_tables(place.conf), results, counts) == page


def test_members_that_are_not_planned(place, runs, tmp_path, capsys):
    row, some = rows_of(place)[ALL], runs[:3]
    assert [(r.row, r.fold) for r in members(row, runs, 0)][-1] == ("masked", 2)
    with pytest.raises(UserError, match=r"row 'all': no run of 'masked', fold 2, seed 0"):
        members(row, some, 0)
    write_plan(tmp_path / "list", some)
    where = ["--plan", str(tmp_path / "list"), "--table", "t", "--conf", str(place.conf)]
    ensemble.main([*where, "--exp", str(place.exp)])
    said = capsys.readouterr().out
    assert f"{BOTH}, seed 0: " in said and "left out: row 'all'" in said
    assert [r.row for r in collect_ensembles("t", list(rows_of(place).values()), some, place.exp)]


def test_without_a_table_all_folds_of_a_run(place, runs, tmp_path, capsys):
    write_plan(tmp_path / "list", runs[:2])
    ensemble.main(["--plan", str(tmp_path / "list"), "--exp", str(place.exp)])
    mean = (scores_of(0).astype(float) + scores_of(1)) / 2
    assert f"plain, ensemble, seed 0: lwlrap {100 * lwlrap(mean):.2f} %" in capsys.readouterr().out


def test_any_runs_by_their_directories(place, runs, tmp_path, capsys):
    from espnet_like.layers import write_yaml

    for run in runs:
        (run.directory / "config.yaml").write_text(write_yaml(run.config.resolved()))
    chosen = [str(runs[n].directory) for n in (3, 0)]
    ensemble.main(["--runs", *chosen, "--out", str(tmp_path / "both.json")])
    mean = (scores_of(3).astype(float) + scores_of(0)) / 2
    assert capsys.readouterr().out == f"2 runs: lwlrap {100 * lwlrap(mean):.2f} %\n"
    made = read_json(tmp_path / "both.json")
    assert made["members"] == chosen and made["augment"] == "specaugment_pp; none"
    (runs[3].directory / "result.json").unlink()
    with pytest.raises(MissingInput, match=r"result.json: no such file"):
        ensemble.main(["--runs", *chosen])


def test_runs_of_other_clips_make_no_ensemble(place, runs):
    other = DataDir.load(place.data / "fold2/test")
    replace(other, tags={**other.tags, "u0": ("c01",)}).save(place.data / "fold2/test")
    with pytest.raises(UserError, match=r"fold2/test: not the clips and labels of .*fold1/test"):
        score_ensemble(rows_of(place)[BOTH], runs, 0, place.exp)
    assert not (place.exp / "ensemble").exists()


def test_a_run_that_is_not_scored_or_lacks_a_clip(place, runs):
    row, second = rows_of(place)[BOTH], runs[1].directory
    few = {f"u{i}": row for i, row in enumerate(scores_of(1)[:-1])}
    tiny.write_scores(second, "test", few)
    with pytest.raises(UserError, match=r"no scores of u8 \(1 in all\): --stage infer"):
        score_ensemble(row, runs, 0, place.exp)
    tiny.bare_dump(place.dump, bad=("u8",))  # it could not be read: no run has it
    assert score_ensemble(row, runs, 0, place.exp)["clips"] == CLIPS - 1
    (second / "result.json").unlink()
    with pytest.raises(MissingInput, match=r"stage ensemble needs .*result.json"):
        score_ensemble(row, runs, 0, place.exp)


def test_an_ensemble_of_other_settings_is_not_reported(place, runs):
    rows = rows_of(place)
    score_ensemble(rows[BOTH], runs, 0, place.exp)
    (found,) = collect_ensembles("t", list(rows.values()), runs, place.exp)
    assert (found.row, found.metric, found.folds) == (BOTH, "lwlrap", [1])
    path = place.conf / "train.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 3"))
    again = list(plan(place, read_tables(place.conf)["t"]))
    assert collect_ensembles("t", list(rows.values()), again, place.exp) == []
