"""What bin/plot_augment.py draws, at every layer, and what it says of what it cannot draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from espnet_like.augment import build_augmentation
from espnet_like.bin import plot_augment
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.features.dump import FeatureDump, Settings
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.normalize import Normalize
from espnet_like.files import write_text
from espnet_like.layers import write_yaml
from espnet_like.models import CPResNet
from espnet_like.results import figures
from espnet_like.training.checkpoint import save_weights

MODEL = {"name": "cp_resnet", "num_classes": 4, "base_width": 4, "rho": 2, "init": "default"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tiny.make(tmp_path_factory.mktemp("corpus"))
    raw = Settings.resolve({"name": "raw", "sample_rate": tiny.RATE})
    data = DataDir.load(root / "data/c/all")
    dump_part(raw, data, root / "dump/raw", 1, 1, log=tiny.quiet)
    merge_parts(raw, data, root / "dump/raw", 1, log=tiny.quiet)
    return root


@pytest.fixture
def drawn(monkeypatch):
    """The panels and the label of the last figure."""
    kept: dict = {}
    real = figures.spectrograms
    monkeypatch.setattr(
        figures, "spectrograms", lambda panels, label: kept.update(panels) or real(panels, label)
    )
    return kept


def plot(root: Path, *augments: dict, options: tuple[str, ...] = ("u00", "u01")) -> Path:
    names = []
    for augment in augments:
        path = root / f"{augment['name']}.yaml"
        write_text(path, write_yaml({"augment": augment}))
        names += ["--augment", str(path)]
    out = root / "figure.png"
    out.unlink(missing_ok=True)
    places = ("--data", f"{root}/data/c/all", "--dump", f"{root}/dump/c")
    places += ("--stats", f"{root}/dump/c/stats.json", "--out", str(out))
    plot_augment.main([*places, *names, *options])
    assert out.read_bytes().startswith(b"\x89PNG")
    return out


def features(root: Path) -> torch.Tensor:
    dump = FeatureDump(root / "dump/c")
    clips = torch.stack([torch.from_numpy(dump.load(utt).copy()) for utt in ("u00", "u01")])
    return Normalize.load(root / "dump/c/stats.json")(clips)


def test_the_input(root, drawn):
    chain = {"name": "chain", "methods": [{"name": "mixup"}, {"name": "specaugment"}]}
    one_of = {"name": "one_of", "methods": [{"name": "noise"}]}
    plot(root, {"name": "cutmix"}, chain, one_of, options=("u00", "u01", "--seed", "3"))
    assert list(drawn) == ["target: u00", "partner: u01", "cutmix", "chain", "one_of"]
    x = features(root)
    np.testing.assert_array_equal(drawn["target: u00"].image, x[0, 0])
    plan = build_augmentation({"name": "cutmix"}).draw(
        x, torch.eye(2), generator=torch.Generator().manual_seed(3)
    )
    np.testing.assert_array_equal(drawn["cutmix"].image, plan(0, x)[0, 0])
    assert drawn["cutmix"].seconds == pytest.approx(x.shape[-1] * 128 / tiny.RATE, rel=1e-3)


@pytest.mark.parametrize("trained", [False, True], ids=["new", "run"])
def test_hidden_layers(root, drawn, trained, tmp_path, capsys):
    write_text(tmp_path / "config.yaml", write_yaml({"model": MODEL}))
    torch.manual_seed(5 if trained else 0)
    model = CPResNet(4, base_width=4, rho=2, init="default")
    save_weights(tmp_path / "checkpoints/final.safetensors", model.state_dict())
    where = tmp_path if trained else tmp_path / "config.yaml"
    methods = ({"name": "specmix"}, {"name": "bc_learning"}, {"name": "none"})
    options = ("u00", "u01", "--layer", "2", "--model", str(where), "--waves", f"{root}/dump/raw")
    plot(root, *methods, options=options)
    with torch.no_grad():
        wanted = model.eval().stage1(model.stem(features(root))).mean(1)
    np.testing.assert_allclose(drawn["target: u00"].image, wanted[0], rtol=1e-3, atol=1e-3)
    own, other, mixed = (np.asarray(panel.image) for panel in list(drawn.values()))
    assert (np.isclose(mixed, own, atol=1e-6) | np.isclose(mixed, other, atol=1e-6)).all()
    said = capsys.readouterr().out
    assert "bc_learning.yaml: bc_learning does not act at layer 2: left out\n" in said
    assert "none.yaml: none does not act at layer 2: left out\n" in said


def test_waveforms(root, drawn, capsys):
    long = {"name": "superposition", "probability": 1.0}
    methods = ({"name": "bc_learning"}, long, {"name": "specmix"}, {"name": "speechmix"})
    plot(root, *methods, options=("u00", "u01", "--waves", f"{root}/dump/raw", "--seed", "1"))
    x = features(root)
    np.testing.assert_allclose(drawn["target: u00"].image, x[0, 0], rtol=1e-3, atol=1e-3)
    assert {"bc_learning", "superposition", "specmix", "speechmix"} <= drawn.keys()
    assert drawn["superposition"].seconds > drawn["specmix"].seconds
    assert not np.allclose(drawn["bc_learning"].image, x[0, 0], atol=0.1)
    drawn.clear()
    plot(root, {"name": "bc_learning"}, {"name": "mixup"})
    assert list(drawn)[2:] == ["mixup"]
    assert "bc_learning.yaml: bc_learning changes waveforms: give --waves\n" in (
        capsys.readouterr().out
    )


def test_what_changes_nothing_is_marked(root, drawn):
    plot(root, {"name": "specaugment", "time_ratio": 0.0, "freq_ratio": 0.0})
    assert list(drawn)[2:] == ["specaugment (this seed leaves it as it is)"]


def test_errors(root, tmp_path):
    write_text(tmp_path / "model.yaml", write_yaml({"model": MODEL}))
    for options, words in (
        (("u00",), "two utterances"),
        (("u00", "nobody"), "no utterance nobody"),
        (("--layer", "1"), "--layer 1 needs --model"),
        (("--layer", "7", "--model", f"{tmp_path}/model.yaml"), "4 stage3"),
    ):
        with pytest.raises(UserError, match=words):
            plot(root, {"name": "mixup"}, options=options)
