"""utils/parse_options.sh, driven from scripts that source it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = f"""#!/usr/bin/env bash
set -euo pipefail
stage=0
stop_stage=8
db_root=
cmd="utils/run.py"
demo=false
valid=true
NotAnOption=1
_private=1
help_message="usage: toy.sh [--stage N]"
. {ROOT}/utils/parse_options.sh
printf '%s|' "$stage" "$stop_stage" "$db_root" "$cmd" "$demo" "$valid" "$@"
"""


@pytest.fixture
def toy(tmp_path: Path):
    script = tmp_path / "toy.sh"
    script.write_text(SCRIPT)

    def call(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["bash", str(script), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "http_proxy": "http://x", "HOME": "/"},
        )
        return done.returncode, done.stdout, done.stderr

    return call


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ([], "0|8||utils/run.py|false|true|"),
        (["--stage", "3", "--stop-stage=4"], "3|4||utils/run.py|false|true|"),
        (["--stop_stage", "4"], "0|4||utils/run.py|false|true|"),
        (["--demo", "--valid", "false"], "0|8||utils/run.py|true|false|"),
        (["--demo=true", "--valid=false"], "0|8||utils/run.py|true|false|"),
        (["--db-root", "a b/*'\"$HOME\n"], "0|8|a b/*'\"$HOME\n|utils/run.py|false|true|"),
        (["--db-root=x=y"], "0|8|x=y|utils/run.py|false|true|"),
        (["--db-root", ""], "0|8||utils/run.py|false|true|"),
        (["--stage", "-1"], "-1|8||utils/run.py|false|true|"),
        (["--cmd", "sge.py --mem 4G"], "0|8||sge.py --mem 4G|false|true|"),
        (["--cmd", "--mem 4G"], "0|8||--mem 4G|false|true|"),
        (["--stage", "1", "in", "--out"], "1|8||utils/run.py|false|true|in|--out|"),
        (["--stage", "1", "--", "--in", "x y"], "1|8||utils/run.py|false|true|--in|x y|"),
        (["--demo", "in"], "0|8||utils/run.py|true|true|in|"),
    ],
)
def test_values(toy, arguments: list[str], output: str) -> None:
    assert toy(*arguments) == (0, output, "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(toy, option: str) -> None:
    assert toy("--demo", option, "--nonsense") == (0, "usage: toy.sh [--stage N]\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stge", "3"], ["--stge", "--stage"]),
        (["--root", "3"], ["--root", "--db-root"]),
        (["--stopstage=3"], ["--stopstage", "--stop-stage"]),
        (["--demos"], ["--demos", "--demo"]),
        (["-stage", "3"], ["-stage"]),
        (["--NotAnOption", "3"], ["--NotAnOption"]),
        (["--_private", "3"], ["--_private"]),
        (["---private", "3"], ["---private"]),
        (["--http-proxy", "3"], ["--http-proxy"]),
        (["--help-message", "3"], ["--help-message"]),
        (["--stage[0]", "3"], ["--stage[0]"]),
        (["--x$(touch here)"], ["--x$(touch here)"]),
        (["--stage"], ["--stage needs a value"]),
        (["--stage", "--demo"], ["--stage needs a value", "--demo"]),
        (["--demo=perhaps"], ["--demo", "true or false", "perhaps"]),
    ],
)
def test_refusals_are_one_line(toy, arguments: list[str], words: list[str]) -> None:
    code, output, error = toy(*arguments)
    assert (code, output) == (2, "")
    assert error.startswith("toy.sh: ") and error.count("\n") == 1
    for word in words:
        assert word in error


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    script = tmp_path / "toy.sh"
    source = f". {ROOT}/utils/parse_options.sh"
    script.write_text(f"stage=1\n{source}\ncompgen -v; compgen -A function; true\n")
    done = subprocess.run(
        ["bash", str(script), "--stage", "2"], capture_output=True, text=True, check=True
    )
    assert not [name for name in done.stdout.split() if name.startswith("_po")]
