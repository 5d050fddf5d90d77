"""The linters, as tests: a failure stands in the same list as all others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


def tracked() -> list[Path]:
    """The files of the repository; in a checkout without git, those in its source folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    names = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    if listed.returncode:
        folders = ["utils", "tools", "test", ".ci", "egs", "espnet_like"]
        names = [path for folder in folders for path in (ROOT / folder).rglob("*")]
        names = [path for path in names if "venv" not in path.parts]
    return [path for path in names if path.is_file()]


def is_shell(path: Path) -> bool:
    if path.suffix == ".sh":
        return True
    with path.open("rb") as file:
        line = file.readline()
    return line.startswith(b"#!") and b"sh" in line.split(b"/")[-1]


def test_ruff() -> None:
    check(sys.executable, "-m", "ruff", "check", ".")


def test_mypy() -> None:
    check(sys.executable, "-m", "mypy")


def test_shellcheck() -> None:
    scripts = [str(path) for path in tracked() if is_shell(path)]
    assert str(ROOT / ".ci" / "run") in scripts
    check(str(Path(sys.executable).parent / "shellcheck"), *scripts)


def test_no_check_is_switched_off_in_a_shell_script() -> None:
    for path in filter(is_shell, tracked()):
        assert "shellcheck disable" not in path.read_text(), path


def test_scripts_can_be_executed() -> None:
    for path in tracked():
        with path.open("rb") as file:
            if file.read(2) == b"#!":
                assert path.stat().st_mode & 0o100, f"{path}: chmod +x"
