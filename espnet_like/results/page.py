"""RESULTS.md from results.csv, counts.csv, pairs.csv and the table files: of them alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_like.experiments.tables import Row, Table
from espnet_like.results.counts import Counts, Part, total
from espnet_like.results.domains import section
from espnet_like.results.markdown import markdown
from espnet_like.results.pairs import Pairs, pairs_section
from espnet_like.results.store import Result

SELECTIONS = {
    "last": "last epoch",
    "best_valid": "best epoch on validation",
    "best_test": "best epoch on the test part (optimistic)",
    "best_mean": "epoch with the best mean over the test parts (optimistic)",
}
FEW = 5  # classes that a column of a table can name
NOTES = """\
{} in percent, mean over folds; ± is the sample standard deviation (n - 1) over seeds of that
mean. "Beyond noise" asks whether a difference is larger than twice its standard error, where a
value's standard error is std / sqrt(runs), or the binomial one over its test clips when there is
one run only. Seconds are training time, all folds and seeds together. Every number comes from
`results.csv`, which `./run.sh --stage report` writes.
"""


def render(
    corpus: str,
    tables: Mapping[str, Table],
    results: Sequence[Result],
    counts: Counts,
    pairs: Pairs | None = None,
) -> str:
    """The whole page. Rows without runs say so; nothing is filled in.

    Tables about the demo corpus are shown with its results, and with no others.
    """
    demo = any(_is_demo(r.corpus) for r in results)
    tables = {stem: t for stem, t in tables.items() if _is_demo(t.corpus) == demo}
    tagging = any(table.metric == "lwlrap" for table in tables.values())
    parts = [f"# Results: {corpus}\n", NOTES.format("lwlrap" if tagging else "Accuracy")]
    for stem, table in tables.items():
        own = of_table(stem, table, results)
        parts.append(f"## {table.title}\n")
        if table.description:
            parts.append(table.description.strip() + "\n")
        parts.append(_table(table, own, counts))
        parts.append(_footer(table, [r for r in own.values() if r]))
        parts += pairs_section(stem, table, own, pairs or {})
        parts += _class_section(table, own, counts)
        parts += [section(domain, own, counts) for domain in table.domains if any(own.values())]
    listed = {(stem, row.name) for stem, table in tables.items() for row in table.rows}
    others = [r for r in results if (r.table, r.row) not in listed]
    if others:
        several = len({r.corpus for r in others}) > 1
        names = [
            (f"{r.table}: " if r.table else "") + r.row + (f" ({r.corpus})" if several else "")
            for r in others
        ]
        rows = [Row(name, r.augment) for name, r in zip(names, others, strict=True)]
        pruned = any(0 < r.nonzero < r.parameters for r in others)
        other = Table("", "", tuple(rows), corpus, columns=("size",) if pruned else ())
        shown = dict(zip(names, others, strict=True))
        parts += ["## Other runs\n", _table(other, shown, counts), _footer(other, others)]
    return "\n".join(parts)


def _is_demo(corpus: str) -> bool:
    return corpus.split("_")[0] == "demo"


def of_table(stem: str, table: Table, results: Sequence[Result]) -> dict[str, Result | None]:
    """Name of each row that is run -> its result by the table's metric, or None."""
    own = [r for r in results if r.table == stem and table.about(r.corpus)]
    by_name = {r.row: r.of(table.metric) for r in own}
    run = [row.name for row in table.rows if row.augment or row.ensemble]
    found = {name: by_name.get(name) for name in run}
    return {name: r if r and r.runs else None for name, r in found.items()}


def summary(path: Path, results: Sequence[Result], tables: dict[str, Table]) -> list[list[str]]:
    """One line a configuration for the top-level README, at the first table that has it.

    Recipe, table, row, value, runs, selection.
    """
    lines: dict[str, list[str]] = {}
    for stem, table in tables.items():
        for r in of_table(stem, table, results).values():
            if r and r.mean is not None and set(table.folds) <= set(r.folds):
                runs = " x ".join((_count(r.folds, "fold"), _count(r.seed_means(), "seed")))
                value = _value(r) + {"accuracy": "", "macro_accuracy": " (macro)"}.get(
                    r.metric, f" ({r.metric})"
                )
                line = [path.name, table.title, r.row, value, runs, SELECTIONS[r.selection]]
                lines.setdefault(r.config, line)
    return list(lines.values())


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")


def _table(table: Table, results: Mapping[str, Result | None], counts: Counts) -> str:
    published = any(row.published is not None for row in table.rows)
    baseline = results.get(table.baseline) if table.baseline else None
    header = ["row", table.metric.replace("_", " "), "seeds", "per fold"]
    header += ["published", "difference", "beyond noise"] if published else []
    header += [f"against {table.baseline}", "beyond noise"] if table.baseline else []
    more = _more(table, results, counts)
    header += [*more, "seconds"]
    rows = []
    for number, row in enumerate(table.rows):
        r = results.get(row.name)
        others = [column[number] for column in more.values()]
        lacking = [fold for fold in table.folds if r and fold not in r.folds]
        if r is None or r.mean is None or lacking:
            done = f"not run ({len(r.runs)} runs of an incomplete seed)" if r else "not run"
            line = [row.name, done if row.augment or row.ensemble else "published only", "", ""]
            line += [_published(row), "", ""] if published else []
            line += ["", ""] if table.baseline else []
            rows.append([*line, *others, ""])
            continue
        folds = " ".join(f"{100 * v:.1f}" for v in r.fold_means().values())
        line = [row.name, _value(r), str(len(r.seed_means())), folds]
        if published:
            line += [_published(row), *_against_published(r, row)]
        if table.baseline:
            same = baseline is None or r is baseline
            line += ["", ""] if same else _against(r, baseline)  # type: ignore[arg-type]
        rows.append([*line, *others, f"{sum(r.seconds_of.values()):,.0f}"])
    return markdown(header, rows)


def _more(
    table: Table, results: Mapping[str, Result | None], counts: Counts
) -> dict[str, list[str]]:
    """Further columns: header -> a cell for each row; the published ones beside ours."""
    own = [results.get(row.name) for row in table.rows]
    done = [
        r if r and r.mean is not None and set(table.folds) <= set(r.folds) else None for r in own
    ]
    columns = {}
    if "per_class" in table.columns:
        ours = [
            {label: right / n for label, (right, n) in total(counts, r)[Part()].items() if n}
            if r and total(counts, r)
            else {}
            for r in done
        ]
        theirs = [{k: v / 100 for k, v in row.published_classes.items()} for row in table.rows]
        labels = next((list(shares) for shares in (*ours, *theirs) if shares), [])
        if len(labels) <= FEW:
            columns[", ".join(labels)] = [_shares(shares, labels) for shares in ours]
            if any(theirs):
                columns["published by class"] = [_shares(shares, labels) for shares in theirs]
    if len({r.selection for r in done if r}) > 1:
        columns["epoch"] = [SELECTIONS[r.selection] if r else "" for r in done]
    columns["parameters"] = [f"{r.parameters:,}" if r else "" for r in done]
    if "size" in table.columns:
        columns["nonzero"] = [f"{r.nonzero:,}" if r and r.nonzero else "" for r in done]
    if any(row.published_parameters for row in table.rows):
        columns["published parameters"] = [_number(row.published_parameters) for row in table.rows]
    if "size" in table.columns:
        columns["file (bytes)"] = [f"{r.bytes:,}" if r else "" for r in done]
    if any(row.published_bytes for row in table.rows):
        columns["published size"] = [_number(row.published_bytes) for row in table.rows]
    return columns


def _class_section(table: Table, results: Mapping[str, Result | None], counts: Counts) -> list[str]:
    """A line for each class that occurs, a column for each row, where classes are many."""
    own = {name: total(counts, r).get(Part(), {}) for name, r in results.items() if r}
    own = {name: by_class for name, by_class in own.items() if by_class}
    classes = {label: n for by_class in own.values() for label, (_, n) in by_class.items() if n}
    if "per_class" not in table.columns or len(classes) <= FEW:
        return []
    lines = []
    for label, clips in classes.items():
        pairs = [by_class[label] for by_class in own.values()]
        values = (f"{100 * right / n:.1f}" if n else "-" for right, n in pairs)
        lines.append([label, f"{clips:,}", *values])
    name = table.metric if table.metric == "lwlrap" else "recall"
    return [f"### {name} by class (%)\n", markdown(["class", "clips", *own], lines)]


def _shares(shares: Mapping[str, float], labels: Sequence[str]) -> str:
    """Percent by class, `-` for a class without clips; nothing where there are none."""
    text = (f"{100 * shares[label]:.1f}" if label in shares else "-" for label in labels)
    return ", ".join(text) if shares else ""


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _footer(table: Table, results: Sequence[Result]) -> str:
    if not results:
        return ""
    said = {
        "Selection": sorted({SELECTIONS[r.selection] for r in results}),
        "Device": sorted({d for r in results for d in r.device.split("; ")}),
        "Revision": sorted({d for r in results for d in r.revision.split("; ")}),
        "Published": sorted({row.source for row in table.rows if row.source}),
    }
    return "".join(f"{key}: {'; '.join(values)}.  \n" for key, values in said.items() if values)


def _value(r: Result) -> str:
    assert r.mean is not None
    return f"{100 * r.mean:.2f}" + (f" ± {100 * r.std:.2f}" if r.std is not None else "")


def _published(row: Row) -> str:
    if row.published is None:
        return ""
    return f"{row.published}" + (
        f" ± {row.published_std:.2f}" if row.published_std is not None else ""
    )


def _against_published(r: Result, row: Row) -> list[str]:
    assert r.mean is not None
    if row.published is None:
        return ["", ""]
    theirs = row.published / 100
    clips = sum(r.clips_of.values())
    error = _standard_error(theirs, row.published_std, row.published_runs or 1, clips)
    return _difference(r.mean - theirs, math.hypot(standard_error(r), error))


def _against(r: Result, other: Result) -> list[str]:
    if other.mean is None or r.mean is None:
        return ["", ""]
    return _difference(r.mean - other.mean, math.hypot(standard_error(r), standard_error(other)))


def _difference(difference: float, error: float) -> list[str]:
    return [f"{100 * difference:+.2f}", "yes" if abs(difference) > 2 * error else "no"]


def standard_error(r: Result) -> float:
    """Of the mean: over seeds, or binomial over the test clips for one seed."""
    assert r.mean is not None
    std = None if r.std is None else 100 * r.std
    return _standard_error(r.mean, std, len(r.seed_means()), sum(r.clips_of.values()))


def _standard_error(mean: float, std: float | None, runs: int, clips: int) -> float:
    if std is not None and runs > 1:
        return std / 100 / math.sqrt(runs)
    return math.sqrt(max(mean * (1 - mean), 0.0) / max(clips, 1))
