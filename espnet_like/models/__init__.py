"""Networks by name.

A network maps features (B, C, F, T) to logits (B, num_classes). It names the places between its
stages in `taps` and, in training, calls `x = tap(k, x)` at each of them: see
`espnet_like.augment`.
"""

from __future__ import annotations

from torch import nn

from espnet_like.models.cp_resnet import CPResNet
from espnet_like.models.crnn import CRNN
from espnet_like.models.resnet import ResNet
from espnet_like.models.shared_resnet import SharedResNet
from espnet_like.models.ssast import SSAST
from espnet_like.models.two_path_resnet import TwoPathResNet

MODELS: dict[str, type[nn.Module]] = {
    "cp_resnet": CPResNet,
    "crnn": CRNN,
    "shared_resnet": SharedResNet,
    "resnet": ResNet,
    "ssast": SSAST,
    "two_path_resnet": TwoPathResNet,
}

__all__ = ["CRNN", "MODELS", "SSAST", "CPResNet", "ResNet", "SharedResNet", "TwoPathResNet"]
