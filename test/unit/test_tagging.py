"""lwlrap and average precision against a worked example and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from espnet_like.scoring.tagging import (
    average_precision,
    class_lwlrap,
    label_precisions,
    lwlrap,
    multi_label,
    overall,
)

TARGETS = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 0]])
SCORES = np.array(
    [[0.1, 0.4, 0.3, 0.2], [0.5, 0.9, 0.2, 0.1], [0.9, 0.8, 0.7, 0.1], [0.3, 0.2, 0.1, 0.4]]
)
NAN = np.nan


def drawn(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """50 clips, 80 classes, about every seventh clip without a label, not every class present."""
    generator = np.random.default_rng(seed)
    targets = generator.random((50, 80)) < 0.025
    targets[:, :3] = False
    scores = generator.random((50, 80))
    return (np.round(scores, 1) if ties else scores), targets


def by_sklearn(scores: np.ndarray, targets: np.ndarray) -> float:
    rows = targets.any(1)
    return label_ranking_average_precision_score(
        targets[rows], scores[rows], sample_weight=targets[rows].sum(1)
    )


def test_a_worked_example() -> None:
    expected = [[1 / 4, NAN, NAN, NAN], [NAN, 1, 2 / 3, NAN], [1, NAN, 2 / 3, 3 / 4], [NAN] * 4]
    np.testing.assert_allclose(label_precisions(SCORES, TARGETS), expected, rtol=1e-15)
    assert lwlrap(SCORES, TARGETS) == pytest.approx(13 / 18, abs=1e-15)
    values, weights = class_lwlrap(SCORES, TARGETS)
    np.testing.assert_allclose(values, [0.625, 1, 2 / 3, 0.75], rtol=1e-15)
    np.testing.assert_allclose(weights, [1 / 3, 1 / 6, 1 / 3, 1 / 6], rtol=1e-15)


def test_it_is_neither_plain_lrap_nor_lrap_with_empty_rows() -> None:
    plain = label_ranking_average_precision_score(TARGETS[:3], SCORES[:3])
    assert plain == pytest.approx(0.6296296, abs=1e-7)
    assert abs(lwlrap(SCORES, TARGETS) - plain) > 0.09
    assert lwlrap(SCORES[:3], TARGETS[:3]) == lwlrap(SCORES, TARGETS)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_it_is_scikit_learns_weighted_lrap(seed: int, ties: bool) -> None:
    scores, targets = drawn(seed, ties)
    assert not targets.any(1).all()  # some rows are empty
    assert lwlrap(scores, targets) == pytest.approx(by_sklearn(scores, targets), abs=1e-12)
    values, weights = class_lwlrap(scores, targets)
    present = targets.any(0)
    assert np.isnan(values[~present]).all() and not weights[~present].any()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert values[present] @ weights[present] == pytest.approx(lwlrap(scores, targets), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "targets", "expected"),
    [
        ([0.5, 0.5], [1, 0], 0.5),
        ([0.5, 0.5], [1, 1], 1),
        ([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 1], (1 / 3 + 2 / 4) / 2),
        ([0, 0, 0, 0], [0, 0, 0, 1], 0.25),
    ],
)
def test_equal_scores_share_the_lowest_rank(
    scores: list[float], targets: list[int], expected: float
) -> None:
    assert lwlrap([scores], [targets]) == pytest.approx(expected, abs=1e-15)


def test_precision_of_one_label_is_one_over_its_rank() -> None:
    scores = np.random.default_rng(0).permuted(np.tile(np.arange(80.0), (40, 1)), axis=1)
    targets = np.eye(80)[np.random.default_rng(1).integers(0, 80, 40)]
    ranks = 80 - (scores * targets).sum(1)
    assert lwlrap(scores, targets) == pytest.approx((1 / ranks).mean(), abs=1e-12)


def test_a_higher_score_of_a_true_label_never_hurts() -> None:
    scores, targets = drawn(0)
    assert lwlrap(scores + targets, targets) == 1
    assert lwlrap(scores - targets, targets) < lwlrap(scores, targets)
    assert lwlrap(scores + 0.1 * targets, targets) >= lwlrap(scores, targets)
    assert lwlrap(1 / (1 + np.exp(-9 * scores)), targets) == lwlrap(scores, targets)  # ranks alone


def test_average_precision_is_scikit_learns() -> None:
    scores, targets = drawn(0)
    present = targets.any(0)
    found = average_precision(scores, targets)
    assert np.isnan(found[~present]).all()
    macro = average_precision_score(targets[:, present], scores[:, present], average="macro")
    assert np.nanmean(found) == pytest.approx(macro, abs=1e-12)
    # true labels on ranks 1 and 3 of four clips
    assert average_precision([[4], [3], [2], [1]], [[1], [0], [1], [0]])[0] == pytest.approx(5 / 6)


def test_what_is_reported() -> None:
    labels = ("a", "b", "c", "d", "never")
    scores, targets = np.pad(SCORES, ((0, 0), (0, 1))), np.pad(TARGETS, ((0, 0), (0, 1)))
    found = multi_label(scores, targets.astype(np.float32), labels)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["lwlrap"] == pytest.approx(13 / 18)
    assert found["per_class"] == pytest.approx(
        {"a": 0.625, "b": 1, "c": 2 / 3, "d": 0.75, "never": None}
    )
    assert found["counts"] == {"a": 2, "b": 1, "c": 2, "d": 1, "never": 0}
    precisions = [average_precision_score(TARGETS[:, k], SCORES[:, k]) for k in range(4)]
    assert list(found["average_precision"].values()) == [*map(pytest.approx, precisions), None]
    assert found["mean_average_precision"] == pytest.approx(np.mean(precisions))


def test_the_metric_that_counts() -> None:
    name, value = overall(SCORES, TARGETS)
    assert name == "lwlrap" and value == pytest.approx(13 / 18)
    single = np.eye(4)[[0, 1, 2, 3]]  # one label each: the highest is right in rows 2 of 4
    assert overall(SCORES, single) == ("accuracy", 0.5)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no clip has a label"):
        multi_label(SCORES, np.zeros((4, 4)), tuple("abcd"))
    with pytest.raises(ValueError, match=r"\(4, 4\) and targets \(3, 4\)"):
        lwlrap(SCORES, TARGETS[:3])
    with pytest.raises(ValueError, match="not finite"):
        lwlrap(np.where(SCORES > 0.8, np.nan, SCORES), TARGETS)
