"""Layered YAML, overrides and what is refused, with which words."""

from __future__ import annotations

import pytest

from espnet_like.config import experiment, identity, load_layers, parse_overrides, try_out
from espnet_like.errors import UserError
from espnet_like.layers import merge, read_yaml, write_yaml
from espnet_like.schema import Experiment

MODEL = {"name": "cp_resnet", "base_width": 8}


def test_later_layers_win_key_by_key():
    base = {"train": {"epochs": 3, "optimizer": {"lr": 1.0}}, "seed": 1}
    layered = merge(base, {"train": {"optimizer": {"eps": 2.0}}, "seed": 2})
    assert layered == {"train": {"epochs": 3, "optimizer": {"lr": 1.0, "eps": 2.0}}, "seed": 2}
    assert base["seed"] == 1 and "eps" not in base["train"]["optimizer"]


def test_components_of_a_list_are_reached_by_their_names():
    base = {"augment": {"name": "chain", "methods": [{"name": "mixup"}, {"name": "peas", "n": 1}]}}
    layer = {"augment": {"methods": {"peas": {"score": "e_rec"}}}}
    found = merge(base, layer)["augment"]["methods"]
    assert found == [{"name": "mixup"}, {"name": "peas", "n": 1, "score": "e_rec"}]
    assert base["augment"]["methods"][1] == {"name": "peas", "n": 1}
    for wrong in ({"zoom": {"n": 1}}, {"peas": 3}):
        with pytest.raises(UserError, match=r"methods\.(zoom|peas): .* by name: mixup, peas"):
            merge(base, {"augment": {"methods": wrong}})


def test_another_component_replaces_the_whole():
    old = {"augment": {"name": "mixup", "alpha": 0.2}}
    assert merge(old, {"augment": {"name": "none"}}) == {"augment": {"name": "none"}}
    assert merge(old, {"augment": {"name": "mixup"}}) == old
    assert merge(old, {"augment": {"alpha": 1.0}})["augment"]["alpha"] == 1.0


def test_overrides_are_yaml_values():
    tokens = ["--model.rho", "5", "--train.optimizer.lr=3e-4", "--augment.layers", "[0, 2]"]
    assert parse_overrides(tokens) == {
        "model": {"rho": 5},
        "train": {"optimizer": {"lr": 3e-4}},
        "augment": {"layers": [0, 2]},
    }


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["--modl.rho", "5"], "did you mean --model"),
        (["--frobnicate"], "keys start with"),
        (["--model.rho"], "needs a value"),
        (["model.rho", "5"], "unknown option"),
        (["--model.rho", "[5"], "--model.rho .5: not a YAML value"),
    ],
)
def test_an_override_that_matches_nothing_is_refused(tokens, words):
    with pytest.raises(UserError, match=words):
        parse_overrides(tokens)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"trian": {}}, "did you mean train"),
        ({"train": {"epoch": 3}}, "train.epoch: unknown key; did you mean epochs"),
        ({"train": {"optimizer": {"learning": 1}}}, "train.optimizer.learning"),
        ({"train": {"average": {"begin": 1}}}, "train.average.begin"),
        ({"train": {"epochs": "many"}}, "train.epochs"),
        ({"train": {"epochs": 0}}, "train.epochs must be at least 1"),
        ({"train": {"precision": "fp8"}}, "train.precision"),
        ({"train": {"schedule": {"name": "cosin"}}}, "specaugment_pp"),
        ({"train": {"schedule": {"name": "cpjku", "hld": 3}}}, "train.schedule.hld"),
        ({"model": {"name": "resnext"}}, "cp_resnet"),
        ({"model": {**MODEL, "rhoo": 1}}, "model.rhoo: unknown key"),
        ({"model": {**MODEL, "rho": "x"}}, "rho"),
        ({"augment": {"name": "mixup", "preset": "timm"}}, "augment.preset"),
        ({"loss": {"name": "focal"}}, "cross_entropy"),
        ({"train": 3}, "train: expected keys and values, not 3"),
        ({"train": {"optimizer": None}}, "train.optimizer: expected keys and values, not None"),
        ({"model": None}, "model: expected keys and values"),
        ({"model": {"rho": 5}}, "model.name: None is unknown; choose from"),
        ({"train": {"optimizer": {"lr": -1.0}}}, "train.optimizer.lr must be positive"),
        ({"train": {"optimizer": {"betas": [0.9, 1.0]}}}, "train.optimizer.betas"),
        ({"train": {"average": {"every": 0}}}, "train.average"),
        ({"train": {"average": {"unit": "x"}}}, '^"train.average": "unit": Expected .* value: x$'),
        ({"train": {"pool": {"patience": 0}}}, "^train.pool: repeats must be .* at least 1$"),
        ({"train": {"iterations": "x"}}, "train.iterations.*int.*value: x"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_bad_settings_are_named(layers, words):
    with pytest.raises(UserError, match=words):
        experiment(layers)


CHAIN = {"name": "chain", "methods": [{"name": "noise"}, {"name": "peas"}]}
SHORT = {
    "model": {"name": "ssast", "size": "tiny"},
    "input_shape": [1, 128, 128],
    "train": {"crop_frames": 90},
}


def test_a_component_without_a_name_is_the_default_one():
    config = experiment({"loss": {"label_smoothing": 0.1}, "train": {"schedule": {"hold": 3}}})
    assert config.loss == {"name": "cross_entropy", "label_smoothing": 0.1}
    assert config.train.schedule["name"] == "specaugment_pp"
    with pytest.raises(UserError, match=r"augment\.alpha: unknown key; none takes"):
        experiment({"augment": {"alpha": 1.0}})


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"model": {**MODEL, "rho": 99}}, "rho must be between"),
        ({"features": {"name": "cpjku", "n_mels": -1}}, "features"),
        ({"augment": {"name": "mixup", "alpha": 0.0}}, "alpha must be positive"),
        ({"loss": {"label_smoothing": 2.0}}, "label_smoothing"),
        ({"model": MODEL, "augment": {"name": "peas"}}, "cp_resnet does not"),
        ({"model": {"name": "ssast", "size": "tiny", "pretext": "none"}, "augment": CHAIN}, "peas"),
        ({"train": {"schedule": {"hold": 9, "reach": 3}}}, "hold < reach"),
        ({"model": MODEL, "augment": {"name": "mixup", "layers": [9]}}, "there is no layer 9"),
        ({"model": MODEL, "train": {"teacher": {"kind": "ema"}}}, "none asks no network"),
        ({**SHORT, "augment": {"name": "peas"}}, r"time_width: a mask of 96 .* only 90"),
        ({**SHORT, "augment": CHAIN}, r"time_width: a mask of 96 .* only 90"),
        ({**SHORT, "input_shape": [1, 20, 128], "augment": CHAIN}, r"freq_width: .* only 20"),
    ],
)
def test_values_that_only_a_component_knows_are_tried(layers, words):
    try_out(experiment({"model": MODEL}))
    with pytest.raises(UserError, match=words):
        try_out(experiment(layers))


def test_resolved_configuration_reads_back_the_same(tmp_path):
    config = experiment({"model": MODEL, "train": {"average": {"start": 2}}, "seed": 7})
    path = tmp_path / "config.yaml"
    path.write_text(write_yaml(config.resolved()))
    again = experiment(load_layers([path]))
    assert again == config
    assert again.model["rho"] == 7 and again.train.average.every == 3  # defaults are written out


def test_identity_is_what_differs_from_the_defaults():
    spelled_out = experiment(
        {"model": MODEL, "train": {"epochs": 350}, "augment": {"name": "none"}}
    )
    named = {"augment": {"name": "none"}, "loss": {"name": "cross_entropy"}}
    schedule = {"schedule": {"name": "specaugment_pp"}}
    assert identity(spelled_out) == {"model": MODEL, "train": schedule, **named}
    layers = {
        "model": {**MODEL, "rho": 5},
        "train": {"workers": 7, "optimizer": {"lr": 0.5}, "schedule": {"name": "constant"}},
        "augment": {"name": "specaugment_pp", "mode": "zero"},
        "data": {"train": "here"},
        "seed": 3,
    }
    assert identity(experiment(layers)) == {
        "model": {**MODEL, "rho": 5},
        "train": {"optimizer": {"lr": 0.5}, "schedule": {"name": "constant"}},
        "augment": {"name": "specaugment_pp", "mode": "zero"},
        "loss": {"name": "cross_entropy"},
    }


def test_yaml_errors_name_file_and_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("train:\n  epochs: 3\n  epochs: 4\n")
    with pytest.raises(UserError, match=r"bad.yaml:3: key 'epochs' stands twice"):
        read_yaml(path)
    path.write_text("train: {epochs: 3\n")
    with pytest.raises(UserError, match=r"bad.yaml:\d"):
        read_yaml(path)
    path.write_text("- a\n")
    with pytest.raises(UserError, match="expected keys and values"):
        read_yaml(path)
    path.write_text("a: 1\n? [b, c]\n: 2\n")
    with pytest.raises(UserError, match=r"bad.yaml:2: \['b', 'c'\] is no key"):
        read_yaml(path)
    path.write_bytes(b"a: \x00\n")
    with pytest.raises(UserError, match=r"bad.yaml: not UTF-8 text"):
        read_yaml(path)
    with pytest.raises(UserError, match=r"has bad\.yaml"):
        read_yaml(tmp_path / "good.yaml")


def test_exponents_without_a_point_are_numbers(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-4\nb: 3E5\nc: 1.5e-3\nd: 1e\n")
    assert read_yaml(path) == {"a": 1e-4, "b": 3e5, "c": 1.5e-3, "d": "1e"}


def test_defaults_are_the_papers():
    train = Experiment().train
    assert (train.epochs, train.optimizer.lr, train.optimizer.betas) == (350, 1e-4, (0.9, 0.999))
