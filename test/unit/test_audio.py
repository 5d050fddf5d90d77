"""Decoding and resampling against hand-written decoders, librosa and scipy."""

from __future__ import annotations

import wave
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile

from espnet_like.data import audio, wav24
from espnet_like.errors import UserError

RATE = 8000


def tone(samples: int = 1600, channels: int = 2, rate: int = RATE) -> np.ndarray:
    """(C, L): a different sine in each channel."""
    time = np.arange(samples) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * (220 + 110 * c) * time) for c in range(channels)])


def write_pcm(path: Path, values: np.ndarray, width: int, rate: int = RATE) -> None:
    """Write integers (C, L) as PCM of `width` bytes with the standard library alone."""
    raw = b"".join(int(v).to_bytes(width, "little", signed=True) for v in values.T.ravel())
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(values))
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_is_exact(tmp_path: Path, width: int, channels: int) -> None:
    top = 1 << (8 * width - 1)
    values = np.random.default_rng(width).integers(-top, top, (channels, 500))
    values[:, :3] = [-top, top - 1, 0]
    write_pcm(tmp_path / "a.wav", values, width)
    samples, rate = audio.read(tmp_path / "a.wav")
    assert (samples.shape, samples.dtype, rate) == ((channels, 500), np.float32, RATE)
    np.testing.assert_array_equal(samples.astype(np.float64) * top, values)


def with_chunk(raw: bytes, name: bytes, content: bytes) -> bytes:
    """A wav file with one more chunk before its first; odd contents are padded."""
    chunk = name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)
    size = int.from_bytes(raw[4:8], "little") + len(chunk)
    return raw[:4] + size.to_bytes(4, "little") + raw[8:12] + chunk + raw[12:]


def write_24_bit(path: Path, kind: str, channels: int, frames: int) -> None:
    """24-bit noise that uses every bit, as `kind` of wav file."""
    top = 1 << 31
    noise = np.random.default_rng(3).integers(-top, top, (frames, channels), dtype=np.int64)
    noise[0] = -top
    form = {"extensible": "WAVEX", "big": "RF64"}.get(kind, "WAV")
    soundfile.write(path, noise.astype(np.int32), RATE, "PCM_24", format=form)
    if kind == "odd chunk":
        path.write_bytes(with_chunk(path.read_bytes(), b"note", b"odd"))
    if kind == "tail":
        path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0abcd")


@pytest.mark.parametrize("kind", ["plain", "extensible", "odd chunk", "tail", "big"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 777, 70_001])  # one; one block; more than two
def test_24_bit_as_libsndfile(tmp_path: Path, kind: str, channels: int, frames: int) -> None:
    """Bit for bit, whole and in part, whichever of the two decoders takes the file."""
    path = tmp_path / "a.wav"
    write_24_bit(path, kind, channels, frames)
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    with path.open("rb") as file:
        assert (wav24.layout(file) is not None) == (kind != "big")
    found, rate = audio.read(path)
    assert (found.dtype, rate, audio.info(path)) == (np.float32, RATE, (RATE, channels, frames))
    np.testing.assert_array_equal(found, expected.T)
    first, last = frames // 3, frames - frames // 4
    part, _ = audio.read(path, first / RATE, last / RATE)
    np.testing.assert_array_equal(part, expected.T[:, first:last])


def test_24_bit_only(tmp_path: Path) -> None:
    """Anything but whole 24-bit PCM is left to libsndfile, as are its complaints."""
    write_24_bit(tmp_path / "good.wav", "plain", 2, 100)
    good = (tmp_path / "good.wav").read_bytes()
    at = {"code": 20, "channels": 22, "rate": 24, "block": 32, "bits": 34, "length": 40}
    for field, value in {
        "code": 3, "channels": 0, "rate": 0, "block": 8, "bits": 20, "length": 599
    }.items():  # fmt: skip
        raw = bytearray(good)
        raw[at[field] : at[field] + 2] = value.to_bytes(2, "little")
        (tmp_path / "bad.wav").write_bytes(raw)
        with (tmp_path / "bad.wav").open("rb") as file:
            assert wav24.layout(file) is None, field
    for raw in (b"", good[:30], good[:44], good[:-1], b"RIFX" + good[4:]):
        (tmp_path / "bad.wav").write_bytes(raw)
        with (tmp_path / "bad.wav").open("rb") as file:
            assert wav24.layout(file) is None, len(raw)
        with pytest.raises(UserError, match=r"bad\.wav"):
            audio.read(tmp_path / "bad.wav")


def test_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    write_24_bit(tmp_path / "a.wav", "plain", 2, 100)
    with (tmp_path / "a.wav").open("r+b") as file:
        layout = wav24.layout(file)
        assert layout is not None
        file.truncate(44 + 6 * 60)
        with pytest.raises(EOFError, match="60 of 100 samples"):
            wav24.decode(file, layout, 50, 50)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [("a.flac", {"subtype": "PCM_24"}, 2e-7), ("a.ogg", {}, 0.05), ("a.wav", {}, 4e-5)],
)
def test_formats(tmp_path: Path, name: str, options: dict[str, str], tolerance: float) -> None:
    wanted = tone()
    soundfile.write(tmp_path / name, wanted.T, RATE, **options)
    assert audio.info(tmp_path / name) == (RATE, 2, 1600)
    assert audio.info(tmp_path / name).duration == 0.2
    samples, _ = audio.read(tmp_path / name)
    np.testing.assert_allclose(samples, wanted, atol=tolerance)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_part_equals_slice_of_whole(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tone().T, RATE)
    whole, _ = audio.read(tmp_path / name)
    part, _ = audio.read(tmp_path / name, start=0.0500, end=0.1253)
    np.testing.assert_array_equal(part, whole[:, 400:1002])  # 0.1253 s = sample 1002.4
    tail, _ = audio.read(tmp_path / name, start=0.15)
    np.testing.assert_array_equal(tail, whole[:, 1200:])


def test_part_is_all_that_is_read(tmp_path: Path) -> None:
    """A flac whose second half is damaged still gives its first tenth."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 200_000)
    soundfile.write(tmp_path / "a.flac", noise, RATE)
    raw = bytearray((tmp_path / "a.flac").read_bytes())
    raw[len(raw) // 2 :] = bytes(len(raw) - len(raw) // 2)
    (tmp_path / "a.flac").write_bytes(raw)
    part, _ = audio.read(tmp_path / "a.flac", 1.0, 2.0)
    np.testing.assert_allclose(part[0], noise[RATE : 2 * RATE], atol=4e-5)
    with pytest.raises(UserError, match=r"a\.flac"):
        audio.read(tmp_path / "a.flac")


def test_part_may_pass_the_end_by_a_rounding_error_only(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone().T, RATE)
    assert audio.read(tmp_path / "a.wav", 0.1, 0.209)[0].shape == (2, 800)
    for start, end in [(0.1, 0.25), (0.3, None), (0.1, 0.1), (-0.1, 0.1)]:
        with pytest.raises(UserError, match=r"lasts 0\.200 s: correct the segment"):
            audio.read(tmp_path / "a.wav", start, end)


def test_mono_is_the_average(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone().T, RATE, subtype="FLOAT")
    expected, _ = librosa.load(tmp_path / "a.wav", sr=None, mono=True)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav", RATE, 1)[0], expected)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("source", "target"), [(48000, 22050), (44100, 16000), (16000, 44100)])
def test_resampling_as_librosa(tmp_path: Path, source: int, target: int, channels: int) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (4801, 2))
    soundfile.write(tmp_path / "a.wav", noise, source, subtype="PCM_24")
    mono = channels == 1
    expected, _ = librosa.load(tmp_path / "a.wav", sr=target, mono=mono, res_type="soxr_hq")
    found = audio.load(tmp_path / "a.wav", target, channels)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.shape == np.atleast_2d(expected).shape
    np.testing.assert_allclose(found, np.atleast_2d(expected), atol=1e-6)


def test_resampling_as_scipy(tmp_path: Path) -> None:
    """Band-limited input: any good resampler gives the same, away from the edges."""
    wanted = tone(48000, 1, rate=48000)
    soundfile.write(tmp_path / "a.wav", wanted.T, 48000, subtype="FLOAT")
    found = audio.load(tmp_path / "a.wav", 16000, 1)[0]
    expected = scipy.signal.resample_poly(wanted[0], 1, 3)
    np.testing.assert_allclose(found[1000:-1000], expected[1000:-1000], atol=2e-3)
    np.testing.assert_allclose(found[1000:-1000], wanted[0, ::3][1000:-1000], atol=1e-4)


def test_length_is_rounded_up(tmp_path: Path) -> None:
    for samples in (1000, 1001, 1002, 1003):
        soundfile.write(tmp_path / "a.wav", np.zeros(samples), 48000)
        assert audio.load(tmp_path / "a.wav", 22050, 1).shape == (1, -(-samples * 22050 // 48000))


def test_silence_is_legal(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 2)), RATE)
    assert not audio.load(tmp_path / "a.wav", 2 * RATE, 2).any()


def test_wrong_rate_and_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", tone(channels=1).T, RATE)
    soundfile.write(tmp_path / "quad.wav", tone(channels=4).T, RATE)
    with pytest.raises(UserError, match=r"mono\.wav: 8000 Hz, expected 16000 Hz"):
        audio.load(tmp_path / "mono.wav", 16000, 1, expect_rate=16000)
    with pytest.raises(UserError, match=r"mono\.wav: 1 channel\(s\), expected 2"):
        audio.load(tmp_path / "mono.wav", RATE, 2)
    for channels in (1, 2):
        with pytest.raises(UserError, match=r"quad\.wav: 4 channel\(s\), expected"):
            audio.load(tmp_path / "quad.wav", RATE, channels)


@pytest.mark.parametrize("name", ["pcm16.wav", "pcm24.wav", "float.wav", "a.flac", "a.ogg"])
@pytest.mark.parametrize("part", [0.6, 0.999])
def test_truncated(tmp_path: Path, name: str, part: float) -> None:
    subtypes = {"pcm16.wav": "PCM_16", "pcm24.wav": "PCM_24", "float.wav": "FLOAT"}
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, (20_000, 2))
    soundfile.write(tmp_path / name, noise, RATE, subtype=subtypes.get(name))
    audio.check(tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: int(len(raw) * part)])
    for function in (audio.read, audio.check):
        with pytest.raises(UserError, match=name):
            function(tmp_path / name)


def test_wav_of_unknown_length(tmp_path: Path) -> None:
    """A program that writes into a pipe cannot fill in the sizes; the file is whole."""
    write_pcm(tmp_path / "a.wav", np.arange(200).reshape(1, 200), 2)
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    raw[4:8] = raw[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(raw)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0][0] * 32768, np.arange(200))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(tmp_path: Path, value: float) -> None:
    samples = np.zeros((1000, 2), dtype=np.float32)
    samples[400, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav: NaN or infinite sample at 0\.050 s"):
        audio.read(tmp_path / "a.wav")
    assert audio.read(tmp_path / "a.wav", 0.06)[0].shape == (2, 520)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), RATE)
    (tmp_path / "text.wav").write_text("not audio at all, but text of some length")
    for name, match in {
        "empty.wav": "empty file",
        "none.wav": "no samples",
        "text.wav": "cannot decode",
        "missing.wav": "no such file",
        ".": "a directory",
    }.items():
        for function in (audio.info, audio.read, audio.check):
            with pytest.raises(UserError, match=match) as caught:
                function(tmp_path / name)
            assert str(tmp_path) in str(caught.value)
            assert "\n" not in str(caught.value)


def test_real_clips(shared_dir: Path) -> None:
    """The measuring material decodes, and a part is a part of the whole."""
    for path in sorted(shared_dir.glob("data/esc50/audio_flac16k/**/*.flac"))[:3]:
        whole, rate = audio.read(path)
        assert rate == 16000
        assert whole.shape == (1, 80000)
        np.testing.assert_array_equal(audio.read(path, 1.5, 2.25)[0], whole[:, 24000:36000])
