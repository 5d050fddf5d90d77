"""FreqMix: one frequency band of a sample, the rest of another.

"Low-complexity acoustic scene classification with FreqMix" (DCASE 2020, Task 1B), section 3.1,
equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from espnet_like.augment.base import Batch, Op
from espnet_like.augment.mask_mix import Anchor, Edges, MaskMixOp, band
from espnet_like.augment.mixup import beta
from espnet_like.augment.partner import PartnerMix, Per


class FreqMix(PartnerMix):
    """x = M x_A + (1 - M) x_B, y = lambda' y_A + (1 - lambda') y_B.

    M is 1 in a band of r_f = F lambda bins, rounded, over all frames and channels, with lambda ~
    Beta(alpha, alpha) and r_y uniform over the bins; lambda' is the share of the bins inside the
    band as it came out. (The report leaves open which side keeps x_A, what r_y is, and what
    happens at the ends. With `clip`, x_A keeps 5/12 of the bins on average, or 1/3 when r_y is the
    start; with `wrap` and `shift`, half.)

    Args:
        alpha: of the Beta distribution, > 0.
        per: draw a band for every `sample`, or one for the `batch`.
        edges: `clip` a band that goes over an end, `wrap` it to the other end, or `shift`: draw
            it among the places where it fits.
        anchor: whether r_y is the `centre` of the band or its `start`; with `shift` of no account.
        layers: taps; one of them is drawn per batch.
        allow_self: see SpecAugment++.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        per: Per = "batch",
        edges: Edges = "clip",
        anchor: Anchor = "centre",
        layers: tuple[int, ...] = (0,),
        allow_self: bool = False,
    ) -> None:
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        super().__init__(layers, per, allow_self)
        self.alpha = alpha
        self.edges: Edges = edges
        self.anchor: Anchor = anchor

    def op(self, batch: Batch, layer: int, shift: int, number: int) -> Op:
        size = len(batch.features)
        lam = batch.move(beta(self.alpha, number, batch.generator)).expand(size)
        unit = batch.uniform(number).expand(size)
        return FreqMixOp(layer, shift, lam, unit, self.edges, self.anchor)


@dataclass(frozen=True, eq=False)
class FreqMixOp(MaskMixOp):
    """`lam` (B,) as drawn; `unit` (B,) of [0, 1), for the place."""

    lam: Tensor
    unit: Tensor
    edges: Edges
    anchor: Anchor

    def covers(self, bins: int, frames: int, both: Tensor | None) -> tuple[Tensor, Tensor | None]:
        width = (self.lam.double() * bins).round().long()
        return ~band(bins, bins, width, self.unit, self.edges, self.anchor), None
