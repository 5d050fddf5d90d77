"""Training from waveforms: the features of the dump, exact resume, memory or archives, messages."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from tiny import assert_same, trained

from espnet_like.augment import NoAugmentation
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.features.dump import FeatureDump, Settings
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.normalize import Normalize
from espnet_like.features.ssast_fbank import SSASTFbank
from espnet_like.files import read_json
from espnet_like.training.runs import Run
from espnet_like.training.trainer import Trainer
from espnet_like.training.waves import WaveSet

CPU = torch.device("cpu")
CHAIN = {"name": "chain", "methods": [{"name": "superposition"}, {"name": "specmix"}]}


def add_waves(root: Path, rate: int = tiny.RATE) -> Path:
    settings = Settings.resolve({"name": "raw", "sample_rate": rate})
    data = DataDir.load(root / "data/c/all")
    dump_part(settings, data, root / "dump/raw", 1, 1, log=tiny.quiet)
    merge_parts(settings, data, root / "dump/raw", 1, log=tiny.quiet)
    return root


@pytest.fixture(scope="module")
def equal(tmp_path_factory) -> Path:
    return add_waves(tiny.make(tmp_path_factory.mktemp("equal")))


@pytest.fixture(scope="module")
def unequal(tmp_path_factory) -> Path:
    return add_waves(tiny.make(tmp_path_factory.mktemp("unequal"), unequal=True))


def config(root: Path, augment, **layers):
    data = {"waves": str(root / "dump/raw"), **layers.pop("data", {})}
    train = {"iterations": 7, **layers.pop("train", {})}  # of 5 steps an epoch
    return tiny.config(root, {"augment": augment, "data": data, "train": train})


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_features_are_those_of_the_dump(kind, request, tmp_path):
    run = Run(tmp_path, config(request.getfixturevalue(kind), {"name": "bc_learning"}))
    directory = run.config.data.train
    dumped, heard = run.inputs.clips(directory, CPU), run.inputs.waves(directory, CPU)
    assert heard.utterances == dumped.utterances and heard.shape == dumped.shape
    assert heard.tensor.dtype == torch.int16
    positions = [[3, 0, 17], [5]]
    for a, b in zip(dumped.batches(positions), heard.batches(positions), strict=True):
        b, then = heard.prepared(b, NoAugmentation())
        torch.testing.assert_close(b.features, a.features, rtol=1e-4, atol=1e-4)
        assert torch.equal(b.targets, a.targets) and isinstance(then, NoAugmentation)
        assert (a.lengths is None) == (b.lengths is None)
        assert a.lengths is None or torch.equal(a.lengths, b.lengths)


@pytest.mark.parametrize(
    ("kind", "augment"), [("equal", {"name": "speechmix"}), ("unequal", CHAIN)]
)
def test_memory_and_archives_give_the_same(kind, augment, request, tmp_path):
    root = request.getfixturevalue(kind)
    weights = [
        trained(
            tmp_path / f"run{workers}",
            config(root, augment, data={"in_memory": memory}, train={"workers": workers}),
        )
        for memory, workers in ((True, 0), (False, 1))
    ]
    assert_same(*weights)


def test_killed_and_resumed_is_the_same(unequal, tmp_path, monkeypatch):
    run = config(unequal, CHAIN, train={"checkpoint_steps": 2})
    whole = trained(tmp_path / "whole", run)
    step, taken = Trainer._step, 0

    def dying(self, batch):
        nonlocal taken
        taken += 1
        step(self, batch)
        if taken == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "killed", run).train(CPU)
    monkeypatch.setattr(Trainer, "_step", step)
    torch.manual_seed(5)
    assert_same(trained(tmp_path / "killed", run), whole)


def test_scores_and_averages_come_from_what_was_not_changed(equal, tmp_path):
    """Statistics of the averaged network and the scores see no augmentation."""
    layers = {"epochs": 1, "average": {"start": 0, "every": 1}}
    run = Run(tmp_path / "run", config(equal, {"name": "bc_learning"}, train=layers))
    run.train(CPU)
    run.infer(CPU)
    history = read_json(run.directory / "train.json")["history"]
    assert len(history) == 1 and all(row["loss"] > 0 for row in history)
    layers = {"augment": {"name": "bc_learning"}, "train": {"iterations": 7, **layers}}
    plain = Run(tmp_path / "run", tiny.config(equal, layers))
    assert plain.trained() and plain.inferred()  # scoring needs no waveforms


def test_what_is_missing_is_said(equal, tmp_path):
    bare = Run(tmp_path / "run", tiny.config(equal, {"augment": {"name": "bc_learning"}}))
    with pytest.raises(UserError, match=r"bc_learning changes waveforms.* no dump of them"):
        bare.train(CPU)
    nowhere = config(equal, CHAIN, data={"waves": str(tmp_path / "nowhere")})
    with pytest.raises(MissingInput, match=r"nowhere/feats\.scp: run --stage feats"):
        Run(tmp_path / "run", nowhere).train(CPU)
    unused = config(equal, {"name": "mixup"}, data={"waves": str(tmp_path / "nowhere")})
    Run(tmp_path / "run", unused).need_inputs()


def test_waveforms_of_another_rate_are_refused(tmp_path):
    root = add_waves(tiny.make(tmp_path / "corpus"), rate=4000)
    with pytest.raises(UserError, match=r"'sample_rate': 4000.*'sample_rate': 8000"):
        Run(tmp_path / "run", config(root, {"name": "wave_mixup"})).train(CPU)


def test_clips_brought_to_one_length_have_no_padding(tmp_path):
    """SSAST looks at what its front end puts after a clip, in training as in scoring."""
    root = add_waves(tiny.make(tmp_path, unequal=True), rate=16000)
    data = DataDir.load(root / "data/c/fold1/train")
    front = SSASTFbank(frames=90)
    still = Normalize(torch.zeros(128), torch.ones(128))
    clips = WaveSet(data, FeatureDump(root / "dump/raw"), front, still, CPU)
    [batch] = clips.batches([[0, 1, 2]])
    assert batch.lengths is not None and len(set(batch.lengths.tolist())) > 1
    prepared, _ = clips.prepared(batch, NoAugmentation())
    assert prepared.lengths is None and prepared.features.shape[3] == 90
    for clip, length in enumerate(batch.lengths.tolist()):
        wave = batch.features[clip : clip + 1, :, 0, :length].float() / 32768
        torch.testing.assert_close(prepared.features[clip : clip + 1], front(wave)[0])
