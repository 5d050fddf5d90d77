"""Stages 0 and 1 of the recipe sc_v2: its demo, both tasks, and copies with a fault each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from espnet_like.data.directory import DataDir
from espnet_like.data.listing import read_listing
from espnet_like.errors import MissingInput, UserError

LOCAL = Path(__file__).resolve().parents[2] / "egs" / "sc_v2" / "local"
COMMANDS = {"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"}


class Scripts(NamedTuple):
    """The recipe's modules."""

    data: object
    demo: object
    silence: object
    speech_commands: object


@pytest.fixture(scope="module")
def scripts():
    """They import one another by plain names, which other recipes use too."""
    names = ("speech_commands", "silence", "demo", "data")
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(LOCAL))
    try:
        import data
        import demo
        import silence
        import speech_commands
    finally:
        sys.path.remove(str(LOCAL))
        for name in names:
            sys.modules.pop(name, None)
            if before[name]:
                sys.modules[name] = before[name]
    return Scripts(data, demo, silence, speech_commands)


@pytest.fixture(scope="module")
def made(scripts, tmp_path_factory) -> Path:
    """The demo."""
    db = tmp_path_factory.mktemp("made")
    assert scripts.demo.write_demo(db) and not scripts.demo.write_demo(db)
    return db


@pytest.fixture
def db(made, tmp_path) -> Path:
    """A copy of the demo to break; its audio is links."""
    shutil.copytree(made, tmp_path / "db", copy_function=os.link)
    for path in (tmp_path / "db").rglob("*.txt"):
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    return tmp_path / "db"


@pytest.fixture
def root(db) -> Path:
    return db / "speech_commands_v0.02"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_demo_has_the_official_layout(made):
    root = made / "speech_commands_v0.02"
    words = {p.name for p in root.iterdir() if p.is_dir()} - {"_background_noise_"}
    assert len(words) == 35 and words >= COMMANDS
    clips = [p for word in words for p in (root / word).glob("*.wav")]
    listed = [lines(root / f"{name}_list.txt") for name in ("validation", "testing")]
    assert len(clips) == 175 and [len(names) for names in listed] == [35, 35]
    assert all((root / name).is_file() for names in listed for name in names)
    assert not set(listed[0]) & set(listed[1])
    infos = [soundfile.info(path) for path in clips]
    kinds = {(i.samplerate, i.channels, i.subtype) for i in infos}
    assert kinds == {(16000, 1, "PCM_16")}
    lengths = {i.frames for i in infos}
    assert max(lengths) == 16000 and 8000 <= min(lengths) < 12000
    names = {p.name for p in (root / "_background_noise_").iterdir()}
    assert len(names) == 7 and names >= {"README.md", "running_tap.wav", "white_noise.wav"}
    test = made / "speech_commands_test_set_v0.02"
    assert {p.name for p in test.iterdir()} == COMMANDS | {"_unknown_", "_silence_"}
    (unknown,) = (test / "_unknown_").iterdir()
    assert unknown.name.startswith("bird_") and unknown.name.endswith("_nohash_0.wav.wav")


def test_parts_are_those_of_the_official_lists(scripts):
    """Speakers that stand in the published lists and in the published test set."""
    testing = ["2fa39636", "47d01978", "bfd26d6b", "e0c782d5", "a4383927", "85d2ac4b"]
    validation = ["605ed0ff", "61bcb275", "e11fbc6e", "1816b768", "ce0cb033", "b5eb4f9b"]
    assert {scripts.demo.part_of(name) for name in testing} == {"testing"}
    assert {scripts.demo.part_of(name) for name in validation} == {"validation"}
    many = Counter(scripts.demo.part_of(f"{n:08x}") for n in range(3000))
    assert many["testing"] / 3000 == pytest.approx(0.1, abs=0.02)
    assert many["validation"] / 3000 == pytest.approx(0.1, abs=0.02)


def test_demo_clips_differ_and_are_the_same_each_time(scripts):
    first = scripts.demo.clip(3, 1)
    np.testing.assert_array_equal(first, scripts.demo.clip(3, 1))
    assert np.abs(first.astype(int)).max() > 3000
    for other in ((4, 1), (3, 2)):
        assert not np.array_equal(first, scripts.demo.clip(*other))


def load(out: Path) -> list[DataDir]:
    names = ("train", "train_valid", "valid", "test")
    return [DataDir.load(out / name) for name in ("all", *(f"fold1/{n}" for n in names))]


def test_sets(scripts, made, tmp_path):
    assert scripts.data.prepare(made, tmp_path, is_demo=True)
    assert not scripts.data.prepare(made, tmp_path, is_demo=True)
    everything, train, same, valid, test = load(tmp_path)
    assert [len(d.utterances) for d in (everything, train, valid, test)] == [175, 105, 35, 35]
    assert same.texts() == train.texts()
    parts = [set(d.utterances) for d in (train, valid, test)]
    assert set.union(*parts) == set(everything.utterances)
    speakers = [set(d.groups.values()) for d in (train, valid, test)]
    assert [len(s) for s in speakers] == [3, 1, 1] and len(set.union(*speakers)) == 5
    assert list(test.labels) == sorted(test.labels) and len(test.labels) == 35
    root = made / "speech_commands_v0.02"
    for name, data in (("validation", valid), ("testing", test)):
        expected = {line.replace("/", "_").removesuffix(".wav") for line in
                    lines(root / f"{name}_list.txt")}  # fmt: skip
        assert expected == set(data.utterances)
    (utt,) = (u for u in test.utterances if u.startswith("yes_"))
    speaker = utt.split("_")[1]
    assert test.wav[utt] == str(root / "yes" / f"{utt.removeprefix('yes_')}.wav")
    assert (test.groups[utt], test.tags[utt]) == (speaker, ("yes",))
    assert test.durations[utt] == soundfile.info(test.wav[utt]).duration


def test_twelve_classes(scripts, made, tmp_path):
    out = tmp_path / "data"
    assert scripts.data.prepare(made, out, "12", True)
    assert not scripts.data.prepare(made, out, "12", True)
    everything, train, same, valid, test = load(out)
    assert set(everything.labels) == COMMANDS | {"_unknown_", "_silence_"}
    assert len(everything.utterances) == 60 and same.texts() == train.texts()
    for data, each, tenth in ((train, 3, 3), (valid, 1, 1), (test, 1, 1)):
        counts = Counter(tag for (tag,) in data.tags.values())
        assert counts == dict.fromkeys(COMMANDS, each) | {"_unknown_": tenth, "_silence_": tenth}
        unknown = {u.split("_")[0] for u, (tag,) in data.tags.items() if tag == "_unknown_"}
        assert not unknown & COMMANDS
    silent = {u: valid.wav[u] for u in valid.utterances if u.startswith("silence_")}
    assert set(silent) == {"silence_running_tap_validation_0000"}
    assert "silence_running_tap" not in set(train.groups.values())
    (path,) = silent.values()
    info = soundfile.info(path)
    assert (info.samplerate, info.frames, info.subtype) == (16000, 16000, "PCM_16")
    assert test.wav["silence_test_17"].endswith("_silence_/17.wav")
    Path(path).unlink()
    assert scripts.data.prepare(made, out, "12", True) and Path(path).is_file()
    assert not list(out.glob(".*"))


def test_silences_are_excerpts_of_the_noises_at_any_volume(scripts, tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(-30000, 30000, 40_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", noise, 16000, subtype="PCM_16")
    made = scripts.silence.excerpts([tmp_path / "a.wav"], "training", 200)
    again = scripts.silence.excerpts([tmp_path / "a.wav"], "training", 200)
    assert list(made) == [f"a_training_{n:04d}" for n in range(200)] == list(again)
    volumes, starts = [], []
    windows = np.lib.stride_tricks.sliding_window_view(noise, 16000)[:, :64].astype(float)
    for name, wave in made.items():
        np.testing.assert_array_equal(wave, again[name])
        head = wave[:64].astype(float)
        fit = windows @ head / np.linalg.norm(windows, axis=1)
        start = int(fit.argmax())
        volume = head @ windows[start] / (windows[start] @ windows[start])
        assert np.abs(wave - volume * noise[start : start + 16000]).max() < 20
        volumes.append(volume)
        starts.append(start)
    assert 0 <= min(volumes) < 0.05 and 0.95 < max(volumes) <= 1
    assert np.mean(volumes) == pytest.approx(0.5, abs=0.08)
    assert np.mean(starts) == pytest.approx(12_000, rel=0.1)


def test_published_counts_are_asked_for(scripts, db, root, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="holds the demo, not Speech Commands"):
        scripts.data.prepare(db, out)
    (root / "SYNTHETIC.txt").unlink()
    with pytest.raises(UserError, match=r"v0\.02: clips: 175, must be 105829"):
        scripts.data.prepare(db, out)
    with pytest.raises(UserError, match="holds Speech Commands, not its demo"):
        scripts.data.prepare(db, out, is_demo=True)
    with pytest.raises(UserError, match="holds Speech Commands, not its demo"):
        scripts.demo.write_demo(db)
    assert not out.exists()


def test_counts_of_the_lists(scripts):
    """The published parts, then a clip moved from one list to the other."""
    sc = scripts.speech_commands
    clip = sc.Clip(Path("x"), "yes", "0" * 8, "0")
    parts = {"training": [clip] * 84843, "validation": [clip] * 9981, "testing": [clip] * 11005}
    sc.check_counts(Path("db"), parts, sc.OFFICIAL)
    parts["validation"], parts["testing"] = [clip] * 9982, [clip] * 11004
    with pytest.raises(UserError, match=r"validation_list\.txt: clips: 9982, must be 9981"):
        sc.check_counts(Path("db"), parts, sc.OFFICIAL)
    parts["validation"], parts["training"] = [clip] * 9981, [clip] * 84844
    with pytest.raises(UserError, match=r"testing_list\.txt: clips: 11004, must be 11005"):
        sc.check_counts(Path("db"), parts, sc.OFFICIAL)


def test_counts_of_twelve_classes_follow_from_the_commands(scripts):
    """30,769 and 3,703 clips of the ten commands: a tenth unknown, a tenth silence, rounded up."""
    sc = scripts.speech_commands
    for commands, total in ((30769, sc.OFFICIAL.training_12), (3703, sc.OFFICIAL.validation_12)):
        clips = [sc.Clip(Path("x"), "yes", "0" * 8, "0")] * commands
        clips += [sc.Clip(Path("x"), "bed", "0" * 8, str(n)) for n in range(5000)]
        picked = scripts.data.chosen(clips)
        assert len(picked) + scripts.data.tenth(picked) == total
        assert scripts.data.chosen(clips[::-1])[commands:] == picked[commands:]
    assert sc.OFFICIAL.testing_12 == 4074 + 2 * sc.OFFICIAL.unknown_12


def fails(scripts, db: Path, out: Path, says: str, task: str = "35", kind=UserError) -> None:
    with pytest.raises(kind, match=says) as error:
        scripts.data.prepare(db, out, task, True)
    assert "\n" not in str(error.value) and not (out / "all").exists()


def test_broken_lists_name_the_line(scripts, db, root, tmp_path):
    out = tmp_path / "out"
    table = root / "testing_list.txt"
    text = table.read_text()
    first = text.splitlines()[0]
    other = lines(root / "validation_list.txt")[4]
    table.write_text(text.replace("\n", f"\n{other}\n", 1))
    fails(scripts, db, out, rf"testing_list\.txt:2: {other} is listed in .*validation_list\.txt:5")
    table.write_text(text + first + "\n")
    fails(scripts, db, out, rf"testing_list\.txt:36: {first} is listed in .*testing_list\.txt:1 al")
    table.write_text(text.replace(first, "backward/0a0b0c0d_nohash_0.wav"))
    fails(scripts, db, out, r"list\.txt:1: .*backward/0a0b0c0d_nohash_0\.wav: no such clip")
    table.write_text(text.partition("\n")[2])
    fails(scripts, db, out, r"testing_list\.txt: clips: 34, must be 35")
    table.write_text(text)
    (root / "validation_list.txt").unlink()
    fails(scripts, db, out, r"validation_list\.txt: no such list", kind=MissingInput)
    table.unlink()
    fails(
        scripts, db, out, r"testing_list\.txt: not there: run --stage download", kind=MissingInput
    )


def test_broken_clips(scripts, db, root, tmp_path):
    out = tmp_path / "out"
    (root / "hello").mkdir()
    fails(scripts, db, out, r"v0\.02/hello: not one of the 35 words")
    (root / "hello").rmdir()
    extra = root / "yes" / "12345678_nohash_0.wav"
    soundfile.write(extra, np.zeros(16000), 16000, subtype="PCM_16")
    fails(scripts, db, out, r"v0\.02: clips: 176, must be 175")
    extra.rename(root / "yes" / "mine.wav")
    fails(scripts, db, out, r"yes/mine\.wav: must be called <8 hex digits>_nohash_<number>\.wav")
    (root / "yes" / "mine.wav").unlink()
    wav = root / lines(root / "testing_list.txt")[3]
    data = wav.read_bytes()
    for samples, rate in ((np.zeros(8000), 8000), (np.zeros((9000, 2)), 16000),
                          (np.zeros(16001), 16000), (np.zeros(399), 16000)):  # fmt: skip
        wav.unlink(missing_ok=True)
        soundfile.write(wav, samples, rate, subtype="PCM_16")
        fails(scripts, db, out, rf"{wav.name}: .*must be 16000 Hz, mono, 400 to 16000 samples")
    wav.write_bytes(b"<html>")
    fails(scripts, db, out, wav.name)
    wav.write_bytes(data)
    shutil.rmtree(root / "zero")
    fails(scripts, db, out, r"list\.txt:35: .*zero/.*: no such clip|v0\.02/zero: no such word dir")


def test_a_speaker_in_two_parts(scripts, db, root, tmp_path):
    """The testing list names another speaker's clip instead of one of its speaker's."""
    table = root / "testing_list.txt"
    listed = set(lines(table) + lines(root / "validation_list.txt"))
    names = (f"backward/{path.name}" for path in sorted((root / "backward").glob("*.wav")))
    other = next(name for name in names if name not in listed)
    table.write_text(table.read_text().replace(lines(table)[0], other))
    fails(scripts, db, tmp_path / "out", "group .* is in fold1/train and in fold1/test")


def test_broken_twelve(scripts, db, root, tmp_path):
    out = tmp_path / "out"
    test = db / "speech_commands_test_set_v0.02"
    (unknown,) = (test / "_unknown_").iterdir()
    name = unknown.name
    unknown.rename(unknown.with_name("yes" + name.removeprefix("bird")))
    fails(scripts, db, out, r"_unknown_/yes_.*must begin with one of the corpus's other", "12")
    (unknown,) = (test / "_unknown_").iterdir()
    unknown.unlink()
    fails(scripts, db, out, r"_unknown_: clips: 0, must be 1", "12")
    shutil.rmtree(test / "go")
    fails(scripts, db, out, r"v0\.02/go: no such class", "12")
    shutil.rmtree(test)
    fails(scripts, db, out, r"_silence_: not there: run --stage download --task 12", "12",
          MissingInput)  # fmt: skip


def test_broken_noises(scripts, db, root, tmp_path):
    out, noises = tmp_path / "out", root / "_background_noise_"
    wav = noises / "pink_noise.wav"
    wav.unlink()
    soundfile.write(wav, np.zeros(9000), 16000, subtype="PCM_16")
    fails(scripts, db, out, r"pink_noise\.wav: .*must be 16000 Hz, mono, more than 16000", "12")
    wav.write_bytes(b"<html>")
    fails(scripts, db, out, r"pink_noise\.wav", "12")
    wav.unlink()
    (noises / "running_tap.wav").unlink()
    fails(scripts, db, out, "no background noise for the validation part", "12", MissingInput)
    assert not out.exists()


def test_archives_unpack_into_directories_of_their_own():
    listing, test = (read_listing(LOCAL / f"{name}.tsv") for name in ("archives", "archives_12"))
    assert [(f.name, f.size) for f in listing.files] == [
        ("speech_commands_v0.02.tar.gz", 2_428_923_189)
    ]
    assert listing.files[0].checksum.startswith("sha256:af14739ee7dc3114")
    assert listing.into == "speech_commands_v0.02"
    assert test.files[0].size == 112_563_277 and test.into == "speech_commands_test_set_v0.02"


def test_scripts_say_how_they_are_used():
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(LOCAL.parents[2]), "PATH": path}
    for name in ("data.py", "demo.py"):
        shown = subprocess.run([LOCAL / name, "--help"], env=env, capture_output=True, text=True)
        assert shown.returncode == 0 and "--db-root" in shown.stdout
