"""The contract of every augmentation: draw once per batch, then act at the model's taps.

    plan = augmentation.draw(features, targets, lengths, generator, progress, model)
    logits = model(features, lengths=lengths, tap=plan)   # calls plan(k, x) at tap k = 0 .. K
    loss = criterion(logits, plan.targets)                # read after the forward pass

A method that changes waveforms does so before the front end, and says what draws the plan then:

    wave, targets, lengths, augmentation = augmentation.draw_wave(wave, targets, lengths, rate, ...)

Tap 0 is the input. An augmentation draws random numbers from a generator on the CPU and hands
back `Op`s, each with the layer where it acts. Positions and sizes are worked out from these
numbers when the op meets its tensor, so one op fits a map of any size, and the same generator
state gives the same plan on any device. In evaluation there is no plan.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Progress(NamedTuple):
    """Where training stands: `epoch` of `epochs`, counted from 0."""

    epoch: int = 0
    epochs: int = 1


START = Progress()


class Share(NamedTuple):
    """What a mix does to the targets: y_i <- own_i y_i + (1 - own_i) y_partner(i).

    Args:
        own: (B,) measured share of the sample itself in the mixed tensor.
        partner: (B,) index of the other sample in the batch.
    """

    own: Tensor
    partner: Tensor


class Op(ABC):
    """One act at one layer. It carries its random numbers; applying it draws none.

    `loss` (B,), if any, is added to the training loss of each sample.
    """

    layer: int
    loss: Tensor | None = None

    @abstractmethod
    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        """The changed map, and what that does to the targets (None: nothing).

        Args:
            x: (B, C, F, T), left as it is.
            valid: (B,) frames of this map that are not padding; None when all are.
        """


class Plan:
    """What one batch undergoes; the `tap` of a model's forward pass.

    Args:
        ops: applied at their layers, in this order within a layer.
        targets: (B, num_classes) float, or (B,) class indices where no op mixes.
        frames: T of the features (tap 0).
        lengths: (B,) frames of each sample at tap 0; None when there is no padding.
    """

    def __init__(
        self, ops: Sequence[Op], targets: Tensor, frames: int, lengths: Tensor | None = None
    ) -> None:
        self.ops = tuple(ops)
        self.frames = frames
        self.lengths = lengths
        self._targets = targets
        self._done: dict[int, Share | None] = {}  # by op, in the order of application
        # A compiled model breaks its graph at the taps: it is then compiled once, in pieces, and
        # not anew for every combination of layers and shifts that a plan may draw. (Saying so
        # imports the compiler, which takes seconds: only where it is in use.)
        compiling = "torch._dynamo" in sys.modules
        self._tap = torch.compiler.disable(self._apply) if compiling else self._apply

    def __call__(self, k: int, x: Tensor) -> Tensor:
        """`x` (B, C, F, T) of tap k after the ops of that layer."""
        return self._tap(k, x)

    def _apply(self, k: int, x: Tensor) -> Tensor:
        for index, op in enumerate(self.ops):
            if op.layer == k:
                x, self._done[index] = op(x, self._valid(x))
        return x

    @property
    def loss(self) -> Tensor | None:
        """(B,) what the ops add to the training loss; None: nothing."""
        losses = [op.loss for op in self.ops if op.loss is not None]
        return torch.stack(losses).sum(0) if losses else None

    @property
    def targets(self) -> Tensor:
        """The targets of the augmented batch, known once the forward pass has been made.

        Raises:
            RuntimeError: an op's layer has not been reached.
            ValueError: a mix of class indices; it needs soft targets (see `one_hot`).
        """
        missing = sorted({op.layer for i, op in enumerate(self.ops) if i not in self._done})
        if missing:
            raise RuntimeError(
                f"no tap was called at layer {missing[0]}: read plan.targets after"
                " model(..., tap=plan), and draw layers that the model has"
            )
        y = self._targets
        for share in self._done.values():
            if share is not None:
                if y.dim() != 2 or not y.is_floating_point():
                    raise ValueError("a mix needs (B, num_classes) float targets: use one_hot")
                own = share.own.to(y.dtype)[:, None]
                y = own * y + (1 - own) * y[share.partner]
        return y

    def _valid(self, x: Tensor) -> Tensor | None:
        """Frames of `x` that hold content; a frame that is partly content counts."""
        if self.lengths is None:
            return None
        return -(-self.lengths * x.shape[-1] // self.frames)


@dataclass(frozen=True)
class Batch:
    """What an augmentation sees when it draws, and its source of random numbers.

    In `mix_waves` the features are waveforms (B, C, L) of `sample_rate` Hz.
    """

    features: Tensor
    targets: Tensor
    lengths: Tensor | None = None
    generator: torch.Generator | None = None
    progress: Progress = START
    model: nn.Module | None = None
    sample_rate: int = 0

    def uniform(self, *shape: int) -> Tensor:
        """Numbers of [0, 1) on the batch's device, drawn on the CPU."""
        return self.move(torch.rand(shape, generator=self.generator))

    def integer(self, low: int, high: int) -> int:
        """One of low .. high - 1, known to the host."""
        return int(torch.randint(low, high, (), generator=self.generator))

    def move(self, x: Tensor) -> Tensor:
        """`x` on the batch's device, without waiting for that device."""
        return x.to(self.features.device, non_blocking=True)


class Waves(NamedTuple):
    """A batch after `Augmentation.draw_wave`.

    Args:
        wave: (B, C, L).
        targets: (B, num_classes) float.
        lengths: (B,) samples that are not padding; None when all are.
        then: what draws the plan of these waveforms' features.
    """

    wave: Tensor
    targets: Tensor
    lengths: Tensor | None
    then: Augmentation


class Augmentation(ABC):
    """A method; holds its settings and no state.

    `layers` are the taps where it may act; `needs_wave`: whether it wants `draw_wave` called;
    `needs_reconstruction`: whether it asks a network that can reconstruct its input.
    """

    layers: tuple[int, ...] = (0,)
    needs_wave: bool = False
    needs_reconstruction: bool = False

    def check(self, shape: tuple[int, ...]) -> None:  # noqa: B027
        """Features of this (C, F, T) can be augmented so.

        Raises:
            UserError: they cannot; names the setting.
        """

    def draw_wave(
        self,
        wave: Tensor,
        targets: Tensor,
        lengths: Tensor | None,
        sample_rate: int,
        generator: torch.Generator | None = None,
        progress: Progress = START,
    ) -> Waves:
        """One batch of waveforms, changed before the front end; most methods leave it alone.

        Args:
            wave: (B, C, L), left as it is.
            targets: (B, num_classes) float.
            lengths: (B,) samples that are not padding, on the CPU; None when all are.
            sample_rate: Hz.
            generator: on the CPU; None for torch's own.
            progress: for methods with a schedule.
        """
        batch = Batch(wave, targets, lengths, generator, progress, sample_rate=sample_rate)
        return self.mix_waves(batch)

    def mix_waves(self, batch: Batch) -> Waves:
        """Draw what happens to these waveforms, `batch.features` (B, C, L), and do it."""
        return Waves(batch.features, batch.targets, batch.lengths, self)

    def draw(
        self,
        features: Tensor,
        targets: Tensor,
        lengths: Tensor | None = None,
        generator: torch.Generator | None = None,
        progress: Progress = START,
        model: nn.Module | None = None,
    ) -> Plan:
        """The plan of one batch.

        Args:
            features: (B, C, F, T), as the model will get them.
            targets: (B, num_classes) float; class indices (B,) will do where nothing is mixed.
            lengths: (B,) frames that are not padding, on any device; None when all are.
            generator: on the CPU; None for torch's own.
            progress: for methods with a schedule.
            model: for methods that ask the network, and to check the layers.

        Raises:
            ValueError: a layer that the model does not have, lengths that are not one a sample.
        """
        if lengths is not None and getattr(lengths, "shape", None) != (len(features),):
            raise ValueError(f"lengths: a tensor of shape ({len(features)},), one for each sample")
        taps = getattr(model, "taps", None)
        if taps is not None and max(self.layers, default=0) >= len(taps):
            names = ", ".join(f"{k} ({name})" for k, name in enumerate(taps))
            raise ValueError(f"layers {list(self.layers)}: the model has taps {names}")
        batch = Batch(features, targets, lengths, generator, progress, model)
        lengths = None if lengths is None else batch.move(lengths)
        return Plan(self.ops(batch), targets, features.shape[-1], lengths)

    @abstractmethod
    def ops(self, batch: Batch) -> list[Op]:
        """Draw what happens to this batch."""


def check_layers(layers: Any) -> tuple[int, ...]:
    """`layers` in order; ValueError unless it is a non-empty set of tap numbers."""
    if isinstance(layers, int):
        raise ValueError(f"layers: tap numbers in a tuple, ({layers},), not {layers}")
    numbers = tuple(sorted(layers))
    if not numbers or numbers[0] < 0 or len(set(numbers)) < len(numbers):
        raise ValueError(f"layers must be different tap numbers from 0 on, not {list(layers)}")
    return numbers


def one_hot(classes: Tensor, num_classes: int) -> Tensor:
    """Soft targets (B, num_classes) float of class indices (B,)."""
    return functional.one_hot(classes, num_classes).float()
