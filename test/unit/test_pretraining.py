"""Masked patch modelling as a run: its loss by hand, resumed bit for bit, planned, read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tiny import assert_same, trained

from espnet_like.bin.plan import main as plan_main
from espnet_like.bin.plan import read_plan
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Place, config_digest, plan, pretrainings
from espnet_like.experiments.tables import Row, Table
from espnet_like.layers import merge
from espnet_like.models import MODELS, SSAST, ssast
from espnet_like.models.masked_patches import MaskedPatchModelling
from espnet_like.registry import build
from espnet_like.schema import Experiment
from espnet_like.training import seeds
from espnet_like.training.runs import Run
from espnet_like.training.trainer import Trainer

CPU = torch.device("cpu")
NETWORK = {"name": "ssast", "size": "tiny", "bins": 32, "frames": 48, "pretext": "trained"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    """Three blocks are enough."""
    monkeypatch.setattr(ssast, "DEPTH", 3)


def pretraining(corpus: Path, **layers) -> Experiment:
    own = {"model": {**NETWORK, "num_classes": 1}, "augment": {"name": "none"},
           "loss": {"name": "masked_patches", "share": 0.5}}  # fmt: skip
    data = {"data": {"test": ""}, "train": {"epochs": 2}}
    return tiny.config(corpus, merge(merge(own, data), layers))


def network(**options) -> SSAST:
    torch.manual_seed(0)
    settings = {key: value for key, value in NETWORK.items() if key != "name"}
    return SSAST(num_classes=1, **{**settings, **options})


def numpy_losses(net: SSAST, x: torch.Tensor, masked: torch.Tensor) -> tuple[float, float, float]:
    """nce, accuracy and mse of one clip (F, T), patch by patch, by the published formulas."""
    w = net.patch[0]
    content = np.stack(
        [x[f : f + w, t : t + w].numpy().ravel()
         for f in range(0, x.shape[0] - w + 1, w) for t in range(0, x.shape[1] - w + 1, w)]
    )  # fmt: skip
    hidden = torch.zeros(1, len(content), dtype=torch.bool)
    hidden[0, masked] = True
    tokens = net.encode(x[None, None], masked=hidden)[0, 2:][masked]
    y = content[masked.numpy()]
    c, g = (layer(tokens).numpy() for layer in (net.cpredlayer, net.gpredlayer))
    scores = y @ c.T
    soft = np.exp(scores - scores.max(1, keepdims=True))
    soft /= soft.sum(1, keepdims=True)
    nce = float(np.mean([-np.log(soft[i, i]) for i in range(len(y))]))
    accuracy = float(np.mean([soft[:, j].argmax() == j for j in range(len(y))]))
    return nce, accuracy, float(((g - y) ** 2).mean())


def test_the_loss_is_nce_and_ten_times_the_squared_error_with_masks_of_their_own():
    net = network().eval()
    task = MaskedPatchModelling(net, share=0.5)
    x = 0.5 * torch.randn(3, 1, 32, 48)
    drawn: list[torch.Tensor] = []
    masks = task._masks
    task._masks = lambda x: (drawn.append(masks(x)), drawn[-1])[1]  # type: ignore[method-assign]
    with torch.no_grad():
        found = task(x)
    assert len(drawn) == 2 and all(m.shape == (3, 3) for m in drawn)  # of 2 x 3 patches
    with torch.no_grad():
        for i in range(3):
            nce, accuracy, _ = numpy_losses(net, x[i, 0], drawn[0][i])
            _, _, mse = numpy_losses(net, x[i, 0], drawn[1][i])
            assert found[i, 0].item() == pytest.approx(nce + 10 * mse, rel=1e-4)
            assert found[i, 1].item() == pytest.approx(accuracy)


def test_masks_differ_from_task_to_task_and_from_step_to_step():
    task = MaskedPatchModelling(network(frames=128), share=0.5)
    x = torch.zeros(8, 1, 32, 128)
    first, second = task._masks(x), task._masks(x)
    assert first.shape == (8, 8) and not torch.equal(first, second)
    assert len({tuple(row) for row in first.tolist()}) > 1


def test_all_that_is_pretrained_learns(corpus, tmp_path):
    config = pretraining(corpus)
    after = trained(tmp_path / "run", config)
    torch.manual_seed(seeds.derive(0, seeds.WEIGHTS))
    before = build(MODELS, config.model, "model").state_dict()
    still = {n for n, value in after.items() if torch.equal(value, before[n])}
    heads = {n for n in after if n.startswith(("mlp_head.", "p_input"))}
    assert still == heads
    history = json.loads((tmp_path / "run/train.json").read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(0 <= row["accuracy"] <= 1 for row in history)
    assert "loss" in (tmp_path / "run/train.log").read_text()
    assert Run(tmp_path / "run", config).training_stage == "pretrain"


def test_killed_and_resumed_is_the_same(corpus, tmp_path, monkeypatch):
    config = pretraining(corpus, train={"checkpoint_steps": 2})
    whole = trained(tmp_path / "whole", config)
    step, taken = Trainer._step, 0

    def dying(self, batch):
        nonlocal taken
        taken += 1
        step(self, batch)
        if taken == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "killed", config).train(CPU)
    monkeypatch.setattr(Trainer, "_step", step)
    assert_same(trained(tmp_path / "killed", config), whole)


def test_labels_play_no_part(corpus, tmp_path):
    tags = corpus / "data/c/fold1/train/utt2labels"
    before = tags.read_text()
    whole = trained(tmp_path / "given", pretraining(corpus))
    tags.write_text("".join(f"{line.split()[0]} c0\n" for line in before.splitlines()))
    other = trained(tmp_path / "other", pretraining(corpus))
    tags.write_text(before)
    assert_same(whole, other)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"model": {"name": "cp_resnet"}}, "needs a network that can be pretrained"),
        ({"model": {**NETWORK, "pretext": "frozen"}}, "needs a network that can be pretrained"),
        ({"loss": {"share": 1.0}}, "share must be between 0 and 1"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(corpus, tmp_path, layers, words):
    with pytest.raises(UserError, match=words):
        Run(tmp_path / "run", pretraining(corpus, **layers)).train(CPU)
    assert not (tmp_path / "run").exists()


def test_too_few_patches():
    task = MaskedPatchModelling(network(frames=16, bins=32))
    with pytest.raises(UserError, match="too few"):
        task(torch.zeros(1, 1, 32, 16))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def conf(tmp_path) -> Path:
    """A recipe's conf/ for the tiny corpus."""
    conf = tmp_path / "conf"
    features = json.dumps(tiny.FEATURES)
    write(conf / "features.yaml", f"{{features: {features}, model: {{num_classes: 4}}}}")
    write(conf / "model/net.yaml", "model: {name: ssast, size: tiny, bins: 32, frames: 32}")
    for name in ("none", "specaugment"):
        write(conf / f"augment/{name}.yaml", f"augment: {{name: {name}}}")
    train = "epochs: 1, batch_size: 4, threads: 1, schedule: {name: constant}"
    write(conf / "train.yaml", f"train: {{{train}}}")
    write(
        conf / "pre.yaml",
        "model: {pretext: trained, stride: null, num_classes: 1}\n"
        f"loss: {{name: masked_patches}}\ntrain: {{{train}}}",
    )
    return conf


def test_rows_share_the_pretraining_of_their_fold_and_seed(conf, tmp_path):
    rows = (Row("a", "none"), Row("b", "specaugment"), Row("scratch", "none", pretrain=""))
    table = Table("t", "net", rows, "c", pretrain="pre")
    place = Place(conf, tmp_path / "d", tmp_path / "e", tmp_path / "x", "c", (1, 2), valid=True)
    runs = list(plan(place, table, seeds=[0, 1]))
    first = list(pretrainings(place, table, runs))
    assert len(runs) == 12 and len(first) == 4
    assert {(p.fold, p.seed) for p in first} == {(f, s) for f in (1, 2) for s in (0, 1)}
    by_place = {str(p.directory): p for p in first}
    for run in runs:
        if run.row.startswith("scratch"):
            assert run.config.train.pretrained is None
            continue
        start = by_place[run.config.train.pretrained.weights]
        assert (start.fold, start.seed) == (run.fold, run.seed)
        assert start.config.data.train == run.config.data.train  # and no other clip
        assert start.config.data.test == "" and start.config.data.valid is None
        assert start.config.loss["name"] == "masked_patches"
        assert start.config.model["stride"] is None and run.config.model["pretext"] == "frozen"
    assert len({p.directory for p in runs}) == 12
    assert len({config_digest(p.config) for p in runs}) == 3
    other = list(pretrainings(place, table, runs[:1], ["--train.epochs", "9"]))
    assert other[0].config == first[0].config  # fine-tuning's own does not matter


def test_the_networks_changes_are_pretrained_too(conf, tmp_path):
    table = Table("t", "net", (Row("a", "none"),), "c", pretrain="pre")
    place = Place(conf, tmp_path / "d", tmp_path / "e", tmp_path / "x", "c", (1,))
    changes = ["--model.size", "small"]
    (run,) = plan(place, table, changes)
    (start,) = pretrainings(place, table, [run], changes)
    assert start.config.model["size"] == "small"
    assert str(start.directory) == run.config.train.pretrained.weights
    with pytest.raises(UserError, match="one of them"):
        list(plan(place, table, ["--train.pretrained.weights", "x.pth"]))


def test_stage_by_stage(conf, corpus, tmp_path, capsys):
    (corpus / "dump/c/stats/fold1").mkdir(parents=True, exist_ok=True)
    stats = (corpus / "dump/c/stats.json").read_bytes()
    (corpus / "dump/c/stats/fold1/train.json").write_bytes(stats)
    options = ["--conf", str(conf), "--data", str(corpus / "data/c"), "--corpus", "c", "--folds"]
    options += ["1", "--dump", str(corpus / "dump/c"), "--exp", str(tmp_path / "exp")]
    options += ["--model", "net", "--pretrain", "pre"]

    def listed(stage: str) -> list:
        plan_main(["--stage", stage, "--out", str(tmp_path / stage), *options])
        return read_plan(tmp_path / stage)

    (first,) = listed("pretrain")
    with pytest.raises(MissingInput, match="--stage pretrain"):
        listed("train")
    Run(first.directory, first.config).train(CPU)
    assert listed("pretrain") == []
    (second,) = listed("train")
    Run(second.directory, second.config).train(CPU)
    log = (second.directory / "train.log").read_text()
    assert "weights loaded" in log and "final.safetensors" in log
    assert [planned.row for planned in listed("all")] == ["net, none, pre"]
