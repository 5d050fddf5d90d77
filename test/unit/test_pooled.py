"""Batches of superposed excerpts, against a plain loop over the wav files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet_like.augment.superposition import Superposition
from espnet_like.data.directory import DataDir, Segment
from espnet_like.errors import UserError
from espnet_like.features.dump import Settings
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.stats import compute_stats
from espnet_like.files import read_json
from espnet_like.layers import merge
from espnet_like.training.pool import Example
from espnet_like.training.runs import Run

sys.path.insert(0, str(Path(__file__).parent))
import tiny
from tiny import assert_same, trained

CPU = torch.device("cpu")
POOL = {
    "augment": {"name": "chain", "methods": [{"name": "superposition"}, {"name": "upb_masks"}]},
    "loss": {"name": "binary_cross_entropy"},
    "train": {"pool": {"repeats": 2, "patience": 50}, "epochs": 2},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """The tiny corpus, its clips of unequal length, their waveforms, and a set of parts of them."""
    root = tiny.make(tmp_path_factory.mktemp("pooled"), unequal=True)
    data = DataDir.load(root / "data/c/all")
    raw = Settings.resolve({"name": "raw", "sample_rate": tiny.RATE})
    dump_part(raw, data, root / "dump/w", 1, 1, log=tiny.quiet)
    merge_parts(raw, data, root / "dump/w", 1, log=tiny.quiet)
    train = DataDir.load(root / "data/c/fold1/train")
    segments, groups, tags, portion = {}, {}, {}, {}
    for number, recording in enumerate(train.utterances):
        cut, rest = (2200 + 37 * number) / tiny.RATE, (1700 - 29 * number) / tiny.RATE
        for part, (start, end) in enumerate(((0.0, cut), (rest, None)), 1):
            utt = f"{recording}_{part}"
            segments[utt] = Segment(recording, start, end)
            groups[utt], tags[utt] = train.groups[recording], train.tags[recording]
            portion[utt] = "curated" if number % 2 else "noisy"
    parts = replace(
        train, path=None, segments=segments, groups=groups, tags=tags, durations={},
        domains={"portion": portion},
    )  # fmt: skip
    parts.save(root / "data/c/fold1/parts")
    compute_stats(root / "dump/c", DataDir.load(root / "data/c/fold1/parts"), root / "parts.json")
    return root


def config(root: Path, layers=None):
    data = {
        "waves": str(root / "dump/w"),
        "train": str(root / "data/c/fold1/parts"),
        "stats": str(root / "parts.json"),
    }
    return tiny.config(root, merge(merge(POOL, {"data": data}), layers or {}))


def test_statistics_are_those_of_the_whole_recordings(corpus):
    whole, parts = read_json(corpus / "dump/c/stats.json"), read_json(corpus / "parts.json")
    assert parts["made"]["utterances"] == whole["made"]["utterances"] == 18
    assert parts["mean"] == whole["mean"]


def test_a_batch_is_what_a_loop_over_the_files_gives(corpus):
    run = Run(corpus / "run", config(corpus))
    clips = run.inputs.pool(run.config.data.train, Superposition(), CPU)
    batches = clips.epoch(0, 0, run.config.train)
    assert any(e.partner >= 0 for batch in batches for e in batch)
    parts = DataDir.load(run.config.data.train)

    def sound(position: int) -> np.ndarray:
        segment = parts.segments[clips.utterances[position]]
        wave, _ = soundfile.read(parts.wav[segment.recording], dtype="int16")
        end = len(wave) if segment.end is None else round(segment.end * tiny.RATE)
        return wave[round(segment.start * tiny.RATE) : end].astype(np.float64) / 32768

    for examples, batch in zip(batches, clips.batches(batches), strict=True):
        assert batch.lengths is not None
        for row, example in enumerate(examples):
            own = sound(example.base)
            lead = max(-example.delay, 0)
            expected = np.zeros(batch.features.shape[-1])
            expected[lead : lead + len(own)] = example.own * own
            tags = {*parts.tags[clips.utterances[example.base]]}
            if example.partner >= 0:
                other = sound(example.partner)
                gain = example.part * np.abs(own).max() / max(np.abs(other).max(), 1e-3)
                start = lead + example.delay
                expected[start : start + len(other)] += gain * other
                tags |= {*parts.tags[clips.utterances[example.partner]]}
            assert int(batch.lengths[row]) == example.samples
            assert np.abs(batch.features[row, 0, 0].numpy() - expected).max() < 1e-6
            found = {clips.labels[k] for k in batch.targets[row].nonzero().flatten().tolist()}
            assert found == tags


def test_workers_change_nothing(corpus, tmp_path):
    alone = trained(tmp_path / "alone", config(corpus))
    assert_same(alone, trained(tmp_path / "two", config(corpus, {"train": {"workers": 2}})))


def test_a_run_killed_in_its_second_epoch_ends_the_same(corpus, tmp_path, monkeypatch):
    """What is left over from the first epoch comes back as it was."""
    whole = trained(tmp_path / "whole", config(corpus))
    run = Run(tmp_path / "killed", config(corpus, {"train": {"checkpoint_steps": 1}}))
    from espnet_like.training.trainer import Trainer

    step = Trainer._step

    def failing(self, batch):
        if self.state.epoch == 1 and self.state.step == 3:
            raise KeyboardInterrupt
        step(self, batch)

    monkeypatch.setattr(Trainer, "_step", failing)
    with pytest.raises(KeyboardInterrupt):
        run.train(CPU)
    monkeypatch.setattr(Trainer, "_step", step)
    assert_same(whole, trained(tmp_path / "killed", run.config))


def test_the_batch_norm_pass_sees_every_clip_once_unmixed_and_alike_in_length(corpus):
    run = Run(corpus / "run", config(corpus))
    clips = run.inputs.pool(run.config.data.train, Superposition(), CPU)
    batches = clips.by_length(8)
    assert sorted(e.base for b in batches for e in b) == list(range(len(clips)))
    assert all(e == Example(e.base, -1, 0, 1.0, 0.0, e.samples) for b in batches for e in b)
    assert max(len(b) for b in batches) > 1
    for batch in batches:
        lengths = [e.samples for e in batch]
        assert len(batch) <= 8 and min(lengths) >= 0.8 * max(lengths)


def test_averaging_by_iteration_takes_every_nth_step(corpus, tmp_path, monkeypatch):
    from espnet_like.training.averaging import WeightAverage

    taken = []
    after = WeightAverage.after

    def spied(self, unit, number, model):
        before = self.count
        after(self, unit, number, model)
        if self.count > before:
            taken.append((unit, number))

    monkeypatch.setattr(WeightAverage, "after", spied)
    average = {"start": 4, "every": 3, "unit": "iteration"}
    layers = {"train": {"average": average, "iterations": 13, "epochs": 100}}
    trained(tmp_path / "run", config(corpus, layers))
    assert taken == [("iteration", 6), ("iteration", 9), ("iteration", 12)]


def test_two_mixers_are_one_too_many(corpus, tmp_path):
    twice = {"name": "chain", "methods": [{"name": "superposition"}] * 2}
    with pytest.raises(UserError, match="by one superposition"):
        Run(tmp_path / "run", config(corpus, {"augment": twice})).train(CPU)
