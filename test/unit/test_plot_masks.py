"""What bin/plot_masks.py draws of a run, of another checkpoint, and what it cannot draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml

from espnet_like.bin import plot_masks
from espnet_like.errors import MissingInput, UserError
from espnet_like.models import SSAST, ssast
from espnet_like.training.runs import Run

NETWORK = {"name": "ssast", "size": "tiny", "num_classes": tiny.CLASSES, "bins": 32, "frames": 32}
PEAS = {"name": "peas", "freq_width": 8, "time_width": 10, "freq_blocks": 2, "value": 9.0,
        "first": [{"name": "noise"}]}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A corpus and a run on it, of three blocks."""
    root = tiny.make(tmp_path_factory.mktemp("corpus"))
    depth, ssast.DEPTH = ssast.DEPTH, 3
    augment = {"name": "chain", "methods": [{"name": "time_roll"}, PEAS]}
    torch.manual_seed(0)
    network = {key: value for key, value in NETWORK.items() if key != "name"}
    torch.save(
        SSAST(**network, stride=(16, 16), pretext="trained").state_dict(), root / "ssast.pth"
    )
    start = {"weights": str(root / "ssast.pth")}
    train = {"epochs": 10, "iterations": 1, "pretrained": start}
    config = tiny.config(root, {"model": NETWORK, "augment": augment, "train": train})
    Run(root / "run", config).train(torch.device("cpu"))
    yield root
    ssast.DEPTH = depth


def drawn(root: Path, monkeypatch, *options: str) -> dict:
    kept: dict = {}
    real = plot_masks.peas_figure
    monkeypatch.setattr(plot_masks, "peas_figure", lambda seen: kept.update(seen) or real(seen))
    out = root / "masks.png"
    out.unlink(missing_ok=True)
    plot_masks.main(["--run", str(root / "run"), "--out", str(out), *options])
    assert out.read_bytes().startswith(b"\x89PNG")
    return kept


def test_the_maps_are_those_of_the_clip_and_the_blocks_those_of_the_masks(root, monkeypatch):
    found = drawn(root, monkeypatch, "u24", "u25")
    assert list(found) == ["u24", "u25"]
    for seen in found.values():
        errors = seen.errors["reconstruction error"]
        inside = ~np.isnan(errors)
        expected = (seen.reconstruction - seen.features) ** 2
        np.testing.assert_allclose(errors[inside], expected[inside], rtol=1e-5, atol=1e-6)
        mask = np.zeros(seen.features.shape, bool)
        for block in seen.blocks:
            cells = slice(block.start, block.start + block.width)
            mask[(cells, slice(None)) if block.axis == 0 else (slice(None), cells)] = True
        assert np.array_equal(seen.masked == 9.0, mask) and mask.any()
        assert np.array_equal(seen.masked[~mask], seen.features[~mask])  # neither noise nor roll
        assert [(b.axis, b.width) for b in seen.blocks] == [(0, 4), (0, 4), (1, 5)]  # last fifth
        assert all(block.adaptive for block in seen.blocks)
        assert seen.seconds == pytest.approx(0.5, abs=0.05)


def test_an_earlier_epoch_has_random_blocks(root, monkeypatch):
    (seen,) = drawn(root, monkeypatch, "--epoch", "1", "u24").values()
    assert [(b.axis, b.adaptive) for b in seen.blocks] == [(0, False), (0, False), (1, True)]


def test_blocks_rounded_by_chance_are_marked_as_they_were_placed(root, monkeypatch, tmp_path):
    """The first frequency block is adaptive at every second seed; then it is where errors are."""
    augment = {"augment": {**PEAS, "rounding": "bernoulli", "score": "e_rec", "window": "actual"}}
    (tmp_path / "peas.yaml").write_text(yaml.safe_dump(augment))
    options = ["--augment", str(tmp_path / "peas.yaml"), "--epoch", "6"]
    marks = []
    for seed in range(10):
        (seen,) = drawn(root, monkeypatch, *options, "--seed", str(seed), "u24").values()
        first = seen.blocks[0]
        if first.width == 0:
            continue  # nowhere
        errors = seen.errors["reconstruction error"]
        profile = np.nansum(errors, axis=1) / np.maximum((~np.isnan(errors)).sum(1), 1)
        means = [profile[k : k + first.width].mean() for k in range(33 - first.width)]
        assert first.axis == 0 and first.adaptive == (first.start == np.argmax(means))
        marks.append(first.adaptive)
    assert 2 <= sum(marks) <= 8


def test_another_checkpoint(root, monkeypatch, capsys):
    torch.manual_seed(1)
    options = {key: value for key, value in NETWORK.items() if key != "name"}
    other = SSAST(**options, stride=(16, 16), pretext="trained")
    torch.save(other.state_dict(), root / "other.pth")
    (own,) = drawn(root, monkeypatch, "u24").values()
    (seen,) = drawn(root, monkeypatch, "--weights", str(root / "other.pth"), "u24").values()
    assert "weights loaded" in capsys.readouterr().out
    assert not np.allclose(own.reconstruction, seen.reconstruction)
    assert np.array_equal(own.features, seen.features)


def test_what_cannot_be_drawn_is_said(root, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="no utterance nobody"):
        drawn(root, monkeypatch, "nobody")
    with pytest.raises(UserError, match="epochs 1 to 10"):
        drawn(root, monkeypatch, "--epoch", "11", "u24")
    with pytest.raises(MissingInput, match="no such run"):
        drawn(tmp_path, monkeypatch, "u24")
    (tmp_path / "mixup.yaml").write_text("augment: {name: mixup}\n")
    with pytest.raises(UserError, match="has no peas"):
        drawn(root, monkeypatch, "--augment", str(tmp_path / "mixup.yaml"), "u24")
