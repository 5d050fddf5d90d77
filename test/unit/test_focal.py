"""Class-balanced focal loss against the formula written out, and against other losses."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from espnet_like.training.losses import BinaryCrossEntropy, ClassBalancedFocal
from espnet_like.training.ranks import Ranks
from espnet_like.training.runs import Run

COUNTS = (2704, 3757, 2724)  # indoor, outdoor, transportation of DCASE 2020 Task 1B


def fitted(counts: tuple[int, ...], **options: float | bool) -> ClassBalancedFocal:
    loss = ClassBalancedFocal(**options)
    loss.fit(torch.eye(len(counts)).repeat_interleave(torch.tensor(counts), 0))
    return loss


def written_out(z: list[float], y: int, weight: float, gamma: float) -> float:
    total = 0.0
    for i, value in enumerate(z):
        p = 1 / (1 + math.exp(-value if i == y else value))
        total -= (1 - p) ** gamma * math.log(p)
    return weight * total


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.0, (1, 1, 1)),
        (0.99, (1, 1, 1)),
        (0.999, (1.016, 0.970, 1.014)),
        (0.9999, (1.091, 0.825, 1.084)),
        (1 - 1e-12, (1.106, 0.796, 1.098)),
    ],
)
def test_weights_of_the_three_scenes(beta, expected):
    assert fitted(COUNTS, beta=beta).weights.tolist() == pytest.approx(expected, abs=6e-4)


def test_weights_as_the_report_prints_them():
    weights = fitted(COUNTS, normalized=False).weights.tolist()
    expected = [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS]
    assert weights == pytest.approx(expected, rel=1e-5)


def test_a_class_without_clips_leaves_the_others_alone():
    assert fitted((3, 0, 3)).weights.tolist() == pytest.approx([1, 0, 1])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_loss_is_the_formula(gamma):
    loss = fitted(COUNTS, gamma=gamma)
    rows = [[0.3, -1.2, 2.0], [-4.0, 0.0, 0.7]]
    found = loss(torch.tensor(rows), torch.eye(3)[[2, 1]])
    weights = loss.weights.tolist()
    expected = [written_out(z, y, weights[y], gamma) for z, y in zip(rows, (2, 1), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_without_balance_and_focus_it_is_binary_cross_entropy():
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 4), torch.rand(5, 4).softmax(1)
    found = fitted((9, 1, 5, 2), beta=0.0, gamma=0.0)(logits, targets)
    torch.testing.assert_close(found, BinaryCrossEntropy()(logits, targets))


def test_a_soft_target_is_the_mixture_of_two_hard_losses():
    loss = fitted(COUNTS, gamma=2.0)
    z, one, other = torch.randn(4, 3), torch.eye(3)[[0, 0, 1, 2]], torch.eye(3)[[1, 0, 2, 0]]
    mixed = loss(z, 0.3 * one + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * loss(z, one) + 0.7 * loss(z, other))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_huge_logits_stay_finite(gamma):
    z = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    found = fitted(COUNTS, gamma=gamma)(z, torch.eye(3)[[0, 0]])
    found.sum().backward()
    assert found.isfinite().all() and z.grad.isfinite().all()
    assert found[1].item() == pytest.approx(3e4 * 1.091, rel=1e-3)


def test_gradient_is_that_of_finite_differences():
    loss = fitted(COUNTS, gamma=1.5)
    loss.weights = loss.weights.double()
    targets = torch.tensor([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), z)


def test_wrong_use_is_said():
    for options, words in (({"beta": 1.0}, "beta"), ({"gamma": -1.0}, "gamma")):
        with pytest.raises(ValueError, match=words):
            ClassBalancedFocal(**options)
    with pytest.raises(RuntimeError, match="fit"):
        ClassBalancedFocal()(torch.zeros(1, 3), torch.eye(3)[:1])


def test_a_run_counts_its_training_part(tmp_path):
    config = tiny.config(tiny.make(tmp_path), {"loss": {"name": "class_balanced_focal"}})
    trainer = Run(tmp_path / "run", config)._trainer("", torch.device("cpu"), Ranks())
    counts = [5, 5, 4, 4]  # labels go round in the 18 clips
    expected = [1 / (1 - 0.9999**n) for n in counts]
    scale = len(counts) / sum(expected)
    assert trainer.criterion.weights.tolist() == pytest.approx([scale * w for w in expected])
