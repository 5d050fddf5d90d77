"""Dumps: what comes out, what is made again, and what is left when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from espnet_like.bin import compute_stats, dump_feats
from espnet_like.data.ark import ArkReader, ArkWriter
from espnet_like.data.directory import DataDir, Segment
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.features import LogMel, make_dump
from espnet_like.features.dump import FeatureDump, Settings, check_dump
from espnet_like.features.normalize import Stats
from espnet_like.schema import Audio

RATE = 8000
FEATURES = {"name": "logmel", "sample_rate": RATE, "n_fft": 256, "hop_length": 80, "n_mels": 12}
FRAMES = {f"utt{i}": 1 + (2000 + 160 * (i // 2)) // 80 for i in range(6)}


class Corpus:
    """Six short stereo files, a data directory, and the stage's command line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "dump"
        generator = np.random.default_rng(0)
        self.waves = {
            utt: (generator.integers(-9000, 9000, (80 * (count - 1), 2))).astype(np.int16)
            for utt, count in FRAMES.items()
        }
        for utt, wave in self.waves.items():
            soundfile.write(self.wav(utt), wave, RATE, subtype="PCM_16")
        self.data = DataDir(
            wav={utt: str(self.wav(utt)) for utt in self.waves},
            groups={utt: "g" for utt in self.waves},
        )
        self.data.save(root / "data")
        (root / "features.yaml").write_text(json.dumps({"features": FEATURES}))

    def wav(self, utt: str) -> Path:
        return self.root / f"{utt}.wav"

    def call(self, *options: Any, jobs: int = 2) -> None:
        common = ("--config", self.root / "features.yaml", "--data", self.root / "data")
        paths = ("--out", self.out, "--num-jobs", jobs)
        dump_feats.main([str(o) for o in (*common, *paths, *options)])

    def make(self, *options: Any, jobs: int = 2) -> FeatureDump:
        for job in range(1, jobs + 1):
            self.call("--job", job, *options, jobs=jobs)
        self.call("--merge", *options, jobs=jobs)
        return FeatureDump(self.out)

    def expected(self, utt: str, channels: int = 1) -> np.ndarray:
        wave = torch.from_numpy(self.waves[utt].T / np.float32(32768))
        wave = wave.mean(0, keepdim=True) if channels == 1 else wave
        front = LogMel(**{k: v for k, v in FEATURES.items() if k != "name"})
        return front(wave[None])[0][0].numpy()

    def contents(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in self.out.rglob("*") if p.is_file()}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_dump_holds_what_the_front_end_gives_each_clip(corpus: Corpus, channels: int) -> None:
    dump = corpus.make("--audio.channels", channels)
    assert (dump.channels, dump.bins) == (channels, 12)
    assert dump.utterances == tuple(FRAMES) and len(dump) == 6 and "utt3" in dump
    lines = (corpus.out / "utt2num_frames").read_text().splitlines()
    assert lines == [f"{utt} {count}" for utt, count in FRAMES.items()]
    for utt, count in FRAMES.items():
        expected = corpus.expected(utt, channels)
        assert dump.num_frames(utt) == count
        np.testing.assert_allclose(dump.load(utt), expected, atol=1e-4)
        matrix = np.concatenate(list(expected), axis=0).T  # column c*F + f
        np.testing.assert_allclose(dump.read(utt), matrix, atol=1e-4)
    assert list(ArkReader(corpus.out / "feats.1.scp")) == ["utt0", "utt1", "utt2"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dump)).read("utt4"), dump.read("utt4"))


def test_how_clips_are_batched_does_not_show(corpus: Corpus) -> None:
    one = corpus.make("--batch-seconds", 0.001)
    alone = {utt: one.load(utt) for utt in one.utterances}
    (corpus.out / "feats.1.json").unlink()
    many = corpus.make("--batch-seconds", 60, jobs=1)
    for utt, features in alone.items():
        np.testing.assert_allclose(many.load(utt), features, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "dtype", "atol"), [("--dtype=float16", np.float16, 0.02), ("--compress", None, 0.2)]
)
def test_smaller_numbers(corpus: Corpus, option: str, dtype: Any, atol: float) -> None:
    dump = corpus.make(option)
    assert dtype is None or dump.read("utt1").dtype == dtype
    loaded = dump.load("utt1")
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, corpus.expected("utt1"), atol=atol)


def test_raw_waveforms_come_back_exactly(corpus: Corpus) -> None:
    (corpus.root / "features.yaml").write_text('{"features": {"name": "raw", "sample_rate": 8000}}')
    dump = corpus.make("--audio.channels", 2)
    for utt, wave in corpus.waves.items():
        np.testing.assert_array_equal(dump.read(utt), wave)
        np.testing.assert_array_equal(dump.load(utt), wave.T / np.float32(32768))
        assert dump.num_frames(utt) == len(wave)
    with pytest.raises(UserError, match="int16"):
        corpus.call("--job", 1, "--compress")


def test_segments(corpus: Corpus) -> None:
    segments = {"a": Segment("utt5", 0.0, 0.1), "b": Segment("utt5", 0.1, 0.25)}
    data = DataDir(
        wav={"utt5": str(corpus.wav("utt5"))}, groups={"a": "g", "b": "g"}, segments=segments
    )
    data.save(corpus.root / "data")
    dump = corpus.make(jobs=1)
    corpus.waves["b"] = corpus.waves["utt5"][800:2000]
    np.testing.assert_allclose(dump.load("b"), corpus.expected("b"), atol=1e-4)


def test_fresh_is_kept_and_stale_is_made_again(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.make()
    before = corpus.contents()
    capsys.readouterr()
    corpus.make()
    assert capsys.readouterr().out.count(": fresh") == 3
    assert corpus.contents() == before

    os.utime(corpus.wav("utt4"), (1, 1))  # in the second part
    corpus.call("--job", 1)
    corpus.call("--job", 2)
    out = capsys.readouterr().out
    assert "feats.1.scp: fresh" in out and "feats.2.scp: stale" in out
    with pytest.raises(MissingInput, match="part 2 has changed: run --stage feats"):
        FeatureDump(corpus.out)
    corpus.call("--merge")
    FeatureDump(corpus.out)

    dump = corpus.make("--features.n_mels", 9)
    assert ": stale" in capsys.readouterr().out
    assert dump.bins == 9 and dump.read("utt0").shape == (26, 9)


def test_parts_of_other_settings_are_not_joined(corpus: Corpus) -> None:
    corpus.make()
    corpus.call("--job", 1, "--features.n_mels", 9)
    with pytest.raises(UserError, match=r"feats\.2\.scp: made of other"):
        corpus.call("--merge", "--features.n_mels", 9)
    (corpus.out / "feats.1.json").unlink()
    with pytest.raises(MissingInput, match=r"feats\.1\.scp"):
        corpus.call("--merge")


def test_another_number_of_jobs_makes_nothing_again(corpus: Corpus) -> None:
    corpus.make(jobs=3)
    before = corpus.contents()
    corpus.make(jobs=2)
    assert corpus.contents() == before


def test_a_coarser_split_removes_the_finer_ones_parts(corpus: Corpus) -> None:
    corpus.make(jobs=3)
    (corpus.out / ".feats.1.ark.99.tmp").write_text("of a killed job")
    (corpus.out / "config.json").unlink()
    assert len(corpus.make(jobs=1)) == 6
    names = {path.name for path in corpus.out.iterdir()}
    parts = {"feats.1.ark", "feats.1.scp", "feats.1.json", "frames.1", "bad.1"}
    assert names == parts | {"feats.scp", "utt2num_frames", "config.json"}


def test_more_jobs_than_utterances(corpus: Corpus) -> None:
    assert len(corpus.make(jobs=9)) == 6
    assert (corpus.out / "feats.6.ark").exists() and not (corpus.out / "feats.7.ark").exists()


@pytest.mark.parametrize("cut", [1, 10_000])
def test_a_truncated_archive_is_made_again(corpus: Corpus, cut: int) -> None:
    corpus.make()
    ark = corpus.out / "feats.2.ark"
    before = corpus.contents()
    ark.write_bytes(ark.read_bytes()[:-cut])
    with pytest.raises(UserError, match="remake with --stage feats"):
        FeatureDump(corpus.out).read("utt5")
    corpus.make()
    assert corpus.contents() == before


def bad_files(corpus: Corpus) -> None:
    corpus.wav("utt1").write_bytes(b"no audio")
    corpus.wav("utt4").unlink()


def test_the_first_bad_file_stops(corpus: Corpus) -> None:
    bad_files(corpus)
    with pytest.raises(UserError, match=r"utterance utt1: .*utt1\.wav") as error:
        corpus.call("--job", 1)
    assert error.value.code == 1
    assert corpus.contents() == {}


def test_max_bad_goes_on_and_lists_them(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    bad_files(corpus)
    dump = corpus.make("--max-bad", 2)
    assert dump.bad == {"utt1", "utt4"}
    assert dump.utterances == ("utt0", "utt2", "utt3", "utt5")
    assert (corpus.out / "bad.1").read_text().startswith("utt1 ")
    assert "utt4" in (corpus.out / "bad.2").read_text()
    errors = capsys.readouterr().err  # of the jobs, then of the merge
    assert errors.count("bad: utt1: ") == errors.count("bad: utt4: ") == 2
    with pytest.raises(UserError, match="2 bad utterances, more than --max-bad 1") as error:
        corpus.call("--merge", "--max-bad", 1)  # each job alone was within it
    assert error.value.code == 1 and "bad: utt4: " in capsys.readouterr().err
    corpus.call("--job", 1, "--max-bad", 1)
    with pytest.raises(UserError, match="utt1"):  # what was fresh with --max-bad 2 is not now
        corpus.call("--job", 1)


def test_a_clip_of_less_than_a_frame_is_bad(corpus: Corpus) -> None:
    (corpus.root / "features.yaml").write_text('{"features": {"name": "kaldi_fbank"}}')
    soundfile.write(corpus.wav("utt2"), np.zeros(399), 16000)
    with pytest.raises(UserError, match="utterance utt2: too short"):
        corpus.call("--job", 1)


def test_the_rate_is_the_front_ends(corpus: Corpus) -> None:
    """SSAST's takes 16 kHz and has no setting for it; the corpus is at another rate."""
    assert Settings.resolve({"name": "ssast_fbank"}).sample_rate == 16000
    assert Settings.resolve({"name": "raw", "sample_rate": 8000}).sample_rate == 8000
    (corpus.root / "features.yaml").write_text(
        '{"features": {"name": "ssast_fbank", "frames": 64}}'
    )
    dump = corpus.make()
    assert {dump.read(utt).shape for utt in corpus.waves} == {(64, 128)}


def test_silence_is_legal(corpus: Corpus) -> None:
    soundfile.write(corpus.wav("utt0"), np.zeros((800, 2)), RATE)
    assert np.isfinite(corpus.make().load("utt0")).all()


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    corpus.make()
    before = corpus.contents()
    write, written = ArkWriter.write, []

    def fail(self: ArkWriter, utt: str, array: np.ndarray) -> None:
        written.append(utt)
        if len(written) == 3:
            raise failure
        write(self, utt, array)

    monkeypatch.setattr(ArkWriter, "write", fail)
    with pytest.raises(type(failure)) as error:
        corpus.call("--job", 1, "--features.n_mels", 9)
    if isinstance(error.value, OSError):
        assert error.value.filename == f"{corpus.out}/feats.1.ark"
    assert corpus.contents() == before
    assert FeatureDump(corpus.out).bins == 12


def test_a_failure_when_closing_leaves_what_was_there(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.make()
    before = corpus.contents()
    leave = ArkWriter.__exit__

    def full(self: ArkWriter, *error: Any) -> None:
        failure = OSError(errno.ENOSPC, "No space left on device")
        leave(self, OSError, failure, None)
        raise failure

    monkeypatch.setattr(ArkWriter, "__exit__", full)
    with pytest.raises(OSError, match="No space"):
        corpus.call("--job", 1, "--features.n_mels", 9)
    assert corpus.contents() == before


@pytest.mark.parametrize("when", ["read", "renamed"])
def test_a_killed_job_leaves_nothing_that_looks_finished(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    (corpus.root / "features.yaml").write_text('{"features": {"name": "raw", "sample_rate": 8000}}')
    corpus.make()
    old = FeatureDump(corpus.out).read("utt0")
    os.utime(corpus.wav("utt0"), (1, 1))
    child = os.fork()
    if child == 0:  # die with no clean-up whatever, as by SIGKILL
        if when == "read":
            load, loaded = make_dump.audio.load, []

            def die(*args: Any) -> np.ndarray:
                loaded.append(args)
                return load(*args) if len(loaded) < 3 else os._exit(9)

            monkeypatch.setattr(make_dump.audio, "load", die)
        else:
            monkeypatch.setattr(make_dump, "write_json", lambda *_: os._exit(9))
        corpus.call("--job", 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    if when == "read":  # nothing was touched yet
        np.testing.assert_array_equal(FeatureDump(corpus.out).read("utt0"), old)
    else:
        with pytest.raises(MissingInput, match="part 1 has changed"):
            FeatureDump(corpus.out)
    with pytest.raises(UserError, match=r"feats\.1\.scp"):
        corpus.call("--merge")
    assert len(corpus.make()) == 6
    assert not [path for path in corpus.out.iterdir() if path.name.startswith(".")]


def test_settings_of_a_dump_are_checked(corpus: Corpus) -> None:
    dump = corpus.make()
    check_dump(corpus.out, FEATURES)
    check_dump(dump, {**FEATURES, "fmin": 0.0}, Audio(channels=1))  # a default written out
    with pytest.raises(UserError, match="made with n_mels 12, but n_mels 64 expected"):
        check_dump(dump, {**FEATURES, "n_mels": 64})
    with pytest.raises(UserError, match="made with channels 1, but channels 2 expected"):
        check_dump(dump, FEATURES, Audio(channels=2))
    with pytest.raises(UserError, match="made with name logmel, but name cpjku expected"):
        check_dump(dump, {"name": "cpjku"})
    with pytest.raises(MissingInput, match="run --stage feats"):
        check_dump(corpus.root, FEATURES)


@pytest.mark.parametrize(
    "options",
    [
        ("--job", "3"),
        ("--job", "1", "--features.n_mel", "9"),
        ("--job", "1", "--features.n_mels", "many"),
        ("--job", "1", "--audio.channels", "3"),
        ("--job", "1", "--train.epochs", "3"),
        ("--job", "1", "--fature", "3"),
        ("--job", "1", "--compress", "--dtype", "float16"),
        ("--job", "1", "--audio.expect_rate", "16000"),
        ("--job", "1", "--max-bad", "-1"),
        ("--job", "1", "--batch-seconds", "0"),
    ],
)
def test_wrong_options_are_user_errors(corpus: Corpus, options: tuple[str, ...]) -> None:
    with pytest.raises(UserError):
        corpus.call(*options)
    assert corpus.contents() == {}


def stats(corpus: Corpus, ids: list[str]) -> Stats:
    corpus.data.subset(ids).save(corpus.root / "train")
    out = corpus.root / "stats.json"
    options = ("--dump", corpus.out, "--data", corpus.root / "train", "--out", out)
    compute_stats.main([str(o) for o in options])
    return Stats.load(out)


def test_statistics_are_of_the_training_part(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.make("--audio.channels", 2)
    ids = ["utt0", "utt3", "utt4"]
    found = stats(corpus, ids)
    values = np.concatenate([c for utt in ids for c in corpus.expected(utt, 2)], axis=1)
    assert found.count == values.shape[1]
    np.testing.assert_allclose(found.mean, values.mean(1, np.float64), atol=1e-5)
    np.testing.assert_allclose(found.std, values.std(1, dtype=np.float64, ddof=1), atol=1e-5)
    assert found.made["utterances"] == 3 and found.made["features"]["n_mels"] == 12
    assert ": fresh" not in capsys.readouterr().out
    stats(corpus, ids)
    assert ": fresh" in capsys.readouterr().out
    stats(corpus, ["utt0"])
    assert ": stale" in capsys.readouterr().out


def test_statistics_need_the_dump(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run(lambda: stats(corpus, ["utt0"]))  # type: ignore[arg-type, return-value]
    assert done.value.code == 3
    text = f"error: stage stats needs {corpus.out}/feats.scp: run --stage feats\n"
    assert capsys.readouterr().err == text


def test_statistics_leave_bad_utterances_out(corpus: Corpus) -> None:
    bad_files(corpus)
    corpus.make("--max-bad", 2)
    assert stats(corpus, ["utt0", "utt1"]).made["utterances"] == 1
    with pytest.raises(UserError, match="no utterance"):
        stats(corpus, ["utt1"])
