"""Front ends against librosa and torchaudio's per-utterance function, alone and in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi as kaldi
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espnet_like.errors import UserError
from espnet_like.features import FRONT_ENDS, CpJku, FrontEnd, KaldiFbank, LogMel, LogMelDeltas
from espnet_like.features import base as base_module
from espnet_like.registry import build

librosa = pytest.importorskip("librosa")

SMALL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 64, "n_mels": 20}
FRONT = {
    "cpjku": CpJku(**SMALL),
    "logmel": LogMel(**SMALL, top_db=60.0, log="db10"),
    "constant": LogMel(**SMALL, pad_mode="constant", win_length=200),
    "uncentred": LogMel(**SMALL, center=False),
    "kaldi_fbank": KaldiFbank(sample_rate=8000, num_mel_bins=23),
    "logmel_deltas": LogMelDeltas(**SMALL, seconds=0.25),
}


def signal(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A tone that decays, one that starts late, and a little noise; (C, L) float32."""
    t = np.arange(round(seconds * rate)) / rate
    generator = np.random.default_rng(seed)
    waves = []
    for channel in range(channels):
        tone = np.sin(2 * np.pi * (440 + 300 * channel) * t) * np.exp(-2 * t / seconds)
        late = np.sin(2 * np.pi * 0.31 * rate * t) * (t > seconds / 2)
        waves.append(0.4 * tone + 0.1 * late + 0.01 * generator.standard_normal(len(t)))
    return np.stack(waves).astype(np.float32)


def cpjku_by_librosa(wave: np.ndarray, rate: int, n_fft: int, hop: int, mels: int) -> np.ndarray:
    """The specification's steps for (C, L), in double precision."""
    frequencies = librosa.fft_frequencies(sr=rate, n_fft=n_fft)
    result = []
    for channel in wave.astype(np.float64):
        spectrum = librosa.stft(channel, n_fft=n_fft, hop_length=hop, pad_mode="reflect")
        with np.errstate(divide="ignore"):
            weighted = librosa.perceptual_weighting(
                np.abs(spectrum) ** 2, frequencies, ref=1.0, amin=1e-10, top_db=80.0
            )
        result.append(librosa.feature.melspectrogram(S=weighted, sr=rate, n_mels=mels))
    return np.stack(result)


@pytest.mark.parametrize("channels", [1, 2])
def test_cpjku_is_librosas(channels: int) -> None:
    wave = signal(10.0, 22050, channels)
    features, frames = CpJku()(torch.from_numpy(wave)[None])
    assert features.shape == (1, channels, 256, 431) and frames.tolist() == [431]
    assert features.dtype == torch.float32
    expected = cpjku_by_librosa(wave, 22050, 2048, 512, 256)
    np.testing.assert_allclose(features[0], expected, atol=1e-4, rtol=0)


def test_cpjku_clips_each_channel_at_its_own_peak() -> None:
    wave = signal(1.0, 22050, 2)
    wave[1] *= 1e-5
    features, _ = CpJku()(torch.from_numpy(wave)[None])
    expected = cpjku_by_librosa(wave, 22050, 2048, 512, 256)
    np.testing.assert_allclose(features[0], expected, atol=1e-4, rtol=0)


def test_cpjku_of_silence_is_finite() -> None:
    features, _ = CpJku()(torch.zeros(1, 1, 220500))
    assert features.min() > -14.75 and features.max() < -8.45


def test_cpjku_frames() -> None:
    assert CpJku().num_frames(220500) == 431
    assert CpJku().num_frames(5 * 22050) == 216


LOGMEL = [
    {},
    {"window": "hamming", "win_length": 200, "periodic": False, "norm": "none"},
    {"window": "blackman", "mel_scale": "htk", "fmin": 100.0, "fmax": 3500.0, "power": 1.0},
    {"center": False, "log": "db10", "top_db": 40.0},
    {"pad_mode": "constant", "log": "db10", "floor": 1e-5},
]


@pytest.mark.parametrize("options", LOGMEL)
def test_logmel_is_librosas(options: dict) -> None:
    wave = signal(1.0, 8000)
    front = build(FRONT_ENDS, {"name": "logmel", **SMALL, **options}, "features")
    features, _ = front(torch.from_numpy(wave)[None])
    get = {**{"win_length": 256, "window": "hann", "periodic": True}, **options}.get
    mel = librosa.feature.melspectrogram(
        y=wave[0].astype(np.float64),
        sr=8000,
        n_fft=256,
        hop_length=64,
        n_mels=20,
        win_length=get("win_length"),
        window=librosa.filters.get_window(
            get("window"), get("win_length"), fftbins=get("periodic")
        ),
        center=get("center", True),
        pad_mode=get("pad_mode", "reflect"),
        power=get("power", 2.0),
        fmin=get("fmin", 0.0),
        fmax=get("fmax"),
        htk=get("mel_scale") == "htk",
        norm=None if get("norm") == "none" else "slaney",
    )
    if get("log") == "db10":
        amin = get("floor", 1e-10)
        expected = librosa.power_to_db(mel, ref=1.0, amin=amin, top_db=get("top_db"))
    else:
        expected = np.log(np.maximum(mel, 1e-10))
    np.testing.assert_allclose(features[0, 0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("window", ["hanning", "hamming", "povey", "rectangular", "blackman"])
def test_kaldi_fbank_is_torchaudios(window: str) -> None:
    wave = torch.from_numpy(signal(0.7, 16000, 2)) + 0.1
    options = {"num_mel_bins": 40, "low_freq": 50.0, "high_freq": -400.0, "frame_shift": 12.5}
    front = KaldiFbank(window=window, remove_mean=False, **options)
    features, frames = front(wave[None])
    for channel in range(2):
        expected = kaldi.fbank(
            wave[channel : channel + 1],
            htk_compat=True,
            use_energy=False,
            dither=0.0,
            window_type=window,
            **options,
        )
        assert frames.tolist() == [len(expected)]
        torch.testing.assert_close(features[0, channel].T, expected, atol=1e-4, rtol=0)


def test_kaldi_fbank_of_half_a_frame_has_no_frames() -> None:
    features, frames = KaldiFbank()(torch.zeros(2, 1, 399))
    assert features.shape == (2, 1, 128, 0) and frames.tolist() == [0, 0]


@pytest.mark.parametrize("name", FRONT)
@given(lengths=st.lists(st.integers(1, 2500), min_size=1, max_size=5), seed=st.integers(0, 99))
@example(lengths=[1, 128, 129, 130, 256, 2500], seed=0)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_batch_gives_what_each_clip_gives_alone(name: str, lengths: list[int], seed: int) -> None:
    front = FRONT[name]
    clips = [torch.from_numpy(signal(n / 8000, 8000, 2, seed + i)) for i, n in enumerate(lengths)]
    wave = torch.full((len(clips), 2, max(lengths)), 0.9)  # whatever stands beyond the clips
    for row, clip in zip(wave, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    features, frames = front(wave, torch.tensor(lengths))
    assert features.shape[-1] == front.num_frames(max(lengths))
    for i, clip in enumerate(clips):
        alone, _ = front(clip[None])
        assert frames[i] == alone.shape[-1] == front.num_frames(lengths[i])
        torch.testing.assert_close(features[i, :, :, : frames[i]], alone[0], atol=2e-4, rtol=0)
        assert (features[i, :, :, frames[i] :] == 0).all()


@pytest.mark.parametrize("name", ["cpjku", "logmel", "uncentred"])
def test_a_short_clip_is_the_clip_filled_with_zeros(name: str) -> None:
    front = FRONT[name]
    need = 129 if name != "uncentred" else 256  # n_fft // 2 + 1 to reflect, n_fft without centring
    short = torch.rand(1, 1, 50)
    whole = torch.nn.functional.pad(short, (0, need - 50))
    torch.testing.assert_close(front(short)[0], front(whole)[0])
    assert torch.isfinite(front(short)[0]).all()


@pytest.mark.parametrize("name", FRONT)
def test_cutting_the_work_into_blocks_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = torch.from_numpy(signal(0.5, 8000, 2))[None]
    expected, _ = FRONT[name](wave)
    monkeypatch.setattr(base_module, "CPU_BLOCK", 3000)
    torch.testing.assert_close(FRONT[name](wave)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FRONT)
def test_no_autocast_and_nothing_in_the_state(name: str) -> None:
    front: FrontEnd = FRONT[name]
    wave = torch.from_numpy(signal(0.3, 8000))[None]
    expected, _ = front(wave)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(front(wave)[0], expected, atol=0, rtol=0)
    assert front.state_dict() == {}


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "cpjku", "n_mel": 3},
        {"name": "cpjku", "fmax": 99999.0},
        {"name": "logmel", "window": "kaiser"},
        {"name": "logmel", "n_fft": 100, "win_length": 200},
        {"name": "kaldi_fbank", "window": "hann"},
        {"name": "mfcc"},
    ],
)
def test_a_wrong_setting_is_a_user_error(spec: dict) -> None:
    with pytest.raises(UserError, match="features"):
        build(FRONT_ENDS, spec, "features")


def test_waveforms_without_a_channel_axis_are_refused() -> None:
    with pytest.raises(ValueError, match="batch, channel, sample"):
        FRONT["cpjku"](torch.zeros(1, 100))
