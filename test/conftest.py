"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Golden tensors were made on one thread; sums in another order differ in the last bits.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference material outside the repository (papers' golden tensors, real audio)."""
    path = Path(os.environ.get("ESPNET_LIKE_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference material at {path} (set ESPNET_LIKE_SHARED)")
    return path
