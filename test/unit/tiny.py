"""A corpus of seconds: noisy tones in four classes, dumped and normalised, and runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import soundfile
import torch

from espnet_like.config import experiment
from espnet_like.data.ark import ArkWriter
from espnet_like.data.directory import DataDir
from espnet_like.features.dump import Settings
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.stats import compute_stats
from espnet_like.files import write_json
from espnet_like.layers import merge
from espnet_like.schema import Experiment
from espnet_like.training.runs import Run

RATE, CLASSES, CLIPS = 8000, 4, 30
FEATURES = {
    "name": "logmel",
    "sample_rate": RATE,
    "n_fft": 256,
    "hop_length": 128,
    "n_mels": 32,
}


def quiet(_: str) -> None:
    """Takes lines of progress."""


def make(root: Path, unequal: bool = False) -> Path:
    """data/c/{all,fold1/train,fold1/test,fold1/valid} and dump/c below `root`."""
    rng = np.random.default_rng(0)
    wav, groups, tags = {}, {}, {}
    (root / "wav").mkdir(parents=True)
    for i in range(CLIPS):
        label = i % CLASSES
        samples = RATE // 2 + (128 * int(rng.integers(0, 12)) if unequal else 0)
        time = np.arange(samples) / RATE
        tone = np.sin(2 * np.pi * 400 * (label + 1) * time + rng.uniform(0, 6))
        path = root / "wav" / f"u{i:02d}.wav"
        soundfile.write(path, 0.2 * tone + 0.1 * rng.normal(size=samples), RATE, "PCM_16")
        wav[path.stem], groups[path.stem], tags[path.stem] = str(path), f"g{i}", (f"c{label}",)
    data = DataDir(None, wav, groups, tags, tuple(f"c{i}" for i in range(CLASSES)))
    ids = data.utterances
    data.save(root / "data/c/all")
    for name, part in (("train", ids[:18]), ("valid", ids[18:24]), ("test", ids[24:])):
        data.subset(part).save(root / "data/c/fold1" / name)
    settings = Settings.resolve(FEATURES)
    dump_part(settings, data, root / "dump/c", 1, 1, log=quiet)
    merge_parts(settings, data, root / "dump/c", 1, log=quiet)
    train = DataDir.load(root / "data/c/fold1/train")
    compute_stats(root / "dump/c", train, root / "dump/c/stats.json")
    return root


def config(root: Path, layers: dict[str, Any] | None = None) -> Experiment:
    """A run on it: a CP-ResNet of 4 channels, 3 epochs of 5 steps, one thread."""
    base = {
        "features": FEATURES,
        "model": {"name": "cp_resnet", "num_classes": CLASSES, "base_width": 4, "rho": 2},
        "augment": {"name": "specaugment_pp"},
        "data": {
            "corpus": "c",
            "dump": str(root / "dump/c"),
            "stats": str(root / "dump/c/stats.json"),
            "train": str(root / "data/c/fold1/train"),
            "test": str(root / "data/c/fold1/test"),
        },
        "train": {
            "epochs": 3,
            "batch_size": 4,
            "optimizer": {"lr": 1e-3},
            "schedule": {"name": "specaugment_pp", "hold": 1, "reach": 2},
            "threads": 1,
            "workers": 0,
            "checkpoint_seconds": 0.0,
        },
    }
    return experiment(merge(base, layers or {}))


def trained(directory: Path, config: Experiment) -> dict[str, torch.Tensor]:
    """The weights that a run leaves."""
    run = Run(directory, config)
    run.train(torch.device("cpu"))
    return safetensors.torch.load_file(run.weights)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def bare_dump(path: Path, bad: tuple[str, ...] = ()) -> Path:
    """A dump that lists nothing but what could not be read."""
    config = {"parts": [], "features": FEATURES, "channels": 1, "bins": 32, "bad": bad}
    write_json(path / "config.json", {**config, "fingerprint": "", "kind": "float32"})
    for name in ("feats.scp", "utt2num_frames"):
        (path / name).write_text("")
    return path


def write_scores(run: Path, name: str, scores: dict[str, np.ndarray], inputs: str = "") -> None:
    """What stage infer leaves of a set."""
    with ArkWriter(run / f"scores/{name}.ark", run / f"scores/{name}.scp") as writer:
        for utt, row in scores.items():
            writer.write(utt, np.asarray(row, np.float32))
    facts = {"inputs": inputs, "parameters": 5, "bytes": 20}
    write_json(run / f"scores/{name}.json", facts)
