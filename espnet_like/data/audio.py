"""Audio files: decoding by libsndfile (and `wav24.py`), resampling by soxr.

Samples are float32 in [-1, 1), axes (channels, samples), times in seconds. 16- and 24-bit PCM
comes out exactly (float32 holds 24 bits). Whatever is wrong with a file is a `UserError` of one
line that names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

from espnet_like.data import wav24
from espnet_like.errors import UserError

# A segment may pass the end of its file by this much: times are often rounded to 10 ms.
TOLERANCE = 0.01
# Sizes that programs write into a wav header when they cannot seek back to fill it in.
_UNKNOWN_SIZE = 0x7FFF0000


class AudioInfo(NamedTuple):
    """What a header says: samples per second, channels, samples per channel."""

    rate: int
    channels: int
    frames: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.rate


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header only.

    Raises:
        UserError: missing, empty, truncated or non-audio file.
    """
    with _open(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def read(
    path: str | os.PathLike[str], start: float = 0.0, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Decode the part [start, end) of a file; nothing before `start` or after `end` is decoded.

    Args:
        path: the file.
        start: seconds, rounded to the nearest sample.
        end: seconds; None for the end of the file.

    Returns:
        float32 samples (C, L), as rows or as columns in memory, and the sample rate.

    Raises:
        UserError: missing, empty, truncated or non-audio file, NaN or infinite samples, or a part
            that is empty or not within the file.
    """
    with _explained(path), open(path, "rb") as plain:
        wav = wav24.layout(plain)
        if wav is not None:
            first, last = _span(path, AudioInfo(*wav[:3]), start, end)
            return wav24.decode(plain, wav, first, last - first), wav.rate
    with _open(path) as file:
        rate = file.samplerate
        first, last = _span(path, AudioInfo(rate, file.channels, file.frames), start, end)
        if first:
            file.seek(first)
        samples = _decode(path, file, first, last - first)
    return samples.T, rate


def check(path: str | os.PathLike[str]) -> AudioInfo:
    """Decode a whole file, a piece at a time, and keep nothing but the header.

    Raises:
        UserError: as `read`.
    """
    with _open(path) as file:
        for first in range(0, file.frames, 1 << 20):
            _decode(path, file, first, min(1 << 20, file.frames - first))
        return AudioInfo(file.samplerate, file.channels, file.frames)


def load(
    path: str | os.PathLike[str],
    rate: int,
    channels: int,
    start: float = 0.0,
    end: float | None = None,
    expect_rate: int | None = None,
) -> np.ndarray:
    """Decode, mix down and resample (soxr, quality HQ).

    Args:
        path: a mono or stereo file.
        rate: samples per second wanted.
        channels: 1 (a stereo file is averaged) or 2 (of a stereo file).
        start: seconds.
        end: seconds; None for the end of the file.
        expect_rate: the rate that the file must have; None to accept any.

    Returns:
        C-contiguous float32 (channels, L), L = ceil(samples * rate / the file's rate).

    Raises:
        UserError: as `read`, and for a file of another rate or number of channels.
    """
    if channels not in (1, 2):
        raise ValueError(f"channels must be 1 or 2, not {channels}")
    samples, found = read(path, start, end)
    if expect_rate is not None and found != expect_rate:
        raise UserError(
            f"{path}: {found} Hz, expected {expect_rate} Hz: resample the file or change the "
            "configured rate"
        )
    if len(samples) > 2 or len(samples) < channels:
        expected = "1 or 2" if channels == 1 else "2"
        raise UserError(
            f"{path}: {len(samples)} channel(s), expected {expected}: convert the file or change "
            "the configured channels"
        )
    if len(samples) > channels:  # before resampling, which is linear: half the work
        samples = (samples[:1] + samples[1:]) * np.float32(0.5)
    if found != rate:
        samples = _resample(samples, found, rate)
    return np.ascontiguousarray(samples)


def _resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    """(C, L) -> (C, ceil(L * target / source)); soxr rounds to nearest, a missing sample is 0.

    Rows or columns in memory: soxr takes both, and gives the same numbers.
    """
    resampled = soxr.resample(samples.T, source, target, quality="HQ").T
    length = -(-samples.shape[1] * target // source)
    if resampled.shape[1] < length:
        resampled = np.pad(resampled, ((0, 0), (0, length - resampled.shape[1])))
    return resampled[:, :length]


def _decode(
    path: str | os.PathLike[str], file: soundfile.SoundFile, first: int, count: int
) -> np.ndarray:
    """The next `count` samples (count, C), from sample `first`, where the file stands."""
    samples: np.ndarray = file.read(count, dtype="float32", always_2d=True)
    if len(samples) != count:
        raise EOFError(f"{first + len(samples)} of {file.frames} samples could be read")
    # Integers cannot be NaN; only the other encodings are worth the pass over the samples.
    if not file.subtype.startswith("PCM") and not np.isfinite(samples).all():
        bad = first + int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
        raise UserError(
            f"{path}: NaN or infinite sample at {bad / file.samplerate:.3f} s: "
            "repair or remove the file"
        )
    return samples


def _span(
    path: str | os.PathLike[str], header: AudioInfo, start: float, end: float | None
) -> tuple[int, int]:
    """First and last (exclusive) sample of [start, end)."""
    first = round(start * header.rate)
    last = header.frames if end is None else round(end * header.rate)
    if last > header.frames and end is not None and end <= header.duration + TOLERANCE:
        last = header.frames
    if not 0 <= first < last <= header.frames:
        asked = f"{start:g} s to {'the end' if end is None else f'{end:g} s'}"
        raise UserError(
            f"{path}: no part from {asked}: the file lasts {header.duration:.3f} s: "
            "correct the segment"
        )
    return first, last


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[soundfile.SoundFile]:
    """Open a file whose header is sane and whose data are all there; errors become UserErrors."""
    with _explained(path):
        _refuse_truncated(os.fspath(path))
        with soundfile.SoundFile(os.fspath(path)) as file:
            if not 0 < file.frames < 1 << 62:
                raise UserError(f"{path}: no samples: remove the file or copy it again")
            yield file


@contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """What goes wrong with the file, as UserErrors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file: correct the path or copy the file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a directory, not an audio file: correct the path") from None
    except PermissionError:
        raise UserError(f"{path}: not readable: change its permissions") from None
    except EOFError as error:
        raise UserError(f"{path}: truncated: {error}: copy the file again") from None
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().removeprefix("Error : ").rstrip(".")
        raise UserError(f"{path}: cannot decode ({reason}): repair or remove the file") from None


def _refuse_truncated(name: str) -> None:
    """libsndfile shortens a cut wav or ogg without a word: compare the sizes it ignores."""
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise UserError(f"{name}: empty file (0 bytes): copy it again or remove it")
        missing = _wav_missing(file, size)
        file.seek(0)
        if file.read(4) == b"OggS":
            missing = _ogg_missing(file, size)
    if missing:
        raise UserError(f"{name}: truncated: {missing} or more bytes missing: copy the file again")


def _wav_missing(file: BinaryIO, size: int) -> int:
    """Bytes that the `data` chunk of a RIFF file lacks; 0 for other files."""
    for name, first, length in wav24.chunks(file):
        if name == b"data" and length < _UNKNOWN_SIZE:
            return max(0, first + length - size)
    return 0  # no data chunk: libsndfile says so


def _ogg_missing(file: BinaryIO, size: int) -> int:
    """Bytes that the last Ogg page lacks (RFC 3533, section 6: 27 bytes, segment table, body)."""
    file.seek(max(0, size - 0x10000))  # a page has at most 65,307 bytes
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    table = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(table) < page[26]:
        return 1
    return max(0, 27 + len(table) + sum(table) - len(page))
