"""New tags for noisy excerpts, from an ensemble's scores.

Ebbers and Haeb-Umbach, DCASE 2019 Task 2 technical report (UPB), section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


class Threshold(NamedTuple):
    """The decision threshold of one class; `theta` inf: the class is never given."""

    theta: float
    error_rate: float


def threshold(scores: Array, tagged: Mask) -> Threshold:
    """The theta with the lowest error rate ER = (FP + FN) / N, N the tagged excerpts.

    An excerpt has the class if its score is above theta. Candidates lie half-way between
    neighbouring scores, and at infinity (ER = 1); of equal ones the highest is taken.

    Args:
        scores: (M,) of the class.
        tagged: (M,) whether the excerpt has the class by the present labels.
    """
    positives = int(tagged.sum())
    if positives == 0:
        return Threshold(float("inf"), float("nan"))
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order].astype(np.float64), tagged[order]
    # errors[n]: the n highest scores are above theta
    hits = np.concatenate([[0], np.cumsum(right)])
    count = np.arange(len(ranked) + 1)
    errors = (count - hits) + (positives - hits)
    possible = np.ones(len(ranked) + 1, bool)
    possible[1:-1] = ranked[:-1] > ranked[1:]  # no theta lies between equal scores
    best = int(np.argmin(np.where(possible, errors, np.iinfo(np.int64).max)))
    if best == 0:
        theta = float("inf")
    elif best == len(ranked):
        theta = -float("inf")
    else:
        theta = float((ranked[best - 1] + ranked[best]) / 2)
        if not ranked[best] <= theta < ranked[best - 1]:  # neighbours in floating point
            theta = float(ranked[best])
    return Threshold(theta, float(errors[best]) / positives)


def relabel(scores: Array, targets: Array) -> tuple[Mask, list[Threshold]]:
    """New tags (M, K) bool, and each class's threshold.

    Args:
        scores: (M, K) of the ensemble, for all excerpts of all splits together.
        targets: (M, K) n-hot, the present labels.
    """
    found = [threshold(scores[:, k], targets[:, k] > 0.5) for k in range(scores.shape[1])]
    return scores > np.array([t.theta for t in found]), found


def label_error(tags: Mask, true: Mask) -> float:
    """(FP + FN) / true labels."""
    return float((tags ^ true).sum() / max(int(true.sum()), 1))


def summary(
    tags: Mask, targets: Array, thresholds: Sequence[Threshold], labels: Sequence[str]
) -> dict[str, Any]:
    """What changed, as plain data for a log."""
    before = targets > 0.5
    kept = tags.any(1)
    return {
        "excerpts": len(tags),
        "dropped": int((~kept).sum()),
        "changed": int(((tags != before).any(1) & kept).sum()),
        "labels_before": int(before.sum()),
        "labels_after": int(tags.sum()),
        "never_given": [  # though some excerpts had them
            label for label, t in zip(labels, thresholds, strict=True) if t.error_rate == 1
        ],
        "classes": {
            label: {
                "theta": t.theta if np.isfinite(t.theta) else str(t.theta),
                "error_rate": None if np.isnan(t.error_rate) else round(t.error_rate, 6),
                "before": int(before[:, k].sum()),
                "after": int(tags[:, k].sum()),
                "both": int((before[:, k] & tags[:, k]).sum()),
            }
            for k, (label, t) in enumerate(zip(labels, thresholds, strict=True))
        },
    }
