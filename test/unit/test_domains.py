"""Accuracy by domain and class: intervals, counts, and the pages and pictures made of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from scipy.stats import binomtest

from espnet_like.bin import report
from espnet_like.bin.plan import write_plan
from espnet_like.config import experiment
from espnet_like.data.ark import ArkWriter
from espnet_like.data.directory import DataDir
from espnet_like.data.sets import combine
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Place, Planned, config_digest, plan
from espnet_like.experiments.tables import Row, Sweep, Table
from espnet_like.files import write_json
from espnet_like.results.counts import (
    Counts,
    Part,
    Run,
    by_domain,
    read_counts,
    shown,
    total,
    write_counts,
)
from espnet_like.results.domains import section
from espnet_like.results.intervals import Z, mean_interval, wilson
from espnet_like.results.page import of_table, render
from espnet_like.results.sharing import share
from espnet_like.results.store import Result, read_csv
from espnet_like.results.sweeps import sweep
from espnet_like.scoring.score import score_run

LABELS = ("bus", "park", "tram")


@pytest.mark.parametrize(("right", "clips"), [(0, 1), (1, 1), (0, 40), (40, 40), (7, 33), (33, 44)])
def test_wilson(right: int, clips: int) -> None:
    ends = wilson(right / clips, clips)
    known = binomtest(right, clips).proportion_ci(0.95, method="wilson")
    assert ends == pytest.approx((known.low, known.high), abs=1e-12)
    for p in ends:  # its definition, where the interval was not cut at 0 or 1
        if 1e-12 < p < 1 - 1e-12:
            assert abs(right / clips - p) == pytest.approx(Z * math.sqrt(p * (1 - p) / clips))


def test_interval_of_a_mean_over_classes() -> None:
    assert mean_interval([0.3], [20]) == pytest.approx(wilson(0.3, 20))
    shares, clips = [0.9, 0.5, 1.0], [30, 44, 12]
    below = above = 0.0
    for share_, n in zip(shares, clips, strict=True):
        known = binomtest(round(share_ * n), n).proportion_ci(0.95, method="wilson")
        below += (share_ - known.low) ** 2 / 9
        above += (known.high - share_) ** 2 / 9
    expected = (0.8 - below**0.5, 0.8 + above**0.5)
    assert mean_interval(shares, clips) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="one share or more"):
        mean_interval([], [])
    for bad in ((0.5, 0), (1.1, 3), (-0.1, 3)):
        with pytest.raises(ValueError, match="one clip or more"):
            wilson(*bad)


def test_seeds_on_the_same_clips_make_no_more_clips() -> None:
    """The variance of a clip's mean over seeds is at most p (1 - p), and that where all agree."""
    rng = np.random.default_rng(0)
    for seeds in (1, 2, 5):
        right = rng.random((200, seeds)) < rng.random((200, 1))
        per_clip, p = right.mean(1), right.mean()
        assert per_clip.var() <= p * (1 - p) + 1e-12
    agreed = np.repeat(rng.random((200, 1)) < 0.7, 4, 1)
    p = agreed.mean()
    assert agreed.mean(1).var() == pytest.approx(p * (1 - p))


def data(n: int, devices: str) -> DataDir:
    """n clips, of classes and devices in turn; class 1 in no clip of device b."""
    utts = [f"u{i:02d}" for i in range(n)]
    device = {utt: devices[i % len(devices)] for i, utt in enumerate(utts)}
    tags = {u: (LABELS[0 if device[u] == "b" else i % 3],) for i, u in enumerate(utts)}
    return DataDir(
        wav=dict.fromkeys(utts, "x"),
        groups=dict.fromkeys(utts, "g"),
        tags=tags,
        labels=LABELS,
        domains={"device": device, "room": dict.fromkeys(utts, "1")},
    )


def test_counts_of_domains() -> None:
    test, train = data(31, "abc"), data(8, "ab")
    del train.domains["room"]  # known of one side only: nothing can be said of it
    rng = np.random.default_rng(1)
    utts = test.utterances[:-1]  # a bad clip
    scores = rng.random((30, 3))
    targets = np.array([[float(tag in test.tags[u]) for tag in LABELS] for u in utts])
    lines = by_domain(scores, targets, utts, test, train)
    assert [(line["value"], line["seen"]) for line in lines] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    for line in lines:
        right, clips = [0, 0, 0], [0, 0, 0]
        for i, utt in enumerate(utts):
            if test.domains["device"][utt] == line["value"]:
                label = LABELS.index(test.tags[utt][0])
                clips[label] += 1
                right[label] += max(range(3), key=lambda k: scores[i, k]) == label
        assert (line["domain"], line["right"], line["clips"]) == ("device", right, clips)
    assert lines[1]["clips"][1] == 0


def test_stage_score_counts_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Posteriors of one clip in three wrong; clips of odd number are of another device."""
    tiny.make(tmp_path)
    config, run = tiny.config(tmp_path), tmp_path / "run"
    for part, devices in (("train", "aa"), ("test", "ab")):
        data = DataDir.load(tmp_path / "data/c/fold1" / part)
        device = {utt: devices[int(utt[1:]) % 2] for utt in data.utterances}
        replace(data, domains={"device": device}).save(tmp_path / "data/c/fold1" / part)
    with ArkWriter(run / "scores/test.ark", run / "scores/test.scp") as writer:
        for utt in data.utterances:
            number = int(utt[1:])
            writer.write(utt, np.eye(4, dtype=np.float32)[(number + (number % 3 == 0)) % 4])
    write_json(run / "train.json", {"seconds": 1.0, "clips_per_second": 2.0, "epochs": 3})
    write_json(run / "scores/test.json", {"parameters": 5, "bytes": 20})
    write_json(run / "env.json", {"revision": "r", "torch": "t", "device": "cpu"})
    scored = score_run(Planned("row", "small", "none", 1, 0, run, config))
    # u24 .. u29 are of classes 0 1 2 3 0 1; u24 and u27 are wrong
    found = {
        line["value"]: (line["seen"], line["right"], line["clips"]) for line in scored["domains"]
    }
    assert found == {
        "a": (True, [1, 0, 1, 0], [2, 0, 1, 0]),
        "b": (False, [0, 2, 0, 0], [0, 2, 0, 1]),
    }
    assert scored["accuracy"] == pytest.approx(4 / 6)
    assert not caplog.records
    train = DataDir.load(tmp_path / "data/c/fold1/train")
    combine([train, data.subset(["u25", "u26"])]).save(tmp_path / "data/c/fold1/train")
    score_run(Planned("row", "small", "none", 1, 0, run, config))
    assert "2 clips, u25 first, are in" in caplog.text


def result(row: str, runs: dict[tuple[int, int], float], config: str = "abc", **more) -> Result:
    fields = dict(parameters=10, bytes=40, device="cpu", revision="r", config=config) | more
    return Result("t", row, "c", "m", "none", "last", "accuracy", runs, {}, {1: 40}, **fields)


COUNTS: Counts = {
    Run("abc", seed, fold): {
        Part(): {"bus": (8 + seed, 12), "park": (3, 8)},
        Part("city", "rome", fold == 1): {"bus": (2 + seed, 4), "park": (0, 0)},
        Part("city", "oslo", True): {"bus": (6, 8), "park": (3, 8)},
    }
    for seed in (0, 1)
    for fold in (1, 2)
}


def test_totals_sum_folds_and_average_seeds() -> None:
    runs = {(s, f): 0.5 for s in (0, 1) for f in (1, 2)}
    found = total(COUNTS, result("a", runs))
    assert found[Part()] == {"bus": (17.0, 24), "park": (6.0, 16)}
    assert found[Part("city", "rome", True)] == {"bus": (2.5, 4), "park": (0.0, 0)}
    assert found[Part("city", "rome", False)] == {"bus": (2.5, 4), "park": (0.0, 0)}
    assert found[Part("city", "oslo", True)] == {"bus": (12.0, 16), "park": (6.0, 16)}
    # seed 2 lacks a fold, so it counts neither here nor in the mean; seed 3 has no counts
    assert total(COUNTS, result("a", {**runs, (2, 1): 0.1})) == found
    assert total(COUNTS, result("a", {**runs, (3, 1): 0.1, (3, 2): 0.1})) == {}
    assert total(COUNTS, result("a", runs, "of other settings")) == {}


def test_the_section_can_be_read() -> None:
    runs = {(s, f): 0.5 for s in (0, 1) for f in (1, 2)}
    page = section("city", {"plain": result("a", runs), "masked": None}, COUNTS)
    assert page.startswith("### By city\n")
    assert "Not run, or scored without domains: masked." in page
    micro, macro = page.split("mean over classes (%)")
    low, high = wilson(0.75, 16)
    assert f"| oslo | seen | 32 | 56.2 [{100 * wilson(18 / 32, 32)[0]:.1f}, " in micro
    rome = f"62.5 [{100 * wilson(0.625, 4)[0]:.1f}, {100 * wilson(0.625, 4)[1]:.1f}] |"
    assert f"| rome | seen | 4 | {rome}" in micro and f"| rome | unseen | 4 | {rome}" in micro
    assert f"| rome | seen | 4 | {rome}" in macro  # one class occurs
    assert "| oslo | seen | 32 | 56.2 [" in macro and low < high
    names = [line.split("|")[1:4] for line in micro.splitlines() if line.startswith("| ")]
    assert [[cell.strip() for cell in cells] for cells in names[2:-1]] == [
        ["oslo", "seen", "32"],
        ["rome", "seen", "4"],
        ["rome", "unseen", "4"],
        ["*all*", "seen", "36"],
        ["*all*", "unseen", "4"],
        ["*all*", "", "40"],
    ]


def test_counts_read_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    write_counts(path, COUNTS)
    assert read_counts(path) == COUNTS
    assert path.read_text().splitlines()[1] == "abc,0,1,,,1,bus=8/12 park=3/8"
    path.write_text(path.read_text().replace("bus=8/12", "bus=8"))
    with pytest.raises(UserError, match=r"counts\.csv:2: not a line"):
        read_counts(path)
    write_counts(path, {})
    assert not path.exists() and read_counts(path) == {}


def test_only_what_a_table_shows_is_kept() -> None:
    assert shown(COUNTS, {"abc": {"city", ""}}) == COUNTS
    kept = shown(COUNTS, {"abc": {""}, "xyz": {"city"}})
    assert {part for parts in kept.values() for part in parts} == {Part()}
    assert shown(COUNTS, {"abc": {"device"}}) == shown(COUNTS, {}) == {}


TABLE = Table(
    "Small networks",
    "m",
    (
        Row("baseline", published=87.3, published_classes={"bus": 82.0, "park": 92.6}),
        Row(
            "ours", "none", published=98.0, published_parameters=601_862, published_bytes=2_404_000
        ),
        Row("other", "mm"),
    ),
    "c",
    metric="macro_accuracy",
    columns=("per_class", "size"),
)


def test_a_table_of_the_mean_over_classes_with_each_class_and_size() -> None:
    macro = {key: 0.4 for key in ((0, 1), (0, 2), (1, 1), (1, 2))}
    own = result("ours", dict.fromkeys(macro, 0.9), macro_of=macro, nonzero=7)
    page = render("C", {"t": TABLE}, [own], COUNTS)
    header, _, baseline, ours, other = [x for x in page.splitlines() if x.startswith("|")]
    assert header == (
        "| row | macro accuracy | seeds | per fold | published | difference | beyond noise | "
        "bus, park | published by class | parameters | nonzero | published parameters | "
        "file (bytes) | published size | seconds |"
    )
    assert baseline.startswith("| baseline | published only |  |  | 87.3 |")
    assert "| 82.0, 92.6 |" in baseline
    assert ours.startswith("| ours | 40.00 ± 0.00 | 2 | 40.0 40.0 | 98.0 | -58.00 | yes |")
    assert "| 70.8, 37.5 |  | 10 | 7 | 601,862 | 40 | 2,404,000 |" in ours
    assert other.startswith("| other | not run |")
    # of a run whose macro average nobody kept, the other metric does not stand in
    page = render("C", {"t": TABLE}, [replace(own, macro_of={})], COUNTS)
    assert "| ours | not run |" in page


def test_runs_of_no_table_show_their_size_when_one_is_pruned() -> None:
    runs = {(0, 1): 0.4}
    dense, pruned = result("dense", runs, nonzero=10), result("pruned", runs, nonzero=4)
    page = render("C", {}, [dense], {})
    assert "| parameters | seconds |" in page
    page = render("C", {}, [dense, pruned], {})
    assert "| parameters | nonzero | file (bytes) | seconds |" in page
    assert "| 10 | 4 | 40 |" in page


@pytest.fixture
def place(tmp_path: Path) -> Place:
    files = {
        "features.yaml": "features: {name: cpjku}\n",
        "train.yaml": "train: {epochs: 2}\n",
        "model/m.yaml": "model: {name: cp_resnet, base_width: 8}\n",
        "augment/none.yaml": "augment: {name: none}\n",
        "augment/mm.yaml": "augment: {name: specaugment_pp}\n",
        "tables/t.yaml": "{title: T, model: m, corpus: c, domains: [device], rows: ["
        "{name: theirs, published: 50}, {name: plain, augment: none}, {name: mm, augment: mm}]}",
    }
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Place(tmp_path / "conf", Path("d"), Path("e"), tmp_path / "exp", "c", (1,))


def scored(planned: Planned, right: int) -> None:
    """A result.json: `right` of four clips of device a, none of two of b."""
    planned.directory.mkdir(parents=True)
    lines = [
        {"domain": "device", "value": "a", "seen": True, "right": [right, 0], "clips": [4, 0]},
        {"domain": "device", "value": "b", "seen": False, "right": [0, 0], "clips": [0, 2]},
    ]
    found = {
        "corpus": "c", "selection": "last", "metric": "accuracy", "accuracy": right / 6,
        "macro_accuracy": right / 8, "clips": 6, "labels": ["x", "y"],
        "confusion": [[right, 4 - right], [2, 0]], "domains": lines, "parameters": 5, "bytes": 20,
        "train_seconds": 1.0, "environment": {"device": "cpu", "revision": "r"},
        "config": config_digest(planned.config),
    }  # fmt: skip
    (planned.directory / "result.json").write_text(json.dumps(found))
    history = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5}]
    (planned.directory / "train.json").write_text(json.dumps({"history": history}))


def test_stage_report_breaks_results_down(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from espnet_like.experiments.tables import read_tables

    tables = read_tables(place.conf)
    plain, masked = plan(place, tables["t"])
    assert (plain.row, masked.row) == ("plain", "mm")  # what is published only is not run
    scored(plain, 3)
    write_plan(tmp_path / "list", [plain, masked])
    where = f"--conf {place.conf} --out {tmp_path} --corpus C --figures {tmp_path / 'fig'}"
    report.main([*where.split(), "--plan", str(tmp_path / "list"), "--table", "t"])
    page = (tmp_path / "RESULTS.md").read_text()
    low, high = (100 * end for end in wilson(0.75, 4))
    assert f"| a | seen | 4 | 75.0 [{low:.1f}, {high:.1f}] |" in page
    assert "| *all* | unseen | 2 | 0.0 [0.0, 65.8] |" in page and "without domains: mm." in page
    # the same page from what is committed, without exp/
    results, counts = read_csv(tmp_path / "results.csv"), read_counts(tmp_path / "counts.csv")
    assert render("C", tables, share(results, tables, place.conf), counts) == page
    report.main([*where.split(), "--table", "t", "--domain", "device"])
    assert (tmp_path / "RESULTS.md").read_text() == page
    assert (tmp_path / "fig/by_device.md").read_text() in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--domain city: these runs .* there are device"):
        report.main([*where.split(), "--table", "t", "--domain", "city"])
    with pytest.raises(MissingInput, match=r"tables/u.yaml: no such table; there are: t"):
        report.main([*where.split(), "--table", "u"])


def test_a_plain_run_can_be_broken_down(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = experiment({"model": {"name": "cp_resnet"}, "features": {"name": "cpjku"}})
    planned = Planned("one run", "m", "none", 1, 0, tmp_path / "exp/one", config)
    scored(planned, 1)
    write_plan(tmp_path / "list", [planned])
    where = f"--conf {place.conf} --out {tmp_path} --corpus C --plan {tmp_path / 'list'}"
    report.main([*where.split(), "--domain", "device"])
    assert "| a | seen | 4 | 25.0 [" in capsys.readouterr().out
    assert not (tmp_path / "counts.csv").exists()  # no table asks for it


def test_the_picture_has_the_published_lines_and_ours() -> None:
    rows = [Row("none", "none", published=78.9)]
    for mode, peak in (("zm", 80.0), ("mm", 83.0)):
        rows += [
            Row(f"{mode} {x}", mode, overrides={"augment.time_ratio": x}, published=peak - 20 * x)
            for x in (0.1, 0.0)
        ]
    rows.append(Row("mm 0.2", "mm", overrides={"augment.time_ratio": 0.2}))
    lines = Sweep("augment.time_ratio", "time (%)", {"zm": "ZM", "mm": "MM"})
    table = Table("T", "m", tuple(rows), "c", figure=lines)
    done = [
        result("mm 0.0", {(0, 1): 0.81, (1, 1): 0.83}),
        result("mm 0.2", {(0, 1): 0.8}),
        result("none", {(0, 1): 0.77}),
    ]
    (axes,) = sweep(table, of_table("t", table, done)).axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert list(drawn["ZM, paper"].get_xdata()) == pytest.approx([0, 10])
    assert list(drawn["ZM, paper"].get_ydata()) == pytest.approx([80.0, 78.0])
    assert list(drawn["MM, paper"].get_ydata()) == pytest.approx([83.0, 81.0])
    assert set(drawn["none, paper"].get_ydata()) == {78.9}
    assert set(drawn["none"].get_ydata()) == {77.0}
    assert [container.get_label() for container in axes.containers] == ["MM"]
    line, _, (bars,) = axes.containers[0]
    assert list(line.get_xdata()) == [0, 20] and list(line.get_ydata()) == pytest.approx([82, 80])
    first, second = bars.get_segments()
    assert first[:, 1] == pytest.approx([81.0, 83.0])  # std sqrt(2) of two seeds: 1 each way
    assert second[:, 1] == pytest.approx([80 - 100 * 0.004**0.5, 80 + 100 * 0.004**0.5])
    assert axes.get_title("right") == "3 of 6 rows not run"
