"""SSAST's input against torchaudio's filter banks, padded and normalised by hand."""

from __future__ import annotations

import pytest
import torch
import torchaudio.compliance.kaldi as kaldi

from espnet_like.features import FRONT_ENDS, SSASTFbank
from espnet_like.registry import build


def by_hand(wave: torch.Tensor, frames: int, mean: float, std: float) -> torch.Tensor:
    """(1, L) to (F, frames), clip by clip as SSAST's loader does."""
    bank = kaldi.fbank(
        wave - wave.mean(), htk_compat=True, window_type="hanning", num_mel_bins=128
    )[:frames]
    rows = torch.zeros(frames, 128)
    rows[: len(bank)] = bank
    return ((rows - mean) / (2 * std)).T


@pytest.mark.parametrize("preset", ["esc50", "sc_v2", "pretraining"])
def test_clips_shorter_and_longer_than_the_target(preset):
    front_end = build(FRONT_ENDS, {"name": "ssast_fbank", "preset": preset}, "features")
    settings = SSASTFbank.presets[preset]
    lengths = torch.tensor([16000, 7000, 30000])
    waves = 0.1 * torch.randn(3, 1, 30000, generator=torch.Generator().manual_seed(0))
    features, frames = front_end(waves, lengths)
    assert features.shape == (3, 1, 128, settings["frames"])
    assert frames.tolist() == [settings["frames"]] * 3
    for i, n in enumerate(lengths.tolist()):
        expected = by_hand(waves[i, :, :n], **settings)
        torch.testing.assert_close(features[i, 0], expected, atol=1e-4, rtol=0)


def test_padding_has_the_value_that_zero_gets():
    """+0.6183 and +0.6150, well above the mean."""
    for preset, value in (("esc50", 0.6183), ("sc_v2", 0.6150)):
        front_end = build(FRONT_ENDS, {"name": "ssast_fbank", "preset": preset}, "features")
        features, _ = front_end(torch.randn(1, 1, 8000))
        assert features[..., -20:].unique().tolist() == [pytest.approx(value, abs=1e-4)]


def test_each_clip_keeps_its_frames_on_demand():
    features, frames = SSASTFbank(frames=None)(torch.randn(2, 1, 8000), torch.tensor([8000, 4000]))
    assert features.shape[-1] == 48 and frames.tolist() == [48, 23]
    assert not features[1, :, :, 23:].any()


def test_a_clip_shorter_than_a_frame_has_none():
    front_end = SSASTFbank(frames=16)
    features, frames = front_end(torch.randn(2, 1, 1000), torch.tensor([1000, 399]))
    assert frames.tolist() == [16, 0] and not features[1].any()
    assert front_end.num_frames(399) == 0 and front_end.num_frames(400) == 16


@pytest.mark.parametrize("bad", [{"frames": 0}, {"std": 0.0}])
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match="must be positive"):
        SSASTFbank(**bad)


def test_the_time_axis_has_a_hundred_frames_a_second_of_any_length():
    for frames in (None, 128, 512):
        assert SSASTFbank(frames=frames).frames_per_second == 100
