"""Every fault that validation knows is made in a sound directory, and must be all that is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_like.data.directory import DataDir
from espnet_like.data.validation import fix, problems, summary
from espnet_like.errors import MissingInput, UserError

FILES = {
    "wav.scp": "a {root}/a.wav\nb {root}/b.wav\nc {root}/c.wav\n",
    "utt2spk": "a g1\nb g1\nc g2\n",
    "spk2utt": "g1 a b\ng2 c\n",
    "utt2labels": "a dog\nb cat dog\nc cat\n",
    "labels": "dog\ncat\n",
    "utt2dur": "a 0.5\nb 0.5\nc 0.5\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound directory whose audio lies in it."""
    directory = tmp_path / "set"
    directory.mkdir()
    for name in "abc":
        soundfile.write(directory / f"{name}.wav", np.zeros(4000), 8000)
    for name, text in FILES.items():
        (directory / name).write_text(text.format(root=directory))
    return directory


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def segmented(root: Path, text: str) -> None:
    """Cut a, b and c from one recording of half a second."""
    (root / "wav.scp").write_text(f"rec {root}/a.wav\n")
    (root / "segments").write_text(text)
    (root / "utt2dur").unlink()


def test_sound(root: Path) -> None:
    assert problems(root) == []
    assert problems(root, audio=True) == []
    assert summary(root) == f"{root}: 3 utterances, 2 groups, 2 labels, 0.00 hours"
    segmented(root, "a rec 0 0.2\nb rec 0.2 0.505\nc rec 0.1 -1\n")
    assert problems(root, audio=True) == []
    assert "length not known" in summary(root)


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("utt2spk", "a g1\nb g1\n", "b g1\na g1\n", ["utt2spk:2: 'a' after 'b'"]),
        ("utt2spk", "b g1\n", "b g1\nb g1\n", ["utt2spk:3: 'b' again, first in line 2"]),
        (
            "utt2spk",
            "c g2\n",
            "c g2\nd g2\n",
            ["utt2spk:4: 'd' is not in wav.scp", "spk2utt:2: group 'g2' does not list"],
        ),
        ("utt2dur", "b 0.5\n", "", ["wav.scp:2: 'b' is not in utt2dur"]),
        ("utt2labels", "c cat\n", "", ["wav.scp:3: 'c' is not in utt2labels"]),
        ("utt2labels", "c cat", "c", ["utt2labels:3: 'c' has no label"]),
        ("utt2labels", "cat dog", "cat  dog", ["utt2labels:2: 'b' has an empty label"]),
        ("utt2labels", "cat dog", "cat cat", ["utt2labels:2: 'b' has a label twice"]),
        ("utt2labels", "c cat", "c cow", ["utt2labels:3: 'c' has the label 'cow'"]),
        ("labels", "cat\n", "cat\nsea lion\n", ["labels:3: 'sea lion': a label has no spaces"]),
        ("labels", "cat\n", "cat\ndog\n", ["labels:3: 'dog' again, first in line 1"]),
        ("spk2utt", "g1 a b", "g1 a", ["spk2utt:1: group 'g1' does not list"]),
        ("spk2utt", "g2 c\n", "", ["utt2spk:3: group 'g2' is not in spk2utt"]),
        ("utt2dur", "b 0.5", "b long", ["utt2dur:2: 'b' has 'long' for a time"]),
        ("utt2dur", "b 0.5", "b 0.7", ["utt2dur:2: 'b' lasts 0.500 s, not 0.7 s"]),
        ("wav.scp", "/b.wav", "/z.wav", ["wav.scp:2: 'b': no such file"]),
        ("wav.scp", "c {root}/c.wav", "c", ["wav.scp:3: 'c' has no path"]),
        ("wav.scp", "c {root}/c.wav", "c cat x |", ["wav.scp:3: 'c' is a command"]),
    ],
)
def test_fault_in_a_line(root: Path, name: str, old: str, new: str, found: list[str]) -> None:
    edit(root, name, old.format(root=root), new)
    lines = problems(root, audio=True)
    assert len(lines) == len(found)
    for line, start in zip(lines, found, strict=True):
        assert line.startswith(f"{root}/{start}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a milan\nb rome\nc rome\n", []),
        ("a milan\nb rome\n", ["wav.scp:3: 'c' is not in utt2city"]),
        ("a milan\nb rome\nc rome\nd x\n", ["utt2city:4: 'd' is not in wav.scp"]),
        ("a milan\nb rome\nb rome\nc rome\n", ["utt2city:3: 'b' again, first in line 2"]),
        ("a milan\nb\nc rome\n", ["utt2city:2: 'b' has no value"]),
        ("a new york\nb rome\nc rome\n", ["utt2city:1: 'a' has several values"]),
        ("a milan\nc rome\nb rome\n", ["utt2city:3: 'b' after 'c'"]),
        ("", ["utt2city: empty", *(f"wav.scp:{n}: " for n in (1, 2, 3))]),
    ],
)
def test_domains(root: Path, text: str, found: list[str]) -> None:
    (root / "utt2city").write_text(text)
    lines = problems(root)
    assert len(lines) == len(found)
    for line, start in zip(lines, found, strict=True):
        assert line.startswith(f"{root}/{start}")


def test_fix_mends_domains(root: Path) -> None:
    (root / "utt2city").write_text("c rome\na milan\na milan\nz rome\n")
    done = "\n".join(fix(root))
    assert f"{root}/utt2city:3: 'a' again: removed" in done
    assert f"{root}/utt2city: 'z' removed: not in each of wav.scp, utt2spk" in done
    assert (root / "utt2city").read_text() == "a milan\nc rome\n"
    assert DataDir.load(root).domains == {"city": {"a": "milan", "c": "rome"}}
    assert problems(root) == []


@pytest.mark.parametrize("odd", ["a/b", "a\u00a0b", "a\u200bb", "a'b", "a*", "a|b", "a\x07"])
def test_odd_ids(root: Path, odd: str) -> None:
    for name in ("wav.scp", "utt2spk", "utt2labels", "utt2dur"):
        edit(root, name, "c ", f"{odd} " if name != "spk2utt" else odd)
    lines = problems(root)
    assert any(line.startswith(f"{root}/utt2spk:3: {odd!r} holds ") for line in lines)


def test_id_with_a_space(root: Path) -> None:
    edit(root, "wav.scp", "b ", "b 1 ")
    assert [line for line in problems(root) if "does the id hold a space?" in line]


@pytest.mark.parametrize("name", FILES)
def test_missing_and_empty_file(root: Path, name: str) -> None:
    (root / name).write_text("")
    assert any(line.startswith(f"{root / name}: empty") for line in problems(root))
    (root / name).unlink()
    lines = problems(root)
    if name == "utt2dur":
        assert lines == []
    else:
        assert lines[0].startswith(f"{root / name}: no such file")


def test_not_text_and_no_directory(root: Path) -> None:
    (root / "utt2spk").write_bytes(b"a g1\n\xff g\n")
    assert any(line.startswith(f"{root}/utt2spk:2: not UTF-8") for line in problems(root))
    assert "no such directory" in problems(root / "none")[0]


def test_unlabelled(root: Path) -> None:
    (root / "labels").unlink()
    (root / "utt2labels").unlink()
    assert len(problems(root)) == 2
    assert problems(root, labels=False) == []


def _nan(path: Path) -> None:
    soundfile.write(path, np.full(4000, np.nan), 8000, subtype="FLOAT")


def _text(path: Path) -> None:
    path.write_text("this is no audio at all")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def _none(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 8000)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_nan, "NaN or infinite"),
        (_text, "cannot decode"),
        (_cut, "truncated"),
        (_none, "no samples"),
    ],
)
def test_unreadable_audio(root: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(root / "b.wav")
    assert problems(root) == []
    (line,) = problems(root, audio=True)
    assert line.startswith(f"{root}/wav.scp:2: 'b': {root}/b.wav: {message}")


def test_missing_and_empty_audio_need_no_decoding(root: Path) -> None:
    (root / "b.wav").unlink()
    (root / "c.wav").write_bytes(b"")
    lines = problems(root)
    assert [line.split(": ")[0] for line in lines] == [f"{root}/wav.scp:2", f"{root}/wav.scp:3"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a rec 0 0.2\nb rec 0.2 0.6\nc rec 0.1 -1\n", "segments:2: 'b' goes from 0.2 s to 0.6 s"),
        ("a rec 0 0.2\nb rec 0.2 0.4\nc rec 0.9 -1\n", "segments:3: 'c' goes from 0.9 s to the"),
        ("a rec 0.2 0.2\nb rec 0.2 0.4\nc rec 0 -1\n", "segments:1: 'a' goes from 0.2 s to 0.2 s"),
        ("a rec 0 0.2\nb rec 0.2\nc rec 0 -1\n", "segments:2: 'b' is not a segment"),
        ("a rec 0 0.2\nb tape 0 0.2\nc rec 0 -1\n", "segments:2: recording 'tape' is not in wav"),
        ("a rec 0 0.2\nb rec x 0.2\nc rec 0 -1\n", "segments:2: 'b' has 'x' for a time"),
    ],
)
def test_bad_segments(root: Path, text: str, start: str) -> None:
    segmented(root, text)
    (line,) = problems(root, audio=True)
    assert line.startswith(f"{root}/{start}")


def test_durations_of_segments(root: Path) -> None:
    segmented(root, "a rec 0 0.2\nb rec 0.2 0.4\nc rec 0 -1\n")
    (root / "utt2dur").write_text("a 0.2\nb 0.3\nc 0.4\n")
    assert len(problems(root)) == 1  # c's length is known only when the audio is read
    assert len(problems(root, audio=True)) == 2


def test_both_sides_of_a_split(root: Path, tmp_path: Path) -> None:
    test = DataDir(
        wav={"x": "x.wav", "y": "y.wav"},
        groups={"x": "g9", "y": "g2"},
        tags={"x": ("dog",), "y": ("cat",)},
        labels=("dog", "cat"),
    )
    test.save(tmp_path / "test")
    (line,) = problems(root, against=[tmp_path / "test"])
    assert line.startswith(f"{root}/utt2spk:3: group 'g2' is on both sides: c here, y in ")
    assert f"{tmp_path}/test/utt2spk:2" in line
    test.groups["y"] = "g8"
    test.save(tmp_path / "test")
    assert problems(root, against=[tmp_path / "test"]) == []
    test.wav["x"] = f"{root}/a.wav"
    test.save(tmp_path / "test")
    (line,) = problems(root, against=[tmp_path / "test"])
    assert line.startswith(f"{root}/wav.scp:1: {root}/a.wav is also in {tmp_path}/test/wav.scp:1")
    (tmp_path / "test/labels").write_text("cat\ndog\n")
    assert f"labels: not the labels of {tmp_path}/test" in "".join(
        problems(root, against=[tmp_path / "test"])
    )
    assert "correct --against" in problems(root, against=[tmp_path / "none"])[0]


def test_many_problems_are_counted(root: Path) -> None:
    edit(root, "utt2spk", "c g2\n", "c g2\n" + "".join(f"d{i:03d} g2\n" for i in range(50)))
    lines = problems(root)
    assert len(lines) == 22
    assert lines[20] == "... and 30 more of this kind (not in wav.scp)"


def state(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def test_fix_leaves_a_sound_directory(root: Path) -> None:
    before = state(root)
    assert fix(root) == []
    assert state(root) == before
    assert not (root / ".backup").exists()


def test_fix(root: Path) -> None:
    (root / "wav.scp").write_text(
        f"c {root}/c.wav\na {root}/a.wav\na {root}/a.wav\nb {root}/b.wav\nn\nm {root}/m.wav\n"
    )
    (root / "utt2spk").write_text("b g1\na g1\nz g3\nm g1\n")
    (root / "utt2labels").write_text("a dog\nb cat  dog cat\nc cat\nm cat\n")
    (root / "utt2dur").write_text("a 0.5\nz 3\n")
    before = state(root)
    done = "\n".join(fix(root))
    assert problems(root, audio=True) == []
    assert (root / "wav.scp").read_text() == f"a {root}/a.wav\nb {root}/b.wav\n"
    assert (root / "utt2spk").read_text() == "a g1\nb g1\n"
    assert (root / "spk2utt").read_text() == "g1 a b\n"
    assert (root / "utt2labels").read_text() == "a dog\nb cat dog\n"
    assert (root / "utt2dur").read_text() == "a 0.5\nb 0.5\n"
    for told in (
        "wav.scp:3: 'a' again: removed",
        "wav.scp:5: 'n' has no path",
        "utt2spk: 'z' removed",
        "wav.scp: 'c' removed: not in each of",
        "'b' measured: 0.5 s",
        f"'m' removed: {root}/m.wav: no such file",
    ):
        assert told in done
    kept = {path.name: path.read_bytes() for path in (root / ".backup").iterdir()}
    assert kept == {name: before[name] for name in kept}
    assert set(kept) == {"wav.scp", "utt2spk", "spk2utt", "utt2labels", "utt2dur"}
    assert fix(root) == []


def test_fix_segments(root: Path) -> None:
    segmented(root, "c rec 0.1 -1\na rec 0 0.2\nb tape 0.2 0.4\n")
    edit(root, "wav.scp", "rec", f"spare {root}/b.wav\nrec")
    fix(root)
    assert problems(root, audio=True) == []
    assert (root / "segments").read_text() == "a rec 0 0.2\nc rec 0.1 -1\n"
    assert (root / "wav.scp").read_text() == f"rec {root}/a.wav\n"
    assert (root / "utt2dur").read_text() == "a 0.2\nc 0.4\n"


def test_fix_refuses(root: Path) -> None:
    edit(root, "utt2spk", "b g1\n", "b g1\nb g2\n")
    before = state(root)
    with pytest.raises(UserError, match=r"utt2spk:3: 'b' is 'g2' here and 'g1' in line 2"):
        fix(root)
    assert state(root) == before
    (root / "utt2spk").write_text("z g1\n")
    before = state(root)
    with pytest.raises(UserError, match="no utterance would be left"):
        fix(root)
    assert state(root) == before
    (root / "utt2spk").unlink()
    with pytest.raises(MissingInput, match="utt2spk: no such file"):
        fix(root)


def test_fix_on_a_full_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(root, "utt2spk", "a g1\nb g1\n", "b g1\na g1\n")
    edit(root, "wav.scp", f"a {root}/a.wav\nb {root}/b.wav\n", f"b {root}/b.wav\na {root}/a.wav\n")
    before = state(root)
    whole = Path.write_text

    def full(self: Path, text: str, **options: str) -> int:
        if "utt2spk" in self.name:
            raise OSError(28, "No space left on device")
        return whole(self, text, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            fix(root)
    assert state(root) == before
    assert sorted(os.listdir(root / ".backup")) == ["utt2spk", "wav.scp"]
