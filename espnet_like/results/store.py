"""From the result.json of many runs to results.csv.

results.csv has one row per configuration. Its runs are kept value by value, so that seeds run on
another day or machine add up as long as the configuration is the same.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_like.errors import UserError
from espnet_like.experiments.runs import Planned, config_digest
from espnet_like.experiments.tables import Table
from espnet_like.files import read_json, update_text


@dataclass
class Result:
    """A row of results.csv: all runs of one configuration.

    Args:
        table: stem of the table file, or empty for a plain run.
        row: name of the row.
        corpus, model, augment, selection: what was run; `selection` says which epoch was scored.
        metric: the name of the value.
        runs: value of each (seed, fold), as a share.
        clips: clips scored over all folds of one seed.
        parameters: of the model; `bytes`: of its weights file.
        seconds: training time of all runs together.
        device, revision: what ran them; several are joined by `; `.
        config: digest of the configuration.
        macro_of: mean over classes of each (seed, fold), as a share: of recall, or, where the
            metric is lwlrap, of average precision.
        nonzero: parameters that are not zero; 0 if nobody counted them.
    """

    table: str
    row: str
    corpus: str
    model: str
    augment: str
    selection: str
    metric: str
    runs: dict[tuple[int, int], float] = field(default_factory=dict)
    seconds_of: dict[tuple[int, int], float] = field(default_factory=dict)
    clips_of: dict[int, int] = field(default_factory=dict)
    parameters: int = 0
    bytes: int = 0
    device: str = ""
    revision: str = ""
    config: str = ""
    macro_of: dict[tuple[int, int], float] = field(default_factory=dict)
    nonzero: int = 0

    @classmethod
    def of_run(cls, table: str, row: str, found: Mapping[str, Any]) -> Result:
        """A row without runs yet, of what a result.json says."""
        same = ("corpus", "model", "augment", "selection", "metric")
        result = cls(table, row, *(found[name] for name in same))
        result.parameters, result.bytes = found["parameters"], found["bytes"]
        result.nonzero = found["size"]["nonzero"]["values"] if "size" in found else 0
        result.config = found["config"]
        return result

    def add(self, seed: int, fold: int, found: Mapping[str, Any]) -> None:
        """Take in one run's result.json."""
        key = (seed, fold)
        macro = "mean_average_precision" if found["metric"] == "lwlrap" else "macro_accuracy"
        self.runs[key] = round(found[found["metric"]], 6)
        self.macro_of[key] = round(found[macro], 6)
        self.seconds_of[key] = found["train_seconds"]
        self.clips_of[fold] = found["clips"]
        self.device = _join(self.device, found["environment"]["device"])
        self.revision = _join(self.revision, found["environment"]["revision"])

    def of(self, metric: str) -> Result:
        """The same with the values of another metric: `macro_accuracy`, where accuracy is known."""
        if metric == self.metric:
            return self
        return replace(self, metric=metric, runs=self.macro_of)

    @property
    def folds(self) -> list[int]:
        """Folds with any run."""
        return sorted({fold for _, fold in self.runs})

    def complete_seeds(self, folds: Iterable[int]) -> list[int]:
        """Seeds with a run in every one of `folds`."""
        wanted = set(folds)
        seeds = sorted({seed for seed, _ in self.runs})
        return [s for s in seeds if wanted <= {f for seed, f in self.runs if seed == s}]

    def seed_means(self) -> list[float]:
        """Mean over folds, of each complete seed."""
        folds = self.folds
        return [
            statistics.fmean(self.runs[seed, fold] for fold in folds)
            for seed in self.complete_seeds(folds)
        ]

    @property
    def mean(self) -> float | None:
        """Mean over seeds of the mean over folds; None when no seed is complete."""
        means = self.seed_means()
        return statistics.fmean(means) if means else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1) over seeds; None for fewer than two."""
        means = self.seed_means()
        return statistics.stdev(means) if len(means) > 1 else None

    def fold_means(self) -> dict[int, float]:
        """Mean over complete seeds, of each fold."""
        seeds = self.complete_seeds(self.folds)
        return {f: statistics.fmean(self.runs[s, f] for s in seeds) for f in self.folds if seeds}


def collect(table: str, runs: Sequence[Planned]) -> list[Result]:
    """The rows that `runs` make; runs without a result.json are left out."""
    rows: dict[str, Result] = {}
    for run in runs:
        path = run.directory / "result.json"
        if not path.is_file():
            continue
        found = read_json(path)
        if found["config"] != config_digest(run.config):
            continue  # of other settings: stale
        stems = {"model": run.model, "augment": run.augment}
        made = {**found, **stems, "selection": run.config.train.selection}
        rows.setdefault(run.row, Result.of_run(table, run.row, made)).add(run.seed, run.fold, made)
    for result in rows.values():
        if result.selection == "best_mean":
            _take_best_mean(result, [run for run in runs if run.row == result.row])
    return list(rows.values())


def _take_best_mean(result: Result, runs: Sequence[Planned]) -> None:
    """Put each seed's values at the epoch whose mean over its folds is highest into `result`.

    So SSAST reports ESC-50. The first of equal epochs is taken; only folds that lie here count.
    """
    curves: dict[int, dict[int, list[float]]] = {}
    for run in runs:
        if (run.seed, run.fold) in result.runs:
            history = read_json(run.directory / "train.json")["history"]
            values = [epoch[f"monitor_{result.metric}"] for epoch in history]
            curves.setdefault(run.seed, {})[run.fold] = values
    for seed, by_fold in curves.items():
        means = [statistics.fmean(values) for values in zip(*by_fold.values(), strict=True)]
        best = means.index(max(means))
        for fold, values in by_fold.items():
            result.runs[seed, fold] = round(values[best], 6)
    result.macro_of = {}  # known of the last epoch only


def merge_results(old: Sequence[Result], new: Sequence[Result]) -> list[Result]:
    """`old` with `new` put in: runs of the same configuration add up, another replaces."""
    merged = {(r.corpus, r.table, r.row): r for r in old}
    for result in new:
        key = (result.corpus, result.table, result.row)
        before = merged.get(key)
        if before is not None and before.config == result.config:
            known = (before.runs.items(), before.macro_of.items())
            if known[0] >= result.runs.items() and known[1] >= result.macro_of.items():
                continue  # nothing new
            anew = result.runs.keys()
            result.runs = {**before.runs, **result.runs}
            result.macro_of = {**before.macro_of, **result.macro_of}
            result.seconds_of = {**before.seconds_of, **result.seconds_of}
            result.clips_of = {**before.clips_of, **result.clips_of}
            if before.runs.keys() - anew:  # some of the values stay
                result.device = _join(before.device, result.device)
                result.revision = _join(before.revision, result.revision)
        merged[key] = result
    return sorted(merged.values(), key=lambda r: (r.table, r.row, r.corpus))


IDENTITY = ("table", "row", "corpus", "model", "augment", "selection", "metric")
DERIVED = ("mean", "std", "seeds", "folds", "seconds", "published", "published_std", "source")
BY_RUN = ("runs", "macro_of", "seconds_of", "clips_of")
SIZES = ("parameters", "nonzero", "bytes")
COLUMNS = (*IDENTITY, *DERIVED, *BY_RUN, *SIZES, "device", "revision", "config")


def write_csv(path: Path, results: Sequence[Result], tables: Mapping[str, Table]) -> None:
    """One line per result; what is derived, or stands in the table's file, is there to be read."""
    rows = {(stem, row.name): row for stem, table in tables.items() for row in table.rows}
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for r in results:
        line = {
            **{name: getattr(r, name) for name in COLUMNS if name not in DERIVED},
            "mean": "" if r.mean is None else f"{r.mean:.6f}",
            "std": "" if r.std is None else f"{r.std:.6f}",
            "seeds": len(r.complete_seeds(r.folds)),
            "folds": len(r.folds),
            "seconds": round(sum(r.seconds_of.values())),
        }
        row = rows.get((r.table, r.row))
        for name in ("published", "published_std", "source"):
            line[name] = getattr(row, name, None)
        for name in BY_RUN:
            line[name] = _encode(getattr(r, name))
        writer.writerow(line)
    update_text(path, file.getvalue())


def read_csv(path: Path) -> list[Result]:
    """What `write_csv` wrote; an absent file has no rows.

    Raises:
        UserError: a line that it did not write; names it.
    """
    if not path.is_file():
        return []
    results = []
    with open(path, newline="") as file:
        for number, line in enumerate(csv.DictReader(file), 2):
            try:
                text = {n: line[n] for n in IDENTITY}
                clips = {int(k): int(v) for k, v in _decode(line["clips_of"])}
                results.append(
                    Result(
                        **text,
                        runs={_key(k): float(v) for k, v in _decode(line["runs"])},
                        macro_of={_key(k): float(v) for k, v in _decode(line.get("macro_of", ""))},
                        seconds_of={_key(k): float(v) for k, v in _decode(line["seconds_of"])},
                        clips_of=clips,
                        parameters=int(line["parameters"]),
                        bytes=int(line["bytes"]),
                        nonzero=int(line.get("nonzero", 0)),
                        device=line["device"],
                        revision=line["revision"],
                        config=line["config"],
                    )
                )
            except (KeyError, ValueError, TypeError, AttributeError):
                raise UserError(
                    f"{path}:{number}: not a line that stage report wrote: restore the file"
                ) from None
    return results


def _encode(values: Mapping[Any, float]) -> str:
    """`seed:fold=value` or `fold=value`, separated by spaces."""
    pairs = sorted(values.items())
    return " ".join(
        f"{':'.join(map(str, k)) if isinstance(k, tuple) else k}={v:g}" for k, v in pairs
    )


def _decode(text: str) -> list[tuple[str, str]]:
    pairs = [pair.split("=") for pair in text.split()]
    return [(key, value) for key, value in pairs]


def _key(text: str) -> tuple[int, int]:
    seed, fold = text.split(":")
    return int(seed), int(fold)


def _join(old: str, new: str) -> str:
    parts = [part for part in old.split("; ") if part]
    return "; ".join(parts if new in parts else [*parts, new])
