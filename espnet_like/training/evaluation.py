"""A model's posteriors for a set of clips."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from espnet_like.augment import NoAugmentation
from espnet_like.training.batches import ClipSet
from espnet_like.training.losses import scores


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """bf16 autocast, or nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def posteriors(
    model: nn.Module, clips: ClipSet, multi_label: bool, precision: str, batch_size: int = 32
) -> Tensor:
    """Scores of every clip in the set's order, unaugmented. (N, K) fp32 on the CPU."""
    return scores(logits(model, clips, precision, batch_size), multi_label).cpu()


@torch.no_grad()
def logits(model: nn.Module, clips: ClipSet, precision: str, batch_size: int = 32) -> Tensor:
    """Logits of every clip in the set's order, unaugmented. (N, K) on the clips' device.

    Clips of unequal length share batches where the model keeps their padding out of it
    (`mask_padding`), and go one by one where it does not.
    """
    was_training = model.training
    model.eval()
    exact = getattr(model, "mask_padding", False)
    positions = clips.by_length(batch_size) if exact else clips.in_order(batch_size)
    rows = []
    for raw in clips.batches(positions):
        batch, _ = clips.prepared(raw, NoAugmentation())
        with autocast(clips.device, precision):
            rows.append(model(batch.features, lengths=batch.lengths))
    model.train(was_training)
    found = torch.cat(rows)
    place = torch.tensor([position for batch in positions for position in batch])
    return found[place.argsort().to(found.device)]
