"""One of several methods, drawn anew for every batch."""

from __future__ import annotations

from math import fsum
from typing import Any

import torch

from espnet_like.augment.base import Augmentation, Batch, Op, Waves
from espnet_like.augment.chain import build_methods


class OneOf(Augmentation):
    """Draws a method, then that method's plan; the others draw nothing.

    The FreqMix report (DCASE 2020 Task 1B, section 3) combines mixup with FreqMix without saying
    how: `methods: [{name: mixup}, {name: freqmix}]` takes each in half of the batches. For a
    method that shall act only now and then, `none` is the other one.

    Args:
        methods: augmentations, chains of them among others, or their specifications
            `{name: ..., ...}`.
        probabilities: one for each method, with sum 1; None for equal ones.

    Raises:
        ValueError: no method, or probabilities that are none.
        UserError: a specification that cannot be built.
    """

    def __init__(self, methods: list[Any], probabilities: list[float] | None = None) -> None:
        if not methods:
            raise ValueError("methods must name at least one method")
        if probabilities is None:
            probabilities = [1 / len(methods)] * len(methods)
        if len(probabilities) != len(methods) or min(probabilities) < 0:
            raise ValueError(
                f"probabilities must be {len(methods)} numbers from 0 on, one for each method,"
                f" not {probabilities}"
            )
        if abs(fsum(probabilities) - 1) > 1e-6:
            raise ValueError(f"probabilities must have the sum 1, not {fsum(probabilities):g}")
        self.methods = build_methods(methods)
        self.probabilities = torch.tensor(probabilities, dtype=torch.float64)
        self.layers = tuple(sorted({k for method in self.methods for k in method.layers}))
        self.needs_wave = any(method.needs_wave for method in self.methods)
        self.needs_reconstruction = any(m.needs_reconstruction for m in self.methods)

    def check(self, shape: tuple[int, ...]) -> None:
        for method in self.methods:
            method.check(shape)

    def choose(self, generator: torch.Generator | None) -> Augmentation:
        """The method of one batch."""
        index = torch.multinomial(self.probabilities, 1, generator=generator)
        return self.methods[int(index)]

    def mix_waves(self, batch: Batch) -> Waves:
        return self.choose(batch.generator).mix_waves(batch)

    def ops(self, batch: Batch) -> list[Op]:
        return self.choose(batch.generator).ops(batch)
