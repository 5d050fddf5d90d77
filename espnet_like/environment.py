"""What a result was made with: revision, versions, device."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torchaudio", "numpy", "soundfile", "soxr", "kaldiio")  # that numbers come through


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """What ran, where: git revision, versions, device.

    Args:
        device: that computes; None: a GPU where there is one.
    """
    cuda = torch.cuda.is_available() if device is None else device.type == "cuda"
    return {
        "revision": revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in LIBRARIES},
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def revision() -> str:
    """Git revision of this code, `+` when files differ from it, or `unknown`."""
    where = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(where), "describe", "--always", "--dirty=+", "--abbrev=12"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return platform.machine()
