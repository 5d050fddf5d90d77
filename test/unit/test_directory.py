"""Data directories: reading, writing, cutting, joining, choosing."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.data import audio
from espnet_like.data.directory import DataDir, Segment
from espnet_like.data.selection import select
from espnet_like.data.sets import combine, split
from espnet_like.errors import MissingInput, UserError


def make(n: int = 6, prefix: str = "u", labels: tuple[str, ...] = ("dog", "cat")) -> DataDir:
    """n utterances; group of u<i> is g<i // 2>, label alternates, u<i> lasts i + 1 seconds."""
    utts = [f"{prefix}{i}" for i in range(n)]
    return DataDir(
        wav={utt: f"audio/{utt}.wav" for utt in utts},
        groups={utt: f"g{prefix}{i // 2}" for i, utt in enumerate(utts)},
        tags={utt: (labels[i % len(labels)],) for i, utt in enumerate(utts)},
        labels=labels,
        durations={utt: i + 1.0 for i, utt in enumerate(utts)},
    )


def put(root: Path, **files: str) -> Path:
    """Write files by hand; `wav_scp` stands for wav.scp."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("_scp", ".scp")).write_text(text, encoding="utf-8")
    return root


def test_files_by_hand(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        wav_scp="a  /x/with space.wav\nb\tb.wav\r\n",
        utt2spk="a g1\nb g2\n",
        utt2labels="a dog cat\nb cat\n",
        labels="dog\ncat\n",
        utt2dur="a 1.5\nb 2\n",
    )
    data = DataDir.load(root)
    assert data.path == root
    assert data.wav == {"a": "/x/with space.wav", "b": "b.wav"}
    assert data.groups == {"a": "g1", "b": "g2"}
    assert data.tags == {"a": ("dog", "cat"), "b": ("cat",)}
    assert data.labels == ("dog", "cat")
    assert data.durations == {"a": 1.5, "b": 2.0}
    assert data.segments == {}
    assert data.audio("b") == ("b.wav", 0.0, None)


def test_written_files(tmp_path: Path) -> None:
    make(3).save(tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {
        "wav.scp": "u0 audio/u0.wav\nu1 audio/u1.wav\nu2 audio/u2.wav\n",
        "utt2spk": "u0 gu0\nu1 gu0\nu2 gu1\n",
        "spk2utt": "gu0 u0 u1\ngu1 u2\n",
        "utt2labels": "u0 dog\nu1 cat\nu2 dog\n",
        "labels": "dog\ncat\n",
        "utt2dur": "u0 1.0\nu1 2.0\nu2 3.0\n",
    }


def of_cities(n: int = 6, prefix: str = "u") -> DataDir:
    """As `make`, every third utterance from Rome, and each recorded by device a."""
    data = make(n, prefix)
    cities = {utt: "milan" if i % 3 else "rome" for i, utt in enumerate(data.utterances)}
    devices = dict.fromkeys(data.utterances, "a")
    return replace(data, domains={"city": cities, "device": devices})


def test_domains(tmp_path: Path) -> None:
    of_cities(3).save(tmp_path)
    assert (tmp_path / "utt2city").read_text() == "u0 rome\nu1 milan\nu2 milan\n"
    put(tmp_path, utt2num_frames="a file of another kind\n", utt2City="not in small letters\n")
    loaded = DataDir.load(tmp_path)
    assert replace(loaded, path=None) == of_cities(3)
    assert loaded.subset(["u2", "u0"]).domains["city"] == {"u0": "rome", "u2": "milan"}
    assert [part.domains["city"] for part in split(loaded, 2)] == [
        {"u0": "rome", "u1": "milan"},
        {"u2": "milan"},
    ]
    make(3).save(tmp_path)
    assert not (tmp_path / "utt2city").exists()
    assert (tmp_path / "utt2num_frames").exists()


def test_combine_keeps_the_domains_that_all_sets_have() -> None:
    one, two = of_cities(2), of_cities(2, prefix="v")
    del two.domains["device"]
    both = combine([one, two])
    assert both.domains == {"city": {"u0": "rome", "u1": "milan", "v0": "rome", "v1": "milan"}}
    other = of_cities(2)
    other.domains["city"]["u0"] = "paris"
    with pytest.raises(UserError, match="utt2city: 'u0' is 'paris' here and 'rome' in another"):
        combine([one, other])


@pytest.mark.parametrize("name", ["spk", "labels", "dur", "num_frames", "", "City", "a/b"])
def test_domains_of_a_reserved_name(tmp_path: Path, name: str) -> None:
    data = replace(make(1), domains={name: {"u0": "x"}})
    with pytest.raises(UserError, match=f"domain '{name}': take a word in small letters"):
        data.save(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_order_is_that_of_the_c_locale(tmp_path: Path) -> None:
    ids = ["b", "B", "a-1", "a_1", "a1", "é", "aa", "~", "日本", "\U0001f600", "\uffee"]
    data = DataDir(wav=dict.fromkeys(ids, "x.wav"), groups=dict.fromkeys(ids, "g"))
    data.save(tmp_path)
    command = ["sort", "-c", tmp_path / "utt2spk"]
    subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, check=True)
    assert DataDir.load(tmp_path).utterances == tuple(sorted(ids, key=lambda s: s.encode()))


def test_saving_removes_what_the_set_has_not(tmp_path: Path) -> None:
    make(2).save(tmp_path)
    DataDir(wav={"a": "a.wav"}, groups={"a": "g"}).save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["spk2utt", "utt2spk", "wav.scp"]


def test_segments_end_to_end(tmp_path: Path) -> None:
    samples = np.arange(8000, dtype=np.int16)
    soundfile.write(tmp_path / "rec.wav", samples, 8000)
    root = put(
        tmp_path / "d",
        wav_scp=f"rec {tmp_path}/rec.wav\n",
        segments="a rec 0.25 0.5\nb rec 0.75 -1\n",
        utt2spk="a g\nb g\n",
    )
    data = DataDir.load(root)
    assert data.utterances == ("a", "b")
    assert data.segments["b"] == Segment("rec", 0.75, None)
    for utt, expected in (("a", samples[2000:4000]), ("b", samples[6000:])):
        path, start, end = data.audio(utt)
        np.testing.assert_array_equal(audio.load(path, 8000, 1, start, end)[0] * 32768, expected)
    data.save(tmp_path / "e")
    assert (tmp_path / "e" / "segments").read_text() == "a rec 0.25 0.5\nb rec 0.75 -1\n"
    assert DataDir.load(tmp_path / "e").segments == data.segments
    assert data.subset(["b"]).wav == data.wav


GOOD = {
    "wav_scp": "a a.wav\nb b.wav\n",
    "utt2spk": "a g\nb h\n",
    "utt2labels": "a dog\nb cat\n",
    "labels": "dog\ncat\n",
    "utt2dur": "a 1\nb 2\n",
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wav_scp", "a a.wav\nb\n", "wav.scp:2: 'b' has no path: write '<id> <path>'"),
        ("wav_scp", "a a.wav\nb sox b.flac -t wav - |\n", "wav.scp:2: 'b' is a command"),
        ("wav_scp", "a a.wav\na b.wav\n", "wav.scp:2: 'a' again, first in line 1"),
        ("wav_scp", "a a.wav\nb b.wav\nc c.wav\n", "wav.scp:3: 'c' is not in utt2spk"),
        ("wav_scp", "\n", "wav.scp: empty"),
        ("utt2spk", "a g\n", "wav.scp:2: 'b' is not in utt2spk"),
        ("utt2spk", "a g\nb\n", "utt2spk:2: 'b' has no group"),
        ("utt2spk", "a g\nb h i\n", "utt2spk:2: 'b' has several groups"),
        ("utt2spk", "a g\nb h\n\nz h\n", "utt2spk:4: 'z' is not in wav.scp"),
        ("utt2labels", "a dog\nb bird\n", "utt2labels:2: 'b' has the label 'bird'"),
        ("utt2labels", "a dog\nb\n", "utt2labels:2: 'b' has no label"),
        ("utt2labels", "a dog  cat\nb cat\n", "utt2labels:1: 'a' has an empty label"),
        ("utt2labels", "a dog\n", "wav.scp:2: 'b' is not in utt2labels"),
        ("labels", "dog\ncat\ndog\n", "labels:3: 'dog' again"),
        ("labels", "dog\ncat\nblue whale\n", "labels:3: 'blue whale' has a space"),
        ("utt2dur", "a 1\nb two\n", "utt2dur:2: 'b' has 'two' for a time"),
        ("utt2dur", "a 1\nb nan\n", "utt2dur:2: 'b' has 'nan' for a time"),
        ("utt2dur", "a 0\nb 1\n", "utt2dur:1: 'a' lasts 0 s"),
        ("utt2city", "a milan\n", "wav.scp:2: 'b' is not in utt2city"),
        ("utt2city", "a milan\nb rome\nc rome\n", "utt2city:3: 'c' is not in wav.scp"),
        ("utt2city", "a milan\nb new york\n", "utt2city:2: 'b' has several values"),
        ("segments", "a a 0\nb b 0 1\n", "segments:1: 'a' is not a segment"),
        ("segments", "a a 2 1\nb b 0 1\n", "segments:1: 'a' goes from 2 s to 1 s"),
        ("segments", "a a 0 1\nb z 0 1\n", "segments:2: recording 'z' is not in wav.scp"),
    ],
)
def test_bad_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    root = put(tmp_path, **{**GOOD, name: text})
    with pytest.raises(UserError) as caught:
        DataDir.load(root)
    assert str(caught.value).startswith(f"{root}/{message}")


def test_good_lines_are_good(tmp_path: Path) -> None:
    assert len(DataDir.load(put(tmp_path, **GOOD)).utterances) == 2


def test_missing_and_not_text(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="no such data directory"):
        DataDir.load(tmp_path / "none")
    (tmp_path / "d").mkdir()
    with pytest.raises(MissingInput, match=r"wav\.scp: no such file"):
        DataDir.load(tmp_path / "d")
    put(tmp_path / "d", **GOOD)
    (tmp_path / "d" / "utt2spk").write_bytes(b"a g\nb \xff\xfe\n")
    with pytest.raises(UserError, match="utt2spk:2: not UTF-8"):
        DataDir.load(tmp_path / "d")


def test_saving_nonsense_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'b' is not in utt2spk"):
        DataDir(wav={"a": "a", "b": "b"}, groups={"a": "g"}).save(tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("word", ["dog 1", "", " a", "b\n"])
def test_names_are_words(tmp_path: Path, word: str) -> None:
    for wav, groups, labels in (
        ({word: "w"}, {word: "g"}, ("x",)),
        ({"a": "w"}, {"a": word}, ("x",)),
        ({"a": "w"}, {"a": "g"}, ("x", word)),
    ):
        with pytest.raises(UserError, match="single words"):
            DataDir(wav=wav, groups=groups, labels=labels).save(tmp_path / "d")
    assert not (tmp_path / "d").exists()
    DataDir(wav={"a": "my dir/w.wav"}, groups={"a": "g"}).save(tmp_path / "d")


def test_failed_save_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(2).save(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    whole = Path.write_text
    calls = []

    def full(self: Path, text: str, **options: str) -> int:
        calls.append(self)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return whole(self, text, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            make(5).save(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_subset() -> None:
    part = make().subset(["u3", "u1"])
    assert part.utterances == ("u1", "u3")
    assert part.wav == {"u1": "audio/u1.wav", "u3": "audio/u3.wav"}
    assert part.groups == {"u1": "gu0", "u3": "gu1"}
    assert part.tags == {"u1": ("cat",), "u3": ("cat",)}
    assert part.labels == ("dog", "cat")
    assert part.durations == {"u1": 2.0, "u3": 4.0}
    with pytest.raises(UserError, match="no utterance 'zz'"):
        make().subset(["u1", "zz"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=30), st.integers(1, 30), st.booleans())
def test_split(lengths: list[float], n: int, known: bool) -> None:
    utts = [f"u{i:02d}" for i in range(len(lengths))]
    data = DataDir(
        wav=dict.fromkeys(utts, "x"),
        groups=dict.fromkeys(utts, "g"),
        durations=dict(zip(utts, lengths, strict=True)) if known else {},
    )
    if n > len(utts):
        with pytest.raises(UserError, match="do not make"):
            split(data, n)
        return
    parts = split(data, n)
    assert [utt for part in parts for utt in part.utterances] == utts  # contiguous and complete
    assert all(part.utterances for part in parts)
    weights = lengths if known else [1.0] * len(utts)
    cut = 0
    for k, part in enumerate(parts[:-1], 1):
        # Of all cuts that leave an utterance for each part, none is nearer to an equal share.
        errors = [abs(sum(weights[:i]) - sum(weights) * k / n) for i in range(len(utts) + 1)]
        allowed = errors[cut + 1 : len(utts) - n + k + 1]
        cut += len(part.utterances)
        assert errors[cut] == pytest.approx(min(allowed), abs=1e-9)
    if not known:
        assert len({len(p.utterances) for p in parts}) <= 2


def test_split_by_group() -> None:
    parts = split(make(12), 3, keep_groups=True)
    groups = [set(part.groups.values()) for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 6
    with pytest.raises(UserError, match="6 groups do not make 7 parts"):
        split(make(12), 7, keep_groups=True)


def test_combine() -> None:
    both = combine([make(3), make(4, prefix="v")])
    assert both.utterances == ("u0", "u1", "u2", "v0", "v1", "v2", "v3")
    assert both.durations["v3"] == 4.0
    assert both.labels == ("dog", "cat")
    again = combine([make(3), make(5)])  # the same of what both have
    assert again == make(5)


def test_combine_refuses_conflicts() -> None:
    one, two = make(2), make(2)
    two.wav["u1"] = "elsewhere.wav"
    with pytest.raises(UserError, match=r"wav\.scp: 'u1' is 'elsewhere\.wav' here"):
        combine([one, two])


def test_combine_labels() -> None:
    one = make(2, labels=("dog", "cat", "cow"))
    two = make(2, prefix="v", labels=("dog", "cow"))
    assert combine([two, one]).labels == ("dog", "cat", "cow")
    other = make(2, prefix="v", labels=("cow", "dog"))
    with pytest.raises(UserError, match="--labels"):
        combine([one, other])
    assert combine([one, other], labels=("cow", "dog", "cat")).labels == ("cow", "dog", "cat")
    bare = DataDir(wav={"z": "z"}, groups={"z": "g"})
    with pytest.raises(UserError, match="no utt2labels"):
        combine([one, bare])


def test_combine_segments_with_recordings() -> None:
    cut = DataDir(wav={"rec": "r.wav"}, groups={"a": "g"}, segments={"a": Segment("rec", 1.0, 2.0)})
    plain = DataDir(wav={"z": "z.wav"}, groups={"z": "g"})
    both = combine([cut, plain])
    assert both.audio("a") == ("r.wav", 1.0, 2.0)
    assert both.audio("z") == ("z.wav", 0.0, None)


def test_select() -> None:
    data = make(8, labels=("dog", "cat", "cow"))
    assert select(data, first=2).utterances == ("u0", "u1")
    assert select(data, ids={"u5"}).utterances == ("u5",)
    assert select(data, groups=["gu1"]).utterances == ("u2", "u3")
    some = select(data, labels=["cow", "dog"])
    assert some.labels == ("dog", "cow")
    assert set(some.tags.values()) == {("dog",), ("cow",)}
    drawn = [select(data, number=4, seed=seed).utterances for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    even = select(data, number=2, per_label=True)
    assert Counter(even.tags.values()) == {("dog",): 2, ("cat",): 2, ("cow",): 2}
    for choice, match in [
        ({"labels": ["bird"]}, "no label 'bird' in the set; there are cat, cow, dog"),
        ({"groups": ["gu9"]}, "no group 'gu9'"),
        ({"number": 9}, "9 of utterances wanted, there are 8"),
        ({"number": 3, "per_label": True}, "3 of cow wanted, there are 2"),
        ({"first": 0}, "0 of utterances wanted"),
        ({"groups": ["gu0"], "labels": ["cow"]}, "no utterance is left"),
    ]:
        with pytest.raises(UserError, match=match):
            select(data, **choice)
