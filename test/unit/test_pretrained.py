"""Runs that start from pretrained weights: what is loaded, said and refused; PEAS in bf16."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from espnet_like.augment import PEAS as PEASMethod
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import config_digest
from espnet_like.layers import merge
from espnet_like.models import SSAST
from espnet_like.models.ssast import DEPTH
from espnet_like.schema import Experiment
from espnet_like.training.runs import Run
from espnet_like.training.trainer import Trainer

CPU = torch.device("cpu")
NETWORK = {"name": "ssast", "size": "tiny", "num_classes": tiny.CLASSES, "bins": 32, "frames": 32}
PEAS = {"name": "peas", "freq_width": 8, "time_width": 8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Two blocks are enough."""
    from espnet_like.models import ssast

    ssast.DEPTH = 3
    yield
    ssast.DEPTH = DEPTH


def fine_tuning(corpus: Path, weights: Path | str, **layers) -> Experiment:
    train = {"pretrained": {"weights": str(weights)}, "epochs": 1, "optimizer": {"lr": 1e-4}}
    base = {"model": {**NETWORK, "stride": (10, 10)}, "augment": PEAS, "train": train}
    return tiny.config(corpus, merge(base, layers))


def checkpoint(path: Path, without: str = "-", **options) -> Path:
    """As the authors write it, for other lengths and strides; perhaps without a part."""
    torch.manual_seed(5)
    settings = {**NETWORK, "stride": (16, 16), "frames": 64, "pretext": "trained", **options}
    del settings["name"]
    state = SSAST(**settings).state_dict()
    kept = {f"module.{n}": value for n, value in state.items() if not n.startswith(without)}
    torch.save(kept, path)
    return path


def test_a_run_starts_from_a_checkpoint_of_another_stride_and_length(corpus, tmp_path):
    config = fine_tuning(corpus, checkpoint(tmp_path / "SSAST.pth"))
    state = torch.load(tmp_path / "SSAST.pth")
    run = Run(tmp_path / "run", config)
    after = tiny.trained(run.directory, config)
    name = "v.blocks.1.attn.qkv.weight"
    assert 0 < (after[name] - state[f"module.{name}"]).abs().max() < 5e-3  # 5 small steps away
    for name in ("gpredlayer.2.weight", "mask_embed"):  # PEAS's own, without gradients
        assert torch.equal(after[name], state[f"module.{name}"])
    said = (run.directory / "train.log").read_text()
    assert "SSAST.pth" in said and "unexpected: cpredlayer.0.weight" in said


def test_other_contents_make_a_run_stale(corpus, tmp_path):
    config = fine_tuning(corpus, checkpoint(tmp_path / "SSAST.pth"))
    before = Run(tmp_path / "run", config).fingerprint()
    assert Run(tmp_path / "other", config).fingerprint() == before
    state = torch.load(tmp_path / "SSAST.pth")
    state["module.v.norm.bias"] += 1
    torch.save(state, tmp_path / "SSAST.pth")
    assert Run(tmp_path / "run", config).fingerprint() != before


def test_where_planned_weights_lie_does_not_matter(corpus, tmp_path):
    digests = {
        config_digest(fine_tuning(corpus, path, train={"pretrained": {"config": made}}))
        for path in ("here", "there")
        for made in ("a", "a")
    }
    assert len(digests) == 1
    without = tiny.config(corpus, {"model": NETWORK})
    assert config_digest(without) not in digests


@pytest.mark.parametrize(
    ("options", "layers", "words"),
    [
        ({"size": "small"}, {}, "of size small"),
        ({"without": "gpredlayer"}, {}, "no gpredlayer"),
        ({}, {"model": {"name": "cp_resnet"}, "augment": {"name": "none"}}, "are SSAST's"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    corpus, tmp_path, options, layers, words
):
    config = fine_tuning(corpus, checkpoint(tmp_path / "SSAST.pth", **options), **layers)
    with pytest.raises(UserError, match=words):
        Run(tmp_path / "run", config).train(CPU)
    assert not (tmp_path / "run").exists()


def test_missing_weights_name_their_maker(corpus, tmp_path):
    lacking = tmp_path / "none.pth"
    with pytest.raises(MissingInput, match="put the checkpoint there"):
        Run(tmp_path / "run", fine_tuning(corpus, lacking)).train(CPU)
    planned = fine_tuning(corpus, lacking, train={"pretrained": {"config": "a"}})
    with pytest.raises(MissingInput, match="--stage pretrain"):
        Run(tmp_path / "run", planned).train(CPU)


def test_conventional_masks_need_no_reconstructing_layer(corpus, tmp_path):
    path = checkpoint(tmp_path / "SSAST.pth", without="gpredlayer")
    tiny.trained(tmp_path / "run", fine_tuning(corpus, path, augment={**PEAS, "masking": "random"}))


def test_peas_asks_in_bf16_and_every_weight_still_learns(corpus, tmp_path, monkeypatch):
    """Weights that autocast has cast for a pass without gradients must not serve the other one."""
    asked: set[torch.dtype] = set()
    guess = SSAST.guess

    def watched(self, x, *args, **options):
        asked.add(self.v.blocks[0].attn.qkv(x.new_zeros(1, 192)).dtype)
        return guess(self, x, *args, **options)

    monkeypatch.setattr(SSAST, "guess", watched)
    path = checkpoint(tmp_path / "SSAST.pth")
    after = tiny.trained(tmp_path / "run", fine_tuning(corpus, path, train={"precision": "bf16"}))
    assert asked == {torch.bfloat16}
    before = torch.load(path)
    for name, value in after.items():
        if name.startswith("v.") and name != "v.pos_embed":
            assert not torch.equal(value, before[f"module.{name}"]), name


def followed(corpus: Path, weights: Path, directory: Path, monkeypatch, **teacher):
    """A run's weights before each step, and those that its PEAS asked."""
    own: list[torch.Tensor] = []
    asked: list[torch.Tensor] = []
    step, ask = Trainer._step, PEASMethod.ask

    def stepping(self, batch):
        own.append(self.model.v.blocks[0].mlp.fc1.weight.detach().clone())
        step(self, batch)

    def asking(self, batch, before):
        asked.append(batch.model.v.blocks[0].mlp.fc1.weight.detach().clone())
        return ask(self, batch, before)

    monkeypatch.setattr(Trainer, "_step", stepping)
    monkeypatch.setattr(PEASMethod, "ask", asking)
    layers = {"train": {"teacher": teacher}} if teacher else {}
    tiny.trained(directory, fine_tuning(corpus, weights, **layers))
    return own, asked


def test_peas_may_ask_earlier_or_averaged_weights(corpus, tmp_path, monkeypatch):
    weights = checkpoint(tmp_path / "SSAST.pth")

    def run(name, **teacher):
        with monkeypatch.context() as patch:
            return followed(corpus, weights, tmp_path / name, patch, **teacher)

    own, asked = run("current")
    assert len(own) == 5 and all(map(torch.equal, own, asked))
    own, asked = run("frozen", kind="frozen")
    assert all(torch.equal(own[0], a) for a in asked) and not torch.equal(own[0], own[1])
    own, asked = run("refreshed", kind="refreshed", every=2)
    assert all(torch.equal(a, own[n // 2 * 2]) for n, a in enumerate(asked))
    own, asked = run("ema", kind="ema", decay=0.75)
    mean = own[0]
    for weight, a in zip(own, asked, strict=True):
        mean = 0.75 * mean + 0.25 * weight if weight is not own[0] else mean
        torch.testing.assert_close(a, mean)
    assert not torch.equal(asked[-1], own[-1])


@pytest.mark.parametrize("teacher", [{"kind": "ema", "decay": 0.75}, {"kind": "frozen"}])
def test_a_killed_run_goes_on_with_the_teacher_it_had(corpus, tmp_path, monkeypatch, teacher):
    weights = checkpoint(tmp_path / "SSAST.pth")
    layers = {"train": {"teacher": teacher, "checkpoint_steps": 1, "optimizer": {"lr": 1e-2}}}
    config = fine_tuning(corpus, weights, **layers)
    whole = tiny.trained(tmp_path / "whole", config)
    step, taken = Trainer._step, []

    def dying(self, batch):
        taken.append(batch)
        if len(taken) == 4:
            raise KeyboardInterrupt
        step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            Run(tmp_path / "killed", config).train(CPU)
    tiny.assert_same(tiny.trained(tmp_path / "killed", config), whole)


def test_a_teacher_that_nobody_asks_is_refused(corpus, tmp_path):
    layers = {"train": {"teacher": {"kind": "ema"}}, "augment": {**PEAS, "masking": "random"}}
    config = fine_tuning(corpus, checkpoint(tmp_path / "SSAST.pth"), **layers)
    with pytest.raises(UserError, match=r"train\.teacher: augment peas asks no network"):
        Run(tmp_path / "run", config).train(CPU)


def test_the_auxiliary_loss_trains_the_layer_that_reconstructs(corpus, tmp_path):
    path = checkpoint(tmp_path / "SSAST.pth")
    before = torch.load(path)["module.gpredlayer.2.weight"]
    for aux_loss, pretext in ((0.0, "generative"), (1.0, "frozen"), (1.0, "generative")):
        layers = {
            "model": {**NETWORK, "stride": (10, 10), "pretext": pretext},
            "augment": {**PEAS, "aux_loss": [aux_loss, 0.0]},
        }
        after = tiny.trained(tmp_path / f"{aux_loss}{pretext}", fine_tuning(corpus, path, **layers))
        learned = not torch.equal(after["gpredlayer.2.weight"], before)
        assert learned == (aux_loss > 0 and pretext == "generative")
