"""A dump of whole recordings, seen as the parts of them that a data directory names."""

from __future__ import annotations

import numpy as np

from espnet_like.data.directory import DataDir
from espnet_like.data.excerpts import excerpts
from espnet_like.errors import UserError
from espnet_like.features.dump import FeatureDump


class ExcerptDump:
    """Read like a `FeatureDump` of waveforms; its utterances are those of `data`.

    Args:
        dump: waveforms (`features.name: raw`) of the recordings.
        data: a set with `segments`.

    Raises:
        UserError: not a dump of waveforms, or a segment that passes its recording's end.
    """

    def __init__(self, dump: FeatureDump, data: DataDir) -> None:
        if dump.features["name"] != "raw":
            raise UserError(f"{dump.path}: parts of recordings are cut from waveforms only")
        self.path, self.features, self.kind = dump.path, dump.features, dump.kind
        self.channels, self.bins = dump.channels, dump.bins
        self._dump = dump
        recordings = {s.recording for s in data.segments.values()}
        whole = {r: dump.num_frames(r) for r in recordings if r in dump}
        lost = [u for u, s in data.segments.items() if s.recording in dump.bad]
        self.bad = frozenset(lost)
        kept = data.subset(u for u in data.utterances if u not in self.bad)
        rate = int(dump.features["sample_rate"])
        self._places = excerpts(kept, rate, whole)

    def __contains__(self, utt: object) -> bool:
        return utt in self._places

    def num_frames(self, utt: str) -> int:
        """Samples of an utterance."""
        return self._places[utt].after - self._places[utt].first

    def read(self, utt: str) -> np.ndarray:
        """(L, C) int16."""
        place = self._places[utt]
        return self._dump.read(place.recording)[place.first : place.after]


def is_cut_from(dump: FeatureDump, data: DataDir) -> bool:
    """Whether the dump has the recordings of a set with segments, and not all of the segments."""
    known = {*dump.utterances, *dump.bad}
    recordings = {segment.recording for segment in data.segments.values()}
    return not known.issuperset(data.segments) and known.issuperset(recordings)


def sources(dump: FeatureDump, data: DataDir) -> list[str]:
    """Utterances of the dump that a set is made of: its own, or the recordings that it cuts."""
    if is_cut_from(dump, data):
        return sorted({segment.recording for segment in data.segments.values()})
    return list(data.utterances)
