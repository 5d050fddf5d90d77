"""Batches of waveforms, whose features are computed on the device as they are needed.

For methods that change waveforms. The numbers in memory and from archives are the same; from one
epoch to the next nothing is kept.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from espnet_like.augment.base import START, Augmentation, Progress
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.features.base import FrontEnd
from espnet_like.features.dump import FeatureDump
from espnet_like.features.excerpts import ExcerptDump
from espnet_like.features.normalize import Normalize
from espnet_like.training.batches import Batch, ClipSet, zero_padding

FULL_SCALE = 32768  # of int16


class WaveSet(ClipSet):
    """The clips of one data directory as 16-bit samples; `features` (B, C, 1, L) in its batches.

    Args:
        data: see `ClipSet`.
        dump: a dump of `features.name: raw`.
        front: from waveforms to features.
        normalize: applied to each clip's frames, not to the waveform.
        device, in_memory, workers: see `ClipSet`.

    Raises:
        UserError: an utterance without waveform, or a dump that is not of the front end's rate.
    """

    def __init__(
        self,
        data: DataDir,
        dump: FeatureDump | ExcerptDump,
        front: FrontEnd,
        normalize: Normalize,
        device: torch.device,
        in_memory: bool | Literal["auto"] = "auto",
        workers: int = 0,
    ) -> None:
        if dump.features != (raw := {"name": "raw", "sample_rate": front.sample_rate}):
            raise UserError(
                f"{dump.path}: made with {dump.features}, but {raw} expected: mend"
                " conf/waves.yaml and run --stage feats"
            )
        super().__init__(data, dump, normalize, device, in_memory, workers)
        self.front = front.to(device)
        channels = dump.channels * front.maps
        self.shape = (channels, front.num_bins, front.num_frames(self.shape[2]))

    @torch.no_grad()
    def prepared(
        self,
        batch: Batch,
        augmentation: Augmentation,
        generator: torch.Generator | None = None,
        progress: Progress = START,
    ) -> tuple[Batch, Augmentation]:
        """Features of the batch's waveforms, changed by `augmentation`; what draws their plan."""
        samples = batch.features[:, :, 0]
        wave, targets, lengths, then = augmentation.draw_wave(
            samples if samples.is_floating_point() else samples.float() / FULL_SCALE,
            batch.targets,
            batch.lengths,
            self.front.sample_rate,
            generator,
            progress,
        )
        features, frames = self.front(wave, lengths)
        features = self._in_norm(features, batch).contiguous()
        if lengths is None or self.front.one_length:
            return Batch(features, targets, None), then
        return Batch(zero_padding(features, frames), targets, frames), then

    def _in_norm(self, features: Tensor, batch: Batch) -> Tensor:
        """The features (B, C, F, T) of a batch, normalised."""
        normalized: Tensor = self.normalize(features)
        return normalized

    def _normalized(self, raw: Tensor, frames: Tensor) -> Tensor:
        return raw

    def _lengths(self, frames: Tensor) -> Tensor | None:
        return None if self.uniform else frames
