"""What every augmentation owes to the training loop."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from espnet_like.augment import (
    AUGMENTATIONS,
    Chain,
    Mixup,
    SpecAugmentPP,
    build_augmentation,
    one_hot,
)
from espnet_like.errors import UserError
from espnet_like.models import CPResNet

SPECS = {
    "none": {"name": "none"},
    "specaugment": {"name": "specaugment", "layers": [0, 2], "time_stripes": 2},
    "specaugment mean": {"name": "specaugment", "fill": "mean", "layers": [1]},
    "zero": {"name": "specaugment_pp", "mode": "zero"},
    "mixture": {"name": "specaugment_pp", "mode": "mixture"},
    "cutting": {"name": "specaugment_pp", "mode": "cutting"},
    "mixup": {"name": "mixup", "layers": [0, 1, 2, 3, 4]},
    "upb_masks": {"name": "upb_masks", "layers": [0, 2]},
    "ssast_masks": {"name": "ssast_masks", "preset": "esc50", "layers": [0, 4]},
    "peas without adaptive blocks": {
        "name": "peas",
        "masking": "random",
        "time_blocks": 2,
        "freq_width": 9,
        "time_width": 20,
        "fill": "noise",
        "layers": [0, 4],
        "first": [{"name": "time_roll"}],
    },
    "frequency_warp": {"name": "frequency_warp", "layers": [0, 1], "strength": 0.5},
    "noise": {"name": "noise", "layers": [0, 3]},
    "time_roll": {"name": "time_roll", "layers": [0, 1]},
    "one_of": {
        "name": "one_of",
        "methods": [
            {"name": "mixup", "layers": [2]},
            {"name": "chain", "methods": [{"name": "noise"}, {"name": "upb_masks"}]},
        ],
    },
    "cutmix": {"name": "cutmix", "layers": [0, 1, 2, 3, 4]},
    "specmix": {"name": "specmix", "layers": [0, 1, 2, 3, 4]},
    "freqmix": {"name": "freqmix", "layers": [0, 1, 2, 3, 4]},
    "speechmix": {"name": "speechmix"},
    "chain": {
        "name": "chain",
        "methods": [{"name": "mixup", "layers": [3]}, {"name": "specaugment_pp"}],
    },
}
WAVES = {"bc_learning", "superposition", "wave_mixup"}  # in test_augment_waves.py
LENGTHS = {"full": None, "padded": torch.tensor([40, 17, 33, 8])}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> CPResNet:
    torch.manual_seed(0)
    return CPResNet(num_classes=3, base_width=4, rho=2, init="default")


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(9)
    return torch.randn(4, 1, 40, 40, generator=g), one_hot(torch.tensor([0, 1, 2, 1]), 3)


def test_every_method_is_covered():
    assert {spec["name"] for spec in SPECS.values()} | WAVES == set(AUGMENTATIONS)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_training_step_at_every_layer(model, batch, spec, lengths):
    method, g = build_augmentation(spec), generator(1)
    seen = set()
    for _ in range(12):
        x = batch[0].clone().requires_grad_()
        before = x.detach().clone()
        plan = method.draw(x, batch[1], lengths, g, model=model)
        seen.update(op.layer for op in plan.ops)
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(model(x, lengths=lengths, tap=plan), plan.targets)
        model.zero_grad()
        loss.backward()
        assert x.grad is not None and x.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert torch.equal(x.detach(), before)
        torch.testing.assert_close(plan.targets.sum(1), torch.ones(4))
    assert seen <= set(method.layers)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_generator_s_state_is_the_plan(model, batch, spec):
    def run(seed: int, ambient: int) -> torch.Tensor:
        torch.manual_seed(ambient)
        state = torch.random.get_rng_state()
        plan = build_augmentation(spec).draw(*batch, None, generator(seed))
        maps = []
        with torch.no_grad():
            model.eval()(batch[0], tap=lambda k, x: (maps.append(plan(k, x)), maps[-1])[1])
        assert torch.equal(torch.random.get_rng_state(), state)
        return torch.cat([m.flatten() for m in maps] + [plan.targets.flatten()])

    first = run(3, ambient=1)
    assert torch.equal(run(3, ambient=2), first)
    if spec["name"] != "none":
        assert any(not torch.equal(run(seed, ambient=1), first) for seed in range(4, 8))
    model.train()


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_nothing_waits_for_the_device(batch, spec, lengths):
    """On a device without values any read on the host, even of a size, is an error."""
    x, y = batch[0].to("meta"), batch[1].to("meta")
    g = generator()
    for _ in range(6):
        plan = build_augmentation(spec).draw(x, y, lengths, g)
        for k in range(5):
            x_k = torch.empty(4, 2 + k, 20 - 4 * k, 24 - 4 * k, device="meta")
            assert plan(k, x_k).shape == x_k.shape
        assert plan.targets.shape == (4, 3)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_ops_compile_without_a_break(batch, spec):
    torch.compiler.reset()
    plan = build_augmentation(spec).draw(*batch, None, generator(2))
    for op in plan.ops:
        fast = torch.compile(lambda x, v, op=op: op(x, v), backend="eager", fullgraph=True)
        x = batch[0].clone().requires_grad_()
        for a, b in zip(fast(x, LENGTHS["padded"]), op(x, LENGTHS["padded"]), strict=True):
            torch.testing.assert_close(a, b)


def test_a_compiled_model_is_compiled_once_for_all_plans(model, batch):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    fast = torch.compile(model.eval(), backend=backend)
    method, g, counts = build_augmentation(SPECS["chain"]), generator(), []
    for _ in range(8):
        plan = method.draw(*batch, None, g)
        logits, targets = fast(batch[0], tap=plan), plan.targets
        torch.testing.assert_close(logits, model(batch[0], tap=plan))
        assert torch.equal(plan.targets, targets)
        counts.append(len(graphs))
    assert counts == counts[:1] * 8
    model.train()


def test_chain_folds_targets_in_the_order_of_application(batch):
    x, y = batch
    late, early = Mixup(1.0, layers=(2,)), Mixup(1.0, layers=(0,))
    plan = Chain([late, SpecAugmentPP("cutting", layers=(1,)), early]).draw(x, y, None, generator())
    for k in range(3):
        x = plan(k, x)
    second, _, first = plan.ops
    expected = y.tolist()
    for op in (first, second):  # layer 0 before layer 2, though the chain lists it last
        old = expected
        expected = [
            [
                float(op.lam[i]) * a + (1 - float(op.lam[i])) * b
                for a, b in zip(old[i], old[(i + op.shift) % 4], strict=True)
            ]
            for i in range(4)
        ]
    torch.testing.assert_close(plan.targets, torch.tensor(expected))


def test_chain_at_one_layer_acts_in_its_own_order(batch):
    x, y = batch
    plan = Chain([Mixup(1.0), SpecAugmentPP("zero", (0,), 0.9, 0.9)]).draw(x, y, None, generator())
    mix, mask = plan.ops
    assert torch.equal(plan(0, x), mask(mix(x, None)[0], None)[0])
    assert Chain([Mixup(layers=(3,)), SpecAugmentPP(layers=(0, 4))]).layers == (0, 3, 4)


def test_a_second_forward_pass_does_not_mix_the_targets_twice(batch):
    plan = Mixup().draw(*batch, None, generator())
    first = plan(0, batch[0])
    targets = plan.targets
    assert torch.equal(plan(0, batch[0]), first)  # as activation checkpointing does
    assert torch.equal(plan.targets, targets)


def test_masks_leave_targets_as_they_are(batch):
    classes = torch.tensor([0, 1, 2, 1])
    plan = SpecAugmentPP("mixture", (0,)).draw(batch[0], classes, None, generator())
    plan(0, batch[0])
    assert plan.targets is classes


def test_layers_that_the_model_lacks_are_refused(model, batch):
    with pytest.raises(ValueError, match=r"layers \[0, 5\].*4 \(stage3\)"):
        SpecAugmentPP(layers=(0, 5)).draw(*batch, model=model)
    plan = SpecAugmentPP(layers=(5,)).draw(*batch)
    model(batch[0], tap=plan)
    with pytest.raises(RuntimeError, match="layer 5"):
        _ = plan.targets


@torch.no_grad()
def test_no_augmentation_and_no_plan_are_the_same(model, batch):
    plan = build_augmentation({"name": "none"}).draw(*batch)
    assert plan(0, batch[0]) is batch[0]
    model.eval()
    assert torch.equal(model(batch[0], tap=plan), model(batch[0]))
    model.train()


@pytest.mark.parametrize("lengths", [[3] * 8, torch.tensor([3, 4]), torch.tensor(3)])
def test_lengths_are_one_for_each_sample(lengths):
    x, y = torch.randn(8, 1, 16, 20), torch.eye(8)
    with pytest.raises(ValueError, match=r"lengths: a tensor of shape \(8,\)"):
        build_augmentation({"name": "specmix"}).draw(x, y, lengths)
    with pytest.raises(ValueError, match=r"tap numbers in a tuple, \(0,\), not 0"):
        AUGMENTATIONS["specmix"](layers=0)


def test_one_hot():
    assert one_hot(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"name": "specmask"}, "augment.name.*choose from"),
        ({"name": "specaugment_pp", "mode": "mix"}, "mode"),
        ({"name": "specaugment_pp", "ratio": 0.1}, "augment.ratio: unknown key"),
        ({"name": "specaugment_pp", "time_ratio": 2}, "between 0 and 1"),
        ({"name": "chain", "methods": [{"name": "nope"}]}, r"augment.methods\[0\].name"),
    ],
)
def test_bad_specifications(spec, says):
    with pytest.raises(UserError, match=says):
        build_augmentation(spec)
