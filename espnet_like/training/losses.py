"""Losses of logits against soft targets, one value per clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Cross entropy with soft targets: -sum_c y_c log softmax(z)_c.

    Args:
        label_smoothing: share of the target spread evenly over the classes.
    """

    multi_label = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError("label_smoothing must be in [0, 1)")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B, K) logits and targets -> (B,) losses in nats."""
        return functional.cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.label_smoothing
        )


class BinaryCrossEntropy(nn.Module):
    """Binary cross entropy of each class, summed (or averaged) over the classes of a clip."""

    multi_label = True

    def __init__(self, mean_over_classes: bool = False) -> None:
        super().__init__()
        self.mean_over_classes = mean_over_classes

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B, K) logits and n-hot or soft targets -> (B,) losses in nats."""
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.mean(1) if self.mean_over_classes else losses.sum(1)


def scores(logits: Tensor, multi_label: bool) -> Tensor:
    """Posteriors: sigmoid per class when tags may overlap, else softmax. (B, K) in fp32."""
    logits = logits.float()
    return torch.sigmoid(logits) if multi_label else torch.softmax(logits, 1)


LOSSES: dict[str, type] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
}
