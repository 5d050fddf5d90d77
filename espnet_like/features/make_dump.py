"""Stage 2: dump features job by job, then join the parts (see `dump.py` for the files)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from espnet_like.data import audio
from espnet_like.data.ark import ArkReader, ArkWriter, is_whole, merge_scp
from espnet_like.data.directory import DataDir
from espnet_like.data.sets import split
from espnet_like.errors import MissingInput, UserError
from espnet_like.features import FRONT_ENDS, FrontEnd
from espnet_like.features.dump import (
    FeatureDump,
    Settings,
    part_mark,
    part_state,
    read_frames,
)
from espnet_like.files import atomic_path, digest, write_json, write_text
from espnet_like.registry import build

FORMAT = 1  # goes up when the same settings give other numbers: old dumps become stale
Log = Callable[[str], None]


def dump_part(
    settings: Settings,
    data: DataDir,
    out: str | os.PathLike[str],
    job: int,
    num_jobs: int,
    max_bad: int = 0,
    batch_seconds: float = 30.0,
    log: Log = print,
) -> None:
    """Make part `job` (from 1) of `num_jobs`, unless it is there and fresh.

    With more jobs than utterances, the last ones have nothing to do.

    Args:
        settings: what to make.
        data: the whole set; the part is the job-th contiguous piece of it.
        out: dump directory.
        max_bad: go on past so many utterances that cannot be read.
        batch_seconds: audio put through the front end at once (adjacent clips of one length).
        log: takes lines of progress.

    Raises:
        UserError: code 1, more than `max_bad` bad utterances; what was there before stays whole.
    """
    if not 1 <= job <= num_jobs:
        raise UserError(f"job {job} is not between 1 and {num_jobs}")
    if _is_whole(settings, data, Path(out), max_bad):
        log(f"{Path(out) / 'feats.scp'}: fresh")
        return
    parts = _parts(data, num_jobs)
    if job > len(parts):
        log(f"{data.path}: {len(parts)} utterances, nothing left for job {job}")
        return
    part = parts[job - 1]
    mark = fingerprint(settings, part)
    root, scp = Path(out), Path(out) / f"feats.{job}.scp"
    if (state := part_state(root, job)) is not None:
        same = state["fingerprint"] == mark and len(state["bad"]) <= max_bad
        if same and (root / f"frames.{job}").exists() and is_whole(scp):
            log(f"{scp}: fresh")
            return
        log(f"{scp}: stale (inputs, settings or files changed): made again")
    start = monotonic()
    bad = _write(settings, part, root, job, max_bad, batch_seconds, log)
    done = len(part.utterances) - len(bad)
    write_json(root / f"feats.{job}.json", {"fingerprint": mark, "utterances": done, "bad": bad})
    rate = done / max(1e-9, monotonic() - start)
    log(f"{scp}: {done} utterances, {rate:.1f} a second")


def _write(
    settings: Settings,
    part: DataDir,
    out: Path,
    job: int,
    max_bad: int,
    batch_seconds: float,
    log: Log,
) -> dict[str, str]:
    """Archive, index and frames of one part; returns the bad utterances and the reasons."""
    bad: dict[str, str] = {}

    def refuse(utt: str, reason: str) -> None:
        bad[utt] = reason
        if max_bad == 0:
            raise UserError(f"utterance {utt}: {reason}", code=1)
        print(f"bad: {utt}: {reason}", file=sys.stderr)
        if len(bad) > max_bad:
            raise UserError(f"{len(bad)} bad utterances, more than --max-bad {max_bad}", code=1)

    ark, scp = out / f"feats.{job}.ark", out / f"feats.{job}.scp"
    old, aside = out / f"feats.{job}.json", out / f".feats.{job}.json.old"
    if aside.exists():  # of a job that was killed
        aside.unlink()
    before = _identity(ark), _identity(scp)
    waves = _waves(settings, part, refuse)
    try:
        with atomic_path(out / f"frames.{job}") as f, ArkWriter(ark, scp, settings.kind) as writer:
            with open(f, "w", encoding="utf-8") as frames:
                for utt, array in _arrays(settings, waves, batch_seconds):
                    if len(array) == 0:
                        refuse(utt, "too short: not one frame of features: remove it")
                        continue
                    try:
                        writer.write(utt, array)
                    except ValueError as error:
                        refuse(utt, str(error))
                        continue
                    frames.write(f"{utt} {len(array)}\n")
            if old.exists():  # from here on the archive may no longer be what the file says
                os.replace(old, aside)
    except BaseException:
        if aside.exists() and (_identity(ark), _identity(scp)) == before:
            os.replace(aside, old)
        raise
    aside.unlink(missing_ok=True)
    write_text(out / f"bad.{job}", "".join(f"{utt} {reason}\n" for utt, reason in bad.items()))
    return bad


def _identity(path: Path) -> tuple[int, int] | None:
    if not path.exists():
        return None
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _waves(
    settings: Settings, part: DataDir, refuse: Callable[[str, str], None]
) -> Iterator[tuple[str, np.ndarray]]:
    """Decoded utterances (C, L), without those that cannot be read."""
    rate = settings.sample_rate
    for utt in part.utterances:
        path, start, end = part.audio(utt)
        try:
            wave = audio.load(path, rate, settings.channels, start, end, settings.expect_rate)
        except UserError as error:
            refuse(utt, str(error))
            continue
        yield utt, wave


def _arrays(
    settings: Settings, waves: Iterator[tuple[str, np.ndarray]], batch_seconds: float
) -> Iterator[tuple[str, np.ndarray]]:
    """What goes into the archive: (T, C*F) features, or (L, C) int16 samples for raw."""
    if settings.features["name"] == "raw":
        for utt, wave in waves:
            yield utt, np.clip(np.rint(wave.T * 32768.0), -32768, 32767).astype(np.int16)
        return
    front = build(FRONT_ENDS, settings.features, "features")
    samples = int(batch_seconds * front.sample_rate)
    batch: list[tuple[str, np.ndarray]] = []
    for utt, wave in waves:
        longer = (len(batch) + 1) * wave.shape[1] > samples
        if batch and (longer or wave.shape != batch[0][1].shape):
            yield from _features(front, batch)
            batch = []
        batch.append((utt, wave))
    if batch:
        yield from _features(front, batch)


def _features(
    front: FrontEnd, batch: list[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Front end over clips of one length, as Kaldi matrices."""
    wave = batch[0][1][None] if len(batch) == 1 else np.stack([wave for _, wave in batch])
    with torch.inference_mode():
        features, _ = front(torch.from_numpy(wave))
        matrices = features.permute(0, 3, 1, 2).flatten(2).numpy()
    for (utt, _), matrix in zip(batch, matrices, strict=True):
        yield utt, matrix


def fingerprint(settings: Settings, data: DataDir) -> str:
    """Changes with the settings, the utterances, and the sizes and times of their audio files."""
    files: dict[str, tuple[int, int] | None] = {}
    rows = []
    for utt in data.utterances:
        path, start, end = data.audio(utt)
        if path not in files:
            try:
                stat = os.stat(path)
                files[path] = (stat.st_size, stat.st_mtime_ns)
            except OSError:  # said when it is read
                files[path] = None
        rows.append((utt, path, start, end, files[path]))
    return digest(FORMAT, asdict(settings), rows)


def merge_parts(
    settings: Settings,
    data: DataDir,
    out: str | os.PathLike[str],
    num_jobs: int,
    max_bad: int = 0,
    log: Log = print,
) -> None:
    """Join the parts into one dump, unless it is there and fresh.

    Raises:
        MissingInput: a part is not there.
        UserError: a part was made of other inputs or settings, lacks utterances, or more than
            `max_bad` utterances are bad in all (code 1).
    """
    root = Path(out)
    if _is_whole(settings, data, root, max_bad):
        log(f"{root / 'feats.scp'}: fresh")
        return
    bad: dict[str, str] = {}
    marks = []
    parts = _parts(data, num_jobs)
    for job, part in enumerate(parts, 1):
        scp = root / f"feats.{job}.scp"
        state = part_state(root, job)
        if state is None or not scp.exists():
            raise MissingInput(f"{scp}: no such part of {len(parts)}: run --stage feats")
        if state["fingerprint"] != fingerprint(settings, part):
            raise UserError(f"{scp}: made of other inputs or settings: run --stage feats")
        marks.append(part_mark(state))
        bad.update(state["bad"])
    for utt, reason in bad.items():
        print(f"bad: {utt}: {reason}", file=sys.stderr)
    if len(bad) > max_bad:
        raise UserError(f"{len(bad)} bad utterances, more than --max-bad {max_bad}", code=1)
    jobs = range(1, len(parts) + 1)
    frames: dict[str, int] = {}
    for job in jobs:
        frames.update(read_frames(root / f"frames.{job}"))
    merge_scp([root / f"feats.{job}.scp" for job in jobs], root / "feats.scp")
    expected = set(data.utterances) - bad.keys()
    indexed = set(ArkReader(root / "feats.scp"))
    if indexed != expected or frames.keys() != expected:
        odd = sorted(expected.symmetric_difference(indexed) | (expected ^ frames.keys()))
        raise UserError(f"{root}: {odd[0]} is not in every file of its part: run --stage feats")
    if not expected:
        raise UserError(f"{root}: no utterance could be read", code=1)
    write_text(root / "utt2num_frames", "".join(f"{u} {frames[u]}\n" for u in sorted(frames)))
    raw = settings.features["name"] == "raw"
    made = {
        **asdict(settings),
        "bins": 1 if raw else build(FRONT_ENDS, settings.features, "features").num_bins,
        "utterances": len(frames),
        "frames": sum(frames.values()),
        "bad": sorted(bad),
        "parts": marks,
        "fingerprint": fingerprint(settings, data),
    }
    write_json(root / "config.json", made)
    _clear(root, len(parts))
    log(f"{root / 'feats.scp'}: {len(frames)} utterances of {len(parts)} parts")


def _parts(data: DataDir, num_jobs: int) -> list[DataDir]:
    return split(data, min(num_jobs, len(data.utterances)))


def _is_whole(settings: Settings, data: DataDir, root: Path, max_bad: int) -> bool:
    """The merged dump is there and of these inputs, in however many parts it was made."""
    try:
        dump = FeatureDump(root)
    except (MissingInput, UserError, OSError):
        return False
    same = dump.fingerprint == fingerprint(settings, data)
    return same and len(dump.bad) <= max_bad and is_whole(root / "feats.scp")


def _clear(root: Path, num_parts: int) -> None:
    """Remove what earlier runs left: parts of a finer split, files of jobs that were killed."""
    for path in root.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in [*root.glob("feats.*.*"), *root.glob("frames.*"), *root.glob("bad.*")]:
        number = path.name.split(".")[1]
        if number.isdecimal() and int(number) > num_parts:
            path.unlink(missing_ok=True)
