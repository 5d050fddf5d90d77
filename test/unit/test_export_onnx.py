"""ONNX: onnxruntime gives torch's logits, for every network, in other sizes than were traced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from torch import nn

from espnet_like.bin import export_onnx
from espnet_like.bin.export_onnx import Network, export
from espnet_like.errors import MissingInput, UserError
from espnet_like.features.dump import FeatureDump
from espnet_like.features.normalize import Normalize
from espnet_like.models import MODELS
from espnet_like.registry import build
from espnet_like.training.checkpoint import load_weights
from espnet_like.training.runs import Run

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BINS, FRAMES = 36, 100
TOLERANCE = 1e-5  # of logits around 1
SMALL = {
    "cp_resnet": {"base_width": 4, "rho": 1, "init": "default"},
    "crnn": {"num_bins": BINS, "base_width": 2, "hidden": 8},
    "shared_resnet": {"base_width": 4, "init": "default"},
    "resnet": {"blocks": [1, 1, 1, 1], "width": 4},
    "ssast": {"size": "tiny", "bins": BINS, "frames": FRAMES, "pretext": "none"},
    "two_path_resnet": {"width": 2},
}
FIXED = ("ssast",)  # its patches are laid out for one number of frames


def made(name: str) -> Network:
    """A network whose statistics are not the initial ones, behind a normalisation."""
    torch.manual_seed(0)
    spec = {"name": name, "num_classes": 4, "in_channels": 3, **SMALL[name]}
    model: nn.Module = build(MODELS, spec, "model")
    normalize = Normalize(torch.linspace(-5, 5, BINS), torch.linspace(0.5, 2, BINS))
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(4, 3, BINS, FRAMES))
    return Network(normalize, model)


def run(path: Path, x: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"features": x.numpy()})
    return torch.from_numpy(logits)


@pytest.mark.parametrize("name", MODELS)
def test_every_network_gives_the_same_logits(name, tmp_path):
    network, out = made(name), tmp_path / f"{name}.onnx"
    x = 3 * torch.randn(2, 3, BINS, FRAMES)
    export(network, x, out, {"labels": ["a", "b"]}, any_frames=name not in FIXED)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == {"labels": ["a", "b"]}
    sizes = [(1, FRAMES), (5, FRAMES)]
    if name not in FIXED:
        sizes += [(3, 61), (1, 237)]
    for batch, frames in sizes:
        x = 3 * torch.randn(batch, 3, BINS, frames)
        with torch.no_grad():
            expected = network(x)
        assert expected.std() > 10 * TOLERANCE  # or the same would mean nothing
        torch.testing.assert_close(run(out, x), expected, rtol=0, atol=TOLERANCE)


def test_a_network_of_one_length_is_said_and_nothing_is_left(tmp_path):
    x = torch.randn(2, 3, BINS, FRAMES)
    with pytest.raises(UserError, match="give --frames N"):
        export(made("ssast"), x, tmp_path / "out.onnx", {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("corpus"))


def test_a_trained_run_takes_what_its_front_end_gives(corpus, tmp_path, capsys):
    directory, out = tmp_path / "run", tmp_path / "out.onnx"
    trained = Run(directory, tiny.config(corpus, {"train": {"epochs": 1}}))
    trained.train(torch.device("cpu"))
    export_onnx.main(["--run", str(directory), "--out", str(out)])
    assert capsys.readouterr().out == f"{out}\n"
    raw = torch.from_numpy(FeatureDump(corpus / "dump/c").load("u07").copy())[None]
    model = build(MODELS, trained.config.model, "model").eval()
    load_weights(trained.weights, model)
    normalize = Normalize.load(trained.config.data.stats)
    with torch.no_grad():
        expected = model(normalize(raw))
    assert expected.any()
    torch.testing.assert_close(run(out, raw), expected, rtol=0, atol=TOLERANCE)
    about = {p.key: json.loads(p.value) for p in onnx.load(out).metadata_props}
    assert about["labels"] == ["c0", "c1", "c2", "c3"]
    assert about["features"]["name"] == "logmel" and about["features"]["n_mels"] == 32


def written(path: Path, **layers) -> str:
    base = {
        "features": dict(tiny.FEATURES),
        "model": {"name": "cp_resnet", "base_width": 4, "init": "default"},
    }
    path.write_text(yaml.safe_dump({**base, **layers}))
    return str(path)


def test_an_untrained_network_of_a_configuration(tmp_path):
    config, out = written(tmp_path / "model.yaml"), tmp_path / "a" / "out.onnx"
    arguments = ["--config", config, "--out", str(out), "--model.num_classes", "7"]
    export_onnx.main(arguments)
    assert run(out, torch.randn(3, 1, 32, 99)).shape == (3, 7)
    export_onnx.main([*arguments, "--frames", "70"])
    (features,) = onnx.load(out).graph.input
    sizes = [d.dim_param or d.dim_value for d in features.type.tensor_type.shape.dim]
    assert sizes == ["batch", 1, 32, 70]


def test_bad_input_is_said(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out.onnx"

    def refused(*arguments: str, match: str, kind: type[UserError] = UserError) -> None:
        with pytest.raises(kind, match=match):
            export_onnx.main([*arguments, "--out", str(out)])
        assert not out.exists()

    config = written(tmp_path / "model.yaml")
    refused(match="--run DIRECTORY, or --config")
    refused("--run", str(tmp_path), "--config", config, match="--run DIRECTORY, or --config")
    refused("--run", str(tmp_path), match="config.yaml: no such file", kind=MissingInput)
    refused("--config", config, "--frames", "3", match="model: ")
    refused("--config", config, "--frames", "0", match="--frames 0: at least 1")
    refused("--config", config, "--model.in_channels", "2", match="model: ")
    refused(
        "--config", written(tmp_path / "b.yaml", features={}), match="features: name a front end"
    )
    monkeypatch.setattr(export_onnx, "find_spec", lambda name: None)
    refused("--config", config, match="ONNX needs onnx, onnxruntime: type tools/install.sh --dev")


def test_logits_that_differ_are_not_written(tmp_path, monkeypatch):
    network, out = made("cp_resnet"), tmp_path / "out.onnx"
    forward = MODELS["cp_resnet"].forward

    def other(self, *args, **kwargs):  # what torch says, but not what is traced
        noise = 0.0 if torch.jit.is_tracing() else 0.01
        return forward(self, *args, **kwargs) + noise

    monkeypatch.setattr(MODELS["cp_resnet"], "forward", other)
    with pytest.raises(UserError, match="not those of torch") as caught:
        export(network, torch.randn(2, 3, BINS, FRAMES), out, {})
    assert caught.value.code == 1 and not out.exists()


def test_the_command_is_quiet(tmp_path, recwarn):
    x = torch.from_numpy(np.zeros((2, 3, BINS, FRAMES), np.float32))
    export(made("crnn"), x, tmp_path / "out.onnx", {})
    assert not recwarn.list
