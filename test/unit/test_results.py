"""Tables, results.csv and RESULTS.md."""

from __future__ import annotations

import csv
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from espnet_like.bin import plan as list_runs
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Place, config_digest, plan
from espnet_like.experiments.tables import Row, Table, read_table, read_tables
from espnet_like.files import write_json
from espnet_like.results.page import render, standard_error, summary
from espnet_like.results.sharing import share
from espnet_like.results.store import Result, collect, merge_results, read_csv, write_csv

CONF = {
    "features.yaml": "features: {name: cpjku}\n",
    "train.yaml": "train: {epochs: 2}\n",
    "model/small.yaml": "model: {name: cp_resnet, base_width: 8}\n",
    "augment/none.yaml": "augment: {name: none}\n",
    "augment/empty.yaml": "",
    "augment/mm.yaml": "augment: {name: specaugment_pp}\n",
    "tables/t.yaml": """
title: A table
corpus: c
model: small
seeds: [0, 1]
baseline: plain
rows:
  - {name: plain, augment: none, published: 50.0, published_std: 1.0, published_runs: 3, source: P}
  - {name: masked, augment: mm, overrides: {augment.layers: [0, 2]}, seeds: [0]}
""",
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name, text in CONF.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Place(tmp_path / "conf", Path("data/c"), Path("dump/c"), Path("exp"), "c", (1, 2))


def result(row="plain", runs=None, config="abc", **rest) -> Result:
    runs = runs if runs is not None else {(0, 1): 0.5, (0, 2): 0.7, (1, 1): 0.6, (1, 2): 0.9}
    fields = dict(parameters=10, bytes=40, device="cpu", revision="r1", config=config) | rest
    return Result(
        "t", row, "c", "small", "none", "last", "accuracy", runs,
        dict.fromkeys(runs, 3.0), {1: 100, 2: 100}, **fields,
    )  # fmt: skip


def test_a_table_becomes_rows_times_folds_times_seeds(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    runs = list(plan(place, table))
    assert [(r.row, r.seed, r.fold) for r in runs] == [
        ("plain", 0, 1), ("plain", 0, 2), ("masked", 0, 1), ("masked", 0, 2),
        ("plain", 1, 1), ("plain", 1, 2),
    ]  # fmt: skip
    masked = runs[2]
    assert masked.config.augment["layers"] == (0, 2) or masked.config.augment["layers"] == [0, 2]
    assert masked.directory == Path("exp/small_mm_c_train_layers=0-2/fold1/seed0")
    assert masked.config.data.train == "data/c/fold1/train"
    assert len({r.directory for r in runs}) == len(runs)


def test_a_selection_that_valid_would_take_the_place_of_is_refused(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    with pytest.raises(UserError, match=r"selection last: --valid, which is on.*--valid false"):
        list(plan(place._replace(valid=True), table, ["--train.selection", "last"]))
    (run, *_) = plan(place._replace(valid=True), table, ["--train.selection", "best_valid"])
    assert run.config.train.selection == "best_valid"
    (run, *_) = plan(place, table, ["--train.selection", "last"])
    assert run.config.train.selection == "last"


def test_the_epoch_with_the_best_mean_is_one_for_all_folds_of_a_seed(place, monkeypatch):
    """Means over folds by epoch: 0.5, 0.55, 0.55; the folds' own best are others."""
    table = read_table(place.conf / "tables" / "t.yaml")
    runs = list(plan(place, table, ["--train.selection", "best_mean"], seeds=[0]))[:2]
    curves = {1: [0.9, 0.5, 0.4], 2: [0.1, 0.6, 0.7]}
    size = {"nonzero": {"values": 1}}
    common = {"corpus": "c", "selection": "best_mean", "metric": "accuracy", "accuracy": 0.3,
              "macro_accuracy": 0.3, "parameters": 1, "bytes": 4, "size": size, "clips": 10,
              "train_seconds": 1.0, "environment": {"device": "cpu", "revision": "r"}}  # fmt: skip
    for run in runs:
        history = [{"monitor_accuracy": value} for value in curves[run.fold]]
        directory = place.conf / run.directory
        write_json(directory / "train.json", {"history": history})
        write_json(directory / "result.json", {**common, "config": config_digest(run.config)})
    runs = [run._replace(directory=place.conf / run.directory) for run in runs]
    (row,) = collect("t", runs)
    assert row.runs == {(0, 1): 0.5, (0, 2): 0.6}  # epoch 2, the first of the two best
    assert row.selection == "best_mean" and row.mean == pytest.approx(0.55)
    (alone,) = collect("t", runs[1:])
    assert alone.runs == {(0, 2): 0.7}


def test_overrides_reach_every_row_and_its_directory(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    runs = list(plan(place, table, ["--train.epochs", "1"], seeds=[5]))
    assert {r.config.train.epochs for r in runs} == {1}
    assert {r.seed for r in runs} == {5}
    assert all("epochs=1" in str(r.directory) for r in runs)
    assert {r.row for r in runs} == {"plain, epochs=1", "masked, epochs=1"}  # not the table's rows


def test_what_changes_no_number_leaves_the_row_its_name(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    for overrides in ([], ["--data.in_memory", "false", "--train.workers", "1"]):
        runs = list(plan(place, table, overrides))
        assert {r.row for r in runs} == {"plain", "masked"}
        assert {r.directory for r in runs} == {r.directory for r in plan(place, table, [])}


def test_stage_feats_asks_which_runs_change_waveforms(place, capsys):
    mixed = "{name: one_of, methods: [{name: mixup}, {name: bc_learning}]}"
    (place.conf / "augment/bc.yaml").write_text(f"augment: {mixed}\n")
    out = place.conf.parent / "waves.jsonl"
    where = f"--stage waves --out {out} --conf {place.conf} --data d --dump e --corpus c"
    for augment, number in (("bc", 2), ("mm", 0)):
        own = ["--folds", "1 2", "--model", "small", "--augment", augment]
        list_runs.main([*where.split(), *own])
        assert capsys.readouterr() == (f"{number}\n", "")
        assert len(list_runs.read_plan(out)) == number


def test_a_table_names_its_front_end(place, capsys):
    (place.conf / "features_b.yaml").write_text("features: {name: logmel}\n")
    path = place.conf / "tables" / "b.yaml"
    path.write_text(CONF["tables/t.yaml"] + "features: features_b\n")
    runs = list(plan(place, read_table(path)))
    assert {run.config.features["name"] for run in runs} == {"logmel"}
    others = plan(place, read_table(place.conf / "tables" / "t.yaml"))
    assert {run.directory for run in runs}.isdisjoint(run.directory for run in others)
    where = f"--out {place.conf.parent / 'all.jsonl'} --conf {place.conf} --data d --dump e"
    options = [*where.split(), "--corpus", "c", "--folds", "1 2"]
    list_runs.main([*options, "--table", "b", "--features", "features_b"])
    list_runs.main([*options, "--model", "small", "--features", "features_b"])
    assert capsys.readouterr().out == "6\n2\n"
    assert {
        r.config.features["name"] for r in list_runs.read_plan(place.conf.parent / "all.jsonl")
    } == {"logmel"}
    with pytest.raises(UserError, match=r"conf/features_b\.yaml.*add --features features_b"):
        list_runs.main([*options, "--table", "b"])


def test_runs_that_others_have_done_can_be_left_out(place):
    runs = list(plan(place, read_table(place.conf / "tables" / "t.yaml")))
    place.conf.parent.joinpath("exp").mkdir()
    here = [
        run._replace(directory=place.conf.parent / "exp" / f"{run.augment}{run.fold}{run.seed}")
        for run in runs
    ]
    done = {(0, 1): 0.5, (1, 2): 0.4}
    known = [result(runs=done, config=config_digest(runs[0].config))]
    left = [("plain", 0, 2), ("masked", 0, 1), ("masked", 0, 2), ("plain", 1, 1)]
    assert [(r.row, r.seed, r.fold) for r in list_runs.missing(here, known)] == left
    here[0].directory.mkdir()  # stage score and stage report still see a run that lies here
    assert len(list_runs.missing(here, known)) == 5


def test_a_fold_of_the_training_part_can_choose(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    run = next(plan(place._replace(valid=True), table))
    config = run.config
    assert run.row == "plain, valid"
    assert config.train.selection == "best_valid"
    assert config.data.train.endswith("fold1/train_valid")
    assert config.data.valid.endswith("fold1/valid")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("rows:", "row:"), "did you mean rows"),
        (("name: masked", "name: plain"), "two rows are called"),
        (("baseline: plain", "baseline: x"), "none of the rows"),
        (("augment: mm", "augment: mn"), "augment/mn.yaml: no such configuration"),
        (("augment.layers", "augment.lyers"), "row 'masked': augment.lyers"),
        (("augment: mm", "augment: empty"), "augment/empty.yaml: no augment in it"),
    ],
)
def test_a_wrong_table_is_refused_before_any_run(place, change, words):
    path = place.conf / "tables" / "t.yaml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=words):
        list(plan(place, read_table(path)))


def test_an_unknown_table_lists_those_there_are(place):
    with pytest.raises(MissingInput, match="there are: t"):
        read_table(place.conf / "tables" / "u.yaml")


def test_means_over_folds_then_seeds():
    r = result()
    assert r.seed_means() == pytest.approx([0.6, 0.75])
    assert r.mean == pytest.approx(0.675)
    assert r.std == pytest.approx(statistics.stdev([0.6, 0.75]))
    assert r.fold_means() == pytest.approx({1: 0.55, 2: 0.8})


def test_an_incomplete_seed_does_not_count():
    r = result(runs={(0, 1): 0.5, (0, 2): 0.7, (1, 1): 0.9})
    assert r.seed_means() == pytest.approx([0.6])
    assert r.std is None


def test_csv_reads_back_the_same(tmp_path):
    rows = [result(), result("masked", {(0, 1): 0.123456})]
    table = Table("T", "m", (Row("plain", "none", published=7.5, source="P"),), "c")
    write_csv(tmp_path / "results.csv", rows, {"t": table})
    with open(tmp_path / "results.csv", newline="") as file:
        shown = list(csv.DictReader(file))
    assert [(line["mean"], line["published"], line["source"]) for line in shown] == [
        ("0.675000", "7.5", "P"),
        ("0.123456", "", ""),
    ]
    assert read_csv(tmp_path / "results.csv") == rows
    assert read_csv(tmp_path / "none.csv") == []
    text = (tmp_path / "results.csv").read_text().replace("0:1=0.5", "0:1=half")
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(UserError, match=r"results.csv:2"):
        read_csv(tmp_path / "results.csv")


def test_runs_of_one_configuration_add_up():
    old = result(runs={(0, 1): 0.5, (0, 2): 0.7})
    new = result(runs={(1, 1): 0.6, (1, 2): 0.9}, revision="r2", device="gpu")
    (merged,) = merge_results([old], [new])
    assert merged.runs == {**old.runs, **new.runs}
    assert (merged.revision, merged.device) == ("r1; r2", "cpu; gpu")


def test_another_configuration_replaces():
    (merged,) = merge_results([result()], [result(runs={(0, 1): 0.1}, config="xyz")])
    assert merged.runs == {(0, 1): 0.1}


def test_tables_share_the_runs_of_a_configuration(place):
    (place.conf / "tables/u.yaml").write_text(
        "{title: U, corpus: c, model: small, rows: [{name: same, augment: mm,"
        " overrides: {augment.layers: [0, 2]}}, {name: other, augment: mm},"
        " {name: alone, augment: none}]}"
    )
    (place.conf / "tables/d.yaml").write_text(
        "{title: D, corpus: d, model: small, rows: [{name: same, augment: none}]}"
    )
    tables = read_tables(place.conf)
    runs = plan(place, tables["t"])
    plain, masked = (
        config_digest(next(run.config for run in runs if run.row == row))
        for row in ("plain", "masked")
    )
    old = replace(result("same", {(1, 1): 0.1, (1, 2): 0.2}, masked), table="u")
    other = replace(result("other", {(0, 1): 0.3}, "of other settings"), table="u")
    given = [result(config=plain), result("masked", {(0, 1): 0.4}, masked), old, other]
    shared = {(r.table, r.row): r.runs for r in share(given, tables, place.conf)}
    both = {(0, 1): 0.4, **old.runs}
    assert shared == {
        ("t", "plain"): given[0].runs,
        ("t", "masked"): both,
        ("u", "same"): both,
        ("u", "other"): other.runs,
        ("u", "alone"): given[0].runs,
    }
    again = share(share(given, tables, place.conf), tables, place.conf)
    assert {(r.table, r.row): r.runs for r in again} == shared
    assert share([], tables, place.conf) == []
    assert [line[1:3] for line in summary(Path("r"), again, tables)] == [
        ["A table", "plain"],
        ["A table", "masked"],
        ["U", "other"],
    ]  # each configuration once


def test_the_page_compares_and_says_what_was_not_run(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    page = render("Corpus", {"t": table}, [result()], {})
    (plain,) = [line for line in page.splitlines() if line.startswith("| plain")]
    assert "67.50 ± 10.61" in plain and "55.0 80.0" in plain
    assert "50.0 ± 1.00 | +17.50" in plain
    assert "| masked | not run |" in page
    # 17.5 points against 2 * sqrt((10.61 / sqrt 2)^2 + (1 / sqrt 3)^2) = 15.05
    assert plain.split("+17.50 |")[1].startswith(" yes")


def test_a_variant_of_the_corpus_fills_the_table_and_another_corpus_does_not(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    for corpus, row in (("c+other_clips", "| plain | 67.50"), ("c_other", "| plain | not run |")):
        page = render("Corpus", {"t": table}, [replace(result(), corpus=corpus)], {})
        assert row in page


def test_some_of_the_folds_are_no_result(place):
    path = place.conf / "tables" / "t.yaml"
    path.write_text(path.read_text().replace("baseline:", "folds: [1, 2, 3]\nbaseline:"))
    page = render("Corpus", {"t": read_table(path)}, [result()], {})
    assert "| plain | not run (4 runs of an incomplete seed) |" in page


def test_noise_of_a_single_run_is_binomial():
    r = result(runs={(0, 1): 0.5, (0, 2): 0.7})
    assert standard_error(r) == pytest.approx((0.6 * 0.4 / 200) ** 0.5)


def test_rows_of_no_table_are_shown_too(place):
    table = read_table(place.conf / "tables" / "t.yaml")
    page = render(
        "Corpus",
        {"t": table},
        [result("mine") for _ in range(1)][:0]
        + [
            Result(
                "",
                "my run",
                "c",
                "small",
                "none",
                "last",
                "accuracy",
                {(0, 1): 0.4},
                {(0, 1): 1.0},
                {1: 10},
                10,
                40,
                "cpu",
                "r",
                "x",
            )
        ],
        {},
    )
    assert "## Other runs" in page and "| my run | 40.00 |" in page
    page = render("Corpus", {"t": table}, [result("plain, epochs=1")], {})
    assert "| plain | not run |" in page and "| t: plain, epochs=1 | 67.50" in page


def test_one_row_lists_its_table():
    table = Table("T", "m", (Row("a", "none"), Row("b", "none", seeds=(3,))), "c", seeds=(1, 2))
    assert [table.seeds_of(row) for row in table.rows] == [(1, 2), (3,)]
