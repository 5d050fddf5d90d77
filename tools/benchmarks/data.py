"""Sections on the way from audio to features in memory: dump, ark, memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from statistics import median

import kaldiio
import numpy as np
import soxr
import torch

from benchmarks.measuring import (
    Row,
    apart,
    here,
    in_turns,
    paired,
    peak_memory,
    quiet,
    section,
    write_corpus,
)
from benchmarks.training import prepare, train
from espnet_like.data import audio
from espnet_like.data.ark import ArkReader, ArkWriter
from espnet_like.data.directory import DataDir
from espnet_like.features.base import blocks, power_spectrum
from espnet_like.features.cpjku import CpJku
from espnet_like.features.dump import Settings
from espnet_like.features.make_dump import dump_part
from espnet_like.layers import merge

RATE = 22050
PART_CALLS = 8


@section
def dump(work: Path, quick: bool) -> Iterator[Row]:
    """cpjku of 10-s 48 kHz 24-bit stereo files, against a librosa script and against its parts"""
    clips, files, repeats = (2, 1, 1) if quick else (96, 16, 7)
    corpus = write_corpus(work / "wav", clips, files, 10.0, 48000, 2, "PCM_24")
    paths = [corpus.wav[utt] for utt in corpus.utterances[:files]]
    parts = _parts(paths[0])
    with (
        apart(dump_stereo, corpus, work / "dump") as whole,
        apart(librosa_script, paths, work) as script,
    ):
        times = in_turns(repeats, whole, script, *map(here, parts.values()))
    counts = (clips, files, *[PART_CALLS] * len(parts))
    ours, other, *alone = (
        [seconds / n for seconds in own] for own, n in zip(times, counts, strict=True)
    )
    rates = (1 / median(ours), 1 / median(other))
    yield Row("dump", "rate, librosa script", *rates, "clips/s", paired(other, ours), (">=", 2.5))
    total = [sum(turn) for turn in zip(*alone, strict=True)]
    ms = (1e3 * median(ours), 1e3 * median(total))
    yield Row("dump", "time, sum of its parts", *ms, "ms/clip", paired(ours, total), ("<=", 1.5))
    for name, own in zip(parts, alone, strict=True):
        what = f"  of which {name}"
        yield Row("dump", what, 1e3 * median(own), ms[1], "ms/clip", paired(own, total))


def dump_stereo(corpus: DataDir, out: Path) -> None:
    """Stage feats of one job."""
    shutil.rmtree(out, ignore_errors=True)
    dump_part(Settings.resolve({"name": "cpjku"}, channels=2), corpus, out, 1, 1, log=quiet)


def librosa_script(paths: list[str], out: Path) -> None:
    """What one writes without this repository."""
    import librosa

    frequencies, mel = _librosa_tables()
    for path in paths:
        wave, _ = librosa.load(path, sr=RATE, mono=False)
        maps = []
        for channel in wave:
            spectrum = librosa.stft(channel, n_fft=2048, hop_length=512, pad_mode="reflect")
            with np.errstate(divide="ignore"):  # 0 Hz
                weighted = librosa.perceptual_weighting(np.abs(spectrum) ** 2, frequencies)
            maps.append(mel @ weighted)
        np.save(out / "features.npy", np.stack(maps).astype(np.float32))


@lru_cache
def _librosa_tables() -> tuple[np.ndarray, np.ndarray]:
    """Made once; `melspectrogram`, which a script would call, makes the filters at every call."""
    import librosa

    frequencies = librosa.fft_frequencies(sr=RATE, n_fft=2048)
    return frequencies, librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=256)


def _parts(path: str) -> dict[str, Callable[[], object]]:
    """The four parts, each `PART_CALLS` times on one clip, with its input ready.

    FFT is the power spectrum of windowed frames, mel is logarithm and filters.
    """
    front = CpJku(RATE)
    samples, rate = audio.read(path)
    wave = torch.from_numpy(audio.load(path, RATE, 2))[None]
    power = [power_spectrum(block * front.window) for block in blocks(front.framing(wave, None))]

    def fft() -> None:
        for block in blocks(front.framing(wave, None)):
            power_spectrum(block * front.window)

    def mel() -> None:
        for block in power:
            front.mel(block.log())

    def often(function: Callable[[], object]) -> Callable[[], None]:
        def calls() -> None:
            with torch.inference_mode():
                for _ in range(PART_CALLS):
                    function()

        return calls

    return {
        "decode": often(lambda: audio.read(path)),
        "resample": often(lambda: soxr.resample(samples.T, rate, RATE, quality="HQ")),
        "FFT": often(fft),
        "mel": often(mel),
    }


@section
def ark(work: Path, quick: bool) -> Iterator[Row]:
    """random reads of 5-s features from an archive, against kaldiio.load_mat"""
    count, repeats = (8, 1) if quick else (400, 9)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(216, 256)).astype(np.float32)
    order = [f"u{i:05d}" for i in rng.permutation(count)]
    for kind in ("float32", "compressed"):
        scp = work / f"{kind}.scp"
        with ArkWriter(work / f"{kind}.ark", scp, kind) as writer:
            for utt in sorted(order):
                writer.write(utt, matrix)
        reader = ArkReader(scp)
        places = dict(line.split(maxsplit=1) for line in scp.read_text().splitlines())
        ours, other = in_turns(
            repeats,
            here(lambda reader=reader: [reader[utt] for utt in order]),
            here(lambda places=places: [kaldiio.load_mat(places[utt]) for utt in order]),
        )
        rates = (count / median(ours), count / median(other))
        what = f"rate, load_mat, {kind}"
        yield Row("ark", what, *rates, "reads/s", paired(other, ours), (">=", 1.0))


@section
def memory(work: Path, quick: bool) -> Iterator[Row]:
    """peak memory of the dump and of training from archives, against that of fewer clips"""
    small = 2 if quick else 60
    peaks = []
    for clips in (4 * small, small):
        corpus = write_corpus(work / f"wav{clips}", clips, 2, 10.0, 48000, 2, "PCM_24")
        peaks.append(peak_memory(dump_stereo, corpus, work / f"dump{clips}"))
    what = f"dump, {4 * small} clips, {small}"
    yield Row("memory", what, *peaks, "MB", peaks[0] / peaks[1], ("<=", 1.05))
    shutil.rmtree(work)
    # An archive keeps 256 MB resident, and what the system maps around each read: the smaller set
    # (350 MB) must be larger than that.
    small, seconds = (8, 0.5) if quick else (800, 10.0)
    model = {"base_width": 4, "rho": 2}
    own = {"model": model, "data": {"in_memory": False}, "train": {"epochs": 1, "workers": 0}}
    peaks = []
    for clips in (4 * small, small):
        layers = merge(prepare(work, clips, seconds), own)
        peaks.append(peak_memory(train, work / "run", layers))
        shutil.rmtree(work)
    what = f"training from archives, {4 * small} clips, {small}"
    yield Row("memory", what, *peaks, "MB", peaks[0] / peaks[1], ("<=", 1.05))
