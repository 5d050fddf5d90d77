"""CutMix: a box of another sample's map, the targets by its area.

Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", ICCV 2019; a baseline of SpecMix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from espnet_like.augment.base import Batch, Op
from espnet_like.augment.mask_mix import Edges, MaskMixOp, band
from espnet_like.augment.mixup import beta
from espnet_like.augment.partner import PartnerMix, Per


class CutMix(PartnerMix):
    """x = M x_i + (1 - M) x_j, y = lambda y_i + (1 - lambda) y_j.

    M is 0 in a box of T sqrt(1 - lambda) frames and F sqrt(1 - lambda) bins, rounded down, with
    lambda ~ Beta(alpha, alpha) and the centre uniform over the map. As in the authors' code, the
    box reaches half its size, rounded down, to each side of the centre, so that an odd one loses
    a row; what lies outside the map is cut off; and lambda becomes the share that x_i has kept.

    Args:
        alpha: of the Beta distribution, > 0.
        per: draw a box for every `sample`, or one for the `batch`.
        corrected: weigh the targets by the box as it came out; else by the lambda drawn.
        edges: `clip` the box at the map's ends, or `shift`: draw it where it fits, whole (an odd
            one too).
        layers: taps; one of them is drawn per batch.
        allow_self: see SpecAugment++.

    Presets: `original`, one box a batch; `specmix`, as SpecMix's authors compare with it. (The
    probability of their image experiments is method `one_of` with `none`.)

    Raises:
        ValueError: a setting out of range.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "original": {"alpha": 1.0, "per": "batch"},
        "specmix": {"alpha": 0.4, "per": "batch"},
    }

    def __init__(
        self,
        alpha: float = 1.0,
        per: Per = "sample",
        corrected: bool = True,
        edges: Literal["clip", "shift"] = "clip",
        layers: tuple[int, ...] = (0,),
        allow_self: bool = False,
    ) -> None:
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        super().__init__(layers, per, allow_self)
        self.alpha = alpha
        self.corrected = corrected
        self.edges: Edges = edges

    def op(self, batch: Batch, layer: int, shift: int, number: int) -> Op:
        size = len(batch.features)
        lam = batch.move(beta(self.alpha, number, batch.generator)).expand(size)
        units = batch.uniform(2, number).expand(2, size)
        return CutMixOp(layer, shift, lam, units, self.edges, self.corrected)


@dataclass(frozen=True, eq=False)
class CutMixOp(MaskMixOp):
    """`lam` (B,) as drawn; `units` (2, B) of [0, 1), for the box's bins and frames."""

    lam: Tensor
    units: Tensor
    edges: Edges
    corrected: bool

    def covers(self, bins: int, frames: int, both: Tensor | None) -> tuple[Tensor, Tensor | None]:
        side = (1 - self.lam.double()).sqrt()
        return (
            self._side(bins, bins, side, self.units[0]),
            self._side(frames, frames if both is None else both, side, self.units[1]),
        )

    def _side(self, cells: int, extent: Tensor | int, side: Tensor, unit: Tensor) -> Tensor:
        width = (side * extent).long()
        if self.edges == "clip":
            width = width - width % 2
        return band(cells, extent, width, unit, self.edges)

    def own(self, changed: Tensor, both: Tensor | None, valid: Tensor | None) -> Tensor:
        if self.corrected:
            return 1 - changed
        if both is None or valid is None:
            return self.lam
        return 1 - (1 - self.lam) * both / valid.clamp(min=1)
