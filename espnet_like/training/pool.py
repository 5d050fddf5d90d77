"""What a tagger is shown: pairs of clips to superpose, and batches of alike lengths.

Ebbers and Haeb-Umbach, DCASE 2019 Task 2 technical report (UPB), sections 3.1 and 3.2. Lengths
and tags of a mix decide which batch it fits into, so an epoch is drawn from metadata, before
anything is loaded: the same seed and epoch give the same batches whatever loads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from espnet_like.augment.superposition import Superposition
from espnet_like.schema import Pool

CURATED = "curated"  # the value of domain `portion` that counts `repeats` times


class Example(NamedTuple):
    """One clip, perhaps with another laid over it.

    base, partner: positions in the set; partner -1 for none.
    delay: samples by which the partner starts later (negative: earlier).
    own, part: factors of the base, and of the partner as loud as the base.
    samples: length of the mix.
    """

    base: int
    partner: int
    delay: int
    own: float
    part: float
    samples: int


@dataclass(slots=True)
class Bucket:
    """An open batch: lengths within `low` .. `high` still fit.

    born: the example of the epoch that opened it; below 0, counted back from the epoch's first.
    """

    born: int
    low: float = 0.0
    high: float = float("inf")
    examples: list[Example] = field(default_factory=list)
    tags: list[frozenset[int]] = field(default_factory=list)


class Log(NamedTuple):
    """What became of an epoch's examples."""

    examples: int
    mixed: int
    batches: int
    short: int  # batches smaller than asked for, given out because they had waited too long
    dropped: int  # examples of such batches, where they are dropped
    waiting: int  # examples of batches that are still open
    padding: float  # share of a batch's samples that is padding


class ExamplePool:
    """Draws the examples of an epoch and puts them into batches.

    An epoch is one pass over all clips, each mixed with one of all clips (the noisy portion), and
    `repeats` passes over the curated ones, mixed among themselves (the curated portion), in random
    order. A batch that has not filled when the epoch ends stays open in the next.

    Args:
        lengths: samples of each clip.
        tags: of each clip, as class numbers.
        curated: which clips are of the curated part.
        rate: Hz.
        settings: see `schema.Pool`.
        mixer: the method that mixes; None for no mixing.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        tags: Sequence[frozenset[int]],
        curated: Sequence[bool],
        rate: int,
        settings: Pool,
        mixer: Superposition | None,
    ) -> None:
        self.lengths = torch.as_tensor(lengths, dtype=torch.long)
        self.tags = list(tags)
        self.rate, self.settings, self.mixer = rate, settings, mixer
        short = self.lengths <= int(settings.max_seconds * rate)
        self.too_long = int((~short).sum())
        self.usable = short.nonzero().flatten()
        self.curated = (short & torch.as_tensor(curated, dtype=torch.bool)).nonzero().flatten()
        self._open: dict[int, list[Bucket]] = {0: []}  # as an epoch finds them

    @property
    def curated_share(self) -> float:
        """Share of the examples that are of the curated portion."""
        passes = self.settings.repeats * len(self.curated)
        return passes / max(passes + len(self.usable), 1)

    def epoch(
        self, number: int, generators: Sequence[torch.Generator], batch_size: int
    ) -> tuple[list[list[Example]], Log]:
        """The batches of epoch `number`.

        Args:
            number: counted from 0.
            generators: one for each epoch up to this one: an epoch starts with the batches that
                the one before it has left open, which is drawn again unless they are known.
            batch_size: examples in a full batch.
        """
        first = max(epoch for epoch in self._open if epoch <= number)
        for epoch in range(first, number + 1):
            open_ = deepcopy(self._open[epoch])
            batches, log = self._batches(self._draw(generators[epoch]), open_, batch_size)
            self._open[epoch + 1] = open_
        return batches, log

    def _draw(self, generator: torch.Generator) -> list[Example]:
        """The examples of one epoch in random order."""
        portions = [(self.usable, self.usable)]
        if len(self.curated):
            portions += [(self.curated, self.curated)] * self.settings.repeats
        examples = [e for portion in portions for e in self._mixed(*portion, generator)]
        order = torch.randperm(len(examples), generator=generator).tolist()
        return [examples[i] for i in order]

    def _mixed(
        self, bases: Tensor, others: Tensor, generator: torch.Generator
    ) -> Iterator[Example]:
        ours = self.lengths[bases]
        if self.mixer is None:
            for base, samples in zip(bases.tolist(), ours.tolist(), strict=True):
                yield Example(base, -1, 0, 1.0, 0.0, samples)
            return
        drawn = self.mixer.draw_among(ours, self.lengths[others], self.rate, generator)
        partner = torch.where(drawn.mixed, others[drawn.partner], -1)
        columns = (bases, partner, drawn.delay, drawn.own, drawn.part, drawn.samples)
        for row in zip(*(column.tolist() for column in columns), strict=True):
            yield Example(*row)

    def tags_of(self, example: Example) -> frozenset[int]:
        """The tags of both clips."""
        own = self.tags[example.base]
        return own if example.partner < 0 else own | self.tags[example.partner]

    def _batches(
        self, examples: list[Example], open_: list[Bucket], size: int
    ) -> tuple[list[list[Example]], Log]:
        """The batches that are given out, and what became of the examples.

        Args:
            examples: of the epoch.
            open_: batches that are not full, the oldest first; changed to those left.
            size: examples in a full batch.
        """
        settings = self.settings
        ratio = 1 - settings.max_padding
        patience = min(settings.patience * size, len(examples))
        batches: list[list[Example]] = []
        short = dropped = 0
        for number, example in enumerate(examples):
            tags = self.tags_of(example)
            samples = example.samples
            for bucket in open_:
                if bucket.low <= samples <= bucket.high and self._unlike(tags, bucket.tags):
                    break
            else:
                open_.append(bucket := Bucket(number))
            bucket.examples.append(example)
            bucket.tags.append(tags)
            bucket.low = max(bucket.low, ratio * samples)
            bucket.high = min(bucket.high, samples / ratio)
            if len(bucket.examples) == size:
                batches.append(bucket.examples)
                open_.remove(bucket)
            if open_ and number - open_[0].born >= patience:
                expired = open_.pop(0)
                short += 1
                if settings.incomplete == "emit":
                    batches.append(expired.examples)
                else:
                    dropped += len(expired.examples)
        for bucket in open_:
            bucket.born -= len(examples)
        waiting = sum(len(bucket.examples) for bucket in open_)
        mixed = sum(example.partner >= 0 for example in examples)
        log = Log(len(examples), mixed, len(batches), short, dropped, waiting, _padding(batches))
        return batches, log

    def _unlike(self, tags: frozenset[int], others: list[frozenset[int]]) -> bool:
        """Whether the event rule lets an example join those of a batch."""
        rule = self.settings.event_rule
        if rule == "antichain":
            return not any(tags <= other or other <= tags for other in others)
        return rule == "none" or all(tags.isdisjoint(other) for other in others)


def _padding(batches: list[list[Example]]) -> float:
    """Share of all batches' samples that no example has."""
    whole = sum(len(batch) * max(e.samples for e in batch) for batch in batches)
    return 1 - sum(e.samples for batch in batches for e in batch) / whole if whole else 0.0
