"""mixup against a per-sample loop, and its draws against the Beta distribution."""

from __future__ import annotations

import math

import pytest
import torch

from espnet_like.augment import Mixup, build_augmentation, one_hot
from espnet_like.augment.mixup import beta


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([8, 3, 5, 8])])
def test_equals_the_loop(per, lengths):
    x, y = torch.randn(4, 2, 3, 8), one_hot(torch.tensor([0, 1, 2, 1]), 3)
    before = x.clone()
    plan = Mixup(1.0, per).draw(x, y, lengths, generator())
    mixed = plan(0, x)
    assert torch.equal(x, before)
    (op,) = plan.ops
    ends = [8] * 4 if lengths is None else lengths.tolist()
    for i in range(4):
        j, lam = (i + op.shift) % 4, float(op.lam[i])
        both = min(ends[i], ends[j])
        expected = x[i].clone()
        expected[..., :both] = lam * x[i, ..., :both] + (1 - lam) * x[j, ..., :both]
        torch.testing.assert_close(mixed[i], expected)
        own = 1 - (1 - lam) * both / ends[i]
        torch.testing.assert_close(plan.targets[i], own * y[i] + (1 - own) * y[j])
    torch.testing.assert_close(plan.targets.sum(1), torch.ones(4))
    assert len(op.lam.unique()) == (4 if per == "sample" else 1)


def test_gradients_reach_both_samples():
    x = torch.randn(3, 1, 2, 4, dtype=torch.float64, requires_grad=True)
    plan = Mixup(1.0).draw(x, torch.eye(3), None, generator())
    assert torch.autograd.gradcheck(lambda h: plan(0, h), x)


def test_targets_of_a_hidden_mix_are_known_after_the_forward_pass():
    x, hidden = torch.randn(2, 1, 4, 6), torch.randn(2, 5, 2, 3)
    plan = Mixup(1.0, layers=(3,)).draw(x, torch.eye(2), None, generator())
    assert plan(0, x) is x
    with pytest.raises(RuntimeError, match="layer 3"):
        _ = plan.targets
    lam = plan.ops[0].lam[:, None, None, None]
    torch.testing.assert_close(plan(3, hidden), lam * hidden + (1 - lam) * hidden.flip(0))
    torch.testing.assert_close(plan.targets.diagonal(), plan.ops[0].lam)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 10.0])
def test_beta_distribution(alpha):
    lam = beta(alpha, 50_000, generator()).double()
    assert lam.min() >= 0 and lam.max() <= 1
    assert lam.mean().item() == pytest.approx(0.5, abs=0.01)
    assert lam.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    log_b = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)
    middle = (lam > 0.1) & (lam < 0.9)
    points = torch.linspace(0.1, 0.9, 2001, dtype=torch.float64)
    density = ((points * (1 - points)).log() * (alpha - 1) - log_b).exp()
    assert middle.double().mean().item() == pytest.approx(
        torch.trapezoid(density, points).item(), abs=0.01
    )


def test_beta_of_a_tiny_alpha_is_finite():
    lam = beta(1e-3, 2000, generator())
    assert lam.isfinite().all() and lam.min() >= 0 and lam.max() <= 1


def test_beta_comes_from_the_generator_alone():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = beta(0.3, 8, generator(5))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(beta(0.3, 8, generator(5)), first)
    assert not torch.equal(beta(0.3, 8, generator(6)), first)


def test_presets():
    x, y = torch.randn(64, 1, 2, 2), torch.eye(64)
    cpjku = build_augmentation({"name": "mixup", "preset": "cpjku"}).draw(x, y, None, generator())
    default = Mixup().draw(x, y, None, generator())
    assert torch.equal(cpjku.ops[0].lam, default.ops[0].lam)
    assert cpjku.ops[0].lam.min() >= 0.5 and len(cpjku.ops[0].lam.unique()) > 30
    method, g = build_augmentation({"name": "mixup", "preset": "original"}), generator()
    lams = torch.stack([method.draw(x, y, None, g).ops[0].lam for _ in range(500)])
    assert (lams == lams[:, :1]).all()  # one per batch
    assert lams[:, 0].mean().item() == pytest.approx(0.5, abs=0.05)
    assert lams[:, 0].min() < 0.05 and lams[:, 0].max() > 0.95  # Beta(1, 1), not folded


def test_a_mix_of_class_indices_asks_for_soft_targets():
    x = torch.randn(3, 1, 2, 2)
    plan = Mixup().draw(x, torch.tensor([0, 1, 2]), None, generator())
    plan(0, x)
    with pytest.raises(ValueError, match="one_hot"):
        _ = plan.targets


def test_alpha_must_be_positive():
    with pytest.raises(ValueError, match="alpha"):
        Mixup(alpha=0)
