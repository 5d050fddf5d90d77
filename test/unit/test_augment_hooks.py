"""Taps on models that know nothing of them: plain torch, in the test's own words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from espnet_like.augment import Mixup, SpecAugmentPP, SpecMix, Taps, TimeRoll, one_hot
from espnet_like.augment.base import Plan

FEATURES = torch.randn(4, 1, 24, 40, generator=torch.Generator().manual_seed(1))
TARGETS = one_hot(torch.tensor([0, 1, 2, 1]), 3)
METHODS = {
    "specmix": SpecMix(layers=(0, 1, 2)),
    "mixture": SpecAugmentPP("mixture", layers=(0, 1, 2)),
    "zero": SpecAugmentPP("zero", layers=(1, 2), time_ratio=0.5),
    "mixup": Mixup(layers=(0, 1, 2)),
}


class Net(nn.Module):
    """Two residual stages; `narrow` is no map, `relu` runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.relu, self.narrow, self.head = nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        x = self.relu(self.layer1(x))
        x = self.relu(x + self.layer2(x))
        return self.head(self.narrow(x.mean((2, 3), keepdim=True))) * scale


def by_hand(net: Net, plan: Plan) -> Tensor:
    """The same forward pass with the plan written into it."""
    x = torch.relu(plan(1, net.layer1(plan(0, FEATURES))))
    x = torch.relu(x + plan(2, net.layer2(x)))
    return net.head(x.mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def draw(method, seed: int, lengths: Tensor | None = None) -> Plan:
    return method.draw(FEATURES, TARGETS, lengths, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lengths", [None, torch.tensor([40, 17, 33, 8])], ids=["full", "padded"])
def test_a_hooked_model_does_what_one_with_taps_does(net, method, lengths):
    taps = Taps(net, "layer1", "layer2")
    plain = net(FEATURES)
    kept, layers = FEATURES.clone(), set()
    for seed in range(6):
        hooked, wanted = draw(METHODS[method], seed, lengths), draw(METHODS[method], seed, lengths)
        with taps(hooked):
            logits = net(FEATURES)
        expected = by_hand(net, wanted)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(hooked.targets, wanted.targets)
        gradients = [
            torch.autograd.grad(nn.functional.cross_entropy(y, hooked.targets), net.parameters())
            for y in (logits, expected)
        ]
        for ours, theirs in zip(*gradients, strict=True):
            assert ours.isfinite().all()
            torch.testing.assert_close(ours, theirs)
        layers |= {op.layer for op in hooked.ops}
        assert torch.equal(net(FEATURES), plain)  # outside of the context: nothing
    assert layers == set(METHODS[method].layers)
    assert torch.equal(FEATURES, kept)


def test_evaluation_and_removal(net):
    plain = net(FEATURES)
    taps = Taps(net, "layer1")
    with pytest.raises(KeyError), taps(draw(Mixup(), 0)):
        raise KeyError
    assert torch.equal(net(FEATURES), plain)
    taps.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    with taps(draw(Mixup(), 0)):
        assert torch.equal(net(FEATURES), plain)


def test_first_argument_by_position_or_name(net):
    taps = Taps(net)
    found = []
    for call in (lambda: net(FEATURES, 2.0), lambda: net(x=FEATURES, scale=2.0)):
        with taps(draw(TimeRoll(), 0)):
            found.append(call())
    assert torch.equal(*found)
    assert not torch.allclose(found[0], net(FEATURES, 2.0))


def test_names_are_checked(net):
    with pytest.raises(ValueError, match="no module 'layer3'; it has layer"):
        Taps(net, "layer1", "layer3")
    with pytest.raises(ValueError, match="no module ''; it has layer1, layer2, relu"):
        Taps(net, "")
    taps = Taps(net, "layer1")
    with (
        pytest.raises(ValueError, match="acts at layer 2, but 1 modules are named"),
        taps(draw(SpecMix(layers=(2,)), 0)),
    ):
        pass


def test_what_is_no_map_and_what_runs_twice(net):
    plan = draw(SpecMix(layers=(1,)), 0)
    with (
        pytest.raises(ValueError, match=r"output of narrow is \(4, 4\), no"),
        Taps(net, "narrow")(plan),
    ):
        net(FEATURES)
    with pytest.raises(RuntimeError, match="output of relu came twice"), Taps(net, "relu")(plan):
        net(FEATURES)


def test_two_passes_need_two_plans(net):
    taps = Taps(net, "layer1")
    with taps(draw(SpecMix(), 0)):
        net(FEATURES)
        with pytest.raises(RuntimeError, match="first argument came twice"):
            net(FEATURES)
    with taps(draw(SpecMix(), 0)):
        net(FEATURES)


def test_a_model_that_is_not_reached_says_so(net):
    plan = draw(SpecMix(layers=(1,)), 0)
    with Taps(net, "layer1")(plan):
        pass
    with pytest.raises(RuntimeError, match="no tap was called at layer 1"):
        _ = plan.targets


def test_compiled_models_ask_for_every_plan(net):
    taps = Taps(net, "layer1", "layer2")
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(compiled(FEATURES), net(FEATURES))
    for seed in range(4):
        ours, theirs = draw(METHODS["specmix"], seed), draw(METHODS["specmix"], seed)
        with taps(ours):
            logits = compiled(FEATURES)
        torch.testing.assert_close(logits, by_hand(net, theirs))
    torch.testing.assert_close(compiled(FEATURES), net(FEATURES))
