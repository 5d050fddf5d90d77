"""Parts of recordings, to the sample: whole recordings are dumped once, training cuts them.

Several sets may cut the same recordings at different places (the splits of UPB's noisy clips); one
dump of the recordings serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from espnet_like.data.audio import TOLERANCE
from espnet_like.data.directory import DataDir, Segment
from espnet_like.errors import UserError


class Excerpt(NamedTuple):
    """Samples [first, after) of a recording."""

    recording: str
    first: int
    after: int


def excerpts(data: DataDir, rate: int, lengths: Mapping[str, int]) -> dict[str, Excerpt]:
    """Where each utterance lies in its recording.

    Times in `segments` have six digits, so at less than 1 MHz they name their sample exactly. As in
    `audio.read`, a segment may pass the end of its recording by 10 ms, which are cut off.

    Args:
        data: the set; without segments an utterance is a whole recording.
        rate: samples per second of the recordings.
        lengths: recording -> its samples (`utt2num_frames` of a dump of waveforms).

    Raises:
        UserError: a recording without a length, or a segment that is empty or passes its end.
    """
    found = {}
    source = f"{data.path}/segments" if data.path else "segments"
    for utt in data.utterances:
        segment = data.segments.get(utt, Segment(utt, 0.0, None))
        if segment.recording not in lengths:
            raise UserError(
                f"{data.path or 'the set'}: {utt}: no waveform of {segment.recording}: run --stage "
                "feats"
            )
        length = lengths[segment.recording]
        first = round(segment.start * rate)
        after = length if segment.end is None else round(segment.end * rate)
        if length < after <= length + TOLERANCE * rate:
            after = length
        if not first < after <= length:
            raise UserError(
                f"{source}: {utt}: samples {first} to {after} of {segment.recording}, which has "
                f"{length}: run --stage data, then feats"
            )
        found[utt] = Excerpt(segment.recording, first, after)
    return found


def cut_in_two(
    data: DataDir, rate: int, seed: int, suffix: str = "", low: float = 0.1, high: float = 0.9
) -> DataDir:
    """Cut every recording at r times its length, r ~ U(low, high) (UPB report, section 3.1).

    Both parts keep the tags and the group. r is drawn with numpy's RandomState, whose numbers stay
    the same from release to release, for the recordings in the order of their ids. The cut is at a
    whole sample; each part has one at least.

    Args:
        data: whole recordings with durations.
        rate: samples per second.
        seed: another seed, another split.
        suffix: makes the ids `<recording><suffix>_1` and `<recording><suffix>_2`, so that the parts
            of several splits can be told apart.

    Raises:
        ValueError: not whole recordings with durations, or not 0 < low <= high < 1.
    """
    if data.segments or not data.durations:
        raise ValueError("cut_in_two needs whole recordings with durations")
    if not 0 < low <= high < 1:
        raise ValueError(f"0 < low <= high < 1 does not hold: low {low}, high {high}")
    shares = np.random.RandomState(seed).uniform(low, high, len(data.utterances))
    segments: dict[str, Segment] = {}
    for recording, share in zip(data.utterances, shares, strict=True):
        samples = round(data.durations[recording] * rate)
        if samples < 2:
            raise UserError(f"{data.wav[recording]}: {samples} sample(s), cannot be cut in two")
        cut = min(max(int(share * samples), 1), samples - 1)
        segments[f"{recording}{suffix}_1"] = Segment(recording, 0.0, cut / rate)
        segments[f"{recording}{suffix}_2"] = Segment(recording, cut / rate, samples / rate)
    return replace(
        data,
        path=None,
        segments=segments,
        groups={utt: data.groups[s.recording] for utt, s in segments.items()},
        tags={utt: data.tags[s.recording] for utt, s in segments.items()} if data.tags else {},
        durations={utt: (s.end or 0.0) - s.start for utt, s in segments.items()},
        domains={
            name: {utt: values[s.recording] for utt, s in segments.items()}
            for name, values in data.domains.items()
        },
    )
