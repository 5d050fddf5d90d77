"""No augmentation."""

from __future__ import annotations

from espnet_like.augment.base import Augmentation, Batch, Op


class NoAugmentation(Augmentation):
    """Leaves features and targets as they are."""

    layers: tuple[int, ...] = ()

    def ops(self, batch: Batch) -> list[Op]:
        return []
