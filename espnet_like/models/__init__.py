"""Networks by name.

A network maps features (B, C, F, T) to logits (B, num_classes). It names the places between its
stages in `taps` and, in training, calls `x = tap(k, x)` at each of them: see
`espnet_like.augment`.
"""

from __future__ import annotations

from torch import nn

from espnet_like.models.cp_resnet import CPResNet

MODELS: dict[str, type[nn.Module]] = {"cp_resnet": CPResNet}

__all__ = ["MODELS", "CPResNet"]
