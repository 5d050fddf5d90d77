"""Losses and metrics against closed forms and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from espnet_like.scoring.metrics import accuracy, single_label
from espnet_like.training.losses import BinaryCrossEntropy, CrossEntropy, scores


def test_cross_entropy_of_soft_targets_is_the_sum():
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    expected = []
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        total = math.log(sum(math.exp(v) for v in z))
        expected.append(-sum(t * (v - total) for t, v in zip(y, z, strict=True)))
    assert CrossEntropy()(logits, targets).tolist() == pytest.approx(expected, abs=1e-6)


def test_binary_cross_entropy_sums_over_classes():
    logits = torch.tensor([[0.5, -2.0]])
    targets = torch.tensor([[1.0, 0.0]])
    p, q = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(2.0))
    expected = -math.log(p) - math.log(1 - q)
    assert BinaryCrossEntropy()(logits, targets).item() == pytest.approx(expected, abs=1e-6)
    mean = BinaryCrossEntropy(mean_over_classes=True)(logits, targets).item()
    assert mean == pytest.approx(expected / 2, abs=1e-6)


def test_scores_are_posteriors():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert scores(logits, multi_label=False)[0].tolist() == pytest.approx([0.25, 0.75])
    assert scores(logits, multi_label=True)[0].tolist() == pytest.approx([0.5, 0.75])


def test_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels = tuple("abcde")
    truth = rng.integers(0, 5, 200)
    found = np.where(rng.random(200) < 0.6, truth, rng.integers(0, 5, 200))
    result = single_label(np.eye(5)[found], np.eye(5)[truth], labels)
    assert result["accuracy"] == pytest.approx(accuracy_score(truth, found))
    assert result["macro_accuracy"] == pytest.approx(balanced_accuracy_score(truth, found))
    assert accuracy(np.eye(5)[found], np.eye(5)[truth]) == result["accuracy"]
    for true in range(5):
        for predicted in range(5):
            count = sum((t, f) == (true, predicted) for t, f in zip(truth, found, strict=True))
            assert result["confusion"][true][predicted] == count


def test_a_class_that_does_not_occur_has_no_recall():
    result = single_label(np.eye(3)[[0, 1]], np.eye(3)[[0, 0]], ("a", "b", "c"))
    assert result["per_class"] == {"a": 0.5, "b": None, "c": None}
    assert result["macro_accuracy"] == 0.5
