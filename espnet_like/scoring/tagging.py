"""Metrics of clips with any number of labels: lwlrap and average precision.

Label-weighted label-ranking average precision is the measure of DCASE 2019 Task 2: Fonseca et al.,
"Audio tagging with noisy labels and minimal supervision", DCASE 2019, section 3.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from espnet_like.scoring.metrics import accuracy

Values = NDArray[np.float64]


def label_precisions(scores: ArrayLike, targets: ArrayLike) -> Values:
    """Precision at each true label: the share of true labels among those ranked as high or higher.

    Equal scores share the lowest of their ranks, as scikit-learn counts them.

    Args:
        scores: (N, K).
        targets: (N, K), n-hot.

    Returns:
        (N, K) float64; NaN where the clip does not have the label.

    Raises:
        ValueError: shapes that differ, or scores that are not finite.
    """
    found, true = _checked(scores, targets)
    precisions = np.full(found.shape, np.nan)
    for row, own, out in zip(found, true, precisions, strict=True):
        as_high = row >= row[own][:, None]  # (labels of the clip, K)
        out[own] = as_high[:, own].sum(1) / as_high.sum(1)
    return precisions


def lwlrap(scores: ArrayLike, targets: ArrayLike) -> float:
    """Mean precision over all labels of all clips; clips without a label do not count.

    Arguments and errors as `label_precisions`.

    Raises:
        ValueError: no clip has a label.
    """
    precisions = label_precisions(scores, targets)
    if np.isnan(precisions).all():
        raise ValueError("no clip has a label")
    return float(np.nanmean(precisions))


def class_lwlrap(scores: ArrayLike, targets: ArrayLike) -> tuple[Values, Values]:
    """lwlrap by class, and the classes' shares of all labels, by which they make up `lwlrap`.

    Arguments and errors as `label_precisions`.

    Returns:
        values (K,), NaN where no clip has the label; weights (K,), sum 1 (or 0 without labels).
    """
    precisions = label_precisions(scores, targets)
    counts = np.isfinite(precisions).sum(0)
    sums = np.nansum(precisions, 0)
    values = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return values, counts / max(1, counts.sum())


def average_precision(scores: ArrayLike, targets: ArrayLike) -> Values:
    """Average precision of each class over all clips, as scikit-learn computes it.

    Arguments and errors as `label_precisions`.

    Returns:
        (K,) float64; NaN where no clip has the label.
    """
    from sklearn.metrics import average_precision_score  # a second that other stages do not need

    found, true = _checked(scores, targets)
    values = np.full(found.shape[1], np.nan)
    for k in np.flatnonzero(true.any(0)):
        values[k] = average_precision_score(true[:, k], found[:, k])
    return values


def overall(scores: ArrayLike, targets: ArrayLike) -> tuple[str, float]:
    """The metric that counts, and its value: lwlrap where a clip has several labels, else accuracy.

    Arguments and errors as `lwlrap`.
    """
    if (np.asarray(targets).sum(1) > 1).any():
        return "lwlrap", lwlrap(scores, targets)
    return "accuracy", accuracy(scores, targets)


def multi_label(scores: ArrayLike, targets: ArrayLike, labels: tuple[str, ...]) -> dict[str, Any]:
    """All that is reported of a task with any number of labels a clip.

    Args:
        scores: (N, K).
        targets: (N, K), n-hot.
        labels: names of the classes.

    Returns:
        `lwlrap`, `mean_average_precision` (over the classes that occur), and by label `per_class`
        (lwlrap), `average_precision`, both None where no clip has the label, and `counts` (how many
        clips have it). Clips without a label count for average precision alone.

    Raises:
        ValueError: as `lwlrap`.
    """
    overall = lwlrap(scores, targets)
    values, _ = class_lwlrap(scores, targets)
    counts = (np.asarray(targets) > 0).sum(0)
    precisions = average_precision(scores, targets)
    return {
        "lwlrap": overall,
        "mean_average_precision": float(np.nanmean(precisions)),
        "per_class": _by_label(labels, values),
        "average_precision": _by_label(labels, precisions),
        "counts": dict(zip(labels, counts.tolist(), strict=True)),
    }


def _by_label(labels: tuple[str, ...], values: Values) -> dict[str, float | None]:
    plain = [None if np.isnan(value) else float(value) for value in values]
    return dict(zip(labels, plain, strict=True))


def _checked(scores: ArrayLike, targets: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    found, true = np.asarray(scores), np.asarray(targets) > 0
    if found.ndim != 2 or found.shape != true.shape:
        raise ValueError(f"scores {found.shape} and targets {true.shape} are not both (N, K)")
    if not np.isfinite(found).all():
        raise ValueError("scores are not finite")
    return found, true
