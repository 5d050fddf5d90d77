"""UPB's front end against scipy.signal.stft and librosa's mel filters, alone and in batches."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espnet_like.errors import UserError
from espnet_like.features import FRONT_ENDS, Upb
from espnet_like.registry import build

librosa = pytest.importorskip("librosa")

RATE = 44100
SMALL: dict[str, Any] = {
    "sample_rate": 8000, "frame_length": 160, "hop_length": 80, "n_fft": 256, "n_mels": 20,
    "fmax": 3500.0,
}  # fmt: skip
front = Upb()
small = Upb(**SMALL)


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """A tone that fades and one that starts late, over noise; (L,) float32."""
    t = np.arange(samples) / samples
    tones = 0.4 * np.sin(0.1 * np.arange(samples)) * np.exp(-2 * t)
    late = 0.1 * np.sin(1.9 * np.arange(samples)) * (t > 0.5)
    noise = 0.01 * np.random.default_rng(seed).standard_normal(samples)
    return (tones + late + noise).astype(np.float32)


def by_scipy(wave: np.ndarray) -> np.ndarray:
    """(F, T): the authors' steps, in double precision."""
    _, _, spectrum = scipy.signal.stft(
        wave.astype(np.float64), RATE, window="blackman", nperseg=1764, noverlap=882, nfft=2048,
        boundary="zeros", padded=True,
    )  # fmt: skip
    mel = librosa.filters.mel(
        sr=RATE, n_fft=2048, n_mels=128, fmin=50, fmax=16000, htk=True, norm=None, dtype=np.float64
    )
    mel = mel / mel.sum(1, keepdims=True)
    return np.log(np.maximum(mel @ np.abs(spectrum) ** 2, 1e-18))


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (RATE, 51), (RATE + 1, 52), (15 * RATE, 751), (30 * RATE, 1501), (13230, 16),
        (1, 2), (882, 2), (883, 3),
    ],
)  # fmt: skip
def test_frames(samples: int, frames: int) -> None:
    assert front.num_frames(samples) == frames == ceil(Fraction(samples, 882)) + 1


@pytest.mark.parametrize("samples", [RATE, RATE + 1, 13230, 500])
def test_it_is_scipys_stft_and_librosas_mel(samples: int) -> None:
    wave = sound(samples)
    features, frames = front(torch.from_numpy(wave)[None, None])
    whole = np.pad(wave, (0, max(0, 1764 - samples)))  # scipy shortens the window to the clip
    expected = by_scipy(whole)[:, : ceil(Fraction(samples, 882)) + 1]
    assert features.dtype == torch.float32 and frames.tolist() == [expected.shape[1]]
    np.testing.assert_allclose(features[0, 0], expected, atol=2e-4, rtol=0)


def test_a_filter_averages_over_its_bins() -> None:
    """White noise has the same level in every band, however wide."""
    wave = torch.randn(1, 1, 20 * RATE, generator=torch.Generator().manual_seed(0))
    power = front(wave)[0].exp().mean(-1).flatten().double()
    window = np.blackman(1765)[:-1]
    level = np.square(window).sum() / window.sum() ** 2
    np.testing.assert_allclose(power / level, 1, atol=0.2)
    assert abs(power.mean() / level - 1) < 0.02


def test_silence_lies_at_the_floor() -> None:
    features, _ = front(torch.zeros(1, 2, 5000))
    torch.testing.assert_close(features, torch.full((1, 2, 128, 7), float(np.log(1e-18))))


@given(lengths=st.lists(st.integers(1, 1500), min_size=1, max_size=5), seed=st.integers(0, 99))
@example(lengths=[1, 79, 80, 81, 1500], seed=0)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_batch_gives_what_each_clip_gives_alone(lengths: list[int], seed: int) -> None:
    clips = [torch.from_numpy(sound(2 * n, seed + i)).view(2, n) for i, n in enumerate(lengths)]
    wave = torch.full((len(clips), 2, max(lengths)), 0.9)  # whatever stands beyond the clips
    for row, clip in zip(wave, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    features, frames = small(wave, torch.tensor(lengths))
    assert features.shape == (len(clips), 2, 20, small.num_frames(max(lengths)))
    for i, clip in enumerate(clips):
        alone, _ = small(clip[None])
        assert frames[i] == alone.shape[-1] == small.num_frames(lengths[i])
        torch.testing.assert_close(features[i, :, :, : frames[i]], alone[0], atol=2e-4, rtol=0)
        assert (features[i, :, :, frames[i] :] == 0).all()


def test_no_autocast_and_nothing_in_the_state() -> None:
    wave = torch.from_numpy(sound(4000))[None, None]
    expected, _ = small(wave)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(small(wave)[0], expected)
    assert small.state_dict() == {}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"frame_length": 161}, "frame_length 161 is not even"),
        ({"frame_length": 512}, "frame_length 512"),
        ({"floor": 0.0}, "floor"),
        ({"hop_length": 0}, "hop_length 0"),
        ({"fmax": 5000.0}, "fmax"),
        ({"n_mels": 100}, "no FFT bin"),
        ({"hop": 3}, "unknown key"),
    ],
)
@pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero")
def test_a_wrong_setting_is_a_user_error(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(FRONT_ENDS, {"name": "upb", **SMALL, **setting}, "features")
