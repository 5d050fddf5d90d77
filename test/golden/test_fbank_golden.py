"""Kaldi filter banks against tensors of the reference implementation of SSAST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio.compliance.kaldi as kaldi

from espnet_like.features import KaldiFbank


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, Any]:
    path = shared_dir / "golden" / "ssast_tiny.pt"
    if not path.exists():
        pytest.skip(f"no golden tensors at {path}")
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("seconds", [5, 1])
def test_fbank(golden: dict[str, Any], seconds: int) -> None:
    wave = golden[f"wav{seconds}"]
    expected = golden[f"fbank{seconds}"]  # zeros from frame n on: the model recipe's padding
    features, frames = KaldiFbank()(wave[None])
    n = golden[f"n{seconds}"]
    assert frames.tolist() == [n]
    torch.testing.assert_close(features[0, 0].T, expected[:n], atol=1e-4, rtol=0)


def test_a_short_clip_in_a_batch_with_a_long_one(golden: dict[str, Any]) -> None:
    waves = torch.zeros(2, 1, 80000)
    waves[0] = golden["wav5"]
    waves[1, :, :13000] = golden["wav1"][:, :13000]
    features, frames = KaldiFbank()(waves, torch.tensor([80000, 13000]))
    assert frames.tolist() == [498, 79]
    torch.testing.assert_close(features[0, 0].T[:498], golden["fbank5"][:498], atol=1e-4, rtol=0)
    short = golden["wav1"][:, :13000]
    expected = kaldi.fbank(
        short - short.mean(), htk_compat=True, window_type="hanning", num_mel_bins=128
    )
    torch.testing.assert_close(features[1, 0].T[:79], expected, atol=1e-4, rtol=0)
