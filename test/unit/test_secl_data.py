"""Stages 0 and 1 of the recipe secl_umons: its demo, and copies with a fault each."""

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

LOCAL = Path(__file__).resolve().parents[2] / "egs" / "secl_umons" / "local"


class Scripts(NamedTuple):
    """The recipe's modules."""

    data: object
    demo: object
    secl_umons: object


@pytest.fixture(scope="module")
def scripts():
    """They import one another by plain names, which other recipes use too."""
    names = ("secl_umons", "demo", "data")
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(LOCAL))
    try:
        import data
        import demo
        import secl_umons
    finally:
        sys.path.remove(str(LOCAL))
        for name in names:
            sys.modules.pop(name, None)
            if before[name]:
                sys.modules[name] = before[name]
    return Scripts(data, demo, secl_umons)


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
    for path in (tmp_path / "db").rglob("*.csv"):
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    return tmp_path / "db"


def test_demo_has_the_official_layout(made):
    root = made / "SECL-UMONS"
    wavs = list((root / "Unilabel").rglob("*.wav"))
    assert len(wavs) == 11 * 2 * 3 * 7
    for split in (1, 2):
        listed = []
        for part, count in (("train", 44), ("test", 22)):
            lines = (root / f"unilabel_split{split}_{part}.csv").read_text().splitlines()
            assert lines[0] == "0" and len(lines) == 1 + count
            listed += lines[1:]
        assert len({line.split("/")[2] for line in listed}) == 11
        assert all((root / line).is_file() and line.startswith("Unilabel/") for line in listed)
    folder = root / "Unilabel/room2/whistle"
    info = soundfile.info(folder / "room2_array_micro6_10_2_0.wav")
    assert (info.samplerate, info.channels, info.frames) == (44100, 1, 132300)
    assert info.subtype == "PCM_16"
    head, row = (folder / "room2_metadata_10_2.csv").read_text().splitlines()
    fields = dict(zip(head.split(","), row.split(","), strict=True))
    assert fields["File name"] == "room2_array_10_2_0.wav"
    assert (fields["class number"], fields["room number"]) == ("10", "2")


def test_demo_sequences_differ_and_are_the_same_each_time(scripts):
    first, again = scripts.demo.clip(3, 1, 0), scripts.demo.clip(3, 1, 0)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int)).max() > 3000
    for other in ((4, 1, 0), (3, 2, 0), (3, 1, 1)):
        assert not np.array_equal(first, scripts.demo.clip(*other))


@pytest.mark.parametrize("split", [1, 2])
def test_sets(scripts, made, tmp_path, split):
    assert scripts.data.prepare(made, tmp_path, split, True)
    assert not scripts.data.prepare(made, tmp_path, split, True)
    names = ("all", "fold1/train", "fold1/test", "fold1/train_valid", "fold1/valid")
    everything, train, test, rest, valid = (DataDir.load(tmp_path / name) for name in names)
    assert [len(d.utterances) for d in (everything, train, test)] == [66, 44, 22]
    assert set(train.utterances) | set(test.utterances) == set(everything.utterances)
    assert set(rest.utterances) | set(valid.utterances) == set(train.utterances)
    assert not set(train.groups.values()) & set(test.groups.values())
    assert not set(rest.groups.values()) & set(valid.groups.values())
    assert len(train.labels) == 11 and list(train.labels) == sorted(train.labels)
    cells = Counter((test.tags[u], test.domains["room"][u]) for u in test.utterances)
    assert len(cells) == 22 and set(cells.values()) == {1}
    utt = "room1_array_micro0_0_1_0" if split == 1 else "room1_array_micro0_0_2_0"
    folder = made / "SECL-UMONS/Unilabel/room1/chair_movement"
    assert test.wav[utt] == str(folder / f"{utt}.wav") and test.durations[utt] == 3.0
    assert test.groups[utt] == utt.replace("_micro0", "") and test.tags[utt] == ("chair_movement",)
    domains = {name: table[utt] for name, table in test.domains.items()}
    assert domains == {
        "room": "room1", "microphone": "micro0", "subclass": f"chair_movement-{split}"
    }  # fmt: skip
    if split == 2:  # subclasses of the test part, and of the validation part, are new ones
        for known, new in ((train, test), (rest, valid)):
            seen = set(known.domains["subclass"].values())
            assert seen.isdisjoint(new.domains["subclass"].values())
    assert {tag for (tag,) in valid.tags.values()} == set(train.labels)


def test_published_counts_are_asked_for(scripts, db, tmp_path):
    with pytest.raises(UserError, match="holds the demo, not SECL-UMONS"):
        scripts.data.prepare(db, tmp_path / "out")
    (db / "SECL-UMONS/SYNTHETIC.txt").unlink()
    with pytest.raises(UserError, match=r"split1_train\.csv: sequences: 44, must be 2178"):
        scripts.data.prepare(db, tmp_path / "out")
    with pytest.raises(UserError, match=r"split2_train\.csv: sequences: 44, must be 1991"):
        scripts.data.prepare(db, tmp_path / "out", 2)
    with pytest.raises(UserError, match="holds SECL-UMONS, not its demo"):
        scripts.data.prepare(db, tmp_path / "out", 1, True)
    with pytest.raises(UserError, match="holds SECL-UMONS, not its demo"):
        scripts.demo.write_demo(db)
    assert not (tmp_path / "out").exists()


def test_22_of_each_class_in_each_room(scripts):
    """The published test part, then one sequence moved to the other room."""
    module = scripts.secl_umons
    clips = [
        module.Clip(Path("x"), category, 0, room, 0, 0, take, "list:1")
        for category in module.CLASSES
        for room in (1, 2)
        for take in range(22)
    ]
    counts = module.SPLITS[1]
    parts = {"train": clips[:1] * 2178, "test": clips}
    module.check_counts(parts, counts)
    parts["test"] = [clips[0]._replace(room=2), *clips[1:]]
    with pytest.raises(UserError, match="chair_movement in room 1: 21, must be 22"):
        module.check_counts(parts, counts)


LINE = "Unilabel/room1/knock/room1_array_micro0_5_1_0.wav"


@pytest.mark.parametrize(
    "old, new, says",
    [
        (
            LINE,
            LINE.replace("knock/", "bang/"),
            r"train\.csv:\d+: .*/bang/.* one of the 11 classes",
        ),
        (LINE, LINE.replace("_5_1_0", "_5_1"), r"train\.csv:\d+: .*must be \.\.\./<class>/room<r>"),
        (LINE, LINE.replace("room1_a", "room3_a"), r"train\.csv:\d+: .* of room 3"),
        (LINE, LINE.replace("knock/", "radio/"), r"class number 5 is knock here and radio in"),
        (LINE, LINE + "\n" + LINE.replace("micro0", "micro3"), r"listed in .*csv:\d+ already"),
        (LINE + "\n", "", r"split1_train\.csv: sequences: 43, must be 44"),
        ("0\n", "path\n", r"train\.csv:1: no column '0'"),
    ],
)
def test_broken_list_names_the_line(scripts, db, tmp_path, old, new, says):
    table = db / "SECL-UMONS/unilabel_split1_train.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=says):
        scripts.data.prepare(db, tmp_path / "out", 1, True)
    assert not (tmp_path / "out").exists()


def test_broken_metadata_and_audio(scripts, db, tmp_path):
    def fails(says: str) -> None:
        with pytest.raises(UserError, match=says) as error:
            scripts.data.prepare(db, tmp_path / "out", 1, True)
        assert "\n" not in str(error.value) and not (tmp_path / "out").exists()

    folder = db / "SECL-UMONS/Unilabel/room1/knock"
    table, wav = folder / "room1_metadata_5_1.csv", folder / "room1_array_micro0_5_1_0.wav"
    text = table.read_text()
    table.write_text(text.replace(",5,", ",6,"))
    fails(r"metadata_5_1\.csv:2: room1_array_5_1_0 has class number '6', its name says 5")
    table.write_text(text[:-2] + "2\n")
    fails(r"metadata_5_1\.csv:2: .* room number '2', its name says 1")
    table.unlink()
    fails(r"no room1_metadata_5_1\.csv with a row room1_array_5_1_0\.wav")
    table.write_text(text)
    data = wav.read_bytes()
    wav.unlink()
    fails(r"train\.csv:\d+: .*room1_array_micro0_5_1_0\.wav is missing \(1 in all\)")
    for samples, rate in ((np.zeros(132300), 48000), (np.zeros((99000, 2)), 44100),
                          (np.zeros(80000), 44100)):  # fmt: skip
        soundfile.write(wav, samples, rate, subtype="PCM_16")
        fails(r"5_1_0\.wav: .*must be 44100 Hz, mono, 2 s at least")
    wav.write_bytes(b"<html>")
    fails(r"5_1_0\.wav")
    wav.unlink()
    wav.write_bytes(data)
    (folder / "room1_array_micro2_5_9_0.wav").write_bytes(data)
    fails(r"micro2_5_9_0\.wav: no list names this sequence")


def test_no_copy(scripts, tmp_path):
    with pytest.raises(
        MissingInput, match=r"unilabel_split1_train\.csv: no such file: run --stage"
    ):
        scripts.data.prepare(tmp_path, tmp_path / "out")


def test_archives_come_from_the_record():
    listing = read_listing(LOCAL / "archives.tsv")
    assert [file.name for file in listing.files] == ["*"]
    assert listing.files[0].url == "https://zenodo.org/api/records/3632377"


def test_scripts_say_how_they_are_used():
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(LOCAL.parents[2]), "PATH": path}
    for name in ("data.py", "demo.py"):
        shown = subprocess.run([LOCAL / name, "--help"], env=env, capture_output=True, text=True)
        assert shown.returncode == 0 and "--db-root" in shown.stdout
