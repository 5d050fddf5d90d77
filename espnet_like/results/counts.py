"""Right and scored clips of each class, of the whole test part and by domain (city, device).

Where clips have several labels, a class's right clips are the sum of its labels' precisions, so
that right / clips is its lwlrap (`scoring/tagging.py`).

A run's result.json has them all; counts.csv keeps those that a table shows, so that the page can be
rendered without the runs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.experiments.runs import Planned, config_digest
from espnet_like.files import read_json, update_text
from espnet_like.results.store import Result


class Run(NamedTuple):
    """What was run: digest of the configuration, seed and fold."""

    config: str
    seed: int
    fold: int


class Part(NamedTuple):
    """Part of a test part: `value` of a domain; all of it where the domain is empty.

    seen: whether the training part has clips of this value.
    """

    domain: str = ""
    value: str = ""
    seen: bool = True


# class -> right clips, clips; in the order of the classes
ByClass = dict[str, tuple[float, int]]
Counts = dict[Run, dict[Part, ByClass]]


def by_domain(
    scores: ArrayLike, targets: ArrayLike, utterances: Sequence[str], test: DataDir, train: DataDir
) -> list[dict[str, Any]]:
    """Counts of the scored clips, for each domain that both parts have.

    Args:
        scores: (N, K); targets: (N, K), one class each; utterances: N ids.
        test: the scored part. train: what is called seen.

    Returns:
        `domain`, `value`, `seen`, and in the order of the classes `right` and `clips`.
    """
    truth, found = np.asarray(targets).argmax(1), np.asarray(scores).argmax(1)
    classes, lines = len(test.labels), []
    for domain in sorted(test.domains.keys() & train.domains.keys()):
        of = test.domains[domain]
        values = np.array([of[utt] for utt in utterances])
        seen = set(train.domains[domain].values())
        for value in sorted(set(values.tolist())):
            own = values == value
            lines.append(
                {
                    "domain": domain,
                    "value": value,
                    "seen": value in seen,
                    "right": np.bincount(truth[own & (truth == found)], minlength=classes).tolist(),
                    "clips": np.bincount(truth[own], minlength=classes).tolist(),
                }
            )
    return lines


def collect_counts(runs: Iterable[Planned]) -> Counts:
    """Counts of the runs that have a fresh result.json."""
    counts: Counts = {}
    for planned in runs:
        path, config = planned.directory / "result.json", config_digest(planned.config)
        found = read_json(path) if path.is_file() else {}
        if found.get("config") == config and (parts := counts_of(found)):
            counts[Run(config, planned.seed, planned.fold)] = parts
    return counts


def counts_of(found: Mapping[str, Any]) -> dict[Part, ByClass]:
    """Counts of what a result.json says; empty where it has none."""
    labels = found["labels"]
    if "counts" in found:
        values, clips = found["per_class"], [found["counts"][label] for label in labels]
        right = [round((values[k] or 0.0) * n, 6) for k, n in zip(labels, clips, strict=True)]
        return {Part(): _by_class(labels, right, clips)}
    if "confusion" not in found:
        return {}
    confusion = np.array(found["confusion"])
    diagonal, rows = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    parts = {Part(): _by_class(labels, diagonal, rows)}
    for line in found.get("domains", []):  # scored before there were any: --stage score
        part = Part(line["domain"], line["value"], line["seen"])
        parts[part] = _by_class(labels, line["right"], line["clips"])
    return parts


def _by_class(labels: Sequence[str], right: Sequence[float], clips: Sequence[int]) -> ByClass:
    return {k: (r, n) for k, r, n in zip(labels, right, clips, strict=True)}


def shown(counts: Counts, wanted: Mapping[str, Collection[str]]) -> Counts:
    """Those of the wanted configurations: digest -> domains, `""` for the whole test part."""
    kept = {
        run: {part: own for part, own in parts.items() if part.domain in wanted[run.config]}
        for run, parts in counts.items()
        if run.config in wanted
    }
    return {run: parts for run, parts in kept.items() if parts}


def total(counts: Counts, result: Result) -> dict[Part, dict[str, tuple[float, int]]]:
    """Counts of a row: clips of all folds together, right ones as a mean over complete seeds.

    Empty where a run of these folds and seeds has no counts.
    """
    seeds, folds = result.complete_seeds(result.folds), result.folds
    runs = [Run(result.config, seed, fold) for seed in seeds for fold in folds]
    if not runs or not all(run in counts for run in runs):
        return {}
    summed: dict[Part, dict[str, tuple[float, int]]] = {}
    for run in runs:
        for part, by_class in counts[run].items():
            own = summed.setdefault(part, {})
            for label, (right, clips) in by_class.items():
                before = own.get(label, (0.0, 0))
                again = 0 if run.seed != seeds[0] else clips  # the same clips for every seed
                own[label] = (before[0] + right / len(seeds), before[1] + again)
    return summed


COLUMNS = ("config", "seed", "fold", "domain", "value", "seen", "right_of_clips")


def write_counts(path: Path, counts: Counts) -> None:
    """One line a run and part, `class=right/clips` in the order of the classes; or no file."""
    if not counts:
        path.unlink(missing_ok=True)
        return
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run, parts in sorted(counts.items()):
        for part, by_class in sorted(parts.items()):
            text = " ".join(f"{label}={right:.12g}/{n}" for label, (right, n) in by_class.items())
            writer.writerow((*run, part.domain, part.value, int(part.seen), text))
    update_text(path, file.getvalue())


def read_counts(path: Path) -> Counts:
    """What `write_counts` wrote; nothing for an absent file.

    Raises:
        UserError: a line that it did not write; names it.
    """
    counts: Counts = {}
    if not path.is_file():
        return counts
    with open(path, newline="") as file:
        for number, line in enumerate(csv.DictReader(file), 2):
            try:
                run = Run(line["config"], int(line["seed"]), int(line["fold"]))
                part = Part(line["domain"], line["value"], bool(int(line["seen"])))
                pairs = [pair.rsplit("=", 1) for pair in line["right_of_clips"].split()]
                by_class = {label: _pair(text) for label, text in pairs}
            except (KeyError, ValueError, TypeError, AttributeError):
                raise UserError(
                    f"{path}:{number}: not a line that stage report wrote: restore the file"
                ) from None
            counts.setdefault(run, {})[part] = by_class
    return counts


def _pair(text: str) -> tuple[float, int]:
    right, clips = text.split("/")
    return float(right), int(clips)
