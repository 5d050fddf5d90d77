"""The set-up: install.sh with a Python that only takes notes, check_install.py in broken places."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "tools" / "check_install.py"
PINS = [text for text in (ROOT / "tools/requirements.txt").read_text().split() if "==" in text]
TORCH, TORCHAUDIO = PINS

# ---------------------------------------------------------------- check_install.py


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the standard library only."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


@pytest.fixture
def check(bare_python: Path, tmp_path: Path):
    """Run check_install.py where only the modules in `tmp_path/site` are installed."""

    def call(*options: str, programs: Path | None = None) -> tuple[int, str]:
        done = subprocess.run(
            [str(bare_python), str(CHECK), *options],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": str(programs or "/nowhere"), "PYTHONPATH": str(tmp_path / "site")},
        )
        assert done.stderr == ""  # no traceback above all
        return done.returncode, done.stdout

    return call


def line(output: str, item: str) -> str:
    """An item's finding and its fix."""
    lines = output.splitlines()
    at = next(i for i, text in enumerate(lines) if text[7:].startswith(f"{item}:"))
    fixes = [text for text in lines[at + 1 : at + 2] if text.strip().startswith("->")]
    return " ".join([lines[at], *fixes])


def module(folder: Path, name: str, code: str, version: str | None = None) -> None:
    package = folder / "site" / name
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(code)
    if version:
        info = folder / "site" / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def torch(folder: Path, version: str, cuda: str | None = None, usable: bool = False) -> None:
    code = f"""
class version: cuda = {cuda!r}; hip = None
class cuda:
    is_available = staticmethod(lambda: {usable})
    is_bf16_supported = staticmethod(lambda: True)
    get_device_name = staticmethod(lambda number: "Test GPU")
__version__ = {version!r}
"""
    module(folder, "torch", code)


def torchaudio(folder: Path) -> Path:
    """As the registry's wheel: its compiled part loads beside a CUDA torch only."""
    code = """
import pathlib, torch
if list(pathlib.Path(__file__).parent.glob("lib/*.so")) and not torch.version.cuda:
    raise OSError("libcudart.so.13: cannot open shared object file")
__version__ = "2.11.0"
"""
    module(folder, "torchaudio", code)
    part = folder / "site" / "torchaudio" / "lib" / "_torchaudio.abi3.so"
    part.parent.mkdir(exist_ok=True)
    part.touch()
    return part


def gpu_machine(folder: Path) -> Path:
    program = folder / "programs" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: Test GPU (UUID: GPU-1)'\n")
    program.chmod(0o755)
    return program.parent


def test_an_empty_environment(check) -> None:
    code, output = check()
    assert code == 1
    for item in ("torch", "numpy", "kaldiio", "soundfile", "soxr", "jsonargparse"):
        found = line(output, item)
        assert "wrong" in found and "is not installed" in found and "tools/install.sh" in found
    assert "does not import" in line(output, "espnet_like")
    code, output = check("--json")
    findings = {entry["item"]: entry for entry in json.loads(output)}
    assert code == 1 and findings["torch"]["state"] == "wrong" and findings["torch"]["fix"]


def test_old_torch(check, tmp_path: Path) -> None:
    torch(tmp_path, "2.5.1+cpu")
    assert "wrong  torch: 2.5.1+cpu is older than 2.8" in check()[1]


@pytest.mark.parametrize("version", ["2.8.0", "2.13.0+cpu", "3.0.0a0"])
def test_new_enough_torch(check, tmp_path: Path, version: str) -> None:
    torch(tmp_path, version)
    assert f"ok     torch: {version}" in check()[1]


def test_torch_that_does_not_load(check, tmp_path: Path) -> None:
    module(tmp_path, "torch", "raise OSError('libtorch_cpu.so: undefined symbol: x')")
    found = line(check()[1], "torch")
    assert "does not import (OSError: libtorch_cpu.so: undefined symbol: x)" in found


def test_leftover_folder_of_torch(check, tmp_path: Path) -> None:
    (tmp_path / "site" / "torch" / "lib").mkdir(parents=True)
    assert "empty or broken folder" in line(check()[1], "torch")


def test_old_and_broken_libraries(check, tmp_path: Path) -> None:
    module(tmp_path, "kaldiio", "", "2.0.0")
    module(tmp_path, "soundfile", "import _cffi_that_is_gone", "0.13.1")
    module(tmp_path, "soxr", "", "99.0")
    output = check()[1]
    assert "2.0.0 is older than" in line(output, "kaldiio")
    assert "lacks the module _cffi_that_is_gone" in line(output, "soundfile")
    assert line(output, "soxr") == "ok     soxr: 99.0"


def test_compiled_part_of_torchaudio_beside_a_cpu_and_a_cuda_torch(check, tmp_path: Path) -> None:
    torch(tmp_path, "2.13.0+cpu")
    part = torchaudio(tmp_path)
    found = line(check()[1], "torchaudio")
    assert "wrong" in found and "compiled part does not load beside torch 2.13.0+cpu" in found
    assert "libcudart.so.13" in found and "--mend" in found
    assert part.exists()  # a check changes nothing

    output = check("--mend")[1]
    assert "put its compiled part aside" in output and "ok     torchaudio: 2.11.0" in output
    assert not part.exists()
    assert "compiled part" not in check("--mend")[1]
    assert "ok     torchaudio: 2.11.0" in check()[1]

    torch(tmp_path, "2.13.0", cuda="13.0")
    output = check("--mend")[1]
    assert "back in place: _torchaudio.abi3.so" in output and "ok     torchaudio" in output
    assert part.exists()


def test_compiled_part_that_loads_nowhere(check, tmp_path: Path) -> None:
    torch(tmp_path, "2.13.0", cuda="13.0")
    part = torchaudio(tmp_path)
    init = part.parent.parent / "__init__.py"
    init.write_text(init.read_text().replace("and not torch.version.cuda", ""))
    for _ in range(2):
        assert "ok     torchaudio: 2.11.0" in check("--mend")[1]
        assert not part.exists()


def test_build_against_machine(check, tmp_path: Path) -> None:
    torch(tmp_path, "2.13.0", cuda="13.0")
    found = line(check()[1], "GPU")
    assert found.startswith("note ") and "CUDA 13.0 build" in found and "--cpu" in found
    programs = gpu_machine(tmp_path)
    found = line(check(programs=programs)[1], "GPU")
    assert "Test GPU is here, but torch (CUDA 13.0) cannot use it" in found and "driver" in found
    torch(tmp_path, "2.13.0", cuda="13.0", usable=True)
    assert line(check(programs=programs)[1], "GPU") == "ok     GPU: Test GPU, CUDA 13.0"
    torch(tmp_path, "2.13.0+cpu")
    found = line(check(programs=programs)[1], "GPU")
    assert found.startswith("note ") and "GPU 0: Test GPU" in found and "--cuda" in found
    assert line(check()[1], "GPU") == "ok     GPU: none here; torch is a CPU build"


def test_unknown_option_of_the_check() -> None:
    done = subprocess.run(
        [sys.executable, str(CHECK), "--mned"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--mned" in done.stderr and done.stderr.count("\n") == 1


def test_the_environment_of_the_tests_is_fine() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(CHECK), "--dev"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- install.sh

# Stands for python3: makes "environments" by copying itself, and notes every call of pip.
PYTHON = """#!/bin/bash
root=@ROOT@
case "$*" in
  -V) echo Python 3.11.9 ;;
  "-m venv"*)
    mkdir -p "${@: -1}/bin"
    for name in python python3; do cp "$0" "${@: -1}/bin/$name"; done ;;
  "-m pip --version") ;;
  "-m pip install"*)
    sleep 0.05
    echo "${@:4}" >>"$root/calls"
    for word in $(cat "$root/broken" 2>/dev/null); do
      if [[ "$*" == *"$word"* ]]; then echo "no network for $word"; exit 1; fi
    done
    [[ "$*" != *torch===* ]] || touch "$root/cuda" ;;
  *ensurepip*) [[ ! -e $root/debian ]] ;;
  *python%d*) echo python3.11-venv ;;
  *sys.prefix*) echo "$root/own" ;;
  *version.cuda*) if [[ -e $root/cuda ]]; then echo cuda; else echo cpu; fi ;;
  *"import sys, torch"*) [[ -e $root/has_torch ]] ;;
  *metadata*) echo 1.2.3 ;;
  tools/check_install.py*)
    if [[ -e $root/unusable ]]; then
      rm "$root/unusable"; printf 'ok     a: 1\\nwrong  b: missing\\n'; exit 1
    fi ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What install.sh needs of the repository, and programs that do nothing real."""
    for name in (
        "tools/install.sh",
        "tools/requirements.txt",
        "utils/parse_options.sh",
        "setup.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    program(programs / "python3", PYTHON.replace("@ROOT@", str(tmp_path)))
    program(programs / "nvidia-smi", f"#!/bin/sh\ntest -e {tmp_path}/gpu && echo 'GPU 0: Test'\n")
    program(programs / "apt-get", f'#!/bin/sh\necho apt-get "$@" >> {tmp_path}/calls\n')
    program(programs / "id", f"#!/bin/sh\ntest -e {tmp_path}/user && echo 1000 || echo 0\n")
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def popen(clone: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(clone / "tools" / "install.sh"), *options],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": f"{clone}/programs:/usr/bin:/bin", **environment},
    )


def install(clone: Path, *options: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = popen(clone, *options, **environment)
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


def calls(clone: Path) -> list[str]:
    """The calls since the last time."""
    path = clone / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def stamp(clone: Path) -> Path:
    return clone / "tools" / "venv" / "espnet_like.stamp"


def test_torch_comes_first_and_exact(clone: Path) -> None:
    assert install(clone)[0] == 0
    made = calls(clone)
    assert made[1:3] == [f"{TORCH}+cpu", f"--no-deps {TORCHAUDIO}"]
    assert made[3].endswith("-e .") and "--no-build-isolation" in made[3]
    assert len(made) == 4
    assert (clone / "tools" / ".install.held").read_text() == "torch==1.2.3\ntorchaudio==1.2.3\n"


def test_a_second_call_does_nothing_at_once(clone: Path) -> None:
    install(clone, "--dev")
    calls(clone)
    before = time.monotonic()
    for options in ([], ["--dev"], ["--cpu"]):
        assert install(clone, *options) == (0, "", "")
    assert time.monotonic() - before < 3
    assert calls(clone) == []


def test_what_calls_for_more_work(clone: Path) -> None:
    install(clone)
    calls(clone)
    assert install(clone, "--dev")[0] == 0
    assert calls(clone)[-1].endswith("-e .[dev]")
    with (clone / "setup.py").open("a") as file:
        file.write("# changed\n")
    assert install(clone)[0] == 0
    assert calls(clone)[-1].endswith("-e .[dev]")  # what the tests need stays
    assert install(clone, "--cuda")[0] == 0
    assert calls(clone)[1] == TORCH.replace("==", "===")
    assert install(clone) == (0, "", "")  # the build that is there is kept
    assert install(clone, "--cuda", "--dev") == (0, "", "")


def test_cpu_build_from_the_public_index_where_pip_knows_no_other(clone: Path) -> None:
    program(
        clone / "programs" / "python3",
        (clone / "programs" / "python3")
        .read_text()
        .replace('[[ "$*" == *"$word"* ]]', '[[ "$*" == *"$word"* && "$*" != *extra-index* ]]'),
    )
    (clone / "broken").write_text(f"{TORCH}+cpu")
    assert install(clone)[0] == 0
    index = "https://download.pytorch.org/whl/cpu"
    assert calls(clone)[1:3] == [f"{TORCH}+cpu", f"{TORCH}+cpu --extra-index-url {index}"]


def test_gpu_machine_gets_the_cuda_build(clone: Path) -> None:
    (clone / "gpu").touch()
    assert install(clone)[0] == 0
    assert calls(clone)[1] == TORCH.replace("==", "===")


@pytest.mark.parametrize("broken", ["setuptools", "torch==", "torchaudio", "-e"])
def test_a_failed_call_leaves_no_stamp_and_the_next_goes_on(clone: Path, broken: str) -> None:
    (clone / "broken").write_text(broken)
    code, _, error = install(clone)
    assert code == 1 and "error: cannot install" in error and "no network for" in error
    assert not stamp(clone).exists()
    (clone / "broken").unlink()
    assert install(clone)[0] == 0
    assert stamp(clone).exists()


def test_a_killed_call_leaves_no_stamp(clone: Path) -> None:
    process = popen(clone)
    while not (clone / "calls").exists():
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not stamp(clone).exists()
    assert install(clone)[0] == 0
    assert stamp(clone).exists()


def test_an_unusable_rest_of_an_earlier_call_is_made_anew(clone: Path) -> None:
    (clone / "unusable").touch()
    code, _, error = install(clone)
    assert code == 1 and "wrong  b: missing" in error and "ok     a" not in error
    assert not stamp(clone).exists()
    (clone / "unusable").touch()
    (clone / "tools" / "venv" / "old").touch()
    code, output, _ = install(clone)
    assert code == 0 and "starting over" in output
    assert stamp(clone).exists() and not (clone / "tools" / "venv" / "old").exists()


def test_calls_at_the_same_time(clone: Path) -> None:
    together = [popen(clone) for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], outputs
    assert len(calls(clone)) == 4


def test_active_environment(clone: Path) -> None:
    (clone / "own" / "bin").mkdir(parents=True)
    shutil.copy(clone / "programs" / "python3", clone / "own" / "bin" / "python3")
    assert install(clone, ESPNET_LIKE_ENV="active")[0] == 0
    assert f"{TORCH}+cpu" in calls(clone)
    assert not (clone / "tools" / "venv").exists()
    assert install(clone, "--active") == (0, "", "")
    (clone / "own" / "espnet_like.stamp").unlink()
    (clone / "has_torch").touch()
    code, output, _ = install(clone, "--active")
    assert code == 0 and "keeping torch 1.2.3" in output
    assert not [call for call in calls(clone) if "torch=" in call]


def test_debian_without_the_venv_package(clone: Path) -> None:
    (clone / "debian").touch()
    (clone / "user").touch()
    code, _, error = install(clone, "--python", "python3")
    assert code == 1 and "sudo apt-get install python3.11-venv" in error
    assert calls(clone) == []
    (clone / "user").unlink()
    code, output, _ = install(clone, "--python", "python3")
    assert code == 0 and "installing the Debian package python3.11-venv" in output
    assert calls(clone)[0] == "apt-get install -y python3.11-venv"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pyton", "x"], "--python"),
        (["--cpu", "--cuda"], "not both"),
        (["--active", "--python", "python3"], "not both"),
        (["dev"], "takes options only"),
        (["--python", "no-such-python"], "no-such-python: no Python 3.10 or newer"),
    ],
)
def test_bad_usage_of_install(clone: Path, options: list[str], words: str) -> None:
    code, _, error = install(clone, *options)
    assert code != 0 and words in error and error.count("\n") == 1
    assert calls(clone) == []


def test_the_real_environment_is_left_alone() -> None:
    made = ROOT / "tools" / "venv" / "espnet_like.stamp"
    if Path(sys.prefix) != made.parent or not made.exists():
        pytest.skip("this Python is not the one of tools/install.sh")
    before = time.monotonic()
    done = subprocess.run(
        [str(ROOT / "tools" / "install.sh"), "--dev"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1"},  # no network is needed
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - before < 1


# ---------------------------------------------------------------- the package


def test_pip_install_carries_everything(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(
        ROOT / "espnet_like", source / "espnet_like", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "-t", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in (source / "espnet_like").rglob("*"):
        if path.is_file():
            assert (target / path.relative_to(source)).is_file(), path
    done = subprocess.run(
        [str(target / "bin" / "espnet_like"), "no-such-stage"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
    )
    assert done.returncode == 2 and "unknown stage 'no-such-stage'" in done.stderr


def test_every_stage_is_a_command_with_a_summary() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "espnet_like", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    listed = dict(text.split(maxsplit=1) for text in done.stdout.splitlines()[2:] if text.strip())
    stages = {path.stem for path in (ROOT / "espnet_like" / "bin").glob("[a-z]*.py")}
    assert set(listed) == stages
