"""A figure of PEAS on one clip: what the network makes of it, its errors, and the blocks chosen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from espnet_like.results.figures import plt

Image = NDArray[np.float32]


class Block(NamedTuple):
    """A mask along one axis: cells `start` to `start + width` of `axis` (0 bins, 1 frames)."""

    axis: int
    start: int
    width: int
    adaptive: bool


class Seen(NamedTuple):
    """Maps (F, T) of one clip.

    Args:
        features, reconstruction, masked: on one colour scale, that of the features.
        errors: name -> map from 0 up, each on its own scale; NaN where it means nothing.
        blocks: of the masks.
        seconds: of the time axis.
    """

    features: Image
    reconstruction: Image
    errors: dict[str, Image]
    masked: Image
    blocks: list[Block]
    seconds: float


def peas_figure(clips: dict[str, Seen]) -> Figure:
    """A column for each clip, by its name: adaptive blocks have solid edges, random ones dashed."""
    rows = 3 + max(len(seen.errors) for seen in clips.values())
    figure, axes = plt.subplots(
        rows,
        len(clips),
        figsize=(6.5 * len(clips), 1.8 * rows),
        squeeze=False,
        layout="constrained",
    )
    for column, (name, seen) in zip(axes.T, clips.items(), strict=True):
        low, high = np.percentile(seen.features, (1, 99))
        maps = {name: seen.features, "reconstruction": seen.reconstruction}
        for plot, (title, image) in zip(column, maps.items(), strict=False):
            _draw(figure, plot, image, title, low, high, seen.seconds)
        for plot, (title, image) in zip(column[2:], seen.errors.items(), strict=False):
            _draw(figure, plot, image, title, 0, float(np.nanpercentile(image, 99)), seen.seconds)
        _draw(figure, column[-1], seen.masked, "masked", low, high, seen.seconds)
        for plot in column[2:]:
            for block in seen.blocks:
                _outline(plot, block, seen.features.shape, seen.seconds)
        column[-1].set_xlabel("time (s)", fontsize=8)
    return figure


def _draw(
    figure: Figure, plot: plt.Axes, image: Image, title: str, low: float, high: float, end: float
) -> None:
    drawn = plot.imshow(
        image,
        origin="lower",
        aspect="auto",
        extent=(0, end, 0, len(image)),
        vmin=low,
        vmax=high,
        cmap="magma",
        interpolation="nearest",
    )
    plot.set_title(title, fontsize=8, loc="left")
    plot.set_ylabel("bin", fontsize=8)
    plot.tick_params(labelsize=7)
    figure.colorbar(drawn, ax=plot, shrink=0.9).ax.tick_params(labelsize=6)


def _outline(plot: plt.Axes, block: Block, shape: tuple[int, ...], end: float) -> None:
    """The edges of a block, in colours that both ends of the map's colours leave visible."""
    second = end / shape[1]
    if block.axis == 0:
        place, width, height = (0.0, float(block.start)), end, float(block.width)
    else:
        place, width, height = (block.start * second, 0.0), block.width * second, float(shape[0])
    style = "-" if block.adaptive else "--"
    edge = Rectangle(place, width, height, fill=False, linewidth=1.2, linestyle=style, color="cyan")
    plot.add_patch(edge)
