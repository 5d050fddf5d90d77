"""Stages 0 and 1 of the four DCASE recipes: small copies in the published layout, made here with
silence at 100 Hz, and the published counts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_like.data.dcase import CORPORA, DCASE18, DCASE19, DCASE20A, DCASE20B, Corpus, demo
from espnet_like.data.dcase.corpora import SCENES, THREE_CLASSES, Release
from espnet_like.data.dcase.holdout import held_out
from espnet_like.data.dcase.layout import Clip, check_counts
from espnet_like.data.dcase.prepare import prepare
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL = Release("", (5,) * 10, (3,) * 10, (1,) * 10)
DEVICES = {"train": ("a", "a", "s1"), "test": ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")}


def small(corpus: Corpus) -> Corpus:
    """The corpus as `write` makes it."""
    return replace(corpus, releases=(SMALL,))


def rows(corpus: Corpus) -> list[tuple[str, str, str, str, str]]:
    """(scene, city, location, device, part): three locations to train on, one to test, one more."""
    several = corpus is DCASE20A
    made = []
    for i, scene in enumerate(SCENES):
        for k in range(5):
            part = ("train", "train", "train", "test", "unused")[k]
            devices = DEVICES.get(part, ("a",)) if several else ("a",)
            device = devices[(i if part == "test" else k) % len(devices)]
            city = corpus.cities[(i + k) % len(corpus.cities)]
            made.append((scene, city, str(10 * i + k), device, part))
    return made


def write(db: Path, corpus: Corpus, depth: str = "PCM_24", rate: int = 100) -> Path:
    """A copy in the published layout: one silent clip under many names."""
    root = db / corpus.directory
    for name in ("audio", "evaluation_setup"):
        (root / name).mkdir(parents=True)
    lines: dict[str, list[str]] = {"meta": [], "train": [], "evaluate": [], "test": []}
    first = None
    for scene, city, location, device, part in rows(corpus):
        label = THREE_CLASSES[scene] if corpus is DCASE20B else scene
        name = f"audio/{scene}-{city}-{location}-7{location}-{device}.wav"
        if first is None:
            first = root / name
            samples = np.zeros((10 * rate, corpus.channels), np.int16)
            soundfile.write(first, samples, rate, subtype=depth)
        else:
            os.link(first, root / name)
        lines["meta"].append(f"{name}\t{label}\t{city}-{location}\t{device}")
        if part == "train":
            lines["train"].append(f"{name}\t{label}")
        elif part == "test":
            lines["evaluate"].append(f"{name}\t{label}")
            lines["test"].append(name)
    header = {"meta": "filename\tscene_label\tidentifier\tsource_label"}
    suffix = "txt" if corpus is DCASE18 else "csv"
    if corpus is not DCASE18:
        header |= {"train": "filename\tscene_label", "test": "filename"}
        header["evaluate"] = header["train"]
    for table, body in lines.items():
        path = "meta.csv" if table == "meta" else f"evaluation_setup/fold1_{table}.{suffix}"
        text = "\n".join([*([header[table]] if table in header else []), *body]) + "\n"
        (root / path).write_text(text)
    return root


def load(out: Path, name: str) -> DataDir:
    return DataDir.load(out / name)


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.recipe)
def test_sets(corpus, tmp_path, capsys):
    root = write(tmp_path / "db", corpus)
    out = tmp_path / "out"
    assert prepare(tmp_path / "db", out, small(corpus))
    said = capsys.readouterr().out
    assert "50 all, 30 train, 10 test" in said and "a copy at 100 Hz" in said
    everything, train, test = (load(out, n) for n in ("all", "fold1/train", "fold1/test"))
    assert [len(d.utterances) for d in (everything, train, test)] == [50, 30, 10]
    expected = {
        f"{scene}-{city}-{location}-7{location}-{device}": (scene, city, location, device, part)
        for scene, city, location, device, part in rows(corpus)
    }
    for utt, (scene, city, location, device, part) in expected.items():
        label = THREE_CLASSES[scene] if corpus is DCASE20B else scene
        assert everything.wav[utt] == str(root / "audio" / f"{utt}.wav")
        assert everything.groups[utt] == f"{city}-{location}"
        assert everything.tags[utt] == (label,) and everything.durations[utt] == 10.0
        assert everything.domains["city"][utt] == city
        if corpus is DCASE20A:
            assert everything.domains["device"][utt] == device
        assert (utt in train.wav) == (part == "train") and (utt in test.wav) == (part == "test")
    labels = ("indoor", "outdoor", "transportation") if corpus is DCASE20B else SCENES
    assert everything.labels == train.labels == test.labels == tuple(sorted(labels))
    assert not set(train.groups.values()) & set(test.groups.values())
    rest, valid = load(out, "fold1/train_valid"), load(out, "fold1/valid")
    assert sorted(rest.utterances + valid.utterances) == list(train.utterances)
    assert not set(rest.groups.values()) & set(valid.groups.values())
    assert {utt.split("-")[0] for utt in valid.wav} == set(SCENES)
    assert not prepare(tmp_path / "db", out, small(corpus))
    (root / "meta.csv").write_text((root / "meta.csv").read_text() + "\n")
    assert prepare(tmp_path / "db", out, small(corpus))


def test_sets_of_each_device(tmp_path):
    write(tmp_path, DCASE20A)
    prepare(tmp_path, tmp_path / "out", small(DCASE20A))
    counts = {path.name: len(load(tmp_path / "out/fold1", path.name).utterances)
              for path in (tmp_path / "out/fold1").glob("test_*")}  # fmt: skip
    # Ten clips on nine devices in turn; a and s1 are in the training part.
    assert counts == {"test_a": 2, **{f"test_{d}": 1 for d in DEVICES["test"][1:]},
                      "test_seen": 3, "test_unseen": 7}  # fmt: skip
    assert set(load(tmp_path / "out/fold1", "test_s4").domains["device"].values()) == {"s4"}


def test_published_counts():
    totals = {
        (corpus.recipe, release.name): [sum(getattr(release, p)) for p in ("all", "train", "test")]
        for corpus in CORPORA
        for release in corpus.releases
    }
    assert totals == {
        ("dcase18", ""): [8640, 6122, 2518],
        ("dcase19", ""): [14400, 9185, 4185],
        ("dcase20a", "version 2.0"): [23035, 13962, 2968],
        ("dcase20a", "version 1.0"): [23040, 13965, 2970],
        ("dcase20b", ""): [14400, 9185, 4185],
    }
    assert list(SCENES) == sorted(THREE_CLASSES)
    three: Counter[tuple[str, str]] = Counter()
    for part in ("train", "test"):
        for scene, count in zip(SCENES, getattr(DCASE20B.releases[0], part), strict=True):
            three[part, DCASE20B.label(scene)] += count
    assert [three["train", c] for c in DCASE20B.labels] == [2704, 3757, 2724]
    assert [three["test", c] for c in DCASE20B.labels] == [1297, 1604, 1284]


def clips(release: Release, part: str) -> list[Clip]:
    """As many clips of each scene as a release has."""
    made = []
    for scene, count in zip(SCENES, getattr(release, part), strict=True):
        made += [Clip(Path("x.wav"), scene, scene, "paris", "paris-1", "a", 2)] * count
    return made


def parts(release: Release) -> dict[str, list[Clip]]:
    return {part: clips(release, part) for part in ("all", "train", "test")}


def test_a_copy_is_told_by_its_counts(tmp_path):
    for corpus in CORPORA:
        for release in corpus.releases:
            assert check_counts(tmp_path, corpus, parts(release), corpus.releases) is release
    lacking = parts(DCASE20A.releases[1])
    del lacking["train"][0]  # airport: what version 2.0 has, but the rest is version 1.0's
    wrong = r"fold1_train\.csv: 1393 clips of airport, must be 1394 of version 1.0 \(13964 of 13965"
    with pytest.raises(UserError, match=wrong):
        check_counts(tmp_path, DCASE20A, lacking, DCASE20A.releases)
    with pytest.raises(UserError, match=r"holds TUT Urban Acoustic Scenes 2018, not TAU .* 2019"):
        check_counts(tmp_path, DCASE19, parts(DCASE18.releases[0]), DCASE19.releases)


BUS = "audio/bus-helsinki-10-710-a.wav\tbus\thelsinki-10\ta\n"
SPARE = "audio/bus-milan-14-714-a.wav\tbus\tmilan-14\ta\n"
META, TRAIN, TEST = "meta.csv", "fold1_train.csv", "fold1_evaluate.csv"


@pytest.mark.parametrize(
    ("table", "old", "new", "says"),
    [
        (META, "\tbus\thel", "\tbeach\thel", r"meta\.csv:7: scene label 'beach' is not among air"),
        (
            META,
            "\tbus\thel",
            "\ttram\thel",
            r"has tram, helsinki-10, a in its row",
        ),
        (META, "helsinki-10\ta", "helsinki-11\ta", r"has bus, helsinki-11, a in its row"),
        (META, "helsinki-10\ta", "helsinki-10\tb", r"has bus, helsinki-10, b in its row"),
        (META, BUS, BUS + BUS, r"meta\.csv:8: .*is in line 7 already"),
        (META, BUS, "", r"fold1_train\.csv:5: .*bus-helsinki-10-710-a\.wav is not in meta\.csv"),
        (META, SPARE, "", r"bus-milan-14-714-a\.wav: no row of .*meta\.csv names it"),
        (
            META,
            SPARE,
            SPARE.replace("714", "715"),
            r"meta\.csv:11: .*-715-a\.wav is missing \(1 in all\)",
        ),
        (META, BUS, BUS.replace("\ta\n", "\n"), r"meta\.csv:7: not 4 fields"),
        (META, BUS, BUS.removeprefix("audio/"), r"csv:7: 'bus-.*' is not audio/<scene>-<city>"),
        (META, BUS, BUS.replace("/bus", "/boat"), r"meta\.csv:7: scene 'boat' is not among"),
        (META, BUS, BUS.replace("helsinki", "rome"), r"meta\.csv:7: city 'rome' is not among"),
        (META, BUS, BUS.replace("a.wav", "s1.wav"), r"meta\.csv:7: device 's1' is not among a"),
        (META, "identifier", "place", r"meta\.csv:1: no column 'identifier'"),
        (TRAIN, "10-710", "10-1", r"train\.csv:5: .* is not in meta\.csv"),
        (TRAIN, "\tbus\n", "\ttram\n", r"train\.csv:5: .* is 'tram' here and 'bus' in meta\.csv"),
        (TRAIN, BUS[:35] + "\n", "", r"train\.csv: 2 clips of bus, must be 3 \(29 of 30 in all\)"),
        (TRAIN, BUS[:35], f"{BUS[:35]}\n{BUS[:35]}", r"train\.csv:6: .* is in line 5 already"),
        (TRAIN, "filename\tscene_label\n", "", r"train\.csv:1: no column 'filename'"),
    ],
)
def test_broken_tables_name_file_and_line(tmp_path, table, old, new, says):
    root = write(tmp_path, DCASE19)
    (path,) = root.rglob(table)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=says) as error:
        prepare(tmp_path, tmp_path / "out", small(DCASE19))
    assert "\n" not in str(error.value) and str(root) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_location_in_both_parts_is_refused(tmp_path):
    corpus = replace(DCASE19, releases=(replace(SMALL, test=(2, *SMALL.test[1:])),))
    root = write(tmp_path, DCASE19)
    first = (root / "evaluation_setup" / TRAIN).read_text().splitlines()[1]
    with open(root / "evaluation_setup" / TEST, "a") as file:
        file.write(first + "\n")
    with pytest.raises(UserError, match="is in fold1/train and in fold1/test"):
        prepare(tmp_path, tmp_path / "out", corpus)


def test_fold_files_of_2018_have_no_header(tmp_path):
    root = write(tmp_path, DCASE18)
    table = root / "evaluation_setup/fold1_train.txt"
    table.write_text("filename\tscene_label\n" + table.read_text())
    with pytest.raises(UserError, match=r"fold1_train\.txt:1: filename is not in meta\.csv"):
        prepare(tmp_path, tmp_path / "out", small(DCASE18))


def test_audio_is_compared_with_what_was_published(tmp_path, capsys):
    root = write(tmp_path, DCASE18, "PCM_16", 200)
    assert prepare(tmp_path, tmp_path / "out", small(DCASE18))
    assert "at 200 Hz, not 24 bit; the published clips have 48000 Hz, 24" in capsys.readouterr().out
    clip = sorted((root / "audio").iterdir())[3]
    whole = clip.read_bytes()

    def fails(says: str) -> None:
        with pytest.raises(UserError, match=says):
            prepare(tmp_path, tmp_path / "other", small(DCASE18))
        assert not (tmp_path / "other").exists()

    clip.unlink()  # the link, so that the other clips stay whole
    fails(rf"{clip.name} is missing \(1 in all\)")
    for broken in (whole[:500], whole[:20], b"", b"<html>not found</html>" * 50):
        clip.write_bytes(broken)
        fails(clip.name)
    for samples, rate, says in (
        (np.zeros((2000, 1), np.int16), 200, r"1 channel\(s\), must be .* 2 channel"),
        (np.zeros((1000, 2), np.int16), 100, "100 Hz, .* must be 200 Hz as the first"),
        (np.zeros((1900, 2), np.int16), 200, r"lasts 9\.500 s, must be 10 s"),
    ):
        soundfile.write(clip, samples, rate, subtype="PCM_16")
        fails(says)
    clip.write_bytes(whole)
    (root / "audio" / "more.wav").write_bytes(whole)
    fails(r"audio/more\.wav: no row of .*meta\.csv names it \(1 such files\)")


def test_no_copy_a_part_of_one_or_another_corpus(tmp_path):
    with pytest.raises(MissingInput, match="run --stage download, or point --db-root"):
        prepare(tmp_path, tmp_path / "out", DCASE19)
    write(tmp_path, DCASE20B)
    with pytest.raises(UserError, match=r"holds TAU-.*-3class-.*, not TAU-.*-2019-development"):
        prepare(tmp_path, tmp_path / "out", DCASE19)
    with pytest.raises(UserError, match=r"'indoor' is not among airport, .* or correct --db-root"):
        prepare(tmp_path / DCASE20B.directory, tmp_path / "out", DCASE19)
    (tmp_path / DCASE19.directory / "audio").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is there, but without meta\.csv: run --stage download"):
        prepare(tmp_path, tmp_path / "out", DCASE19)


@pytest.fixture
def silent(monkeypatch):
    """Clips of the demo without their sound, which takes its time."""
    monkeypatch.setattr(
        demo, "samples", lambda corpus, _: np.zeros((10 * corpus.rate, corpus.channels), np.int16)
    )


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.recipe)
def test_demo_has_the_published_layout(corpus, tmp_path, silent):
    assert demo.write_demo(tmp_path, corpus) and not demo.write_demo(tmp_path, corpus)
    root = tmp_path / corpus.directory
    year = 2018 if corpus is DCASE18 else 2019 if corpus is DCASE19 else 2020
    prefix = "TUT" if year == 2018 else "TAU"
    assert root.name.startswith(f"{prefix}-urban-acoustic-scenes-{year}-")
    suffix = "txt" if year == 2018 else "csv"
    names = {path.name for path in (root / "evaluation_setup").iterdir()}
    assert names == {f"fold1_{part}.{suffix}" for part in ("train", "test", "evaluate")}
    table = [line.split("\t") for line in (root / "meta.csv").read_text().splitlines()]
    assert table[0] == ["filename", "scene_label", "identifier", "source_label"]
    for name, label, identifier, device in table[1:]:
        scene, city, location, segment, rest = Path(name).stem.split("-")
        assert segment.isdigit() and (identifier, device) == (f"{city}-{location}", rest)
        assert label == (THREE_CLASSES[scene] if corpus is DCASE20B else scene)
        info = soundfile.info(root / name)
        rate, channels = (44100, 1) if corpus is DCASE20A else (48000, 2)
        assert (info.samplerate, info.channels, info.subtype) == (rate, channels, "PCM_24")
        assert info.frames == 10 * rate
    folds = {
        part: (root / f"evaluation_setup/fold1_{part}.{suffix}").read_text().splitlines()
        for part in ("train", "test", "evaluate")
    }
    header = [] if year == 2018 else ["filename\tscene_label"]
    assert folds["train"][: len(header)] == folds["evaluate"][: len(header)] == header
    assert folds["test"] == [line.split("\t")[0] for line in folds["evaluate"]]
    assert len(folds["train"]) == 40 + len(header) and len(folds["test"]) == 20 + len(header)
    assert len(table) - 1 == (60 if year == 2018 else 62)
    out = tmp_path / "out"
    assert prepare(tmp_path, out, corpus, demo=True)
    test = load(out, "fold1/test")
    if corpus is DCASE20A:
        assert set(test.domains["device"].values()) == set(corpus.devices)
    if year != 2018:
        train = load(out, "fold1/train")
        assert "milan" in test.domains["city"].values()
        assert "milan" not in train.domains["city"].values()


def test_demo_and_the_real_one_are_told_apart(tmp_path, silent):
    demo.write_demo(tmp_path / "demo", replace(DCASE18, rate=100))
    with pytest.raises(UserError, match=r"holds the demo, not TUT .*, or add --demo"):
        prepare(tmp_path / "demo", tmp_path / "out", DCASE18)
    write(tmp_path / "db", DCASE18)
    with pytest.raises(UserError, match=r"holds TUT .*, not its demo: .* leave out --demo"):
        prepare(tmp_path / "db", tmp_path / "out", small(DCASE18), demo=True)
    with pytest.raises(UserError, match=r"holds TUT .*, not its demo"):
        demo.write_demo(tmp_path / "db", DCASE18)


def test_demo_sounds():
    clip = next(clip for clip in demo.demo_clips(DCASE20A) if clip.device == "s5")
    corpus = replace(DCASE20A, rate=16000)
    first, again = demo.samples(corpus, clip), demo.samples(corpus, clip)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (160000, 1) and 0.01 < np.abs(first).max() <= 1
    other = demo.samples(corpus, clip._replace(device="s6"))
    assert not np.allclose(first, other)
    both = demo.samples(replace(corpus, channels=2), clip)
    assert both.shape == (160000, 2) and not np.allclose(both[:, 0], both[:, 1])


def test_held_out_locations_are_balanced():
    rng = random.Random(1)
    locations = [15, 26, 20, 28, 18, 18, 16, 20, 18, 24]  # the training part of 2018
    made, number = [], 0
    for scene, places in zip(SCENES, locations, strict=True):
        for place in range(places):
            city = DCASE18.cities[place % 6]
            for _ in range(rng.randint(8, 50)):
                where = (scene, scene, city, f"{city}-{number}", "a", 2)
                made.append(Clip(Path("x.wav"), *where))
            number += 1
    chosen = held_out(made)
    shuffled = made.copy()
    rng.shuffle(shuffled)
    assert held_out(shuffled) == chosen
    for key in ("scene", "city"):
        total = Counter(getattr(clip, key) for clip in made)
        taken = Counter(getattr(clip, key) for clip in made if clip.location in chosen)
        for value, count in total.items():
            assert 0.12 < taken[value] / count < 0.28, (value, taken[value] / count)


def test_held_out_keeps_a_location_of_every_scene():
    one = [Clip(Path("x.wav"), "park", "park", "paris", "paris-1", "a", 2)] * 3
    assert held_out(one) == set()
    two = [*one, Clip(Path("y.wav"), "park", "park", "london", "london-2", "a", 3)]
    assert len(held_out(two)) == 1


@pytest.mark.parametrize("recipe", ["dcase18", "dcase19", "dcase20a", "dcase20b"])
def test_scripts_name_their_own_corpus(recipe):
    (corpus,) = (corpus for corpus in CORPORA if corpus.recipe == recipe)
    for script in ("data.py", "demo.py"):
        text = (ROOT / "egs" / recipe / "local" / script).read_text()
        assert f"import {recipe.upper()}\n" in text and f"main({recipe.upper()})" in text
    listing = (ROOT / "egs" / recipe / "local" / "archives.tsv").read_text()
    assert f"{corpus.directory}.audio.1.zip" in listing


def test_command_line(tmp_path):
    script = ROOT / "egs/dcase18/local/data.py"
    done = subprocess.run(
        [sys.executable, script, "--db-root", tmp_path],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()
