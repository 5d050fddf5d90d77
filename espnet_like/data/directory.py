"""Kaldi data directories.

    wav.scp      recording path              utt2labels   utterance tag [tag ...]
    utt2spk      utterance group             labels       one label per line, in class order
    spk2utt      group utterance ...         utt2dur      utterance seconds
    segments     utterance recording start end (seconds; end -1: to the end of the recording)
    utt2<domain> utterance value, e.g. utt2city, utt2device: what results are broken down by

`wav.scp` and `utt2spk` must be there, the rest is optional. Without `segments` a recording is an
utterance. The group (Kaldi's speaker) is what must not lie on both sides of a train/test split:
a location, an uploader, a speaker. Lines are sorted by id in the C locale, which for UTF-8 is
Python's order of strings. Paths are kept as written: relative ones start at the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from espnet_like.data.tables import (
    PARSERS,
    REQUIRED,
    Segment,
    by_group,
    domain_table,
    parsers,
    read_labels,
    read_lines,
    write_tables,
)
from espnet_like.errors import MissingInput, UserError

__all__ = ["FIELDS", "DataDir", "Segment", "sort_table"]

T = TypeVar("T")


FIELDS = {
    "wav.scp": "wav",
    "segments": "segments",
    "utt2spk": "groups",
    "utt2labels": "tags",
    "utt2dur": "durations",
}


@dataclass(frozen=True)
class DataDir:
    """A set of utterances. `load` and `save` see to it that the tables fit one another.

    Attributes:
        path: where it was loaded from.
        wav: recording -> path.
        groups: utterance -> group.
        tags: utterance -> its labels; empty if the set has none.
        labels: all labels, in class order.
        durations: utterance -> seconds; may be empty.
        segments: utterance -> part of a recording; empty if utterances are whole recordings.
        domains: name (city, device) -> utterance -> value; each has all utterances.
    """

    path: Path | None = None
    wav: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    durations: dict[str, float] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    domains: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def utterances(self) -> tuple[str, ...]:
        """All ids, sorted in the C locale."""
        return tuple(sorted(self.segments or self.wav))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DataDir:
        """Read a directory.

        Raises:
            MissingInput: there is no such directory, or it has no `wav.scp` or `utt2spk`.
            UserError: a line cannot be understood, or the tables do not fit one another; names
                the file and line. For all problems at once see `validation.problems`.
        """
        root = Path(path)
        if not root.is_dir():
            raise MissingInput(
                f"{root}: no such data directory: run --stage data or mend the path (--folds)"
            )
        tables: dict[str, dict[str, Any]] = {}
        numbers: dict[tuple[str, str], int] = {}
        for name, parse in parsers(root).items():
            table = tables[name] = {}
            if not (root / name).exists():
                if name in REQUIRED:
                    raise MissingInput(f"{root / name}: no such file: a data directory needs it")
                continue
            for number, key, value in read_lines(root / name):
                if key in table:
                    first = numbers[name, key]
                    raise UserError(f"{root / name}:{number}: {key!r} again, first in line {first}")
                numbers[name, key] = number
                try:
                    table[key] = parse(value)
                except ValueError as error:
                    raise UserError(f"{root / name}:{number}: {key!r} {error}") from None
        fields = {FIELDS[name]: sort_table(tables.pop(name)) for name in PARSERS}
        domains = {name.removeprefix("utt2"): sort_table(t) for name, t in tables.items()}
        data = cls(path=root, labels=read_labels(root / "labels"), domains=domains, **fields)

        def where(name: str, key: str) -> str:
            number = numbers.get((name, key))
            return f"{root / name}:{number}" if number else f"{root / name}"

        data._check(where)
        return data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all tables, sorted, with `spk2utt`; all files or none, `wav.scp` last.

        Raises:
            UserError: the tables do not fit one another; nothing is written.
        """
        root = Path(path)
        self._check_words(root)
        self._check(lambda name, key: f"{root / name}")
        texts = self.texts()
        write_tables(root, texts)
        for name in (*parsers(root), "labels"):
            if name not in texts:
                (root / name).unlink(missing_ok=True)  # of an earlier set in the same place

    def texts(self) -> dict[str, str]:
        """File name -> contents of every file that the set has."""
        tables: dict[str, Mapping[str, str]] = {
            "wav.scp": self.wav,
            "utt2spk": self.groups,
            "spk2utt": {group: " ".join(utts) for group, utts in by_group(self.groups).items()},
            "utt2labels": {utt: " ".join(tags) for utt, tags in self.tags.items()},
            "utt2dur": {utt: _number(seconds) for utt, seconds in self.durations.items()},
            "segments": {
                utt: f"{s.recording} {_number(s.start)} {-1 if s.end is None else _number(s.end)}"
                for utt, s in self.segments.items()
            },
            **{domain_table(name): values for name, values in self.domains.items()},
        }
        texts = {
            name: "".join(f"{key} {table[key]}\n" for key in sorted(table))
            for name, table in tables.items()
            if table or name in REQUIRED
        }
        if self.labels:
            texts["labels"] = "".join(f"{label}\n" for label in self.labels)
        return texts

    def audio(self, utt: str) -> tuple[str, float, float | None]:
        """Path, start and end (seconds; None: to the end) of an utterance's audio."""
        if not self.segments:
            return self.wav[utt], 0.0, None
        segment = self.segments[utt]
        return self.wav[segment.recording], segment.start, segment.end

    def subset(self, ids: Iterable[str]) -> DataDir:
        """The set with these utterances only; the labels stay.

        Raises:
            UserError: an id that the set does not have.
        """
        wanted = set(ids)
        known = set(self.utterances)
        if unknown := sorted(wanted - known):
            raise UserError(f"{self.path or 'the set'}: no utterance {unknown[0]!r}")
        recordings = {self.segments[u].recording for u in wanted} if self.segments else wanted
        return replace(
            self,
            path=None,
            wav=_only(self.wav, recordings),
            groups=_only(self.groups, wanted),
            tags=_only(self.tags, wanted),
            durations=_only(self.durations, wanted),
            segments=_only(self.segments, wanted),
            domains={name: _only(values, wanted) for name, values in self.domains.items()},
        )

    def _check_words(self, root: Path) -> None:
        """Refuse names that a table would not give back."""
        words: dict[str, Iterable[str]] = {"wav.scp": self.wav, "segments": self.segments}
        words.update({"utt2spk": self.groups.values(), "labels": self.labels})
        for name, own in words.items():
            for word in own:
                if word.split() != [word]:
                    raise UserError(
                        f"{root / name}: {word!r}: names of utterances, groups and labels are "
                        "single words: take an underscore"
                    )

    def _check(self, where: Callable[[str, str], str]) -> None:
        """Refuse tables that do not fit one another; `where(file, id)` names the place."""
        for utt, segment in self.segments.items():
            if segment.recording not in self.wav:
                raise UserError(
                    f"{where('segments', utt)}: recording {segment.recording!r} is not in wav.scp: "
                    "add its line or remove this one"
                )
        source = "segments" if self.segments else "wav.scp"
        utterances = self.segments or self.wav
        if not utterances:
            raise UserError(f"{where(source, '')}: empty: a set has one utterance or more")
        tables: dict[str, Mapping[str, Any]] = {"utt2spk": self.groups}
        tables.update({"utt2labels": self.tags} if self.tags else {})
        tables.update({"utt2dur": self.durations} if self.durations else {})
        tables.update({domain_table(name): values for name, values in self.domains.items()})
        for name, table in tables.items():
            for utt in sorted(table.keys() - utterances.keys()):
                raise UserError(
                    f"{where(name, utt)}: {utt!r} is not in {source}: add its line there or remove "
                    "this one (utils/fix_data_dir.py)"
                )
            for utt in sorted(utterances.keys() - table.keys()):
                raise UserError(
                    f"{where(source, utt)}: {utt!r} is not in {name}: add its line there or remove "
                    "this one (utils/fix_data_dir.py)"
                )
        known = set(self.labels)
        for utt, tags in self.tags.items():
            for tag in tags:
                if tag not in known:
                    raise UserError(
                        f"{where('utt2labels', utt)}: {utt!r} has the label {tag!r}, which is not "
                        "in the file labels: add it there or correct the line"
                    )


def sort_table(table: Mapping[str, T]) -> dict[str, T]:
    """In the order of a file."""
    return {key: table[key] for key in sorted(table)}


def _only(table: Mapping[str, T], keys: set[str]) -> dict[str, T]:
    return {key: table[key] for key in sorted(keys & table.keys())}


def _number(seconds: float) -> str:
    return repr(round(float(seconds), 6))
