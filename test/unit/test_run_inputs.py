"""What a run reads and writes when something is wrong with it: one line, and nothing lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned
from espnet_like.features.dump import Settings
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.results.store import collect
from espnet_like.scoring.score import score_run
from espnet_like.training.runs import Run

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def corpus(tmp_path) -> Path:
    return tiny.make(tmp_path / "corpus")


def test_statistics_of_other_features_are_refused(corpus, tmp_path):
    """A dump made anew with other settings, and stage stats forgotten."""
    features = {**tiny.FEATURES, "fmin": 100.0}
    data = DataDir.load(corpus / "data/c/all")
    settings = Settings.resolve(features)
    dump_part(settings, data, corpus / "dump/c", 1, 1, log=tiny.quiet)
    merge_parts(settings, data, corpus / "dump/c", 1, log=tiny.quiet)
    with pytest.raises(MissingInput, match="run --stage stats"):
        Run(tmp_path / "run", tiny.config(corpus, {"features": features})).train(CPU)
    assert not (tmp_path / "run").exists()


def test_a_fold_without_test_clips_is_not_trained(corpus, tmp_path):
    (corpus / "data/c/fold1/test/utt2labels").write_text("")
    with pytest.raises(UserError, match="test/utt2labels: a fold without test clips"):
        Run(tmp_path / "run", tiny.config(corpus)).train(CPU)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_archive_is_one_line(corpus, tmp_path, workers):
    ark = corpus / "dump/c/feats.1.ark"
    with open(ark, "r+b") as file:
        file.truncate(ark.stat().st_size // 4)
    layers = {"data": {"in_memory": False}, "train": {"workers": workers}}
    with pytest.raises(UserError) as caught:
        Run(tmp_path / "run", tiny.config(corpus, layers)).train(CPU)
    assert "feats.1.ark" in str(caught.value) and "--stage feats" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_full_disk_is_one_line_and_keeps_what_was_whole(corpus, tmp_path):
    config = tiny.config(corpus, {"train": {"epochs": 2}})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.resolved()))
    command = [sys.executable, "-m", "espnet_like.bin.train", "--config", str(path)]

    def limited() -> None:  # files of at most 20,000 bytes: the checkpoint has more
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [*command, "--exp", str(tmp_path / "run"), "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=limited,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "last.pt" in line and "File too large" in line
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_cut_scores_are_made_again(corpus, tmp_path):
    run = Run(tmp_path / "run", tiny.config(corpus))
    run.train(CPU)
    run.infer(CPU)
    ark = run.directory / "scores" / "test.ark"
    whole = ark.read_bytes()
    ark.write_bytes(whole[:-5])
    assert not run.inferred()
    run.infer(CPU)
    assert ark.read_bytes() == whole


def test_accuracy_of_clips_with_several_labels_is_refused(corpus, tmp_path):
    config = tiny.config(corpus)
    run = Run(tmp_path / "run", config)
    run.train(CPU)
    tags = corpus / "data/c/fold1/test/utt2labels"
    tags.write_text(tags.read_text().replace("u24 c0", "u24 c0 c1"))
    run.infer(CPU)
    with pytest.raises(UserError, match="u24 has 2 labels"):
        score_run(Planned("row", "small", "none", 1, 0, run.directory, config))


def test_a_result_says_whose_weights_were_scored(corpus, tmp_path):
    """The best mean is known of all folds together: what lies here is the last epoch's."""
    config = tiny.config(corpus, {"train": {"selection": "best_mean", "epochs": 1}})
    run = Run(tmp_path / "run", config)
    run.train(CPU)
    run.infer(CPU)
    planned = Planned("row", "small", "none", 1, 0, run.directory, config)
    result = score_run(planned)
    assert result["selection"] == "last"
    (row,) = collect("t", [planned])
    assert row.selection == "best_mean"
