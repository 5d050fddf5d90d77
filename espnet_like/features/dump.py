"""What a feature dump is, and how it is read. `make_dump.py` makes it.

A dump directory holds, for each job J, `feats.J.ark`, `feats.J.scp`, `frames.J` (utterance,
frames), `bad.J` (utterance, reason) and, last of all, `feats.J.json` with the fingerprint of what
went in. Merging adds `feats.scp`, `utt2num_frames` and, last of all, `config.json`, which names
the fingerprint of every part: a dump whose parts are being made again is not taken for whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from espnet_like.data.ark import ArkReader
from espnet_like.errors import MissingInput, UserError
from espnet_like.features import FRONT_ENDS, FrontEnd
from espnet_like.files import digest, read_json
from espnet_like.registry import arguments, build


class HasChannels(Protocol):
    """Anything that says how many channels are wanted, as `schema.Audio` does."""

    @property
    def channels(self) -> int: ...


class Raw:
    """`features.name: raw`: the waveforms themselves, int16.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int = 22050) -> None:
        self.sample_rate = sample_rate


@dataclass(frozen=True)
class Settings:
    """Everything but the audio that a dump depends on; make it with `resolve`.

    Attributes:
        features: name and every argument of the front end.
        channels: of the audio, 1 or 2.
        expect_rate: rate that every file must have, None for any.
        kind: of the archive, see `ArkWriter`.
    """

    features: dict[str, Any]
    channels: int
    expect_rate: int | None
    kind: str

    @classmethod
    def resolve(
        cls,
        features: Mapping[str, Any],
        channels: int = 1,
        expect_rate: int | None = None,
        kind: str = "float32",
    ) -> Settings:
        """Fill in the front end's defaults; raises UserError for what it does not know."""
        if features.get("name") == "raw":
            if kind != "float32":
                raise UserError(f"features raw are int16: leave out what asks for {kind}")
            kind = "int16"
        return cls(resolve_features(features), channels, expect_rate, kind)

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms that the front end takes."""
        front: FrontEnd | Raw = build({**FRONT_ENDS, "raw": Raw}, self.features, "features")
        return front.sample_rate


def resolve_features(features: Mapping[str, Any]) -> dict[str, Any]:
    """`features` with every default written out; a UserError for what is unknown."""
    kwargs = arguments({**FRONT_ENDS, "raw": Raw}, features, "features")
    return {"name": features["name"], **kwargs}


class FeatureDump:
    """A finished dump.

    Can be pickled and shared with forked workers; memory does not grow as it is read.

    Args:
        path: dump directory.

    Attributes:
        features: name and every argument of the front end.
        audio_channels: of the waveforms.
        channels: C, of the features: `maps` of the front end for each channel of the audio.
        bins: F; 1 for raw, whose frames are samples.
        bad: utterances that could not be read and were left out.
        fingerprint: changes with the settings, the utterances and their audio files.
        kind: of the archives, see `ArkWriter`.

    Raises:
        MissingInput: no finished dump there, or one whose parts have changed since.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise MissingInput(f"{path}: no finished feature dump: run --stage feats")
        config = read_json(self.path / "config.json")
        for job, mark in enumerate(config["parts"], 1):
            state = part_state(self.path, job)
            if state is None or part_mark(state) != mark:
                raise MissingInput(f"{path}: part {job} has changed: run --stage feats")
        self.features: dict[str, Any] = config["features"]
        self.audio_channels: int = config["channels"]
        front = FRONT_ENDS.get(self.features["name"])  # none for raw
        self.channels = self.audio_channels * (front.maps if front else 1)
        self.bins: int = config["bins"]
        self.bad = frozenset(config["bad"])
        self.fingerprint: str = config["fingerprint"]
        self.kind: str = config["kind"]
        self._frames = read_frames(self.path / "utt2num_frames")
        self._arks = ArkReader(self.path / "feats.scp")

    @property
    def utterances(self) -> tuple[str, ...]:
        """Sorted ids."""
        return tuple(self._frames)

    def __contains__(self, utt: object) -> bool:
        return utt in self._frames

    def __len__(self) -> int:
        return len(self._frames)

    def num_frames(self, utt: str) -> int:
        """T of an utterance (samples for raw)."""
        return self._frames[utt]

    def read(self, utt: str) -> np.ndarray:
        """(T, C*F) as it lies in the archive: float32, float16, or int16 (L, C) for raw.

        Raises:
            UserError: the archive is missing or truncated; names it and the utterance.
        """
        return self._arks[utt]

    def load(self, utt: str) -> np.ndarray:
        """(C, F, T) float32, or (C, L) in [-1, 1) for raw; errors as `read`."""
        array = self.read(utt)
        if self.features["name"] == "raw":
            return array.reshape(-1, self.channels).T.astype(np.float32) / np.float32(32768)
        frames = array.reshape(-1, self.channels, self.bins).astype(np.float32, copy=False)
        return frames.transpose(1, 2, 0)


def check_dump(
    dump: FeatureDump | str | os.PathLike[str],
    features: Mapping[str, Any],
    audio: HasChannels | None = None,
) -> None:
    """Refuse a dump that was made with other settings than expected.

    Args:
        dump: the dump or its directory.
        features: the front end that a model expects, defaults left out or not.
        audio: what says the number of channels; None for any.

    Raises:
        MissingInput: no finished dump there.
        UserError: says what the dump has and what is expected.
    """
    if not isinstance(dump, FeatureDump):
        dump = FeatureDump(dump)
    found, wanted = dict(dump.features), resolve_features(features)
    if audio is not None:
        found["channels"], wanted["channels"] = dump.audio_channels, audio.channels
    keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if keys:
        keys = ["name"] if "name" in keys else keys
        made, want = (", ".join(f"{k} {d.get(k)}" for k in keys) for d in (found, wanted))
        raise UserError(f"{dump.path}: made with {made}, but {want} expected: run --stage feats")


def part_state(out: str | os.PathLike[str], job: int) -> dict[str, Any] | None:
    """What `feats.J.json` says: fingerprint, utterances, bad; None if it is not there."""
    path = Path(out) / f"feats.{job}.json"
    return read_json(path) if path.exists() else None


def part_mark(state: Mapping[str, Any]) -> str:
    """What tells the contents of one part from another's."""
    return digest(state["fingerprint"], sorted(state["bad"]))


def read_frames(path: Path) -> dict[str, int]:
    """Lines `utterance count`."""
    with open(path, encoding="utf-8") as file:
        return {utt: int(count) for utt, count in map(str.split, file)}
