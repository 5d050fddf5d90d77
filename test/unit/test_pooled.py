"""Batches of superposed excerpts, against a plain loop over the wav files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch
from sklearn.metrics import label_ranking_average_precision_score
from tiny import assert_same, trained

from espnet_like.augment import NoAugmentation
from espnet_like.augment.superposition import Superposition
from espnet_like.data import ark
from espnet_like.data.ark import ArkReader, ArkWriter
from espnet_like.data.directory import DataDir, Segment
from espnet_like.errors import UserError
from espnet_like.features.dump import FeatureDump, Settings
from espnet_like.features.logmel import LogMel
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.normalize import Normalize
from espnet_like.features.stats import compute_stats
from espnet_like.files import read_json
from espnet_like.layers import merge
from espnet_like.models.crnn import CRNN
from espnet_like.schema import Pool, Train
from espnet_like.training.evaluation import logits
from espnet_like.training.pool import Example
from espnet_like.training.pooled import PairReader, PooledSet
from espnet_like.training.runs import Run
from espnet_like.training.waves import WaveSet

CPU = torch.device("cpu")
POOL = {
    "augment": {"name": "chain", "methods": [{"name": "superposition"}, {"name": "upb_masks"}]},
    "loss": {"name": "binary_cross_entropy"},
    "train": {"pool": {"repeats": 2, "event_rule": "none"}, "epochs": 2},
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


def test_in_training_each_portion_may_have_its_own_normalisation(corpus, tmp_path):
    """The mean of each bin and one scale, of the recordings of the portion that the base is of."""
    train = DataDir.load(corpus / "data/c/fold1/train")
    portion = {utt: "curated" if k % 2 else "noisy" for k, utt in enumerate(train.utterances)}
    with_portions = replace(train, domains={"portion": portion})
    compute_stats(corpus / "dump/c", with_portions, tmp_path / "stats.json", log=tiny.quiet)
    data = {"data": {"stats": str(tmp_path / "stats.json")}, "normalize": "one_scale"}
    per_set = {**data, "train": {"pool": {"norm": "per_set"}}}
    plain, own = (
        Run(corpus / "run", config(corpus, layers)).inputs.pool(
            str(corpus / "data/c/fold1/parts"), Superposition(), CPU
        )
        for layers in (data, per_set)
    )
    dump = FeatureDump(corpus / "dump/c")

    def moments(utterances):
        frames = np.concatenate([dump.load(u)[0] for u in utterances], 1).astype(np.float64)
        mean = frames.mean(1, keepdims=True)
        return mean, np.sqrt(((frames - mean) ** 2).mean())

    mean, scale = moments(train.utterances)
    of = {
        name: moments([u for u in train.utterances if portion[u] == name])
        for name in ("curated", "noisy")
    }
    chosen = own.epoch(0, 0, own_settings := Train(batch_size=4))
    assert chosen == plain.epoch(0, 0, own_settings)
    seen = set()
    for examples, a, b in zip(chosen, own.batches(chosen), plain.batches(chosen), strict=True):
        found, usual = (c.prepared(x, NoAugmentation())[0] for c, x in ((own, a), (plain, b)))
        for row, example in enumerate(examples):
            name = portion[own.utterances[example.base].rpartition("_")[0]]
            frames = int(found.lengths[row])
            raw = usual.features[row, 0, :, :frames].double().numpy() * scale + mean
            expected = (raw - of[name][0]) / of[name][1]
            assert np.abs(found.features[row, 0, :, :frames].numpy() - expected).max() < 1e-4
            assert not found.features[row, :, :, frames:].any()
            seen.add(name)
    assert seen == {"curated", "noisy"}
    without = {"train": {"pool": {"norm": "per_set"}}}
    with pytest.raises(UserError, match="per_set: there are statistics of no set, none of curated"):
        Run(corpus / "run", config(corpus, without)).inputs.training(CPU)


def test_workers_change_nothing(corpus, tmp_path):
    alone = trained(tmp_path / "alone", config(corpus))
    assert_same(alone, trained(tmp_path / "two", config(corpus, {"train": {"workers": 2}})))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_in_its_second_epoch_ends_the_same(corpus, tmp_path, monkeypatch, workers):
    """What is left over from the first epoch comes back as it was, whoever loads it."""
    whole = trained(tmp_path / "whole", config(corpus))
    layers = {"train": {"checkpoint_steps": 1, "workers": workers}}
    run = Run(tmp_path / "killed", config(corpus, layers))
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


def test_clips_over_the_bound_are_not_trained_on_and_that_is_said(corpus, tmp_path):
    settings = config(corpus, {"train": {"pool": {"max_seconds": 0.4}, "batch_size": 2}})
    run = Run(tmp_path / "run", settings)
    clips = run.inputs.pool(settings.data.train, Superposition(), CPU)
    long = {i for i, n in enumerate(clips.frames.tolist()) if n > 0.4 * tiny.RATE}
    assert 0 < len(long) < len(clips)
    batches = clips.epoch(0, 0, settings.train)
    assert not long & {e.base for b in batches for e in b}
    assert not long & {e.partner for b in batches for e in b}
    assert {e.base for b in clips.by_length(8) for e in b} == {*range(len(clips))} - long
    run.train(CPU)
    said = (tmp_path / "run/train.log").read_text()
    assert f"{len(long)} clips longer than train.pool.max_seconds 0.4 are not trained on" in said
    run.infer(CPU, "parts", settings.data.train)  # scored they are, all of them
    assert len((tmp_path / "run/scores/parts.scp").read_text().splitlines()) == len(clips)
    none = config(corpus, {"train": {"pool": {"max_seconds": 0.01}}})
    with pytest.raises(UserError, match=r"every clip is longer than train.pool.max_seconds 0.01"):
        Run(tmp_path / "none", none).train(CPU)


def test_rules_that_fill_no_batch_are_said(corpus, tmp_path):
    """Four classes, one tag each: no five examples are unlike."""
    never = {"repeats": 0, "event_rule": "antichain"}
    alone = {"name": "chain", "methods": [{"name": "upb_masks"}]}
    layers = {"augment": alone, "train": {"pool": never, "batch_size": 5}}
    with pytest.raises(UserError, match=r"none of the epoch's 36 examples fills a batch of 5"):
        Run(tmp_path / "run", config(corpus, layers)).train(CPU)


def test_silent_clips_are_mixed_without_harm(corpus, monkeypatch):
    """As base and as partner: finite, and the other clip stays as it was."""
    run = Run(corpus / "run", config(corpus))
    clips = run.inputs.pool(run.config.data.train, Superposition(), CPU)
    silent = 3
    read = clips._reader._dump.read

    def muted(utt):
        return read(utt) * (utt != clips.utterances[silent])

    monkeypatch.setattr(clips._reader._dump, "read", muted)
    samples = clips.frames.tolist()
    longest = max(range(len(samples)), key=samples.__getitem__)
    first = Example(silent, longest, 0, 1.0, 1.0, samples[longest])
    second = Example(longest, silent, 0, 2.0, 0.5, samples[longest])
    both = Example(silent, silent, 5, 1.0, 1.0, samples[silent] + 5)
    (batch,) = clips.batches([[first, second, both]])
    features, _ = clips.prepared(batch, run.inputs.augmentation(), torch.Generator())
    assert features.features.isfinite().all()
    assert not batch.features[2].any()
    alone = torch.from_numpy(read(clips.utterances[longest])[:, 0].copy()).float() / 32768
    quiet = 1e-3 * alone / alone.abs().max()  # its tags are the target: it is to be heard
    torch.testing.assert_close(batch.features[0, 0, 0, : samples[longest]], quiet)
    assert torch.equal(batch.features[1, 0, 0, : samples[longest]], 2 * alone)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("part", ["parts", "test"])
def test_scores_do_not_depend_on_who_shares_a_batch(corpus, mask, part):
    """Of excerpts cut from waveforms and of dumped features, of unequal length."""
    model = CRNN(tiny.CLASSES, num_bins=32, base_width=2, hidden=8, mask_padding=mask).eval()
    clips = Run(corpus / "run", config(corpus)).inputs.clips(f"{corpus}/data/c/fold1/{part}", CPU)
    assert not clips.uniform
    sizes = []

    def spied(features, lengths=None):
        sizes.append(len(features))
        return model(features, lengths=lengths)

    spied.training, spied.eval, spied.train = False, lambda: None, lambda _: None
    spied.mask_padding = mask
    found = logits(spied, clips, "fp32", batch_size=4)
    assert len(found) == len(clips) and (max(sizes) > 1) == mask
    for i in range(len(clips)):
        (raw,) = clips.batches([[i]])
        alone, _ = clips.prepared(raw, NoAugmentation())
        with torch.no_grad():
            torch.testing.assert_close(found[i : i + 1], model(alone.features), rtol=0, atol=1e-5)


class OneArchive:
    """Waveforms of half a megabyte each, like a dump of them."""

    path, features, kind = "w", {"name": "raw", "sample_rate": tiny.RATE}, "int16"
    channels, bins, bad, samples = 1, 1, frozenset(), 1 << 18

    def __init__(self, root: Path, clips: int) -> None:
        with ArkWriter(root / "w.ark", root / "w.scp", "int16") as writer:
            for i in range(clips):
                writer.write(f"u{i:02d}", np.full((self.samples, 1), i, np.int16))
        self._arks = ArkReader(root / "w.scp")
        self.read = self._arks.__getitem__

    def __contains__(self, utt: object) -> bool:
        return utt in self._arks

    def num_frames(self, utt: str) -> int:
        return self.samples


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_stays_within_its_bound(tmp_path, monkeypatch):
    """Of an archive that is mapped: `_RESIDENT` bytes. Of batches: three without workers."""
    monkeypatch.setattr(ark, "_RESIDENT", 3 << 20)
    ids = [f"u{i:02d}" for i in range(48)]  # 24 MiB
    data = DataDir(
        wav={u: u for u in ids}, groups={u: u for u in ids}, labels=("a", "b"),
        tags={u: ("ab"[i % 2],) for i, u in enumerate(ids)},
    )  # fmt: skip
    front, normalize = LogMel(tiny.RATE, 256, 128, 32), Normalize(torch.zeros(32), torch.ones(32))
    settings = Pool(repeats=0, event_rule="none", max_seconds=60)
    dump = OneArchive(tmp_path, len(ids))
    clips = PooledSet(data, dump, front, normalize, CPU, 0, settings, None)
    made = []
    load = PairReader.__getitem__
    monkeypatch.setattr(
        PairReader, "__getitem__", lambda self, e: (made.append(len(e)), load(self, e))[1]
    )
    before, most = mapped(), 0
    for taken, _ in enumerate(clips.batches(clips.epoch(0, 0, Train(batch_size=4))), 1):
        most = max(most, mapped() - before)
        assert len(made) <= taken + 2  # in use, ready, being made
    assert taken == 12 and 0 < most < 5 << 20


def mapped() -> int:
    """Bytes of files that are resident in this process."""
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("RssFile:") + 1]) * 1024


def test_lwlrap_chooses_the_epoch_where_clips_have_several_tags(corpus, tmp_path):
    valid = DataDir.load(corpus / "data/c/fold1/valid")
    tags = {
        u: (*t, "c0") if i % 2 and t != ("c0",) else t
        for i, (u, t) in enumerate(valid.tags.items())
    }
    several = replace(valid, path=None, tags=tags)
    assert max(map(len, tags.values())) == 2
    several.save(tmp_path / "valid")
    layers = {"data": {"valid": str(tmp_path / "valid")}}
    layers["train"] = {"selection": "best_valid", "epochs": 4, "optimizer": {"lr": 1e-2}}
    run = Run(tmp_path / "run", config(corpus, layers))
    run.train(CPU)
    done = read_json(tmp_path / "run/train.json")
    values = [row["monitor_lwlrap"] for row in done["history"]]
    assert done["best_epoch"] == 1 + int(np.argmax(values))
    assert "monitor lwlrap" in (tmp_path / "run/train.log").read_text()
    # the weights that were kept are those that had it
    run.infer(CPU, "valid", str(tmp_path / "valid"))
    reader = ArkReader(tmp_path / "run/scores/valid.scp")
    true = np.array([[label in tags[u] for label in valid.labels] for u in tags])
    scores = np.array([reader[u] for u in tags])
    found = label_ranking_average_precision_score(true, scores, sample_weight=true.sum(1))
    assert found == pytest.approx(max(values), abs=1e-9)


@pytest.mark.parametrize("name", ["chain", "one_of"])
def test_a_pool_has_one_mixer_and_sees_it(corpus, tmp_path, name):
    mixer = {"name": "superposition"}
    inside = {"name": name, "methods": [mixer, {"name": "upb_masks"}]}
    for methods in ([mixer, mixer], [mixer, inside], [inside, {"name": "upb_masks"}]):
        wrong = {"augment": {"name": "chain", "methods": methods}}
        with pytest.raises(UserError, match="by one superposition"):
            Run(tmp_path / "run", config(corpus, wrong)).train(CPU)


def test_many_excerpts_to_score_are_not_taken_into_memory(corpus):
    inputs = Run(corpus / "run", config(corpus)).inputs
    assert inputs.clips(str(corpus / "data/c/fold1/test"), CPU).tensor is not None
    parts = inputs.clips(inputs.config.data.train, CPU)
    assert isinstance(parts, WaveSet) and parts.tensor is None
