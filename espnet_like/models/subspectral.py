"""SubSpectral Normalization: batch normalisation of each frequency band apart."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_like.models.staged import bands


class SSN(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of a channel within a frequency band.

    The F bins are cut into `groups` bands of F / groups contiguous bins; where that is no whole
    number, the lower bands have one bin more. Statistics are taken over the batch, the band's bins
    and time. With one group it is `nn.BatchNorm2d`, bit for bit, and so is its state.
    Source: Chang et al., "SubSpectral Normalization for Neural Audio Data Processing", ICASSP
    2021; the FreqMix report uses two groups and one scale and shift for all bands.

    Args:
        channels: C.
        groups: S, bands.
        affine: `shared`: a scale and a shift for each channel; `separate`: for each channel and
            band.
        eps, momentum: as in batch normalisation.

    Attributes:
        running_mean, running_var: (C * S,), band s of channel c (0 is the lowest) at c * S + s.
        weight, bias: (C,) shared, or as the statistics.

    Raises:
        ValueError: an argument out of range. RuntimeError: fewer bins than bands.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        groups: int = 2,
        affine: Literal["shared", "separate"] = "shared",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
    ) -> None:
        if channels < 1 or groups < 1:
            raise ValueError(f"channels {channels} and groups {groups} must be at least 1")
        if affine not in ("shared", "separate"):
            raise ValueError(f"affine must be shared or separate, not {affine}")
        super().__init__(channels * groups, eps, momentum)
        self.groups = groups
        if affine == "shared":
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) to the same shape."""
        if self.groups == 1:
            return super().forward(x)
        factor = self._update_factor()
        mean, var = self._by_band(self.running_mean), self._by_band(self.running_var)
        weight, bias = self._by_band(self.weight), self._by_band(self.bias)
        parts = []
        for s, band in enumerate(bands(x, self.groups)):
            own = mean[:, s].contiguous(), var[:, s].contiguous()
            affine = weight[:, s], bias[:, s]
            y = functional.batch_norm(band, *own, *affine, self.training, factor, self.eps)
            parts.append(y)
            if self.training:
                mean[:, s], var[:, s] = own
        return torch.cat(parts, dim=2)

    def _update_factor(self) -> float:
        """Weight of this batch in the running statistics; None for momentum: a plain mean."""
        if self.training:
            self.num_batches_tracked.add_(1)
        if self.momentum is None:
            return 1.0 / max(1.0, float(self.num_batches_tracked))
        return self.momentum

    def _by_band(self, values: Tensor) -> Tensor:
        """(C * S,), or (C,) for all bands, as a view (C, S)."""
        return values.view(-1, values.numel() * self.groups // self.num_features).expand(
            -1, self.groups
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, groups={self.groups}"
