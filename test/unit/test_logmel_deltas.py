"""SpecMix's front end against librosa and a loop, and through all stages of a run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from espnet_like.bin.pack import pack
from espnet_like.data.ark import ArkReader
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.experiments.runs import Planned
from espnet_like.features import LogMelDeltas
from espnet_like.features.dump import FeatureDump, Settings, check_dump
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.stats import compute_stats
from espnet_like.inference import Classifier
from espnet_like.training.ranks import Ranks
from espnet_like.training.runs import Run

librosa = pytest.importorskip("librosa")

CPU = torch.device("cpu")
FEATURES = {
    "name": "logmel_deltas",
    "sample_rate": tiny.RATE,
    "n_fft": 256,
    "hop_length": 128,
    "n_mels": 32,
    "seconds": 0.45,
}


def by_loop(static: np.ndarray) -> np.ndarray:
    """(F, T) to (3, F, T - 8), frame by frame; what has no neighbours is not a number."""

    def delta(x: np.ndarray) -> np.ndarray:
        d = np.full_like(x, np.nan)
        for t in range(2, x.shape[1] - 2):
            d[:, t] = (x[:, t + 1] - x[:, t - 1]) / 10 + (x[:, t + 2] - x[:, t - 2]) / 5
        return d

    maps = np.stack([static, delta(static), delta(delta(static))])
    valid = np.isfinite(maps).all((0, 1))
    return maps[:, :, valid]


def test_it_is_librosas_log_mel_and_its_differences() -> None:
    rng = np.random.default_rng(0)
    wave = 0.1 * rng.standard_normal((2, 44100)).astype(np.float32)
    wave[:, 20000:30000] = 0  # where the offset counts
    features, frames = LogMelDeltas()(torch.from_numpy(wave)[None])
    maps = []
    for channel in wave.astype(np.float64):
        mel = librosa.feature.melspectrogram(
            y=channel, sr=44100, n_fft=2048, hop_length=1024, n_mels=128, fmin=0.0, fmax=22050.0,
            htk=True, norm=None, power=2.0, pad_mode="reflect",
        )  # fmt: skip
        maps.append(by_loop(np.log(mel + 1e-8)))
    expected = np.stack(maps, axis=1).reshape(6, 128, -1)  # all static, all deltas, all second ones
    assert features.shape[1:] == expected.shape and frames.tolist() == [expected.shape[-1]]
    np.testing.assert_allclose(features[0], expected, atol=1e-3, rtol=0)


def test_frames_of_the_published_systems() -> None:
    assert LogMelDeltas().num_frames(441_000) == 423
    secl = LogMelDeltas(seconds=2.0)
    assert secl.num_frames(132_300) == secl.num_frames(88_200) == 79
    assert secl.num_frames(44_100) == 44 - 8  # a shorter clip is not filled


def test_a_ramp_has_its_slope_for_a_delta() -> None:
    """The weights 1/10 and 1/5 are those of the least-squares slope over five frames."""
    from espnet_like.features.logmel_deltas import deltas

    time = torch.arange(11.0)[:, None].expand(1, 1, 11, 3)
    torch.testing.assert_close(deltas(3 * time), torch.full((1, 1, 7, 3), 3.0))


@pytest.mark.parametrize("samples", [1, 128, 8 * 128 - 1])
def test_a_clip_without_second_deltas_has_no_frames(samples: int) -> None:
    front = LogMelDeltas(8000, 256, 128, 20)
    features, frames = front(torch.zeros(2, 2, samples))
    assert features.shape == (2, 6, 20, 0) and frames.tolist() == [0, 0]


def test_what_comes_after_the_seconds_is_not_heard() -> None:
    front = LogMelDeltas(8000, 256, 128, 20, seconds=0.5)
    wave = torch.randn(2, 1, 9000)
    lengths = torch.tensor([9000, 3000])
    features, frames = front(wave, lengths)
    assert frames.tolist() == [4000 // 128 + 1 - 8, 3000 // 128 + 1 - 8]
    cut, _ = front(wave[..., :4000], lengths.clamp(max=4000))
    torch.testing.assert_close(features, cut)


@pytest.mark.parametrize("bad", [{"offset": 0.0}, {"seconds": 0.0}, {"hop_length": 0}])
def test_arguments_out_of_range(bad: dict) -> None:
    with pytest.raises(ValueError):
        LogMelDeltas(**bad)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    root = tiny.make(tmp_path_factory.mktemp("corpus"))
    data = DataDir.load(root / "data/c/all")
    settings = (Settings.resolve(FEATURES), Settings.resolve({"name": "raw", "sample_rate": 8000}))
    for name, setting in zip(("deltas", "raw"), settings, strict=True):
        dump_part(setting, data, root / "dump" / name, 1, 1, log=tiny.quiet)
        merge_parts(setting, data, root / "dump" / name, 1, log=tiny.quiet)
    train = DataDir.load(root / "data/c/fold1/train")
    compute_stats(root / "dump/deltas", train, root / "dump/deltas/stats.json", tiny.quiet)
    return root


def config(root: Path, **layers):
    dump = root / "dump/deltas"
    data = {"dump": str(dump), "stats": str(dump / "stats.json"), "waves": str(root / "dump/raw")}
    base = {"features": {**FEATURES}, "model": {"in_channels": 3}, "data": data, **layers}
    return tiny.config(root, base)


def test_a_dump_has_three_channels_of_one(corpus: Path) -> None:
    dump = FeatureDump(corpus / "dump/deltas")
    frames = 3600 // 128 + 1 - 8
    assert (dump.audio_channels, dump.channels, dump.bins) == (1, 3, 32)
    assert dump.load("u00").shape == (3, 32, frames)
    check_dump(dump, FEATURES, config(corpus).audio)
    maps = dump.load("u03")
    change = (maps[0, :, 3:-1] - maps[0, :, 1:-3]) / 10 + (maps[0, :, 4:] - maps[0, :, :-4]) / 5
    np.testing.assert_allclose(maps[1, :, 2:-2], change, atol=1e-4)


def test_a_run_without_normalisation_from_dump_to_pack(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", config(corpus, normalize=False, train={"epochs": 1}))
    raw = torch.from_numpy(FeatureDump(corpus / "dump/deltas").load("u00").copy())
    clips = run.inputs.clips(run.config.data.train, CPU)
    assert clips.shape == tuple(raw.shape)
    torch.testing.assert_close(next(clips.batches([[0]])).features[0], raw, rtol=0, atol=0)
    run.train(CPU)
    run.infer(CPU)
    stored = ArkReader(run.directory / "scores/test.scp")
    classifier = Classifier.load(
        pack(Planned("row", "small", "none", 1, 0, run.directory, run.config))
    )
    data = DataDir.load(run.config.data.test)
    for utt in data.utterances[:2]:
        found = classifier.classify(data.wav[utt])
        assert [found[label] for label in data.labels] == pytest.approx(stored[utt], abs=1e-5)


def test_normalisation_is_part_of_what_a_run_is(corpus: Path, tmp_path: Path) -> None:
    plain, usual = (Run(tmp_path, config(corpus, normalize=n)) for n in (False, True))
    assert plain.fingerprint() != usual.fingerprint()
    (batch,) = usual.inputs.clips(usual.config.data.train, CPU).batches([list(range(18))])
    means = batch.features.mean((0, 1, 3))
    assert means.abs().max() < 1e-3


def test_methods_that_change_waveforms_get_three_channels(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", config(corpus, augment={"name": "bc_learning"}, normalize=False))
    trainer = run._trainer("", CPU, Ranks())
    assert trainer.clips.shape == (3, 32, 3600 // 128 + 1 - 8)
    batch = next(trainer.clips.batches([[0, 1, 2]]))
    prepared, _ = trainer.clips.prepared(batch, trainer.augmentation)
    assert prepared.features.shape[1] == 3 and math.isfinite(float(prepared.features.sum()))
    with pytest.raises(UserError, match=r"in_channels is 1, .* has 3"):
        one = config(corpus, augment={"name": "bc_learning"}, model={"in_channels": 1})
        Run(tmp_path / "one", one).inputs.waves(run.config.data.train, CPU)
