"""What is committed as a result is what the program renders from the committed numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_like.scoring.report import render
from espnet_like.scoring.results import read_csv
from espnet_like.scoring.tables import read_tables

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.parent for path in ROOT.glob("egs/*/results.csv"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_results_pages_are_rendered(recipe):
    text = (recipe / "RESULTS.md").read_text()
    (title,) = re.findall(r"\A# Results: (.*)\n", text)
    assert render(title, read_tables(recipe / "conf"), read_csv(recipe / "results.csv")) == text


def test_the_readme_table_is_rendered():
    command = [sys.executable, ROOT / "tools/update_readme.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_code_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    names: dict[str, object] = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    assert names["loss"].isfinite()  # type: ignore[attr-defined]
    assert names["logits"].shape == (8, 10)  # type: ignore[attr-defined]
