"""Thresholds and new tags against a search over all thetas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.scoring.relabel import label_error, relabel, summary, threshold


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_no_theta_has_fewer_errors_and_no_higher_one_as_few(pairs):
    scores = np.array([s for s, _ in pairs])
    tagged = np.array([t for _, t in pairs])
    found = threshold(scores, tagged)
    if not tagged.any():
        assert found.theta == float("inf") and np.isnan(found.error_rate)
        return

    def errors(theta: float) -> int:
        return sum((s > theta) != t for s, t in pairs)

    # one theta for every way in which one can divide the scores
    candidates = [-1.0, *np.unique(scores)]
    fewest = min(errors(theta) for theta in candidates)
    assert errors(found.theta) == fewest
    assert found.error_rate == pytest.approx(fewest / tagged.sum())
    highest = max(theta for theta in candidates if errors(theta) == fewest)
    assert (scores > found.theta).tolist() == (scores > highest).tolist()


def test_theta_lies_half_way():
    found = threshold(np.array([0.9, 0.6, 0.2]), np.array([True, True, False]))
    assert found.theta == pytest.approx(0.4) and found.error_rate == 0


def test_neighbouring_floats_are_still_divided():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    for kind in (np.float32, np.float64):
        scores = np.array([high, low], kind)
        assert (scores > threshold(scores, np.array([True, False])).theta).tolist() == [True, False]


def test_a_class_that_no_theta_helps_is_never_given():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.05, 0.05]])
    targets = np.array([[0, 0], [0, 0], [1, 1], [0, 0]], float)
    tags, found = relabel(scores, targets)
    assert found[0].theta == float("inf") and found[0].error_rate == 1
    assert tags.tolist() == [[False, False], [False, False], [False, True], [False, False]]
    said = summary(tags, targets, found, ["a", "b"])
    assert said["never_given"] == ["a"]
    assert said["dropped"] == 3 and said["changed"] == 1
    assert said["classes"]["b"] == {
        "theta": pytest.approx(0.55), "error_rate": 0.0, "before": 1, "after": 1, "both": 1
    }  # fmt: skip
    assert said["classes"]["a"]["theta"] == "inf"


def test_label_error_counts_what_is_missing_and_what_is_wrong():
    tags = np.array([[1, 0], [1, 1]], bool)
    true = np.array([[1, 1], [0, 1]], bool)
    assert label_error(tags, true) == pytest.approx(2 / 3)
