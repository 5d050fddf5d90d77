"""Batches of normalised features: one tensor on the device when it fits, else arks with workers.

Both ways give the same numbers in the same order; only the time differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from espnet_like.augment.base import START, Augmentation, Progress
from espnet_like.augment.gather import take_frames
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.features.dump import FeatureDump
from espnet_like.features.excerpts import ExcerptDump
from espnet_like.features.normalize import Normalize
from espnet_like.schema import Train
from espnet_like.training import seeds

SHARE_OF_MEMORY = 0.5  # of what is free; the rest is the model's


class Batch(NamedTuple):
    """Clips to train on or to score.

    features: (B, C, F, T) normalised, zero after a clip's end.
    targets: (B, K) one-hot or n-hot.
    lengths: (B,) frames of each clip, or None when all clips of the set are equally long.
    """

    features: Tensor
    targets: Tensor
    lengths: Tensor | None


class ClipSet:
    """The clips of one data directory, by position.

    Args:
        data: the data directory (its utterances, tags and label order); utterances that the dump
            lists as bad are left out.
        dump: the features of (at least) these utterances.
        normalize: applied to each clip's frames.
        device: where batches go.
        in_memory: hold everything on the device; `auto`: when it fits into half of what is free.
        workers: loader processes when not in memory.

    Raises:
        UserError: an utterance without features.
    """

    def __init__(
        self,
        data: DataDir,
        dump: FeatureDump | ExcerptDump,
        normalize: Normalize,
        device: torch.device,
        in_memory: bool | Literal["auto"] = "auto",
        workers: int = 0,
    ) -> None:
        data = data.subset([utt for utt in data.utterances if utt not in dump.bad])
        self.utterances = data.utterances
        self.labels = data.labels
        missing = [utt for utt in self.utterances if utt not in dump]
        if missing:
            raise UserError(
                f"{dump.path}/feats.scp: no features of {missing[0]} "
                f"({len(missing)} of the {len(self.utterances)} utterances of {data.path}): "
                "run --stage feats"
            )
        self.device = device
        self.normalize = normalize.to(device)
        self.targets = _targets(data)
        self.frames = torch.tensor([dump.num_frames(utt) for utt in self.utterances])
        self.uniform = bool((self.frames == self.frames[0]).all())
        self.shape = (dump.channels, dump.bins, int(self.frames.min()))  # of the shortest clip
        self._reader = Reader(self.utterances, dump, self.frames)
        self._workers = workers
        values = dump.channels * dump.bins * int(self.frames.max()) * len(self)
        needed = values * self._reader.dtype.itemsize
        if in_memory == "auto":
            in_memory = needed <= SHARE_OF_MEMORY * free_memory(device)
        self.tensor = self._load_all() if in_memory else None
        self._device_targets = self.targets.to(device) if in_memory else None
        self._schedule: list[list[Any]] = []
        self._loader: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return len(self.utterances)

    def epoch(self, seed: int, number: int, settings: Train) -> list[list[Any]]:
        """The batches of an epoch: what `batches` takes. One permutation of the clips, cut."""
        generator = seeds.generator(seed, seeds.ORDER, number)
        order = torch.randperm(len(self), generator=generator).tolist()
        size = settings.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        batches = [b for b in batches if len(b) == size or not settings.drop_last]
        if not batches:
            raise UserError(
                f"train.batch_size: {size} clips a batch, but the training part has {len(order)}"
            )
        return batches

    def batches(self, positions: Sequence[Sequence[Any]]) -> Iterator[Batch]:
        """The batches whose clips `positions` lists."""
        if self.tensor is not None:
            yield from (self._from_memory(list(chosen)) for chosen in positions)
        else:
            try:
                yield from ahead(self._from_archives(positions))
            except UserError as error:  # a worker's error comes with its traceback as text
                raise UserError(str(error).rpartition("UserError: ")[2], error.code) from None

    def _from_archives(self, positions: Sequence[Sequence[Any]]) -> Iterator[Batch]:
        for chosen, (raw, frames) in self._loaded(positions):
            features = self._normalized(raw.to(self.device, non_blocking=True), frames)
            targets = self.targets[chosen].to(self.device, non_blocking=True)
            yield Batch(features, targets, self._lengths(frames))

    def _loaded(self, positions: Sequence[Sequence[Any]]) -> Iterator[tuple[list[Any], Any]]:
        """Each batch's positions, and what the reader makes of them."""
        self._schedule[:] = [list(chosen) for chosen in positions]
        if self._loader is None:  # made once: its workers live on from epoch to epoch
            self._loader = DataLoader(
                self._dataset,
                batch_size=None,
                sampler=_Schedule(self._schedule),
                num_workers=self._workers,
                persistent_workers=self._workers > 0,
                pin_memory=self.device.type == "cuda",
            )
        yield from zip(self._schedule, self._loader, strict=True)

    @property
    def _dataset(self) -> Dataset[Any]:
        """What the loader's workers read from."""
        return self._reader

    def prepared(
        self,
        batch: Batch,
        augmentation: Augmentation,
        generator: torch.Generator | None = None,
        progress: Progress = START,
    ) -> tuple[Batch, Augmentation]:
        """The batch as features, and what draws their plan."""
        return batch, augmentation

    def in_order(self, batch_size: int) -> list[list[int]]:
        """All clips once, in order; clips of unequal length go one by one, free of padding."""
        size = batch_size if self.uniform else 1
        return [list(range(i, min(i + size, len(self)))) for i in range(0, len(self), size)]

    def by_length(self, batch_size: int, max_padding: float = 0.2) -> list[list[int]]:
        """All clips once, alike lengths together: at most `max_padding` of a clip is padding."""
        batches: list[list[int]] = []
        shortest = 0.0
        for position in self.frames.argsort(descending=True, stable=True).tolist():
            frames = int(self.frames[position])
            if not batches or len(batches[-1]) == batch_size or frames < shortest:
                batches.append([])
                shortest = (1 - max_padding) * frames
            batches[-1].append(position)
        return batches

    def _from_memory(self, chosen: list[int]) -> Batch:
        assert self.tensor is not None and self._device_targets is not None
        index = torch.tensor(chosen)
        frames = self.frames[index]
        index = index.to(self.device, non_blocking=True)
        features = self.tensor.index_select(0, index)[..., : int(frames.max())]
        targets = self._device_targets.index_select(0, index)
        return Batch(features, targets, self._lengths(frames))

    def _load_all(self) -> Tensor:
        shape = (len(self), *self._reader.shape, int(self.frames.max()))
        tensor = torch.zeros(shape, dtype=self._reader.dtype, device=self.device)
        for start in range(0, len(self), 64):
            chosen = list(range(start, min(start + 64, len(self))))
            raw, frames = self._reader[chosen]
            part = self._normalized(raw.to(self.device), frames)
            tensor[start : start + len(chosen), ..., : part.shape[-1]] = part
        return tensor

    def _normalized(self, raw: Tensor, frames: Tensor) -> Tensor:
        features = self.normalize(raw)
        return features if self.uniform else zero_padding(features, frames.to(raw.device))

    def _lengths(self, frames: Tensor) -> Tensor | None:
        return None if self.uniform else frames.to(self.device, non_blocking=True)


class Reader(Dataset[tuple[Tensor, Tensor]]):
    """Lists of positions -> raw features (B, C, F, T), zero padded, and frames (B,).

    `features raw` have one bin; their frames are int16 samples.
    """

    def __init__(
        self, utterances: Sequence[str], dump: FeatureDump | ExcerptDump, frames: Tensor
    ) -> None:
        self._utterances = utterances
        self._dump = dump
        self._frames = frames
        self.shape = (dump.channels, dump.bins)
        self.dtype = torch.int16 if dump.features["name"] == "raw" else torch.float32

    def __getitem__(self, chosen: list[int]) -> tuple[Tensor, Tensor]:
        frames = self._frames[chosen]
        batch = torch.zeros(len(chosen), *self.shape, int(frames.max()), dtype=self.dtype)
        for row, position in enumerate(chosen):
            matrix = torch.from_numpy(self._dump.read(self._utterances[position]))
            batch[row, ..., : len(matrix)] = matrix.view(len(matrix), *self.shape).permute(1, 2, 0)
        return batch, frames


class _Schedule(Sampler[list[Any]]):
    """Gives what stands in the list now, so that one loader serves every epoch."""

    def __init__(self, schedule: list[list[Any]]) -> None:
        self._schedule = schedule

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(list(self._schedule))

    def __len__(self) -> int:
        return len(self._schedule)


def crop(batch: Batch, frames: int, generator: torch.Generator) -> Batch:
    """`frames` frames of each clip, from anywhere in it; a shorter one stays whole."""
    size, total = len(batch.features), batch.features.shape[-1]
    if total <= frames:
        return batch
    lengths = batch.features.new_full((size,), total) if batch.lengths is None else batch.lengths
    unit = torch.rand(size, generator=generator).to(batch.features.device, non_blocking=True)
    first = (unit * ((lengths - frames).clamp(min=0) + 1)).long()
    index = first[:, None] + torch.arange(frames, device=first.device)
    kept = None if batch.lengths is None else batch.lengths.clamp(max=frames)
    return Batch(take_frames(batch.features, index), batch.targets, kept)


def zero_padding(features: Tensor, frames: Tensor) -> Tensor:
    """(B, C, F, T) with zeros after each clip's (B,) frames."""
    inside = torch.arange(features.shape[-1], device=features.device) < frames[:, None]
    return torch.where(inside[:, None, None, :], features, 0.0)


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """`batches`, each made ready by a thread while the one before it is in use.

    Taking a batch over from a worker and normalising it are a few per cent of a small network's
    step, and a busy machine lets both wait for a free core.
    """
    threads = torch.get_num_threads()  # a new thread would take every core
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on the device now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _targets(data: DataDir) -> Tensor:
    position = {label: i for i, label in enumerate(data.labels)}
    targets = torch.zeros(len(data.utterances), len(position))
    for row, utt in enumerate(data.utterances):
        for tag in data.tags.get(utt, ()):
            if tag not in position:
                raise UserError(
                    f"{data.path}/utt2labels: {utt} has the label {tag}, which {data.path}/labels "
                    "lacks: add it there or mend the utterance"
                )
            targets[row, position[tag]] = 1.0
    return targets
