"""egs/README.md's recipe, as it stands there, on a corpus that it has never seen."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import soundfile

from test.recipes.conftest import ROOT


def files() -> dict[str, str]:
    """The files that the page shows: fenced blocks whose opening line ends in a path."""
    page = (ROOT / "egs" / "README.md").read_text()
    return dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", page, re.M | re.S))


def test_a_recipe_is_written_in_under_60_lines():
    lines = [line for text in files().values() for line in text.splitlines() if line.strip()]
    assert set(files()) >= {"run.sh", "local/data.py", "conf/features.yaml", "conf/train.yaml"}
    assert 20 < len(lines) < 60


def test_the_recipe_on_the_page_runs(tree, recipe, tmp_path):
    rng = np.random.default_rng(0)
    for label, pitch in (("low", 300), ("high", 3000)):
        (tmp_path / "db" / label).mkdir(parents=True)
        for i in range(12):
            tone = np.sin(2 * np.pi * pitch * np.arange(12000) / 16000)
            wave = 0.2 * tone + 0.05 * rng.normal(size=12000)
            name = f"s{i % 4}_{label}{i}.wav"
            soundfile.write(tmp_path / "db" / label / name, wave, 16000, "PCM_16")
    for name, text in files().items():
        path = tree / "egs" / "mycorpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tree / "egs/mycorpus/run.sh").chmod(0o755)
    assert "give --db-root" in recipe("mycorpus", code=2).stderr
    recipe("mycorpus", "--db-root", str(tmp_path / "db"), "--", "--train.epochs", "8")
    page = (tree / "egs/mycorpus/RESULTS.md").read_text()
    assert "| cp_resnet, none, epochs=8 | " in page
    parts = [tree / "egs/mycorpus/data/mycorpus/fold1" / part for part in ("train", "test")]
    command = [sys.executable, tree / "utils/validate_data_dir.py", parts[0], "--audio"]
    checked = subprocess.run([*command, "--against", parts[1]], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
