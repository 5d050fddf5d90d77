"""Stage 3: statistics of a dump over the utterances of a training part."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.features.dump import FeatureDump
from espnet_like.features.excerpts import sources
from espnet_like.features.normalize import Stats
from espnet_like.files import digest


def fingerprint(dump: FeatureDump, data: DataDir) -> str:
    """Of what goes into the statistics of a training part: the features and its utterances."""
    utterances = [utt for utt in sources(dump, data) if utt not in dump.bad]
    portions = _portions(data, utterances)
    return digest(dump.fingerprint, utterances, *([sorted(portions.items())] if portions else []))


def _portions(data: DataDir, utterances: Sequence[str]) -> dict[str, str]:
    """The portion of each utterance, where there are several."""
    known = data.domains.get("portion", {})
    found = {utt: known[utt] for utt in utterances if utt in known}
    return found if len(set(found.values())) > 1 else {}


def compute_stats(
    dump_dir: str | os.PathLike[str],
    data: DataDir,
    out: str | os.PathLike[str],
    log: Callable[[str], None] = print,
) -> None:
    """Write `out`, unless it is there and fresh: of all clips, and of each portion (utt2portion).

    Args:
        dump_dir: a finished dump.
        data: the training part; of the dump, only its utterances are looked at, or, of parts of
            recordings that the dump has as a whole, these recordings.
        out: JSON to write, see `Stats.save`.
        log: takes lines of progress.

    Raises:
        MissingInput: the dump is not finished.
        UserError: the dump is of waveforms, or lacks an utterance that it did not find bad.
    """
    if not (Path(dump_dir) / "config.json").is_file():
        raise MissingInput(f"stage stats needs {Path(dump_dir) / 'feats.scp'}: run --stage feats")
    dump = FeatureDump(dump_dir)
    if dump.features["name"] == "raw":
        raise UserError(f"{dump_dir}: waveforms, of which there are no statistics: dump features")
    utterances = [utt for utt in sources(dump, data) if utt not in dump.bad]
    if missing := [utt for utt in utterances if utt not in dump]:
        raise UserError(
            f"{Path(dump_dir) / 'feats.scp'}: lacks {missing[0]} and {len(missing) - 1} more "
            f"utterances of {data.path}: run --stage feats"
        )
    if not utterances:
        raise UserError(f"{data.path}: no utterance to take statistics of")
    mark = fingerprint(dump, data)
    if os.path.exists(out):
        if Stats.load(out).made.get("fingerprint") == mark:
            log(f"{out}: fresh")
            return
        log(f"{out}: stale (features or utterances changed): made again")
    stats, portions = Stats(dump.bins), _portions(data, utterances)
    stats.sets = {name: Stats(dump.bins) for name in sorted(set(portions.values()))}
    for utt in utterances:
        features = dump.load(utt)
        stats.add(features)
        if utt in portions:
            stats.sets[portions[utt]].add(features)
    stats.made = {
        "features": dump.features,
        "channels": dump.channels,
        "data": str(data.path),
        "utterances": len(utterances),
        "frames": sum(dump.num_frames(utt) for utt in utterances),
        "fingerprint": mark,
    }
    stats.save(out)
    log(f"{out}: {stats.made['utterances']} utterances, {stats.made['frames']} frames")
