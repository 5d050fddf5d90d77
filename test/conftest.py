"""What the tests share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

# Golden tensors were made on one thread; sums in another order differ in the last bits.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


class Together(LoadScopeScheduling):
    """What shares fixtures stays in one process: the tests of a file, those of a recipe's demo."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        first = re.search(r"\[(\w+)", test)
        recipe = first and (ROOT / "egs" / first[1] / "run.sh").is_file()
        return f"recipe {first[1]}" if recipe else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference material outside the repository (papers' golden tensors, real audio)."""
    path = Path(os.environ.get("ESPNET_LIKE_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference material at {path} (set ESPNET_LIKE_SHARED)")
    return path
