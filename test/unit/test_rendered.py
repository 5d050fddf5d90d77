"""What is committed as a result is what the program renders from the committed numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from espnet_like.experiments.tables import read_tables
from espnet_like.results.counts import read_counts
from espnet_like.results.page import render
from espnet_like.results.pairs import read_pairs
from espnet_like.results.store import read_csv

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.parent for path in ROOT.glob("egs/*/results.csv"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_results_pages_are_rendered(recipe):
    text = (recipe / "RESULTS.md").read_text()
    (title,) = re.findall(r"\A# Results: (.*)\n", text)
    results, counts = read_csv(recipe / "results.csv"), read_counts(recipe / "counts.csv")
    pairs = read_pairs(recipe / "pairs.csv")
    assert render(title, read_tables(recipe / "conf"), results, counts, pairs) == text


def test_the_readme_table_is_rendered():
    command = [sys.executable, ROOT / "tools/update_readme.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_code_runs():
    """A training loop with what its reader has; then the model of this repository."""
    text = (ROOT / "README.md").read_text()
    loop, own, pack = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert "Classifier.load(" in pack  # what stage pack wrote: test/recipes
    torch.manual_seed(0)
    stages = {
        "layer1": torch.nn.Conv2d(1, 4, 3, stride=2),
        "layer2": torch.nn.Conv2d(4, 8, 3, stride=2),
        "pool": torch.nn.AdaptiveAvgPool2d(1),
        "flat": torch.nn.Flatten(),
        "head": torch.nn.Linear(8, 10),
    }
    model = torch.nn.Sequential(OrderedDict(stages))
    before = model.head.weight.clone()
    names: dict[str, object] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "loader": [(torch.randn(4, 1, 32, 20), torch.randint(10, (4,))) for _ in range(3)],
        "num_classes": 10,
    }
    exec(compile(loop, "README.md", "exec"), names)
    assert names["loss"].isfinite() and not model.head.weight.equal(before)  # type: ignore
    names = {}
    exec(compile(own, "README.md", "exec"), names)
    assert names["loss"].isfinite()  # type: ignore[attr-defined]
