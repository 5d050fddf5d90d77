"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Golden tensors were made on one thread; sums in another order differ in the last bits.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares fixtures stays in one process: the tests of a file, those of a recipe's demo."""
    for item in items:
        recipe = getattr(item, "callspec", None) and item.callspec.params.get("done")
        item.add_marker(pytest.mark.xdist_group(f"recipe {recipe}" if recipe else str(item.path)))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference material outside the repository (papers' golden tensors, real audio)."""
    path = Path(os.environ.get("ESPNET_LIKE_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference material at {path} (set ESPNET_LIKE_SHARED)")
    return path
