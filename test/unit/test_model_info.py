"""The command that says what a model configuration amounts to."""

from __future__ import annotations

import json

import pytest

from espnet_like.bin.model_info import main
from espnet_like.errors import UserError


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(
        "model: {name: cp_resnet, num_classes: 10, in_channels: 1, base_width: 32, rho: 5}\n"
        "input_shape: [1, 256, 216]\n"
    )
    return str(path)


def info(capsys, *argv) -> dict:
    main(list(argv))
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def macs_by_hand(width, rho, channels, freq, time) -> int:
    """Layer by layer: kernel area x inputs x outputs x cells."""
    freq, time = (freq - 3) // 2 + 1, (time - 3) // 2 + 1
    total = 25 * channels * width * freq * time
    kernels = [3, 1] + [3] * rho + [1] * (22 - rho)
    inputs = width
    for block in range(12):
        out = width * (1, 2, 4)[block // 4]
        k1, k2 = kernels[2 * block : 2 * block + 2]
        shortcut = inputs * out if inputs != out else 0
        total += (k1 * k1 * inputs * out + k2 * k2 * out * out + shortcut) * freq * time
        inputs = out
        if block in (0, 1, 3):
            freq, time = freq // 2, time // 2
    return total + inputs * 10 * freq * time


def test_all_facts(capsys, config):
    found = info(capsys, "--config", config)
    assert found == {
        "name": "cp_resnet",
        "parameters": 227_316,
        "trainable": 227_316,
        "receptive_field": [87, 87],
        "macs": macs_by_hand(32, 5, 1, 256, 216),
        "bytes": 4 * 227_316,
        "taps": {
            "input": [1, 256, 216],
            "stem": [32, 127, 107],
            "stage1": [32, 15, 13],
            "stage2": [64, 15, 13],
            "stage3": [128, 15, 13],
        },
        "input_shape": [1, 256, 216],
    }


def test_overrides_and_input_shape(capsys, config):
    found = info(
        capsys, "--config", config, "--model.rho", "7", "--model.base_width=128",
        "--model.in_channels", "2", "--input-shape", "2,256,431",
    )  # fmt: skip
    assert found["parameters"] == 3_959_828
    assert found["receptive_field"] == [135, 135]
    assert found["macs"] == macs_by_hand(128, 7, 2, 256, 431)
    assert round(found["macs"] / 1e9, 1) == 8.7


@pytest.mark.parametrize(
    ("preset", "differs"),
    [
        ("paper_table1", ["6053780", "87"]),
        ("paper_rf87", ["6053780"]),
        ("paper_params", ["87"]),
        ("ch64", []),
    ],
)
def test_note_tells_what_the_paper_prints_instead(capsys, tmp_path, preset, differs):
    path = tmp_path / "model.yaml"
    path.write_text(f"model: {{name: cp_resnet, preset: {preset}}}\n")
    note = info(capsys, "--config", str(path)).get("note", "")
    assert [n for n in ("6053780", "87") if n in note] == differs


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--model.rho", "23"], "rho must be between 0 and 22"),
        (["--model.roh", "5"], "takes base_width"),
        (["--model.rho", "five"], "rho"),
        (["--model.name", "resnext"], "choose from .*cp_resnet"),
        (["--rho", "5"], "unknown option"),
        (["--input-shape", "256,431"], "expected C,F,T"),
        (["--input-shape", "2,256,431"], "in_channels is 1"),
        (["--input-shape", "1,4,4"], "input_shape"),
    ],
)
def test_bad_input_is_one_clear_line(config, argv, says):
    with pytest.raises(UserError, match=says):
        main(["--config", config, *argv])
