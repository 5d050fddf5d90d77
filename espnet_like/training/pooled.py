"""Batches of superposed clips, of alike length and with unlike tags, for a tagger to train on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from espnet_like.augment.superposition import Pairs, Superposition, superpose
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.features.base import FrontEnd
from espnet_like.features.dump import FeatureDump
from espnet_like.features.excerpts import ExcerptDump
from espnet_like.features.normalize import Normalize
from espnet_like.schema import Pool, Train
from espnet_like.training import seeds
from espnet_like.training.batches import Batch, Reader
from espnet_like.training.pool import CURATED, Example, ExamplePool
from espnet_like.training.waves import FULL_SCALE, WaveSet

log = logging.getLogger(__name__)


class MixedBatch(Batch):
    """Waveforms of examples; `norms` (B,) is the number of each one's normalisation."""

    norms: Tensor


class PooledSet(WaveSet):
    """The clips of one data directory; its batches are those of an `ExamplePool`.

    Waveforms come from the archives as they are needed. In memory are at most 2 `workers` + 3
    batches as int16, bases and partners (each 85 MB at worst: 16 x 2 clips of 30 s at 44.1 kHz),
    and, as the system's cache, 256 MiB of each archive in each process (see `ArkReader`).

    Args:
        data: see `ClipSet`; domain `portion` (utt2portion) says which clips are curated. Without
            it there is one portion, of all clips.
        dump, front, normalize, device, workers: see `WaveSet`.
        settings: of the pool.
        mixer: the method that mixes; None for no mixing.
        by_portion: another normalisation for examples whose base is of this portion.

    Raises:
        UserError: see `WaveSet`; no clip is as short as `settings.max_seconds`; a portion that
            `by_portion` lacks.
    """

    def __init__(
        self,
        data: DataDir,
        dump: FeatureDump | ExcerptDump,
        front: FrontEnd,
        normalize: Normalize,
        device: torch.device,
        workers: int,
        settings: Pool,
        mixer: Superposition | None,
        by_portion: Mapping[str, Normalize] | None = None,
    ) -> None:
        super().__init__(data, dump, front, normalize, device, False, workers)
        portion = data.domains.get("portion", {})
        norms, self._norm_of = self._by_portion(portion, by_portion)
        self._mean, self._std = (
            torch.stack([getattr(norm, name) for norm in norms])[:, None, :, None].to(device)
            for name in ("mean", "std")
        )
        self.pool = ExamplePool(
            self.frames.tolist(),
            [frozenset(row.nonzero().flatten().tolist()) for row in self.targets],
            [portion.get(utt) == CURATED for utt in self.utterances],
            front.sample_rate,
            settings,
            mixer,
        )
        if self.pool.too_long == len(self):
            raise UserError(
                f"{data.path}: every clip is longer than train.pool.max_seconds "
                f"{settings.max_seconds:g}: raise it"
            )
        self.uniform = False  # mixes have lengths of their own
        self._pairs = PairReader(self._reader)

    def epoch(self, seed: int, number: int, settings: Train) -> list[list[Any]]:
        """The batches of an epoch, each of `Example`s.

        Raises:
            UserError: not one batch has filled.
        """
        generators = [seeds.generator(seed, seeds.ORDER, n) for n in range(number + 1)]
        batches, said = self.pool.epoch(number, generators, settings.batch_size)

        def share(part: int) -> float:
            return 100 * part / max(said.examples, 1)

        if not batches:
            raise UserError(
                f"train.batch_size: none of the epoch's {said.examples} examples fills a batch of "
                f"{settings.batch_size} by the rules of train.pool: lower it, or "
                "train.pool.patience, or set train.pool.event_rule none"
            )
        log.info(
            "epoch %d: %d examples, %.1f%% mixed, %.1f%% of the curated portion; %d batches with "
            "%.1f%% padding, of these %d not full; %.2f%% of the examples dropped, %.2f%% wait for "
            "the next epoch",
            *(number + 1, said.examples, share(said.mixed), 100 * self.pool.curated_share),
            *(said.batches, 100 * said.padding, said.short),
            *(share(said.dropped), share(said.waiting)),
        )
        if self.pool.too_long:
            text = "%d clips longer than train.pool.max_seconds %g are not trained on"
            log.info(text, self.pool.too_long, self.pool.settings.max_seconds)
        return batches

    def by_length(self, batch_size: int, max_padding: float = 0.2) -> list[list[Any]]:
        """All clips that are trained on once, unmixed, alike lengths together."""
        used = set(self.pool.usable.tolist())
        batches = [[i for i in b if i in used] for b in super().by_length(batch_size, max_padding)]
        return [[self._whole(i) for i in batch] for batch in batches if batch]

    def in_order(self, batch_size: int) -> list[list[Any]]:
        return [[self._whole(i)] for i in range(len(self))]

    def _whole(self, position: int) -> Example:
        return Example(position, -1, 0, 1.0, 0.0, int(self.frames[position]))

    def _from_archives(self, positions: Sequence[Sequence[Any]]) -> Iterator[Batch]:
        for examples, (base, ours, other, theirs) in self._loaded(positions):
            mixed = superpose(
                self._samples(base), self._samples(other), ours, theirs, _drawn(examples)
            )
            tags = [self.pool.tags_of(example) for example in examples]
            targets = torch.zeros(len(tags), len(self.labels))
            for row, own in zip(targets, tags, strict=True):
                row[list(own)] = 1.0
            lengths = torch.tensor([example.samples for example in examples])
            batch = MixedBatch(
                mixed[:, :, None], targets.to(self.device, non_blocking=True), lengths
            )
            norms = self._norm_of[[example.base for example in examples]]
            batch.norms = norms.to(self.device, non_blocking=True)
            yield batch

    def _by_portion(
        self, portion: Mapping[str, str], norms: Mapping[str, Normalize] | None
    ) -> tuple[list[Normalize], Tensor]:
        """The normalisations, and which of them each clip has."""
        if norms is None:
            return [self.normalize], torch.zeros(len(self), dtype=torch.long)
        names = sorted(norms)
        own = [portion.get(utt, "") for utt in self.utterances]
        if unknown := set(own) - set(names):
            raise UserError(
                f"train.pool.norm per_set: there are statistics of {', '.join(names) or 'no set'}, "
                f"none of {min(unknown) or 'clips without utt2portion'}"
            )
        return [norms[name] for name in names], torch.tensor([names.index(name) for name in own])

    def _in_norm(self, features: Tensor, batch: Batch) -> Tensor:
        assert isinstance(batch, MixedBatch)
        return (features - self._mean[batch.norms]) / self._std[batch.norms]

    def _samples(self, raw: Tensor) -> Tensor:
        """(B, C, L) in [-1, 1) on the device."""
        return raw.to(self.device, non_blocking=True)[:, :, 0] * (1 / FULL_SCALE)

    @property
    def _dataset(self) -> Dataset[Any]:
        return self._pairs


class PairReader(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Lists of examples -> (B, C, 1, L) int16 and (B,) samples: of the bases, of the partners."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getitem__(self, examples: list[Example]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        base, ours = self._reader[[example.base for example in examples]]
        mixed = [row for row, example in enumerate(examples) if example.partner >= 0]
        theirs = torch.zeros_like(ours)
        if not mixed:
            return base, ours, base.new_zeros(len(base), *base.shape[1:3], 1), theirs
        found, theirs[mixed] = self._reader[[examples[row].partner for row in mixed]]
        other = base.new_zeros(len(base), *found.shape[1:])
        other[mixed] = found
        return base, ours, other, theirs


def _drawn(examples: Sequence[Example]) -> Pairs:
    """The numbers of a batch's mixes."""
    _, partner, delay, own, part, samples = zip(*examples, strict=True)
    j = torch.tensor(partner)
    numbers = (torch.tensor(own), torch.tensor(part), torch.tensor(samples))
    return Pairs(j, j >= 0, torch.tensor(delay), *numbers)
