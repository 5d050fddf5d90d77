"""Figures: learning curves, confusion matrices, spectrograms and hidden maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import ArrayLike

from espnet_like.files import atomic_path

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a PNG in one piece, unless that is what the file holds, and forget the figure."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
    if not (os.path.isfile(path) and Path(path).read_bytes() == drawn.getvalue()):
        with atomic_path(path) as temporary:
            temporary.write_bytes(drawn.getvalue())


def learning_curves(histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> Figure:
    """Loss and accuracy by epoch: thin lines are runs, thick ones their mean.

    Args:
        histories: row -> runs -> epochs -> `loss`, `accuracy` and perhaps `monitor_<metric>`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for colour, (row, runs) in zip(colours(len(histories)), histories.items(), strict=True):
        _curve(left, runs, "loss", colour, row)
        _curve(right, runs, "accuracy", colour, row, 100)
        for name in ("monitor_accuracy", "monitor_lwlrap"):
            if all(name in epoch for run in runs for epoch in run):
                _curve(right, runs, name, colour, f"{row}, {name.replace('_', 'ed ')}", 100, "--")
    left.set(xlabel="epoch", ylabel="training loss (nats)")
    right.set(xlabel="epoch", ylabel="accuracy on training batches (%)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def confusion(counts: ArrayLike, labels: Sequence[str], title: str) -> Figure:
    """Rows true, columns predicted; colour is the share of the row, the number the count."""
    table = np.asarray(counts)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    side = max(4.0, 0.42 * len(labels))
    figure, axes = plt.subplots(figsize=(side + 1.5, side))
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize=9)
    if len(labels) <= 20:
        for i, j in np.argwhere(table > 0):
            shade = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, str(table[i, j]), ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.8)
    return figure


class Panel(NamedTuple):
    """An image (F, T), and the length of its time axis."""

    image: ArrayLike
    seconds: float


def spectrograms(panels: Mapping[str, Panel], label: str) -> Figure:
    """Spectrograms or maps, one above the other, on one colour scale: that of the first.

    Args:
        panels: by caption.
        label: of the colours.
    """
    low, high = np.percentile(np.asarray(next(iter(panels.values())).image), (1, 99))
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(7, 1.7 * len(panels)), sharex=True, layout="constrained"
    )
    for plot, (caption, panel) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        image = np.asarray(panel.image)
        drawn = plot.imshow(
            image,
            origin="lower",
            aspect="auto",
            extent=(0, panel.seconds, 0, len(image)),
            vmin=low,
            vmax=high,
            cmap="magma",
            interpolation="nearest",
        )
        plot.set_title(caption, fontsize=8, loc="left")
        plot.set_ylabel("bin", fontsize=8)
        plot.tick_params(labelsize=7)
    plot.set_xlim(0, max(panel.seconds for panel in panels.values()))
    plot.set_xlabel("time (s)", fontsize=8)
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.6)
    return figure


def _curve(
    axes: Any,
    runs: Sequence[Sequence[Mapping[str, float]]],
    key: str,
    colour: Any,
    label: str,
    scale: float = 1,
    style: str = "-",
) -> None:
    values = [[scale * epoch[key] for epoch in run] for run in runs]
    for run in values:
        axes.plot(range(1, len(run) + 1), run, style, color=colour, alpha=0.25, linewidth=0.7)
    shortest = min(len(run) for run in values)
    mean = np.mean([run[:shortest] for run in values], 0)
    axes.plot(range(1, shortest + 1), mean, style, color=colour, linewidth=1.6, label=label)


def colours(n: int) -> Any:
    """n of them, (n, 4)."""
    return plt.get_cmap("tab10" if n <= 10 else "tab20")(np.arange(n) % (10 if n <= 10 else 20))
