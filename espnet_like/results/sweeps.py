"""A table as a picture: accuracy over the value of one override, as Figure 2 of SpecAugment++."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from espnet_like.experiments.tables import Row, Table
from espnet_like.results.figures import colours, plt
from espnet_like.results.page import standard_error
from espnet_like.results.store import Result


def sweep(table: Table, results: Mapping[str, Result | None]) -> Figure:
    """Published values are faint and dashed, ours solid with bars of one standard error.

    Rows that were not run are left out, and the picture says how many.

    Args:
        table: with a `figure`.
        results: name of a row -> its result, None if it was not run.
    """
    assert table.figure is not None
    figure, axes = plt.subplots(figsize=(7, 4.2))
    flat = [row for row in table.rows if table.figure.x not in row.overrides]
    for colour, (stem, label) in zip(
        colours(len(table.figure.lines)), table.figure.lines.items(), strict=True
    ):
        rows = [row for row in table.rows if row.augment == stem and row not in flat]
        rows.sort(key=lambda row: row.overrides[table.figure.x])  # type: ignore[union-attr]
        _line(axes, table.figure.x, rows, results, colour, label)
    for row in flat:
        if row.published is not None:
            axes.axhline(
                row.published, ls="--", color="grey", alpha=0.6, label=f"{row.name}, paper"
            )
        if ours := results.get(row.name):
            assert ours.mean is not None
            axes.axhline(100 * ours.mean, color="black", label=row.name)
    if any(results.values()):
        axes.set_title("bars: one standard error", fontsize=8, loc="left")
    lacking = sum(r is None for r in results.values())
    if lacking:
        axes.set_title(f"{lacking} of {len(results)} rows not run", fontsize=8, loc="right")
    axes.set(xlabel=table.figure.label, ylabel=f"{table.metric.replace('_', ' ')} (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _line(
    axes: Axes,
    x: str,
    rows: list[Row],
    results: Mapping[str, Result | None],
    colour: object,
    label: str,
) -> None:
    theirs = [(100 * row.overrides[x], row.published) for row in rows if row.published is not None]
    if theirs:
        axes.plot(
            *zip(*theirs, strict=True),
            "o--",
            color=colour,
            alpha=0.45,
            ms=3,
            label=f"{label}, paper",
        )
    found = [(100 * row.overrides[x], results[row.name]) for row in rows]
    ours = [(place, r) for place, r in found if r is not None and r.mean is not None]
    if ours:
        axes.errorbar(
            [place for place, _ in ours],
            [100 * (r.mean or 0) for _, r in ours],
            [100 * standard_error(r) for _, r in ours],
            fmt="o-",
            color=colour,
            ms=4,
            capsize=2,
            label=label,
        )
