"""Checkpoints that somebody had to bring are looked at before anything else is done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from espnet_like.bin import plan
from espnet_like.config import experiment
from espnet_like.errors import MissingInput, UserError
from espnet_like.models import SSAST, ssast
from espnet_like.schema import Train
from espnet_like.training.starts import check_given, load_start

CONF = {
    "features.yaml": "{features: {name: ssast_fbank, preset: sc_v2}, normalize: false}",
    "model/net.yaml": "model: {name: ssast, size: tiny, frames: 128, num_classes: 3}",
    "augment/peas.yaml": "augment: {name: peas, preset: sc_v2}",
    "augment/ssast.yaml": "augment: {name: ssast_masks, preset: sc_v2}",
    "train.yaml": "train: {epochs: 1}",
    "tables/t.yaml": """
title: T
corpus: c
model: net
overrides: {train.pretrained.weights: FILE}
rows: [{name: a, augment: ssast}, {name: b, augment: peas}]
""",
}


@pytest.fixture(autouse=True)
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssast, "DEPTH", 3)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Where the table looks for weights."""
    for name, text in CONF.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("FILE", str(tmp_path / "given.pth")))
    return tmp_path / "given.pth"


def released(path: Path, without: str = "-", **options: object) -> None:
    model = SSAST(**{"size": "tiny", "frames": 256, "pretext": "trained", **options})
    state = {f"module.{k}": v for k, v in model.state_dict().items() if not k.startswith(without)}
    torch.save(state, path)


def listed(given: Path, *options: str) -> None:
    root = given.parent
    places = [f"--{name}={root / name}" for name in ("conf", "data", "dump", "exp")]
    arguments = ["--stage", "all", "--out", str(root / "list"), "--corpus", "c", "--folds", "1"]
    plan.main([*arguments, *places, *(options or ("--table", "t"))])


def test_a_table_s_checkpoint_is_asked_for_at_the_start_alone(given):
    listed(given)  # as stage report does, which does without
    with pytest.raises(MissingInput, match=r"given.pth.*put the checkpoint there"):
        listed(given, "--table", "t", "--check-start")
    released(given)
    listed(given, "--table", "t", "--check-start")


def test_what_a_run_here_makes_is_not_asked_for(given):
    (given.parent / "conf/pre.yaml").write_text(
        "{model: {pretext: trained, num_classes: 1}, loss: {name: masked_patches}}"
    )
    options = ("--model", "net", "--augment", "peas", "--check-start")
    listed(given, *options, "--pretrain", "pre")
    listed(given, "--model", "net", "--augment", "ssast", "--check-start")
    with pytest.raises(MissingInput, match=r"none\.pth"):
        listed(given, *options, "--train.pretrained.weights", "none.pth")


def test_peas_does_not_ask_what_nothing_trains(given):
    """The layer that reconstructs would stay as it was drawn at random."""
    options = ("--model", "net", "--augment", "peas")
    listed(given, *options)
    with pytest.raises(UserError, match="which nothing has trained: give weights to start from"):
        listed(given, *options, "--check-start")
    learns = ("--model.pretext", "generative", "--augment.aux_loss", "[1, 0]")
    listed(given, *options, "--check-start", *learns)
    net = SSAST(size="tiny", frames=128)
    with pytest.raises(UserError, match="which nothing has trained"):
        load_start(Train(), net, reconstruct=True)
    assert load_start(Train(), net, reconstruct=False) == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": "small"}, "of size small"),
        ({"kind": "frame", "stride": (128, 2)}, "set model.kind"),
        ({"without": "gpredlayer"}, "no gpredlayer"),
    ],
)
def test_what_the_network_cannot_start_from_is_refused(given, options, says):
    released(given, **options)
    with pytest.raises(UserError, match=says):
        listed(given, "--table", "t", "--check-start")


def test_a_file_that_is_cut_off_or_of_another_family(given):
    released(given)
    given.write_bytes(given.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a whole file of weights"):
        listed(given, "--table", "t", "--check-start")
    torch.save({"conv1.weight": torch.zeros(3)}, given)
    with pytest.raises(UserError, match=r"not a checkpoint of SSAST.*conv1.weight"):
        listed(given, "--table", "t", "--check-start")
    layers = {"features": {"name": "cpjku"}, "model": {"name": "cp_resnet"}}
    start = {"train": {"pretrained": {"weights": str(given)}}}
    with pytest.raises(UserError, match="the network is a CPResNet"):
        check_given([experiment({**layers, **start})])
