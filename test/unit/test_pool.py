"""UPB's examples and batches, against the rules of the report."""

from __future__ import annotations

import itertools

import pytest
import torch

from espnet_like.augment.superposition import Superposition
from espnet_like.schema import Pool
from espnet_like.training.pool import ExamplePool

RATE, SIZE = 100, 4


def pool(clips: int = 60, settings: Pool | None = None, mixer: Superposition | None = None, **more):
    generator = torch.Generator().manual_seed(7)
    lengths = more.get("lengths") or torch.randint(30, 3200, (clips,), generator=generator).tolist()
    tags = more.get("tags") or [frozenset({i % 9, (i * i) % 9}) for i in range(len(lengths))]
    curated = [i % 3 == 0 for i in range(len(lengths))]
    settings = settings or Pool(repeats=2, patience=30)
    return ExamplePool(lengths, tags, curated, RATE, settings, mixer)


def generators(number: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 * seed + i) for i in range(number)]


def epochs(examples: ExamplePool, number: int, seed: int = 0):
    return [examples.epoch(n, generators(number, seed), SIZE) for n in range(number)]


@pytest.mark.parametrize("rule", ["antichain", "disjoint", "none"])
def test_every_batch_keeps_the_rules(rule):
    examples = pool(settings=Pool(repeats=2, patience=20, event_rule=rule), mixer=Superposition())
    for batches, log in epochs(examples, 3):
        assert batches and log.padding <= 0.2
        for batch in batches:
            assert 1 <= len(batch) <= SIZE
            longest = max(e.samples for e in batch)
            assert all((longest - e.samples) / longest <= 0.2 + 1e-9 for e in batch)
            assert longest <= 30 * RATE
            for a, b in itertools.combinations([examples.tags_of(e) for e in batch], 2):
                if rule == "antichain":
                    assert not a <= b and not b <= a
                elif rule == "disjoint":
                    assert not a & b


def test_an_epoch_is_all_clips_once_and_the_curated_ones_again():
    examples = pool(mixer=None)
    (batches, log), *_ = epochs(examples, 1)
    short = [i for i, n in enumerate(examples.lengths.tolist()) if n <= 30 * RATE]
    curated = [i for i in short if i % 3 == 0]
    assert log.examples == len(short) + 2 * len(curated) and log.mixed == 0
    assert examples.curated_share == 2 * len(curated) / log.examples
    left = [e for bucket in examples._open[1] for e in bucket.examples]
    seen = [e.base for batch in batches for e in batch] + [e.base for e in left]
    assert sorted(seen) == sorted(short + 2 * curated)
    assert len(left) == log.waiting


@pytest.mark.parametrize("patience", [12, 2000])
def test_who_fits_nowhere_comes_an_epoch_later_however_long_others_wait(patience):
    """41 clips in batches of 4, one of them of a length that no other has."""
    lengths, tags = [100] * 40 + [2900], [frozenset({i % 9}) for i in range(41)]
    settings = Pool(repeats=0, patience=patience)
    done = epochs(pool(lengths=lengths, tags=tags, settings=settings), 20)
    shown = [sum(e.base == 40 for b in batches for e in b) for batches, _ in done]
    assert shown == [0, *[1] * 19]
    assert all(log.waiting <= 12 for _, log in done)


def test_nobody_starves():
    """A clip of a length that no other has comes in every epoch, one way or the other."""
    lengths = [100] * 40 + [2900]
    tags = [frozenset({i % 9}) for i in range(41)]
    examples = pool(lengths=lengths, tags=tags, settings=Pool(repeats=0, patience=5))
    lone = [e for batches, _ in epochs(examples, 6) for b in batches for e in b if e.base == 40]
    assert len(lone) >= 4  # what is left in the last epoch has not come yet
    dropping = pool(
        lengths=lengths, tags=tags, settings=Pool(repeats=0, patience=5, incomplete="drop")
    )
    done = epochs(dropping, 6)
    assert not [e for batches, _ in done for b in batches for e in b if e.base == 40]
    assert sum(log.dropped for _, log in done) >= 4


def test_nothing_is_lost_or_shown_twice():
    examples = pool(mixer=Superposition())
    done = epochs(examples, 5)
    shown = sum(len(b) for batches, _ in done for b in batches)
    assert shown + done[-1][1].waiting == sum(log.examples for _, log in done)
    assert all(log.dropped == 0 for _, log in done)


def test_an_epoch_is_the_same_from_wherever_training_starts():
    examples = pool(mixer=Superposition())
    in_order = [batches for batches, _ in epochs(examples, 4)]
    fresh = pool(mixer=Superposition())
    assert fresh.epoch(3, generators(4), SIZE)[0] == in_order[3]
    assert pool(mixer=Superposition()).epoch(0, generators(1, seed=1), SIZE)[0] != in_order[0]


def test_the_curated_portion_is_mixed_with_itself():
    examples = pool(clips=200, settings=Pool(repeats=5, patience=5), mixer=Superposition())
    drawn = examples._draw(torch.Generator().manual_seed(0))
    noisy_base = [e for e in drawn if e.base % 3]
    assert {e.partner % 3 == 0 for e in noisy_base if e.partner >= 0} == {True, False}
    of_curated = [e for e in drawn if e.base % 3 == 0 and e.partner >= 0]
    # five portions of curated partners alone, and one where a third of the partners is curated
    share = sum(e.partner % 3 == 0 for e in of_curated) / len(of_curated)
    assert share == pytest.approx((5 + 1 / 3) / 6, abs=0.05)


def test_partners_are_uniform_over_those_that_are_short_enough():
    method = Superposition(probability=1.0)
    lengths, others = torch.full((6000,), 100), torch.tensor([300, 50, 110, 111, 80])
    drawn = method.draw_among(lengths, others, RATE, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn.partner, minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert (counts[[1, 2, 4]] - 2000).abs().max() < 150
    assert drawn.mixed.all() and drawn.samples.max() <= 30 * RATE
    low, high = -others[drawn.partner], torch.tensor(100)  # 30 s are far away
    assert (drawn.delay >= low).all() and (drawn.delay <= high).all()
    alone = method.draw_among(torch.tensor([10, 3100]), others, RATE, torch.Generator())
    assert not alone.mixed.any() and alone.samples.tolist() == [10, 3100]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"repeats": -1}, "repeats"),
        ({"max_padding": 1.0}, "padding"),
        ({"patience": 0}, "patience"),
    ],
)
def test_wrong_settings_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        Pool(**change)
