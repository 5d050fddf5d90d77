"""Stages 0 and 1 of the recipe mini."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from espnet_like.data import scene_corpus
from espnet_like.data.directory import DataDir
from espnet_like.data.scene_corpus import Corpus, write_corpus
from espnet_like.errors import MissingInput, UserError

LOCAL = Path(__file__).resolve().parents[2] / "egs" / "mini" / "local"
TINY = Corpus(cities=1, locations=2, held_out=1, segments=1, seconds=0.5, rate=16000)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mini_{name}", LOCAL / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


data = load("data")


@pytest.fixture
def db(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(scene_corpus, "synthesize", lambda *a: np.zeros(8000, np.float32))
    write_corpus(tmp_path / "db", TINY)
    return tmp_path / "db"


def test_sets(db, tmp_path):
    out = tmp_path / "data"
    assert data.prepare(db, out, TINY)
    everything, train, test = (DataDir.load(out / n) for n in ("all", "fold1/train", "fold1/test"))
    assert len(everything.utterances) == 20 and len(train.utterances) == len(test.utterances) == 10
    assert not set(train.groups.values()) & set(test.groups.values())
    utt = "metro_station-lisbon-300-0-a"
    assert train.wav[utt] == str(db / "audio" / f"{utt}.wav")
    assert train.groups[utt] == "lisbon-300" and train.tags[utt] == ("metro_station",)
    assert train.durations[utt] == 0.5
    assert train.labels == test.labels == tuple(sorted(train.labels)) and len(train.labels) == 10


def test_fresh_is_not_remade_and_a_new_clip_is(db, tmp_path):
    out = tmp_path / "data"
    assert data.prepare(db, out, TINY) and not data.prepare(db, out, TINY)
    clip = sorted((db / "audio").iterdir())[0]
    clip.write_bytes(clip.read_bytes()[:44] + b"\1" * (clip.stat().st_size - 44))
    assert data.prepare(db, out, TINY)
    (out / "fold1" / "test" / "wav.scp").unlink()
    assert data.prepare(db, out, TINY)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


BUS = "audio/bus-lisbon-100-0-a.wav\tbus\tlisbon-100\ta\n"


@pytest.mark.parametrize(
    "old, new, says",
    [
        (BUS, BUS.replace("\tbus", "\ttram"), r"meta\.csv:4: .*not named as its row"),
        (BUS, BUS + BUS, r"meta\.csv:5: bus-lisbon-100-0-a is listed twice"),
        (BUS, "", "not as in meta.csv"),
        (BUS, "audio/bus-lisbon-100-0-a.wav\tbus\n", r"meta\.csv:4: not 4 fields"),
        ("identifier", "place", r"meta\.csv:1: no column 'identifier'"),
    ],
)
def test_broken_metadata_names_file_and_line(db, tmp_path, old, new, says):
    edit(db / "meta.csv", old, new)
    with pytest.raises(UserError, match=says):
        data.prepare(db, tmp_path / "data", TINY)
    assert not (tmp_path / "data").exists()


def test_split_that_crosses_or_lacks_clips(db, tmp_path):
    line = "audio/bus-lisbon-100-0-a.wav\tbus\n"
    evaluate = db / "evaluation_setup" / "fold1_evaluate.csv"
    edit(db / "evaluation_setup" / "fold1_train.csv", line, "")
    with pytest.raises(UserError, match=r"clips in fold1/train: 9, must be 10"):
        data.prepare(db, tmp_path / "data", TINY)
    edit(db / "evaluation_setup" / "fold1_train.csv", "audio/airport", line + "audio/airport")
    edit(evaluate, "audio/bus-lisbon-101-0-a.wav\tbus\n", line)
    with pytest.raises(UserError, match=r"'bus-lisbon-100-0-a' .* fold1/train and in fold1/test"):
        data.prepare(db, tmp_path / "data", TINY)


def test_missing_and_broken_audio(db, tmp_path):
    clip = db / "audio" / "bus-lisbon-100-0-a.wav"
    whole = clip.read_bytes()
    clip.write_bytes(whole[:1000])
    with pytest.raises(UserError, match=clip.name):
        data.prepare(db, tmp_path / "data", TINY)
    clip.unlink()
    with pytest.raises(UserError, match=r"meta\.csv:4: .*is missing"):
        data.prepare(db, tmp_path / "data", TINY)


def test_no_corpus_or_another_size(db, tmp_path):
    with pytest.raises(MissingInput, match="run --stage download"):
        data.prepare(tmp_path / "nowhere", tmp_path / "data", TINY)
    with pytest.raises(MissingInput, match=r"cities is 1, must be 3.*--demo"):
        data.prepare(db, tmp_path / "data", Corpus())


def test_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, LOCAL / "data.py", "--db-root", tmp_path, "--demo"],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(LOCAL.parents[2])},
    )  # fmt: skip
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()
