"""Metrics of scores (N, K) against targets (N, K); one value in [0, 1] each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def accuracy(scores: ArrayLike, targets: ArrayLike) -> float:
    """Share of clips whose highest score is at the true class (micro average)."""
    return float(np.mean(np.asarray(scores).argmax(1) == np.asarray(targets).argmax(1)))


def single_label(scores: ArrayLike, targets: ArrayLike, labels: tuple[str, ...]) -> dict[str, Any]:
    """All that is reported of a task with one label a clip.

    Returns:
        `accuracy` (micro), `macro_accuracy` (mean recall over the classes that occur),
        `per_class` recall by label (None where the class does not occur) and `confusion`
        (rows true, columns predicted, in the order of `labels`).
    """
    from sklearn.metrics import confusion_matrix  # a second that other stages do not need

    truth, found = np.asarray(targets).argmax(1), np.asarray(scores).argmax(1)
    counts: NDArray[np.int64] = confusion_matrix(truth, found, labels=range(len(labels)))
    totals = counts.sum(1)
    recalls = [float(c / n) if n else None for c, n in zip(counts.diagonal(), totals, strict=True)]
    return {
        "accuracy": float(counts.trace() / counts.sum()),
        "macro_accuracy": float(np.mean([r for r in recalls if r is not None])),
        "per_class": dict(zip(labels, recalls, strict=True)),
        "confusion": counts.tolist(),
    }
