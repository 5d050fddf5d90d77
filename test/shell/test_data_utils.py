"""The data directory tools of utils/, run as a user runs them, from anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

UTILS = Path(__file__).resolve().parents[2] / "utils"


def tool(name: str, *args: object, cwd: Path, code: int = 0) -> str:
    """Run a tool; the exit code must be `code`. Both outputs, without a traceback."""
    command = [sys.executable, str(UTILS / f"{name}_data_dir.py"), *map(str, args)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if code == 2 and "usage" not in done.stderr:
        assert done.stderr.count("\n") == 1
    return done.stdout + done.stderr


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe directory with data/all: 8 clips, 4 groups, 2 labels, paths relative to it."""
    data = tmp_path / "data" / "all"
    data.mkdir(parents=True)
    tables: dict[str, list[str]] = {"wav.scp": [], "utt2spk": [], "utt2labels": []}
    for i in range(8):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(800), 8000)
        tables["wav.scp"].append(f"u{i} {i}.wav\n")
        tables["utt2spk"].append(f"u{i} g{i // 2}\n")
        tables["utt2labels"].append(f"u{i} {'dog' if i % 2 else 'cat'}\n")
    tables["labels"] = ["dog\n", "cat\n"]
    for name, lines in tables.items():
        (data / name).write_text("".join(lines))
    return tmp_path


def test_fix_then_validate(recipe: Path) -> None:
    assert "spk2utt: no such file" in tool("validate", "data/all", cwd=recipe, code=1)
    assert "spk2utt: rewritten" in tool("fix", "data/all", cwd=recipe)
    out = tool("validate", "data/all", "--audio", cwd=recipe)
    assert out == "data/all: 8 utterances, 4 groups, 2 labels, 0.00 hours\n"
    (recipe / "data" / "all" / "labels").write_text("dog\n")
    out = tool("fix", "data/all", cwd=recipe, code=1)
    assert out.startswith("left to mend by hand:\ndata/all/utt2labels:1: 'u0' has the label 'cat'")


def test_subset_split_combine(recipe: Path) -> None:
    tool("fix", "data/all", cwd=recipe)
    tool("subset", "data/all", "data/a", "--groups", "g0,g1", cwd=recipe)
    tool("subset", "data/all", "data/b", "--groups", "g2,g3", cwd=recipe)
    tool("validate", "data/a", "--against", "data/b", cwd=recipe)
    out = tool("validate", "data/all", "--against", "data/b", cwd=recipe, code=1)
    assert "data/all/utt2spk:5: group 'g2' is on both sides: u4 here, u4 in data/b" in out
    tool("combine", "data/c", "data/b", "data/a", cwd=recipe)
    for name in ("wav.scp", "utt2spk", "spk2utt", "utt2labels", "labels", "utt2dur"):
        first, second = (recipe / "data" / d / name for d in ("all", "c"))
        assert first.read_text() == second.read_text()

    assert "split3: 3, 2, 3 utterances" in tool("split", "data/all", 3, cwd=recipe)
    parts = [recipe / "data" / "all" / "split3" / str(i) / "utt2spk" for i in (1, 2, 3)]
    joined = "".join(part.read_text() for part in parts)
    assert joined == (recipe / "data" / "all" / "utt2spk").read_text()
    tool("split", "data/all", 2, "--by-group", "--out", "parts", cwd=recipe)
    tool("validate", "parts/split2/1", "--against", "parts/split2/2", cwd=recipe)

    (recipe / "list").write_text("u3\nu1 and more\n")
    tool("subset", "data/all", "data/d", "--list", "list", cwd=recipe)
    assert (recipe / "data/d/utt2spk").read_text() == "u1 g0\nu3 g1\n"
    tool("subset", "data/all", "data/e", "--n", 2, "--per-label", "--seed", 3, cwd=recipe)
    assert len((recipe / "data/e/utt2spk").read_text().splitlines()) == 4
    tool("subset", "data/all", "data/f", "--labels", "dog", "--first", 1, cwd=recipe)
    assert (recipe / "data/f/labels").read_text() == "dog\n"


def test_bad_use(recipe: Path) -> None:
    tool("fix", "data/all", cwd=recipe)
    for name, args, code, message in [
        ("validate", ["data/none"], 1, "data/none: no such directory"),
        ("fix", ["data/none"], 3, "error: data/none/wav.scp: no such file"),
        ("subset", ["data/all", "data/x"], 2, "choose by --list"),
        ("subset", ["data/all", "data/x", "--labels", "cow"], 2, "error: no label 'cow'"),
        ("subset", ["data/all", "data/x", "--list", "none"], 1, "error: none: No such file"),
        ("subset", ["data/all", "data/x", "--n", "2", "--first", "2"], 2, "exclude each other"),
        ("split", ["data/all", "9"], 2, "error: data/all: 8 utterances do not make 9 parts"),
        ("combine", ["data/x", "data/none"], 3, "error: data/none: no such data directory"),
        ("combine", ["data/x", "data/all", "--labels", "dog"], 2, "'cat', which is not in"),
        ("validate", ["data/all", "--odd"], 2, "unrecognized arguments: --odd"),
    ]:
        assert message in tool(name, *args, cwd=recipe, code=code)
    assert not (recipe / "data" / "x").exists()


@pytest.mark.parametrize("name", ["validate", "fix", "subset", "split", "combine"])
def test_help(name: str, tmp_path: Path) -> None:
    assert "usage:" in tool(name, "--help", cwd=tmp_path)
