"""SSAST's pretraining as one call: a spectrogram in, the loss of both pretext tasks out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espnet_like.errors import UserError
from espnet_like.models.patch_masks import clustered_masks, scattered_masks
from espnet_like.models.ssast import SSAST, Tap


class MaskedPatchModelling(nn.Module):
    """Both tasks of `SSAST.pretext`, each in a pass and with masks of its own.

    Masks are those of SSAST's authors' code: clusters of patches, or single ones where a patch is
    whole frames. They are drawn from torch's own generator, on the CPU. Padding counts as content.

    Args:
        network: with pretraining's parts; its classifier is left as it is, without gradients.
        share: of the patches, that are masked; the released networks have 400 of 512.
        generative: weight of the generative loss beside the discriminative one.

    Raises:
        UserError: another network, or one without pretraining's parts.
    """

    def __init__(
        self, network: nn.Module, share: float = 400 / 512, generative: float = 10.0
    ) -> None:
        super().__init__()
        if not isinstance(network, SSAST) or not hasattr(network, "cpredlayer"):
            raise UserError(
                "loss masked_patches needs a network that can be pretrained: model ssast with "
                f"pretext trained, not {type(network).__name__}"
            )
        network.mlp_head.requires_grad_(False)
        self.network, self.share, self.generative = network, share, generative

    def forward(self, x: Tensor, lengths: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """The loss and the discriminative accuracy of each clip.

        Args:
            x: features, (B, C, F, T).
            lengths: not asked for.
            tap: called at the input alone.

        Returns:
            (B, 2) float32.

        Raises:
            UserError: too few patches to mask some and leave some.
        """
        if tap is not None:
            x = tap(0, x)
        discriminative = self.network.pretext(x, self._masks(x), "discriminative")
        generative = self.network.pretext(x, self._masks(x), "generative")
        assert discriminative.accuracy is not None
        loss = discriminative.loss + self.generative * generative.loss
        return torch.stack([loss, discriminative.accuracy], 1)

    def _masks(self, x: Tensor) -> Tensor:
        """(B, m) indices of masked patches."""
        grid = self.network.layout(x).grid
        patches = grid[0] * grid[1]
        if patches < 3:
            raise UserError(f"{patches} patches are too few to mask some: give longer features")
        number = min(max(round(self.share * patches), 1), patches - 2)
        draw = clustered_masks if self.network.kind == "patch" else scattered_masks
        return draw(len(x), grid, number).to(x.device, non_blocking=True)
