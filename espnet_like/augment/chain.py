"""Several methods, one after the other, in one plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from espnet_like.augment.base import Augmentation, Batch, Op, Waves


class Chain(Augmentation):
    """Draws every method in the order given; all see the batch as it came.

    At a layer the ops act in this order, and the targets are folded in the order in which the
    forward pass reaches the ops.

    Args:
        methods: augmentations, or their specifications `{name: ..., ...}`.

    Raises:
        UserError: a specification that cannot be built.
    """

    def __init__(self, methods: list[Any]) -> None:
        self.methods = build_methods(methods)
        self.layers = tuple(sorted({k for method in self.methods for k in method.layers}))
        self.needs_wave = any(method.needs_wave for method in self.methods)
        self.needs_reconstruction = any(m.needs_reconstruction for m in self.methods)

    def check(self, shape: tuple[int, ...]) -> None:
        for method in self.methods:
            method.check(shape)

    def mix_waves(self, batch: Batch) -> Waves:
        rest = []
        for method in self.methods:
            wave, targets, lengths, then = method.mix_waves(batch)
            batch = replace(batch, features=wave, targets=targets, lengths=lengths)
            rest.append(then)
        return Waves(batch.features, batch.targets, batch.lengths, Chain(rest))

    def ops(self, batch: Batch) -> list[Op]:
        return [op for method in self.methods for op in method.ops(batch)]


def build_methods(methods: list[Any]) -> list[Augmentation]:
    """The augmentations that `methods`, augmentations or specifications, describe.

    Raises:
        UserError: a specification that cannot be built.
    """
    from espnet_like.augment import build_augmentation  # the registry holds this module's class

    return [
        m if isinstance(m, Augmentation) else build_augmentation(m, f"augment.methods[{i}]")
        for i, m in enumerate(methods)
    ]
