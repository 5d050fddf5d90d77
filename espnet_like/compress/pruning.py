"""L1 unstructured pruning: the smallest convolution weights of the whole network become zero.

FreqMix report (low-complexity acoustic scene classification), section 5.1.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

log = logging.getLogger(__name__)


def prune(model: nn.Module, amount: float) -> dict[str, Tensor]:
    """Zero the smallest of all convolution weights together, and keep them at zero in training.

    Stem, shortcuts and head count like any other convolution, a shared one counts once; biases
    and normalisations stay. Ranked over the whole network, so that layers keep unequal shares;
    of equal magnitudes the first go. A zeroed weight gets no gradient from now on, so that Adam
    leaves it at zero, exactly, and gradient norms are those of the weights that are left.

    Args:
        model: changed in place, on the device that it is to be trained on.
        amount: share of the weights to zero, rounded to a whole number of them.

    Returns:
        Name of each convolution weight -> True where it was zeroed.

    Raises:
        ValueError: `amount` outside of [0, 1).
    """
    if not 0 <= amount < 1:
        raise ValueError(f"amount must be in [0, 1), not {amount}")
    weights = conv_weights(model)
    magnitudes = torch.cat([w.detach().abs().flatten().cpu() for w in weights.values()])
    pruned = torch.zeros(len(magnitudes), dtype=torch.bool)
    pruned[magnitudes.argsort(stable=True)[: round(amount * len(magnitudes))]] = True
    parts = pruned.split([w.numel() for w in weights.values()])
    masks = {
        name: part.reshape(w.shape).to(w.device)
        for (name, w), part in zip(weights.items(), parts, strict=True)
    }
    for name, weight in weights.items():
        _hold(weight, masks[name])
        if masks[name].all():
            log.warning("pruning leaves nothing of %s: lower train.prune.amount", name)
    log.info("pruned %d of %d convolution weights", int(pruned.sum()), len(pruned))
    return masks


def conv_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all convolutions by name, a shared one under its first."""
    owners = {id(m.weight) for m in model.modules() if isinstance(m, _ConvNd)}
    return {name: p for name, p in model.named_parameters() if id(p) in owners}


def _hold(weight: nn.Parameter, mask: Tensor) -> None:
    with torch.no_grad():
        weight.masked_fill_(mask, 0)
    if weight.requires_grad:
        weight.register_hook(lambda gradient: gradient.masked_fill(mask, 0))
