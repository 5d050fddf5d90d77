"""Stages 0 and 1 of the recipe fsdkaggle19, on its demo and on a copy of 0.1 s clips."""

from __future__ import annotations

import csv
import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from espnet_like.data.directory import DataDir
from espnet_like.data.listing import group, read_listing
from espnet_like.data.validation import problems
from espnet_like.errors import MissingInput, UserError
from espnet_like.features import LogMel

LOCAL = Path(__file__).resolve().parents[2] / "egs" / "fsdkaggle19" / "local"


def load(name: str) -> ModuleType:
    """A script of the recipe; they import one another by plain names, as when they are run."""
    sys.path.insert(0, str(LOCAL))
    try:
        spec = importlib.util.spec_from_file_location(f"fsd_{name}", LOCAL / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(LOCAL))
    return module


data, demo = load("data"), load("demo")
fsd = data.fsd


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def demo_db(tmp_path_factory) -> Path:
    db = tmp_path_factory.mktemp("demo")
    demo.main(["--db-root", str(db)])
    return db


@pytest.fixture(scope="module")
def demo_sets(demo_db) -> Path:
    out = demo_db / "sets"
    assert data.prepare(demo_db, out, demo=True)
    return out


META, TREE = "FSDKaggle2019.meta", "FSDKaggle2019.audio_"
SMALL = fsd.Counts(curated=11, noisy=7, public=2, private=3)
BAD = "1d44b0bd", "f76181c4"


@pytest.fixture
def db(tmp_path, monkeypatch) -> Path:
    """A copy whose counts count as the published ones; curated 00000000 is 40 s long."""
    monkeypatch.setattr(fsd, "OFFICIAL", SMALL)
    root = tmp_path / "db"
    (root / META).mkdir(parents=True)
    lines = "".join(f"{i},{label}\n" for i, label in enumerate(fsd.LABELS))
    (root / META / "vocabulary.csv").write_text(lines)
    number = 0
    for stem, count, source in (
        ("train_curated", 11, "freesound_id"),
        ("train_noisy", 7, "flickr_video_URL"),
        ("test", 5, "freesound_id"),
    ):
        (root / (TREE + stem)).mkdir()
        table = ["fname,labels,usage,freesound_id,license"]
        if stem != "test":
            table = [f"fname,labels,{source},license"]
        for i in range(count):
            name = f"{number:08x}.wav"
            if stem == "train_curated" and i >= 9:
                name = f"{BAD[i - 9]}.wav"
            usage = ("Public," if i < 2 else "Private,") if stem == "test" else ""
            where = f"https://www.flickr.com/photos/7@N0/{i}/" if "noisy" in stem else str(number)
            table.append(f'{name},"Bark,Hi-hat",{usage}{where},CC0')
            samples = np.zeros(40 * 44100 if number == 0 else 4410, np.int16)
            soundfile.write(root / (TREE + stem) / name, samples, 44100, "PCM_16")
            number += 1
        (root / META / f"{stem}_post_competition.csv").write_text("\n".join(table) + "\n")
    return root


def test_published_facts():
    assert sum(fsd.OFFICIAL) == 29266 and fsd.OFFICIAL.public + fsd.OFFICIAL.private == 4481
    assert len(set(fsd.LABELS)) == 80 and sorted(fsd.LABELS) == list(fsd.LABELS)
    assert fsd.OFFICIAL.curated - len(fsd.KNOWN_BAD) == 4964
    archives = {a.name: len(a.parts) for a in group(read_listing(LOCAL / "archives.tsv").files)}
    assert archives == {
        "FSDKaggle2019.doc.zip": 1,
        "FSDKaggle2019.meta.zip": 1,
        "FSDKaggle2019.audio_test.zip": 1,
        "FSDKaggle2019.audio_train_curated.zip": 1,
        "FSDKaggle2019.audio_train_noisy.zip": 7,
    }


def test_sets_of_a_copy(db, tmp_path, capsys):
    out = tmp_path / "out"
    assert data.prepare(db, out) and not data.prepare(db, out)
    said = capsys.readouterr().out
    assert "2 clips known to be bad left out" in said
    assert "curated: 1 clip(s) longer than 30 s" in said
    sizes = {"all": 23, "curated": 8, "noisy": 7, "test": 5, "test_public": 2, "test_private": 3}
    for name, size in sizes.items():
        assert len(DataDir.load(out / name).utterances) == size, name
    assert not (out / "noisy_true").exists()
    everything = DataDir.load(out / "all")
    assert everything.labels == fsd.LABELS and everything.durations["00000000"] == 40.0
    assert everything.groups["00000001"] == "freesound-1"
    assert everything.groups["0000000b"] == "flickr-www.flickr.com-photos-7@N0-0"
    assert everything.tags["00000012"] == ("Bark", "Hi-hat")
    assert not {"00000000", *BAD} & set(DataDir.load(out / "curated").utterances)


def test_bad_and_long_clips_are_options(db, tmp_path):
    assert data.prepare(db, tmp_path / "out")
    assert data.prepare(db, tmp_path / "out", drop_known_bad=False, max_seconds=40.0)
    assert len(DataDir.load(tmp_path / "out/curated").utterances) == 11
    folds = [len(DataDir.load(tmp_path / f"out/fold{k}/test").utterances) for k in range(1, 6)]
    assert sorted(folds) == [2, 2, 2, 2, 3]
    with pytest.raises(UserError, match="--max-seconds 0"):
        data.main(["--db-root", str(db), "--max-seconds", "0"])


def test_places_do_not_depend_on_which_noisy_clips_are_kept(db, tmp_path):
    clip = db / "FSDKaggle2019.audio_train_noisy/0000000c.wav"
    soundfile.write(clip, np.zeros(2 * 44100, np.int16), 44100, "PCM_16")
    data.prepare(db, tmp_path / "all")
    data.prepare(db, tmp_path / "short", max_seconds=1.0)
    whole = DataDir.load(tmp_path / "all/noisy_s1").segments
    assert {u for u, s in whole.items() if s.recording == "0000000c"} == {
        "0000000c_s1_1",
        "0000000c_s1_2",
    }
    kept = {u: s for u, s in whole.items() if s.recording != "0000000c"}
    assert DataDir.load(tmp_path / "short/noisy_s1").segments == kept


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


CURATED, NOISY, TEST = (
    f"{s}_post_competition.csv" for s in ("train_curated", "train_noisy", "test")
)


@pytest.mark.parametrize(
    ("table", "old", "new", "says"),
    [
        (
            CURATED,
            "Bark,Hi-hat",
            "Bark,Hihat",
            r":2: 00000000\.wav has the label 'Hihat', which .*",
        ),
        (CURATED, "Bark,Hi-hat", "Bark,Hihat", r"\(did you mean Hi-hat\?\): restore"),
        (CURATED, '"Bark,Hi-hat"', "", r":2: 00000000\.wav has no label, must have one or more"),
        (CURATED, '"Bark,Hi-hat"', '"Bark,"', r":2: .* has the label '', which"),
        (CURATED, "Bark,Hi-hat", "Bark,Bark", r":2: 00000000\.wav has the label Bark twice"),
        (CURATED, "00000001.wav", "1.wav", r":3: '1\.wav' is not <8 hex digits>\.wav"),
        (CURATED, "00000001.wav", "00000000.wav", r":3: 00000000\.wav is in line 2 already"),
        (
            CURATED,
            "00000001.wav",
            "00000012.wav",
            r"test_.*csv:2: .* is in .*train_curated.* as well",
        ),
        (
            NOISY,
            "0000000b.wav",
            "aaaaaaaa.wav",
            r":2: .*aaaaaaaa\.wav is missing \(1 of 7\).*`cat`",
        ),
        (TEST, "Public", "public", r":2: 00000012\.wav has usage 'public', must be Public or"),
        (TEST, "Public", "Private", r"test_post.*: clips with usage Public: 1, must be 2"),
        (TEST, ",usage", ",use", r":1: no column 'usage'"),
        ("vocabulary.csv", "Hi-hat", "Hihat", r"vocabulary\.csv:42: '41,Hihat' does not name"),
        ("vocabulary.csv", "Hi-hat", "Bark", r"vocabulary\.csv:42: Bark is in line 5 already"),
        ("vocabulary.csv", "79,Zipper_(clothing)\n", "", r"classes: 79, must be 80"),
    ],
)
def test_broken_tables_name_the_line(db, tmp_path, table, old, new, says):
    replace_in(db / META / table, old, new)
    with pytest.raises(UserError, match=says) as error:
        data.prepare(db, tmp_path / "out")
    assert "\n" not in str(error.value) and str(db) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_as_published(db, tmp_path):
    def fails(says: str) -> None:
        with pytest.raises(UserError, match=says):
            data.prepare(db, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    clip = db / "FSDKaggle2019.audio_test/00000013.wav"
    whole = clip.read_bytes()
    for samples, rate, says in (
        (np.zeros(4410, np.int16), 48000, "48000 Hz, 1 channel"),
        (np.zeros((4410, 2), np.int16), 44100, "44100 Hz, 2 channel"),
    ):
        soundfile.write(clip, samples, rate, "PCM_16")
        fails(rf"00000013\.wav: {says}.*, must be 44100 Hz mono")
    for broken in (whole[:500], b""):
        clip.write_bytes(broken)
        fails(r"00000013\.wav")
    clip.unlink()
    fails(r"test_post_competition\.csv:3: .*00000013\.wav is missing \(1 of 5\)")
    clip.write_bytes(whole)
    other = clip.with_name("ffffffff.wav")
    other.write_bytes(whole)
    fails(r"ffffffff\.wav: no row of .*test_post_competition\.csv names it \(1 such")
    other.unlink()
    for path in (db / "FSDKaggle2019.audio_train_noisy").iterdir():
        path.unlink()
    for end in ("z01", "z02", "z04", "z05", "z06", "zip"):
        (db / f"FSDKaggle2019.audio_train_noisy.{end}").touch()
    fails(r"\(7 of 7\).*seven parts FSDKaggle2019\.audio_train_noisy\.z03 is not in")
    lines = (db / META / CURATED).read_text().splitlines(keepends=True)
    (db / META / CURATED).write_text("".join(lines[:-1]))
    fails(r"train_curated_post_competition\.csv: clips: 10, must be 11")


def test_no_copy_and_other_copies(db, demo_db, tmp_path):
    with pytest.raises(MissingInput, match=r"FSDKaggle2019\.meta: no such directory: run --stage"):
        data.prepare(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "kaggle").mkdir()
    (tmp_path / "kaggle/train_curated.csv").touch()
    with pytest.raises(UserError, match="Kaggle competition, which has no labels"):
        data.prepare(tmp_path / "kaggle", tmp_path / "out")
    with pytest.raises(UserError, match="holds the demo, not FSDKaggle2019"):
        data.prepare(demo_db, tmp_path / "out")
    with pytest.raises(UserError, match="holds FSDKaggle2019, not the demo"):
        data.prepare(db, tmp_path / "out", demo=True)
    with pytest.raises(UserError, match="holds FSDKaggle2019, not the demo"):
        demo.main(["--db-root", str(db)])
    (tmp_path / "half/FSDKaggle2019").mkdir(parents=True)
    with pytest.raises(UserError, match="is there, but without"):
        demo.main(["--db-root", str(tmp_path / "half")])


def test_demo_has_the_official_layout(demo_db, capsys):
    root = demo_db / "FSDKaggle2019"
    assert fsd.read_vocabulary(root) == fsd.LABELS
    seconds: dict[str, list[float]] = {}
    for stem, count, tags in (
        ("train_curated", 200, 1.2),
        ("train_noisy", 160, 1.2),
        ("test", 80, 1.4),
    ):
        table = rows(root / META / f"{stem}_post_competition.csv")
        found = sorted(p.name for p in (root / (TREE + stem)).iterdir())
        assert found == [row["fname"] for row in table] and len(found) == count
        assert np.mean([len(row["labels"].split(",")) for row in table]) == pytest.approx(tags)
        for name in found:
            info = soundfile.info(root / (TREE + stem) / name)
            assert (info.samplerate, info.channels, info.subtype) == (44100, 1, "PCM_16")
            seconds.setdefault(stem, []).append(info.duration)
    assert min(seconds["train_curated"]) == min(seconds["test"]) == pytest.approx(0.3)
    assert max(seconds["train_curated"]) == pytest.approx(57.6)
    assert min(seconds["train_noisy"]) >= 1 and max(seconds["train_noisy"]) == 15
    assert sum(map(sum, seconds.values())) < 8.1 * 60
    usage = Counter(row["usage"] for row in rows(root / META / TEST))
    assert usage == {"Public": 20, "Private": 60}
    silent, _ = soundfile.read(root / (TREE + "train_curated") / "1d44b0bd.wav")
    assert not silent.any()
    demo.main(["--db-root", str(demo_db)])
    assert "nothing to do" in capsys.readouterr().out


def test_demo_knows_its_wrong_labels(demo_db, demo_sets):
    root = demo_db / "FSDKaggle2019"
    said = {row["fname"]: set(row["labels"].split(",")) for row in rows(root / META / NOISY)}
    true = {row["fname"]: set(row["labels"].split(",")) for row in rows(root / fsd.TRUTH)}
    wrong = [name for name in said if said[name] != true[name]]
    assert len(wrong) == 0.3 * len(said) and said.keys() == true.keys()
    assert all(not said[name] & true[name] for name in wrong)
    assert all(len(said[name]) == len(true[name]) for name in said)
    found = DataDir.load(demo_sets / "noisy_true").tags
    assert {f"{utt}.wav": set(tags) for utt, tags in found.items()} == true


def test_demo_sets_stand_apart(demo_sets):
    curated, noisy = (DataDir.load(demo_sets / name) for name in ("curated", "noisy"))
    assert len(curated.utterances) == 200 - 6 - 1 and len(noisy.utterances) == 160
    for k in range(3):
        excerpts = DataDir.load(demo_sets / f"noisy_s{k}")
        sizes, tested = [], []
        for fold in range(1, 6):
            place = demo_sets / f"fold{5 * k + fold}"
            train, test = (DataDir.load(place / part) for part in ("train", "test"))
            known = set(curated.utterances) - set(test.utterances)
            assert set(train.utterances) == known | set(excerpts.utterances)
            assert {u for u, p in train.domains["portion"].items() if p == "curated"} == known
            assert not set(train.groups.values()) & set(test.groups.values())
            tested += test.utterances
            sizes.append(len(test.utterances))
        assert sorted(tested) == list(curated.utterances) and max(sizes) - min(sizes) <= 1
    norm = DataDir.load(demo_sets / "norm")
    assert {*norm.utterances} == {*curated.utterances, *noisy.utterances} and not norm.segments
    ids = [set(DataDir.load(demo_sets / f"noisy_s{k}").utterances) for k in range(3)]
    assert [len(i) for i in ids] == [320] * 3 and len(ids[0] | ids[1] | ids[2]) == 960
    assert problems(demo_sets / "noisy_s0", audio=True, against=[demo_sets / "test"]) == []
    assert problems(demo_sets / "curated", against=[demo_sets / "test"]) == []


def test_demo_is_the_same_each_time(demo_db):
    clip = demo.demo_clips(fsd.NOISY)[37]
    path = demo_db / "FSDKaggle2019" / f"{TREE}train_noisy" / f"{clip.name}.wav"
    np.testing.assert_array_equal(
        soundfile.read(path, dtype="int16")[0], demo.wave(clip, fsd.NOISY)
    )
    assert demo.demo_clips(fsd.NOISY) == demo.demo_clips(fsd.NOISY)


def test_demo_classes_can_be_told_apart(demo_sets):
    """The nearest class mean of level-free mel statistics, from curated clips with one tag."""
    front = LogMel(44100, 2048, hop_length=882, n_mels=64, fmin=50.0, norm="none", floor=1e-18)

    def statistics(name: str) -> tuple[np.ndarray, list[str]]:
        part = DataDir.load(demo_sets / name)
        single = [utt for utt in part.utterances if len(part.tags[utt]) == 1]
        found = []
        for utt in single:
            samples, _ = soundfile.read(part.wav[utt], frames=44100, dtype="float32")
            mel = front(torch.from_numpy(samples)[None, None])[0][0, 0].numpy()
            mel = np.maximum(mel - mel.max(), -14)  # so that gain and hiss play no part
            found.append([*mel.mean(1), *mel.std(1)])
        return np.array(found), [part.tags[utt][0] for utt in single]

    known, tags = statistics("curated")
    heard, truth = statistics("test")
    scale = known.std(0) + 1e-6
    classes = sorted(set(tags))
    means = np.stack([known[[tag == c for tag in tags]].mean(0) for c in classes])
    distance = (((heard[:, None] - means) / scale) ** 2).sum(-1)
    right = [classes[i] == tag for i, tag in zip(distance.argmin(1), truth, strict=True)]
    assert set(classes) == set(demo.SOUNDS) and len(classes) == 10
    assert len(right) == 48 and np.mean(right) > 0.85, np.mean(right)


def test_a_group_stays_in_one_fold():
    ids = [f"{i:03d}" for i in range(100)]
    groups = {utt: f"g{int(utt) // 3}" for utt in ids}
    part = DataDir(wav=dict.fromkeys(ids, "x.wav"), groups=groups)
    folds = data.fold_of(part)
    assert set(folds) == set(ids) and set(folds.values()) == {1, 2, 3, 4, 5}
    assert all(len({folds[u] for u in ids if groups[u] == g}) == 1 for g in groups.values())
    assert all(18 <= count <= 22 for count in Counter(folds.values()).values())
    single = DataDir(wav=dict.fromkeys(ids, "x.wav"), groups={u: u for u in ids})
    assert set(Counter(data.fold_of(single).values()).values()) == {20}


def test_stale_sets_are_made_again(db, tmp_path):
    out = tmp_path / "out"
    assert data.prepare(db, out) and not data.prepare(db, out)
    os.utime(db / "FSDKaggle2019.audio_test/00000013.wav", (1, 1))
    assert data.prepare(db, out) and not data.prepare(db, out)
