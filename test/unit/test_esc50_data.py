"""Stages 0 and 1 of the recipe esc50, on copies with silent clips at 100 Hz and on the real csv."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError

LOCAL = Path(__file__).resolve().parents[2] / "egs" / "esc50" / "local"
HEADER = "filename,fold,target,category,esc10,src_file,take"


def load(name: str) -> ModuleType:
    """A script of the recipe; they import one another by plain names, as when they are run."""
    sys.path.insert(0, str(LOCAL))
    try:
        spec = importlib.util.spec_from_file_location(f"esc50_{name}", LOCAL / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(LOCAL))
    return module


data, download = load("data"), load("download")
esc50, demo = data.esc50, download.demo


def line_of(name: str) -> str:
    fold, source, take, target = name.removesuffix(".wav").split("-")
    category = esc50.CATEGORIES[int(target)]
    return f"{name},{fold},{target},{category},{int(target) in esc50.ESC10},{source},{take}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """All 2000 names; every clip is the same file, 5 s of silence at 100 Hz."""
    root = tmp_path_factory.mktemp("whole") / "ESC-50-master"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    names = (LOCAL / "clips.txt").read_text().split()
    soundfile.write(root / "audio" / names[0], np.zeros(500, np.int16), 100, subtype="PCM_16")
    for name in names[1:]:
        os.link(root / "audio" / names[0], root / "audio" / name)
    lines = [HEADER, *map(line_of, names)]
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return root.parent


@pytest.fixture
def db(whole, tmp_path) -> Path:
    """A copy of ESC-10 to break: linked clips, its own csv."""
    root = tmp_path / "db" / "ESC-50-master"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    lines = [HEADER]
    for line in (whole / "ESC-50-master/meta/esc50.csv").read_text().splitlines()[1:]:
        if ",True," in line:
            name = line.partition(",")[0]
            os.link(whole / "ESC-50-master/audio" / name, root / "audio" / name)
            lines.append(line)
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return root.parent


def test_official_lists_are_the_published_ones(shared_dir):
    with open(shared_dir / "data" / "esc50" / "esc50.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["filename"] for row in rows) == esc50.official_names()
    categories = {(int(row["target"]), row["category"]) for row in rows}
    assert categories == set(enumerate(esc50.CATEGORIES))
    assert {int(r["target"]) for r in rows if r["esc10"] == "True"} == set(esc50.ESC10)
    assert [line_of(row["filename"]) for row in rows] == [",".join(row.values()) for row in rows]


def test_only_four_recordings_cross_the_published_folds():
    folds: dict[str, set[str]] = {}
    of_class: dict[tuple[str, str], set[str]] = {}
    for name in esc50.official_names():
        fold, source, _, target = name.removesuffix(".wav").split("-")
        folds.setdefault(source, set()).add(fold)
        of_class.setdefault((source, target), set()).add(fold)
    crossing = {source for source, where in folds.items() if len(where) > 1}
    assert crossing == {"131943", "134049", "209698", "234879"}
    assert all(len(where) == 1 for where in of_class.values())


@pytest.mark.parametrize(
    "corpus, classes, sizes",
    [("esc50", 50, (2000, 1600, 400, 1200)), ("esc10", 10, (400, 320, 80, 240))],
)
def test_sets(whole, tmp_path, corpus, classes, sizes):
    assert data.prepare(whole, tmp_path, corpus)
    everything = DataDir.load(tmp_path / "all")
    assert len(everything.utterances) == sizes[0] and len(everything.labels) == classes
    tested: list[str] = []
    for k in range(1, 6):
        names = ("train", "test", "train_valid", "valid")
        train, test, rest, valid = (DataDir.load(tmp_path / f"fold{k}" / n) for n in names)
        counts = [len(d.utterances) for d in (train, test, rest, valid)]
        assert counts == [sizes[1], sizes[2], sizes[3], sizes[2]]
        assert {u[0] for u in test.utterances} == {str(k)}
        assert {u[0] for u in valid.utterances} == {str(k % 5 + 1)}
        assert set(rest.utterances) | set(valid.utterances) == set(train.utterances)
        assert not set(rest.utterances) & set(valid.utterances)
        assert not set(train.groups.values()) & set(test.groups.values())
        per_class = Counter(tag for tags in test.tags.values() for tag in tags)
        assert set(per_class.values()) == {8} and set(per_class) == set(test.labels)
        tested += test.utterances
    assert sorted(tested) == list(everything.utterances)


def test_a_line_of_each_table(whole, tmp_path):
    data.prepare(whole, tmp_path, "esc10")
    test = DataDir.load(tmp_path / "fold1" / "test")
    utt = "1-17150-A-12"
    assert test.wav[utt] == str(whole / "ESC-50-master/audio/1-17150-A-12.wav")
    assert test.groups[utt] == "17150-12" and test.tags[utt] == ("crackling_fire",)
    assert test.durations[utt] == 5.0
    assert test.labels == (
        "dog", "rooster", "rain", "sea_waves", "crackling_fire", "crying_baby", "sneezing",
        "clock_tick", "helicopter", "chainsaw",
    )  # fmt: skip


def test_fresh_is_not_remade(db, tmp_path):
    out = tmp_path / "out"
    assert data.prepare(db, out, "esc10") and not data.prepare(db, out, "esc10")
    clip = db / "ESC-50-master/audio/1-17150-A-12.wav"
    copy = clip.read_bytes()
    clip.unlink()
    clip.write_bytes(copy)
    os.utime(clip, (1, 1))
    assert data.prepare(db, out, "esc10")


def test_esc10_alone_is_enough_for_esc10_only(db, tmp_path):
    with pytest.raises(UserError, match=r"1600 of the 2000 .*fold 5: 320.*--subset esc10"):
        data.prepare(db, tmp_path / "out", "esc50")
    assert not (tmp_path / "out").exists()


DOG = line_of("1-100032-A-0.wav")


@pytest.mark.parametrize(
    "new, says",
    [
        (
            DOG.replace("wav,1", "wav,2"),
            r"csv:2: 1-100032-A-0\.wav has fold '2', its name says '1'",
        ),
        (DOG.replace(",0,", ",1,"), r"csv:2: .* target '1', its name says '0'"),
        (DOG.replace("dog", "cat"), r"csv:2: .* category 'cat'"),
        (DOG.replace("True", "False"), r"csv:2: .* esc10 'False'"),
        (DOG.replace(",A", ",B"), r"csv:2: .* take 'B'"),
        (DOG.replace(",100032", ",7"), r"csv:2: .* src_file '7'"),
        (DOG + "\n" + DOG, r"csv:3: 1-100032-A-0\.wav is in line 2 already"),
        (DOG + ",more", r"csv:2: not 7 fields"),
        (DOG.rpartition(",")[0], r"csv:2: not 7 fields"),
        (DOG.replace("1-100032-A-0.wav", "dog.wav"), r"csv:2: 'dog\.wav' is not <fold>"),
        (line_of("1-7-A-0.wav"), r"csv:2: 1-7-A-0\.wav is not a clip of ESC-50"),
        (None, r"csv: 1 of the 400 clips of esc10 .*\(fold 1: 1\), first 1-100032-A-0\.wav"),
    ],
)
def test_broken_csv_names_the_line(db, tmp_path, new, says):
    table = db / "ESC-50-master/meta/esc50.csv"
    table.write_text(table.read_text().replace(DOG + "\n", "" if new is None else new + "\n"))
    with pytest.raises(UserError, match=says) as error:
        data.prepare(db, tmp_path / "out", "esc10")
    assert "\n" not in str(error.value) and str(table) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_csv_missing_or_without_a_column(db, tmp_path):
    table = db / "ESC-50-master/meta/esc50.csv"
    table.write_text(table.read_text().replace("esc10,src_file", "esc10,source"))
    with pytest.raises(UserError, match=r"esc50\.csv:1: no column 'src_file'"):
        data.prepare(db, tmp_path / "out", "esc10")
    table.unlink()
    with pytest.raises(MissingInput, match=r"esc50\.csv: no such file: run --stage download"):
        data.prepare(db, tmp_path / "out", "esc10")


def test_broken_audio_names_the_file(db, tmp_path):
    clip = db / "ESC-50-master/audio/1-100032-A-0.wav"
    whole = clip.read_bytes()

    def fails(says: str) -> None:
        with pytest.raises(UserError, match=says):
            data.prepare(db, tmp_path / "out", "esc10")
        assert not (tmp_path / "out").exists()

    clip.unlink()  # the link, so that the other clips stay whole
    fails(r"csv:2: .*1-100032-A-0\.wav is missing \(1 in all\)")
    for broken in (whole[:500], whole[:20], b"", b"<html>not found</html>" * 50):
        clip.write_bytes(broken)
        fails(r"1-100032-A-0\.wav")
    for samples, rate, says in (
        (np.zeros(400, np.int16), 100, r"400 samples, must be 500 \(5 s\)"),
        (np.zeros((500, 2), np.int16), 100, "2 channels"),
        (np.zeros(1000, np.int16), 200, "200 Hz"),
    ):
        soundfile.write(clip, samples, rate, subtype="PCM_16")
        fails(says)
    clip.write_bytes(whole)
    (clip.parent / "1-5-A-0.wav").write_bytes(whole)
    fails(r"1-5-A-0\.wav: no line of .*esc50\.csv names it")


def test_real_clips(shared_dir, tmp_path):
    """The real copy lacks fold 5 of 40 classes: enough for ESC-10, said for ESC-50."""
    subprocess.run(
        [sys.executable, shared_dir / "data" / "unpack_esc50.py", tmp_path, "--esc10"], check=True
    )
    data.prepare(tmp_path, tmp_path / "out", "esc10")
    assert len(DataDir.load(tmp_path / "out" / "all").utterances) == 400
    with pytest.raises(UserError, match="1600 of the 2000"):
        data.prepare(tmp_path, tmp_path / "out", "esc50")


@pytest.fixture
def archive(whole, tmp_path) -> Path:
    """What GitHub would send, if the clips were 100 Hz silence."""
    path = tmp_path / "db" / "ESC-50-master.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(whole.rglob("*")):
            file.write(member, member.relative_to(whole))
    return path


def test_download_unpacks_and_checks(archive, capsys):
    db = archive.parent
    download.main(["--db-root", str(db)])  # the archive is there: no network
    assert sorted(p.name for p in db.iterdir()) == ["ESC-50-master"]
    assert len(list((db / "ESC-50-master/audio").iterdir())) == 2000
    assert "CC BY-NC" in capsys.readouterr().out
    download.main(["--db-root", str(db)])
    assert "2000 clips, nothing to fetch" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds ESC-50, not the demo"):
        download.main(["--db-root", str(db), "--demo"])


def test_download_of_an_archive_that_lacks_a_clip(archive):
    small = archive.with_name("less.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(small, "w") as new:
        for member in old.infolist():
            if not member.filename.endswith("1-100032-A-0.wav"):
                new.writestr(member, old.read(member))
    os.replace(small, archive)
    with pytest.raises(UserError, match=r"not the whole ESC-50 .*1-100032-A-0\.wav is missing"):
        download.main(["--db-root", str(archive.parent)])
    assert [p.name for p in archive.parent.iterdir()] == ["ESC-50-master.zip"]


def test_demo_has_the_official_layout(tmp_path):
    download.main(["--db-root", str(tmp_path), "--demo"])
    root = tmp_path / "ESC-50-master"
    assert (root / "LICENSE").is_file()
    with open(root / "meta" / "esc50.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == HEADER and len(rows) == 100
    assert [line_of(row["filename"]) for row in rows] == [",".join(row.values()) for row in rows]
    silent = 0
    for row in rows:
        info = soundfile.info(root / "audio" / row["filename"])
        assert (info.samplerate, info.channels, info.frames) == (44100, 1, 220500)
        assert info.subtype == "PCM_16"
        tail, _ = soundfile.read(root / "audio" / row["filename"], start=-22050, dtype="int16")
        silent += not tail.any()
    assert 10 <= silent <= 50
    # All classes are labels, though only ESC-10's have clips.
    assert data.prepare(tmp_path, tmp_path / "out", "esc50", demo=True)
    fold = DataDir.load(tmp_path / "out" / "fold3" / "train")
    assert len(fold.utterances) == 80 and len(fold.labels) == 50
    assert data.prepare(tmp_path, tmp_path / "out", "esc10", demo=True)
    assert len(DataDir.load(tmp_path / "out" / "fold3" / "train").labels) == 10
    with pytest.raises(UserError, match="--demo"):
        data.prepare(tmp_path, tmp_path / "out", "esc50")
    with pytest.raises(UserError, match="holds the demo, not ESC-50"):
        download.main(["--db-root", str(tmp_path)])


def test_demo_clips_are_the_same_each_time():
    first, again = demo.clip("dog", 7), demo.clip("dog", 7)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int)).max() > 3000 and not np.array_equal(first, demo.clip("dog", 8))
