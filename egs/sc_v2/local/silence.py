"""The class `_silence_` of the task with twelve classes, which the corpus itself does not have.

As in the code of the corpus's author (TensorFlow's speech_commands example): one second of a
background noise, from anywhere in it, at a volume of U[0, 1); one for every ten clips of the ten
commands. That code draws them anew in each step; here they are drawn once, always the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from speech_commands import AGAIN, LONGEST, NOISE, RATE

from espnet_like.data import audio
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.files import digest

HELD_OUT = "running_tap"  # the noise of the validation part, as in TensorFlow Datasets


def are_there(out: Path) -> bool:
    """Whether every silence that `out`/all lists is there."""
    paths = DataDir.load(out / "all").wav.values()
    return all(Path(path).is_file() for path in paths if Path(path).parent == out / "silence")


def noises(root: Path, part: str) -> list[Path]:
    """The background noises of the training or of the validation part.

    Raises:
        MissingInput: there is none.
    """
    paths = sorted((root / NOISE).glob("*.wav"))
    chosen = [path for path in paths if (path.stem == HELD_OUT) == (part == "validation")]
    if not chosen:
        raise MissingInput(f"{root / NOISE}: no background noise for the {part} part: {AGAIN}")
    return chosen


def excerpts(paths: list[Path], part: str, count: int) -> dict[str, np.ndarray]:
    """`count` silences, int16 samples (16000,), named <noise>_<part>_<number>.

    Raises:
        UserError: a noise that cannot be read, is shorter than a second, or not at 16 kHz, mono.
    """
    rng = np.random.default_rng(int(digest("silence", part), 16))
    waves = []
    for path in paths:
        wave, rate = audio.read(path)
        channels, length = wave.shape
        if (rate, channels) != (RATE, 1) or length <= LONGEST:
            raise UserError(
                f"{path}: {rate} Hz, {channels} channels, {length} samples; must be {RATE} Hz, "
                f"mono, more than {LONGEST} samples: {AGAIN}"
            )
        waves.append(32768 * wave[0])
    made = {}
    for number in range(count):
        which = rng.integers(len(waves))
        start = rng.integers(len(waves[which]) - LONGEST)
        wave = waves[which][start : start + LONGEST] * rng.uniform()
        made[f"{paths[which].stem}_{part}_{number:04d}"] = np.rint(wave).astype(np.int16)
    return made


def write(out: Path, root: Path, counts: dict[str, int]) -> dict[str, dict[str, Path]]:
    """Write the silences of each part to `out`, which appears whole; part -> utterance -> file."""
    made = {part: excerpts(noises(root, part), part, count) for part, count in counts.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        for waves in made.values():
            for name, wave in waves.items():
                path = Path(scratch) / "new" / f"{name}.wav"
                path.parent.mkdir(exist_ok=True)
                soundfile.write(path, wave, RATE, subtype="PCM_16")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(Path(scratch) / "new", out)
    return {
        part: {f"silence_{name}": out / f"{name}.wav" for name in waves}
        for part, waves in made.items()
    }
