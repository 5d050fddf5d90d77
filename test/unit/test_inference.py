"""A pack classifies a wav as stage infer scored its features."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import tiny
import torch

from espnet_like.bin import classify
from espnet_like.bin.pack import pack
from espnet_like.bin.plan import read_plan, write_plan
from espnet_like.bin.train import device
from espnet_like.data.ark import ArkReader
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned
from espnet_like.inference import Classifier
from espnet_like.scoring.score import score_run
from espnet_like.training.runs import Run


@pytest.fixture(scope="module", params=[False, True], ids=["equal", "unequal"])
def packed(request, tmp_path_factory):
    root = tiny.make(tmp_path_factory.mktemp("corpus"), request.param)
    config = tiny.config(root)
    planned = Planned("row", "small", "mm", 1, 0, root / "exp" / "run", config)
    run = Run(planned.directory, config)
    run.train(torch.device("cpu"))
    run.infer(torch.device("cpu"))
    score_run(planned)
    return root, run, pack(planned)


def test_scores_are_those_of_stage_infer(packed):
    root, run, directory = packed
    data = DataDir.load(root / "data/c/fold1/test")
    stored = ArkReader(run.directory / "scores/test.scp")
    classifier = Classifier.load(directory)
    for utt in data.utterances:
        found = classifier.classify(data.wav[utt])
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert [found[label] for label in data.labels] == pytest.approx(stored[utt], abs=1e-5)


def test_a_batch_is_scored_as_its_clips_alone(packed):
    _, _, directory = packed
    classifier = Classifier.load(directory)
    waves = [torch.randn(1, 4000), torch.randn(1, 5500)]
    batch = torch.zeros(2, 1, 5500)
    for row, wave in zip(batch, waves, strict=True):
        row[:, : wave.shape[1]] = wave
    together = classifier(batch, torch.tensor([4000, 5500]))
    alone = classifier(waves[1][None])
    torch.testing.assert_close(together[1:], alone)


def test_the_result_counts_the_scores(packed):
    root, run, _ = packed
    data = DataDir.load(root / "data/c/fold1/test")
    stored = ArkReader(run.directory / "scores/test.scp")
    right = [data.labels[int(np.argmax(stored[u]))] == data.tags[u][0] for u in data.utterances]
    result = json.loads((run.directory / "result.json").read_text())
    assert result["accuracy"] == pytest.approx(sum(right) / len(right))
    assert result["clips"] == len(right)
    assert np.sum(result["confusion"]) == len(right)


def test_labels_in_another_order_than_trained_on_are_not_scored(packed):
    root, run, _ = packed
    labels = root / "data/c/fold1/test/labels"
    text = labels.read_text()
    labels.write_text("".join(sorted(text.splitlines(True), reverse=True)))
    try:
        with pytest.raises(UserError, match="test/labels: not those of"):
            score_run(Planned("row", "small", "mm", 1, 0, run.directory, run.config))
    finally:
        labels.write_text(text)


def test_lists_of_runs_read_back(packed, tmp_path):
    _, run, _ = packed
    planned = [Planned("row", "small", "mm", k, 0, run.directory, run.config) for k in (1, 2)]
    write_plan(tmp_path / "plan.jsonl", planned)
    assert read_plan(tmp_path / "plan.jsonl") == planned
    assert read_plan(tmp_path / "plan.jsonl", 2) == planned[1:]
    shares = [read_plan(tmp_path / "plan.jsonl", job, 2) for job in (1, 2)]
    assert shares == [planned[:1], planned[1:]]
    assert read_plan(tmp_path / "plan.jsonl", 1, 1) == planned
    with pytest.raises(UserError, match="job 3 is not among its 2 lines"):
        read_plan(tmp_path / "plan.jsonl", 3)
    for line in ("no json", "{}"):
        (tmp_path / "plan.jsonl").write_text(f"{line}\n")
        with pytest.raises(UserError, match=r"plan\.jsonl:1: not a run"):
            read_plan(tmp_path / "plan.jsonl")


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99"])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(UserError, match="--device"):
        device(name)


def test_the_command_prints_the_best_labels(packed, capsys):
    root, _, directory = packed
    paths = sorted(str(path) for path in (root / "wav").iterdir())[:2]
    classify.main(["--pack", str(directory), "--top", "2", "--device", "cpu", *paths])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == paths
    assert all(len(line.split()) == 3 for line in lines)


def test_bad_input_is_said(packed, tmp_path):
    _, _, directory = packed
    classifier = Classifier.load(directory)
    with pytest.raises(MissingInput, match="run --stage pack"):
        Classifier.load(tmp_path)
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    with pytest.raises(UserError, match=r"noise\.wav"):
        classifier.classify(tmp_path / "noise.wav")
    settings = json.loads((directory / "settings.json").read_text())
    del settings["labels"]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="no 'labels' in it"):
        Classifier.load(tmp_path)
    soundfile.write(tmp_path / "short.wav", np.zeros(10), tiny.RATE, "PCM_16")
    with pytest.raises(UserError, match="too short"):
        classifier.classify(tmp_path / "short.wav")
