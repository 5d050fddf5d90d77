"""Choosing among methods, and choices and chains inside one another."""

from __future__ import annotations

import pytest
import torch

from espnet_like.augment import (
    Chain,
    Mixup,
    NoAugmentation,
    OneOf,
    SpecAugment,
    TimeRoll,
    build_augmentation,
)
from espnet_like.errors import UserError

X, Y = torch.randn(4, 1, 6, 9), torch.eye(4)


def names(method, batches, seed=0):
    """The ops' classes of every batch, and the layers where they act."""
    generator = torch.Generator().manual_seed(seed)
    plans = [method.draw(X, Y, None, generator) for _ in range(batches)]
    return [[(type(op).__name__, op.layer) for op in plan.ops] for plan in plans]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [(None, [0.5, 0.5, 0.0]), ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0]), ([0.2, 0.1, 0.7], None)],
)
def test_each_method_as_often_as_said(probabilities, expected):
    methods = [Mixup(), SpecAugment(), TimeRoll()]
    if probabilities is None:
        methods = methods[:2]
    drawn = names(OneOf(methods, probabilities), 1500)
    assert all(len(ops) == 1 for ops in drawn)
    share = [sum(ops[0][0] == n for ops in drawn) / 1500 for n in ("MixupOp", "FillOp", "RollOp")]
    assert share == pytest.approx(expected or probabilities, abs=0.04)


def test_the_chosen_method_is_itself():
    choice = OneOf([Mixup(1.0), NoAugmentation()], [1.0, 0.0])
    generator = torch.Generator().manual_seed(5)
    torch.multinomial(choice.probabilities, 1, generator=generator)  # what the choice takes
    alone = Mixup(1.0).draw(X, Y, None, generator)
    chosen = choice.draw(X, Y, None, torch.Generator().manual_seed(5))
    assert torch.equal(chosen(0, X), alone(0, X))
    assert torch.equal(chosen.targets, alone.targets)


def test_none_leaves_a_batch_alone():
    plan = OneOf([NoAugmentation(), Mixup()], [1.0, 0.0]).draw(X, Y)
    assert plan(0, X) is X and plan.targets is Y


def test_choices_and_chains_nest():
    method = build_augmentation(
        {
            "name": "chain",
            "methods": [
                {
                    "name": "one_of",
                    "probabilities": [0.25, 0.75],
                    "methods": [
                        {"name": "mixup", "layers": [1, 3]},
                        {
                            "name": "chain",
                            "methods": [{"name": "noise", "layers": [2]}, {"name": "upb_masks"}],
                        },
                    ],
                },
                {"name": "time_roll", "layers": [4]},
            ],
        }
    )
    assert method.layers == (0, 1, 2, 3, 4)
    drawn = names(method, 800)
    assert all(ops[-1] == ("RollOp", 4) for ops in drawn)
    mixes = [ops for ops in drawn if ops[0][0] == "MixupOp"]
    assert len(mixes) / 800 == pytest.approx(0.25, abs=0.05)
    assert {ops[0][1] for ops in mixes} == {1, 3}
    assert all(
        ops == [("NoiseOp", 2), ("FillOp", 0), ("RollOp", 4)]
        for ops in drawn
        if ops[0][0] != "MixupOp"
    )


def test_chain_of_built_methods():
    inner = OneOf([SpecAugment((2,)), Mixup(layers=(1,))])
    assert Chain([inner, TimeRoll()]).layers == (0, 1, 2)
    assert inner.layers == (1, 2)


@pytest.mark.parametrize(
    ("methods", "probabilities", "says"),
    [
        ([], None, "at least one"),
        ([{"name": "none"}], [0.5, 0.5], "1 numbers"),
        ([{"name": "none"}, {"name": "noise"}], [1.5, -0.5], "from 0 on"),
        ([{"name": "none"}, {"name": "noise"}], [0.5, 0.4], "sum 1, not 0.9"),
        ([{"name": "none"}, {"name": "noises"}], None, r"methods\[1\].name"),
    ],
)
def test_bad_specifications(methods, probabilities, says):
    spec = {"name": "one_of", "methods": methods, "probabilities": probabilities}
    with pytest.raises(UserError, match=says):
        build_augmentation(spec)
