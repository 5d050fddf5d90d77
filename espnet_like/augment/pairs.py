"""Partners chosen one by one, where not every other sample of the batch will do."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def choose(scores: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample one of the allowed others, each equally likely.

    Args:
        scores: (B, B) uniform numbers of [0, 1).
        allowed: (B, B) bool, row i for sample i.

    Returns:
        partner: (B,) index; the sample's own where nothing is allowed.
        found: (B,) bool.
    """
    best, partner = scores.masked_fill(~allowed, -1).max(1)
    found = best >= 0
    return torch.where(found, partner, torch.arange(len(scores), device=scores.device)), found


def different_classes(targets: Tensor) -> Tensor:
    """(B, B) bool: the two samples have no class in common.

    Raises:
        ValueError: class indices; mixing needs soft targets (see `one_hot`).
    """
    if targets.dim() != 2 or not targets.is_floating_point():
        raise ValueError("a mix needs (B, num_classes) float targets: use one_hot")
    if len(targets) == 1:
        warnings.warn("a batch of one has no partners: it is not augmented", stacklevel=2)
    return targets @ targets.T == 0
