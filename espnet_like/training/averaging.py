"""Networks beside the one in training: the average of its weights, and one that follows it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from espnet_like.schema import Average, Teacher
from espnet_like.training.batches import Batch


class WeightAverage:
    """Equal-weight mean of the model at chosen times (SWA; cpjku: every 3 epochs from 250)."""

    def __init__(self, model: nn.Module, settings: Average) -> None:
        self.settings = settings
        self.averaged = AveragedModel(model)

    def after(self, unit: str, number: int, model: nn.Module) -> None:
        """Take the weights in if epoch `number` (from 0) or step `number` (from 1) is chosen."""
        start, every = self.settings.start, self.settings.every
        if unit != self.settings.unit:
            return
        chosen = number >= start and (number - start) % every == 0
        if unit == "iteration":
            chosen = number > start and number % every == 0
        if chosen:
            self.averaged.update_parameters(model)

    @property
    def count(self) -> int:
        """How many snapshots went into the mean."""
        return int(self.averaged.n_averaged)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.averaged.load_state_dict(state)


class Follower:
    """A copy of the model that lags behind it, and answers methods that ask the network."""

    def __init__(self, model: nn.Module, settings: Teacher) -> None:
        self.settings = settings
        decay = {"frozen": 1.0, "ema": settings.decay, "refreshed": 0.0}[settings.kind]
        self.following = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.following.requires_grad_(False)
        self.following.n_averaged += 1  # the copy is the first value; the next are averaged in

    @property
    def network(self) -> nn.Module:
        return self.following.module

    def after(self, step: int, model: nn.Module) -> None:
        """Take in the weights after step `step` (from 1), if they are due."""
        if self.settings.kind != "frozen" and step % self.settings.every == 0:
            self.following.update_parameters(model)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.following.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.following.load_state_dict(state)


@torch.no_grad()
def renew_batch_norm(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Set batch-norm statistics to the mean over `batches`, unaugmented, with lengths.

    torch's `update_bn` hands the model one argument only; ours need the lengths.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    was_training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    for batch in batches:
        model(batch.features, lengths=batch.lengths)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)
