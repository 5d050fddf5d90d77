"""Losses, one value per clip: of logits against soft targets, or of a pretext task."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_like.models.masked_patches import MaskedPatchModelling


class Loss(nn.Module):
    """What a trainer asks of a loss: `fit` once, then logits and targets -> (B,) losses."""

    multi_label: bool  # whether a clip may have several tags: sigmoids, not one softmax
    supervised: bool = True  # whether it looks at the labels

    def fit(self, targets: Tensor) -> None:
        """Look at the training part's (N, K) targets; most losses need nothing of them."""

    def task(self, model: nn.Module) -> nn.Module:
        """What is called as `(features, lengths=, tap=)` for what `forward` takes: the model."""
        return model

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B,) whether the highest logit is that of a highest target, one of several perhaps."""
        best = targets.gather(1, logits.argmax(1, keepdim=True))
        return (best == targets.amax(1, keepdim=True))[:, 0]


class CrossEntropy(Loss):
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


class BinaryCrossEntropy(Loss):
    """Binary cross entropy of each class, summed (or averaged) over the classes of a clip."""

    multi_label = True

    def __init__(self, mean_over_classes: bool = False) -> None:
        super().__init__()
        self.mean_over_classes = mean_over_classes

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B, K) logits and n-hot or soft targets -> (B,) losses in nats."""
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.mean(1) if self.mean_over_classes else losses.sum(1)


class ClassBalancedFocal(Loss):
    """Class-balanced focal loss: sigmoids, one class against all others.

    With z_i^t = z_i for the true class y and -z_i for the others, and p = sigmoid(z^t),
    L = -w_y sum_i (1 - p_i)^gamma log p_i. The weight of a class with n_y clips in the training
    part is w_y = (1 - beta) / (1 - beta^n_y) (Cui et al., CVPR 2019; FreqMix report, section 4).
    A soft target is a mixture of hard ones: each class's share has that class's weight.

    A clip has one label, so scores are softmaxes: the class of the highest logit wins.

    Args:
        beta: 0 weighs all classes alike, near 1 by 1 / n_y. Up to 0.99 it does nothing where
            classes have thousands of clips.
        gamma: how far easy classes are played down; 0 is binary cross entropy.
        normalized: scale the weights to a mean of 1 over the classes, as the reference code does
            and the report does not print.

    Raises:
        ValueError: an argument out of range.
    """

    multi_label = False
    weights: Tensor | None

    def __init__(self, beta: float = 0.9999, gamma: float = 1.0, normalized: bool = True) -> None:
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError("beta must be in [0, 1)")
        if gamma < 0:
            raise ValueError("gamma must not be negative")
        self.beta, self.gamma, self.normalized = beta, gamma, normalized
        self.register_buffer("weights", None)

    def fit(self, targets: Tensor) -> None:
        """Count the clips of each class; one without clips gets no weight."""
        counts = targets.sum(0, dtype=torch.float64)
        # 1 - beta^n without the cancellation that beta near 1 brings
        shares = (
            -torch.expm1(counts * math.log(self.beta)) if self.beta else torch.ones_like(counts)
        )
        weights = torch.where(counts > 0, (1 - self.beta) / shares, 0)
        if self.normalized:
            weights = weights * (counts > 0).sum() / weights.sum()
        self.weights = weights.float()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B, K) logits and targets -> (B,) losses in nats.

        Raises:
            RuntimeError: `fit` has not been called.
        """
        if self.weights is None:
            raise RuntimeError("ClassBalancedFocal counts classes first: call fit(targets)")
        own = targets * self.weights.to(targets)
        others = own.sum(1, keepdim=True) - own
        return (own * self._focal(logits) + others * self._focal(-logits)).sum(1)

    def _focal(self, z: Tensor) -> Tensor:
        """-(1 - p)^gamma log p of p = sigmoid(z), for any z: log p = -softplus(-z)."""
        return torch.exp(-self.gamma * functional.softplus(z)) * functional.softplus(-z)


class MaskedPatches(Loss):
    """SSAST's pretraining (see `models.masked_patches`); labels play no part.

    Source: Gong et al., "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022.

    Args:
        share: of the patches, that are masked.
        generative: weight of the generative loss beside the discriminative one.

    Raises:
        ValueError: an argument out of range.
    """

    multi_label = False
    supervised = False

    def __init__(self, share: float = 400 / 512, generative: float = 10.0) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"share must be between 0 and 1, not {share}")
        if generative < 0:
            raise ValueError(f"generative must not be negative, not {generative}")
        self.share, self.generative = share, generative

    def task(self, model: nn.Module) -> nn.Module:
        """Masked patch modelling with the network.

        Raises:
            UserError: a network that cannot be pretrained so.
        """
        return MaskedPatchModelling(model, self.share, self.generative)

    def forward(self, found: Tensor, targets: Tensor) -> Tensor:
        """(B, 2) of `task` -> (B,) losses."""
        return found[:, 0]

    def right(self, found: Tensor, targets: Tensor) -> Tensor:
        """(B,) share of the masked patches that were told apart."""
        return found[:, 1]


def scores(logits: Tensor, multi_label: bool) -> Tensor:
    """Posteriors: sigmoid per class when tags may overlap, else softmax. (B, K) in fp32."""
    logits = logits.float()
    return torch.sigmoid(logits) if multi_label else torch.softmax(logits, 1)


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "class_balanced_focal": ClassBalancedFocal,
    "masked_patches": MaskedPatches,
}
