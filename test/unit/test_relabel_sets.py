"""bin/relabel on six recordings, against thresholds searched one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from espnet_like.bin import relabel
from espnet_like.bin.plan import write_plan
from espnet_like.data.directory import DataDir
from espnet_like.data.excerpts import cut_in_two
from espnet_like.data.tables import read_labels
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned
from espnet_like.files import read_json

LABELS = ("a", "b", "c", "d")
GIVEN = {"r0": "a", "r1": "a", "r2": "a b", "r3": "b", "r4": "b", "r5": "c"}
TRUE = {"r0": "a", "r1": "b", "r2": "a b", "r3": "b", "r4": "a", "r5": "c"}
# of both parts of a recording, by both models alike but for what is added in `scores`
SCORES = {
    "r0": [0.9, 0.1, 0.2, 0.0],
    "r1": [0.2, 0.8, 0.1, 0.0],  # becomes b
    "r2": [0.7, 0.6, 0.3, 0.0],
    "r3": [0.1, 0.7, 0.1, 0.0],
    "r4": [0.3, 0.05, 0.1, 0.0],  # is left out
    "r5": [0.1, 0.1, 0.2, 0.0],  # c: r0 and r2 score as high or higher, no threshold helps
}
SETS = ("noisy_s0", "noisy_s1")


def recordings(tags: dict[str, str]) -> DataDir:
    ids = tuple(tags)
    return DataDir(
        wav={utt: f"{utt}.wav" for utt in ids},
        groups={utt: utt for utt in ids},
        tags={utt: tuple(own.split()) for utt, own in tags.items()},
        labels=LABELS,
        durations=dict.fromkeys(ids, 2.0),
        domains={"portion": {utt: "noisy" if utt[0] == "r" else "curated" for utt in ids}},
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    recordings(GIVEN).save(data / "noisy")
    recordings(TRUE).save(data / "truth")
    recordings({"k0": "a", "k1": "b d", "k2": "c"}).save(data / "curated")
    recordings({"t0": "a", "t1": "c d"}).save(data / "test")
    sets = [cut_in_two(recordings(GIVEN), 100, k, f"_s{k}") for k in range(2)]
    for name, own in zip(SETS, sets, strict=True):
        own.save(data / name)
    tiny.bare_dump(tmp_path / "dump")
    layers = {"data": {"dump": str(tmp_path / "dump"), "train": str(data / "curated")}}
    config = tiny.config(tmp_path, layers)
    runs = [Planned("row", "m", "none", k, 0, tmp_path / f"run{k}", config) for k in (1, 2)]
    for sign, run in zip((1, -1), runs, strict=True):
        for name, own in zip(SETS, sets, strict=True):
            tiny.write_scores(run.directory, name, scores(own, sign))
    write_plan(tmp_path / "list", runs)
    return tmp_path


def scores(data: DataDir, sign: int = 0) -> dict[str, np.ndarray]:
    """Of one model; the mean over both signs is that of sign 0. Each excerpt has its own."""
    found = {}
    for number, utt in enumerate(data.utterances):
        mean = np.array(SCORES[data.segments[utt].recording])
        mean[:3] -= 0.002 * number
        found[utt] = mean + sign * 0.05 * np.array([1, -1, 1, 0])
    return found


def main(corpus: Path, *more: str) -> None:
    where = ["--plan", str(corpus / "list"), "--data", str(corpus / "data"), "--sets", *SETS]
    relabel.main([*where, "--out", str(corpus / "out"), *more])


def searched(corpus: Path) -> dict[str, tuple[str, ...]]:
    """New tags: for each class the highest of all thetas with the fewest errors."""
    means: dict[str, np.ndarray] = {}
    given: dict[str, tuple[str, ...]] = {}
    for name in SETS:
        data = DataDir.load(corpus / "data" / name)
        means |= scores(data)
        given |= data.tags
    new: dict[str, list[str]] = {utt: [] for utt in means}
    for k, label in enumerate(LABELS):
        thetas = [-1.0, *sorted(float(s[k]) for s in means.values())]
        errors = [sum((means[u][k] > t) != (label in given[u]) for u in means) for t in thetas]
        theta = max(t for t, e in zip(thetas, errors, strict=True) if e == min(errors))
        for utt in means:
            if means[utt][k] > theta:
                new[utt].append(label)
    return {utt: tuple(own) for utt, own in new.items()}


def test_new_sets(corpus, capsys):
    main(corpus, "--truth", "truth")
    new, out = searched(corpus), corpus / "out"
    assert new["r1_s0_1"] == ("b",) and new["r2_s1_2"] == ("a", "b")
    assert {utt for utt, own in new.items() if not own} == {
        f"{r}_s{k}_{part}" for r in ("r4", "r5") for k in (0, 1) for part in (1, 2)
    }
    curated, test = (DataDir.load(corpus / "data" / name) for name in ("curated", "test"))
    for k, name in enumerate(SETS):
        before, noisy = DataDir.load(corpus / "data" / name), DataDir.load(out / name)
        kept = {utt: new[utt] for utt in before.utterances if new[utt]}
        assert noisy.tags == kept and noisy.labels == LABELS
        assert noisy.segments == {utt: before.segments[utt] for utt in kept}
        train = DataDir.load(out / f"fold{k + 1}/train")
        assert train.tags == {**curated.tags, **kept}
        assert set(train.domains["portion"].values()) == {"curated", "noisy"}
        assert DataDir.load(out / f"fold{k + 1}/test").tags == test.tags
        assert read_labels(out / f"fold{k + 1}/train/labels") == LABELS
    assert "24 excerpts, 4 with other tags, 8 without any left out" in capsys.readouterr().out


def test_what_is_logged(corpus):
    main(corpus, "--truth", "truth")
    new, log = searched(corpus), read_json(corpus / "out/relabel.json")
    assert log["models"] == 2 and log["excerpts"] == 24
    assert log["dropped"] == 8 and log["changed"] == 4
    assert log["never_given"] == ["c"]  # nothing had d before
    assert log["classes"]["d"]["error_rate"] is None and log["classes"]["d"]["theta"] == "inf"
    # by hand: missing and wrong tags over true ones
    wrong = {"kept": [0, 0, 0], "all": [0, 0, 0]}  # before, after, true
    for utt, own in new.items():
        given, true = (set(tags[utt[:2]].split()) for tags in (GIVEN, TRUE))
        row = (len(given ^ true), len(set(own) ^ true), len(true))
        for kind in ("all", "kept") if own else ("all",):
            wrong[kind] = [x + y for x, y in zip(wrong[kind], row, strict=True)]
    assert log["label_error_before"] == wrong["all"][0] / wrong["all"][2]
    assert log["label_error_after_of_all"] == wrong["all"][1] / wrong["all"][2]
    assert log["label_error_before_of_kept"] == wrong["kept"][0] / wrong["kept"][2]
    assert log["label_error_after"] == wrong["kept"][1] / wrong["kept"][2]
    lines = (corpus / "out/changes.tsv").read_text().splitlines()
    assert lines[0] == "utterance\told\tnew" and len(lines) == 1 + 4 + 8
    assert "r1_s0_1\ta\tb" in lines and "r4_s1_2\tb\t" in lines
    assert not any(line.startswith("r0") for line in lines)


def test_only_what_changed_is_made_again(corpus, capsys):
    main(corpus)
    files = [path for path in (corpus / "out").rglob("*") if path.is_file()]
    made = {path: path.stat().st_mtime_ns for path in files}
    main(corpus)
    assert "fresh, nothing to do" in capsys.readouterr().out
    assert made == {path: path.stat().st_mtime_ns for path in files}
    assert "label_error_after" not in read_json(corpus / "out/relabel.json")
    # a model was trained again
    own = DataDir.load(corpus / "data/noisy_s1")
    better = {utt: row + np.array([0, 0, 0.5, 0]) * (utt[:2] == "r5")
              for utt, row in scores(own, 1).items()}  # fmt: skip
    tiny.write_scores(corpus / "run1", "noisy_s1", better, inputs="another")
    main(corpus)
    assert DataDir.load(corpus / "out/noisy_s1").tags["r5_s1_1"] == ("c",)
    # stopped before the end
    (corpus / "out/prepared.json").unlink()
    main(corpus)
    assert "24 excerpts" in capsys.readouterr().out and (corpus / "out/prepared.json").exists()


def test_excerpts_of_unreadable_recordings_are_left_out(corpus):
    tiny.bare_dump(corpus / "dump", bad=("r2",))
    for name in SETS:
        for run in ("run1", "run2"):
            own = scores(DataDir.load(corpus / "data" / name))
            rest = {utt: row for utt, row in own.items() if not utt.startswith("r2")}
            tiny.write_scores(corpus / run, name, rest)
    main(corpus)
    assert read_json(corpus / "out/relabel.json")["excerpts"] == 20
    assert "r2_s0_1" not in DataDir.load(corpus / "out/fold1/train").tags


def test_what_is_missing_or_wrong(corpus):
    for run in ("run1", "run2"):
        for name in SETS:
            own = DataDir.load(corpus / "data" / name)
            tiny.write_scores(corpus / run, name, {utt: np.zeros(4) for utt in own.utterances})
    with pytest.raises(UserError, match="give no excerpt any class: train them longer"):
        main(corpus)
    assert not (corpus / "out").exists()
    (corpus / "run2/scores/noisy_s1.json").unlink()
    with pytest.raises(MissingInput, match=r"stage relabel needs .*run2/scores/noisy_s1.json"):
        main(corpus)
    noisy = DataDir.load(corpus / "data/noisy_s0")
    replace(noisy, labels=("b", "a", "c", "d")).save(corpus / "data/noisy_s0")
    with pytest.raises(UserError, match=r"noisy_s0/labels: not those of .*curated"):
        main(corpus)
