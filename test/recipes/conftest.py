"""Recipes run in a copy of the tree, so that nothing of the user's is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE = ("data", "dump", "exp", "db", "venv", "__pycache__", ".install.*", "*.stale-*")

Runner = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    """The environment of the tests, for run.sh: no set-up, few threads."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ESPNET_LIKE_CMD")}
    return {**kept, "PATH": path, "ESPNET_LIKE_ENV": "active", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A copy of what a clone holds."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("egs", "espnet_like", "utils", "tools"):
        ignore = shutil.ignore_patterns(*(m for m in MADE if name == "egs" or m != "data"))
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    return copy


@pytest.fixture(scope="session")
def recipe(tree) -> Runner:
    """recipe(name, *options) runs egs/<name>/run.sh."""

    def run(name: str, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [tree / "egs" / name / "run.sh", *options],
            cwd="/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, f"{options}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr + done.stdout
        return done

    return run
