"""Pruning against a plain sort and torch's own; pruned runs stay pruned, resume, and are stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import tiny
import torch
from tiny import assert_same, trained
from torch import nn
from torch.nn.utils import prune as reference

from espnet_like.compress.pruning import conv_weights, prune
from espnet_like.config import experiment
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Place, config_digest, plan, row_layers
from espnet_like.experiments.tables import Row, Table
from espnet_like.layers import merge
from espnet_like.models import CPResNet
from espnet_like.training.runs import Run
from espnet_like.training.trainer import Trainer

CPU = torch.device("cpu")


def network(seed: int = 0) -> CPResNet:
    torch.manual_seed(seed)
    return CPResNet(num_classes=3, in_channels=2, base_width=4, rho=3, init="default")


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.6, 0.95])
def test_the_smallest_of_all_layers_together_go(amount):
    model, before = network(), network()
    masks = prune(model, amount)
    convs = {f"{n}.weight": m for n, m in before.named_modules() if isinstance(m, nn.Conv2d)}
    assert masks.keys() == convs.keys()
    ranked = sorted(abs(v) for m in convs.values() for v in m.weight.flatten().tolist())
    last = ranked[round(amount * len(ranked)) - 1] if amount else -1.0
    after = dict(model.named_parameters())
    for name, value in before.named_parameters():
        expected = value.detach()
        if name in masks:
            expected = torch.where(expected.abs() > last, expected, 0)
        assert torch.equal(after[name], expected), name


def test_torch_prunes_the_same():
    model, other = network(), network()
    prune(model, 0.6)
    convs = [(m, "weight") for m in other.modules() if isinstance(m, nn.Conv2d)]
    reference.global_unstructured(convs, reference.L1Unstructured, amount=0.6)
    for module, name in convs:
        reference.remove(module, name)
    assert_same(model.state_dict(), other.state_dict())


def test_a_shared_convolution_counts_once():
    conv = nn.Conv2d(4, 4, 1, bias=False)
    model = nn.Sequential(conv, nn.BatchNorm2d(4), conv, nn.BatchNorm2d(4))
    assert list(conv_weights(model)) == ["0.weight"]
    prune(model, 0.5)
    assert int(conv.weight.count_nonzero()) == 8


def test_of_equal_weights_the_first_go():
    conv = nn.Conv2d(1, 10, 1, bias=False)
    nn.init.ones_(conv.weight)
    prune(conv, 0.3)
    assert conv.weight.flatten().tolist() == [0.0] * 3 + [1.0] * 7


def test_gradients_are_those_of_what_is_left():
    model, other = network(), network()
    masks = prune(model, 0.6)
    convs = [(m, "weight") for m in other.modules() if isinstance(m, nn.Conv2d)]
    reference.global_unstructured(convs, reference.L1Unstructured, amount=0.6)
    x = torch.randn(2, 2, 32, 40)
    for net in (model, other):
        net(x).square().sum().backward()
    theirs = {n.replace("weight_orig", "weight"): p.grad for n, p in other.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name])
    assert all(not model.get_parameter(n).grad[mask].any() for n, mask in masks.items())


def test_amounts_out_of_range_are_refused():
    for amount in (-0.1, 1.0):
        with pytest.raises(ValueError, match="amount"):
            prune(network(), amount)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def dense(corpus, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("dense")
    trained(directory, tiny.config(corpus))
    return directory


def pruned(corpus: Path, dense: Path, **train: object):
    layers = {"init": {"weights": str(dense)}, "prune": {"amount": 0.6}, **train}
    return tiny.config(corpus, {"train": layers})


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_fine_tuning_keeps_zeros_and_moves_the_rest(corpus, dense, tmp_path, name):
    optimizer = {"name": name, "lr": 1e-2, "weight_decay": 0.1}
    config = pruned(corpus, dense, optimizer=optimizer, clip_norm=1.0)
    before = safetensors.torch.load_file(Run(dense, config).trained_weights)
    after = trained(tmp_path / "run", config)
    model = CPResNet(num_classes=tiny.CLASSES, base_width=4, rho=2)
    model.load_state_dict(before)
    masks = prune(model, 0.6)
    assert sum(int(m.sum()) for m in masks.values()) == round(
        0.6 * sum(m.numel() for m in masks.values())
    )
    for key, mask in masks.items():
        assert torch.equal(after[key] == 0, mask), key
        assert not torch.signbit(after[key][mask]).any()
        assert not torch.equal(after[key], before[key].masked_fill(mask, 0)) or mask.all()


def test_a_pruned_run_killed_and_resumed_is_the_same(corpus, dense, tmp_path, monkeypatch):
    config = pruned(corpus, dense, checkpoint_steps=2)
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


def test_other_weights_to_start_from_make_a_run_stale(corpus, dense, tmp_path):
    config = pruned(corpus, dense)
    file = tmp_path / "copy.safetensors"
    file.write_bytes(Run(dense, config).trained_weights.read_bytes())
    same = pruned(corpus, file)
    assert config_digest(same) != config_digest(config)  # typed by hand: another configuration
    before = Run(tmp_path / "run", same).fingerprint()
    model = CPResNet(num_classes=tiny.CLASSES, base_width=4, rho=2)
    file.write_bytes(safetensors.torch.save(model.state_dict()))
    assert Run(tmp_path / "run", same).fingerprint() != before


def test_what_is_missing_is_said(corpus, dense, tmp_path):
    with pytest.raises(MissingInput, match="run --stage train"):
        Run(tmp_path / "run", pruned(corpus, tmp_path / "nowhere")).train(CPU)
    with pytest.raises(UserError, match=r"needs train\.init"):
        tiny.config(corpus, {"train": {"prune": {"amount": 0.6}}})
    with pytest.raises(UserError, match=r"amount must be in \[0, 1\)"):
        pruned(corpus, dense, prune={"amount": 1.0})


def test_a_row_starts_from_the_row_above(tmp_path):
    write(tmp_path / "features.yaml", "features: {name: logmel}")
    write(tmp_path / "model/small.yaml", "model: {name: cp_resnet, base_width: 4}")
    write(tmp_path / "augment/none.yaml", "augment: {name: none}")
    write(tmp_path / "train.yaml", "{train: {epochs: 5}, loss: {name: binary_cross_entropy}}")
    write(tmp_path / "short.yaml", "train: {epochs: 2, prune: {amount: 0.5}}")
    rows = (Row("dense", "none", overrides={"model.rho": 3}),
            Row("pruned", "none", train="short", init="dense"))  # fmt: skip
    table = Table("t", "small", rows, "c")
    place = place_of(tmp_path)
    first, second, *_ = plan(place, table, seeds=[3])
    assert second.config.train.init.weights == str(first.directory)
    assert second.config.train.init.config
    assert (second.config.train.epochs, first.config.train.epochs) == (2, 5)
    assert second.config.model["rho"] == 3
    assert second.config.loss["name"] == "binary_cross_entropy"
    assert second.directory != first.directory and second.row == "pruned"
    (other,) = [p for p in plan(place, table, seeds=[4]) if p.row == "pruned"]
    assert config_digest(other.config) == config_digest(second.config)  # places do not matter
    whole = merge(row_layers(tmp_path, table, rows[1]), {"data": {"corpus": "c"}})
    assert config_digest(experiment(whole)) == config_digest(
        second.config
    )  # nor need they be known
    longer = Table("t", "small", (Row("dense", "none"), rows[1]), "c")
    changed = row_layers(tmp_path, longer, rows[1])["train"]["init"]["config"]
    assert changed != second.config.train.init.config


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def place_of(conf: Path) -> Place:
    return Place(conf, conf / "data", conf / "dump", conf / "exp", "c", (1,))
