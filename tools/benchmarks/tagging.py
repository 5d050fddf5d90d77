"""Section tagging: what a step of UPB's tagger is made of, and the same as one first writes it.

"Plain loader" has our network, precision and process, so that its row is about the loader alone;
"plain loader and fp32" is a script of its own. On a CPU, where the network takes most of a step,
what differs is precision, layout and memory; the loader matters where a GPU has the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import scipy.signal
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.measuring import (
    Clock,
    Row,
    in_turns,
    on,
    paired,
    plain_program,
    quiet,
    section,
    write_corpus,
)
from benchmarks.training import Function
from espnet_like.augment import NoAugmentation, build_augmentation
from espnet_like.augment.superposition import Superposition
from espnet_like.data.excerpts import cut_in_two
from espnet_like.data.sets import combine
from espnet_like.features import Upb
from espnet_like.features.dump import FeatureDump, Settings
from espnet_like.features.excerpts import ExcerptDump
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.normalize import Normalize
from espnet_like.models.crnn import CRNN
from espnet_like.schema import Optimizer, Pool, Train
from espnet_like.training.batches import Batch
from espnet_like.training.losses import BinaryCrossEntropy
from espnet_like.training.pool import Example, ExamplePool
from espnet_like.training.pooled import PooledSet
from espnet_like.training.ranks import Ranks
from espnet_like.training.schedules import Constant
from espnet_like.training.trainer import Trainer

RATE, CLASSES, BATCH = 44100, 80, 16
FAST = {"precision": "bf16", "channels_last": True}  # egs/fsdkaggle19/conf/train.yaml
Wave = NDArray[np.float32]


@section
def tagging(work: Path, quick: bool) -> Iterator[Row]:
    """UPB's tagger: shares of its step; a loader's work and steps against a plain loader"""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    cores = len(os.sched_getaffinity(0)) if cuda else 0  # else all is done by this process
    count, steps, repeats = (24, 1, 1) if quick else (1024, 192, 5) if cuda else (64, 8, 3)
    load = (count, 1.0 if quick else 15.0, steps, device, cores)
    sizes = (("base_width", 2), ("hidden", 8)) if quick else ()
    clips, chosen = _clips(work, *load)
    plain = PlainSet(clips, chosen)
    step, plain_step = (_stepper(own, sizes, work, **FAST) for own in (clips, plain))

    def each(batches: Callable[[], Iterable[Any]], use: Callable[[Any], object]) -> Clock:
        return on(device, lambda: [use(batch) for batch in batches()])

    def ours() -> Iterator[Batch]:
        return clips.batches(chosen)

    with plain_program(device, _plain_steps, sizes, work / "plain", *load) as plain_steps:
        turns = in_turns(
            repeats,
            each(ours, step),
            plain_steps,
            each(plain.batches, plain_step),
            each(ours, lambda batch: None),
            each(ours, lambda batch: clips.prepared(batch, NoAugmentation())),
            each(lambda: chosen, clips._pairs.__getitem__),
            each(lambda: chosen, plain.__getitem__),
            _bucketing(16 if quick else 1, len(chosen)),
        )
    whole, fp32_whole, plain_whole, mixed, ready, read, plain_read, bucketed = (
        [seconds / len(chosen) for seconds in own] for own in turns
    )
    features = [max(a - b, 0.0) for a, b in zip(ready, mixed, strict=True)]
    examples = [example for batch in chosen for example in batch]
    long = sum(example.samples for example in examples) / RATE / len(examples)
    parts = {"reading and mixing": mixed, "features": features, "bucketing": bucketed}
    for name, own in parts.items():
        times = (1e3 * median(own), 1e3 * median(whole))
        what = f"{name}, step of {BATCH} x {long:.1f} s"
        yield Row("tagging", what, *times, "ms", paired(own, whole))
    # Where a GPU has the network, the mixing and the features, the cores do nothing but this:
    rates = (1 / median(read), 1 / median(plain_read))
    what = "batches of one core, plain loader"
    yield Row("tagging", what, *rates, "batches/s", paired(plain_read, read), (">=", 3.0))
    for name, own, target in (
        ("plain loader", plain_whole, None),
        ("plain loader and fp32", fp32_whole, (">=", 3.0)),
    ):
        rates = (1 / median(whole), 1 / median(own))
        what = f"steps on {device.type}, {name}"
        yield Row("tagging", what, *rates, "steps/s", paired(own, whole), target)


def _plain_steps(sizes: tuple[tuple[str, int], ...], work: Path, *load: Any) -> Function:
    """All of it as one first writes it: the plain loader, the network in fp32."""
    work.mkdir()
    clips = PlainSet(*_clips(work, *load))
    step = _stepper(clips, sizes, work)
    return lambda: [step(batch) for batch in clips.batches()]


def _clips(
    work: Path, count: int, seconds: float, steps: int, device: torch.device, cores: int
) -> tuple[PooledSet, list[list[Example]]]:
    """A corpus in the report's proportions, recordings of `seconds` cut in two, others whole.

    Returns:
        the training part and its first `steps` batches.
    """
    noise = write_corpus(work / "wav", count, 4, seconds, RATE, 1, "PCM_16")
    raw, dump = Settings.resolve({"name": "raw", "sample_rate": RATE}), work / "dump"
    dump_part(raw, noise, dump, 1, 1, log=quiet)
    merge_parts(raw, noise, dump, 1, log=quiet)
    rng = np.random.default_rng(0)
    labels = tuple(f"c{k:02d}" for k in range(CLASSES))
    tags = {u: tuple(rng.choice(labels, 2 if rng.random() < 0.2 else 1, False)) for u in noise.wav}
    portion = {u: "noisy" if i % 5 else "curated" for i, u in enumerate(noise.wav)}
    data = replace(noise, labels=labels, tags=tags, domains={"portion": portion})
    curated = data.subset(u for u, part in portion.items() if part == "curated")
    noisy = data.subset(u for u, part in portion.items() if part == "noisy")
    together = combine([curated, cut_in_two(noisy, RATE, 0)])
    normalize = Normalize(torch.zeros(128), torch.ones(128))
    # So few examples seldom fill a batch of unlike ones; which tags they have costs nothing.
    pool = Pool(repeats=8, event_rule="none")
    source = ExcerptDump(FeatureDump(dump), together)
    clips = PooledSet(together, source, Upb(), normalize, device, cores, pool, Superposition())
    return clips, clips.epoch(0, 0, Train(batch_size=BATCH))[:steps]


def _stepper(
    clips: Any, sizes: tuple[tuple[str, int], ...], work: Path, **settings: Any
) -> Callable[[Batch], None]:
    """The trainer's own step, with the report's settings."""
    torch.manual_seed(0)
    network = CRNN(CLASSES, **dict(sizes)).to(clips.device).train()
    if settings.get("channels_last"):
        network = network.to(memory_format=torch.channels_last)
    return Trainer(
        Train(optimizer=Optimizer(lr=3e-4), clip_norm=15.0, **settings),
        seed=0,
        fingerprint="",
        model=network,
        criterion=BinaryCrossEntropy(),
        schedule=Constant(),
        augmentation=build_augmentation(
            {"name": "chain", "methods": [{"name": "frequency_warp"}, {"name": "upb_masks"}]}
        ),
        clips=clips,
        monitor=None,
        directory=work,
        ranks=Ranks(),
    )._step


def _bucketing(part: int, steps: int) -> Clock:
    """Seconds that go to `steps` batches in drawing and bucketing an epoch of the whole corpus.

    Args:
        part: how many times smaller than the corpus.
    """
    rng = np.random.default_rng(0)
    curated, noisy = 4964 // part, 19815 // part
    shares = rng.uniform(0.1, 0.9, noisy)
    seconds = [np.clip(rng.lognormal(1.8, 0.9, curated), 0.3, 30), 15 * shares, 15 * (1 - shares)]
    lengths = (RATE * np.concatenate(seconds)).astype(int).tolist()
    tags = [frozenset(rng.choice(CLASSES, rng.choice([1, 1, 1, 1, 2]), False)) for _ in lengths]
    portion = [i < curated for i in range(len(lengths))]

    def clock() -> float:
        pool = ExamplePool(lengths, tags, portion, RATE, Pool(), Superposition())
        start = process_time()
        batches, _ = pool.epoch(0, [torch.Generator().manual_seed(0)], BATCH)
        return (process_time() - start) / len(batches) * steps

    return clock


class PlainSet(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The batches of a pool as one first writes them: in the loader, clip by clip, with numpy."""

    def __init__(self, clips: PooledSet, chosen: list[list[Example]]) -> None:
        self.device, self._clips = clips.device, clips
        self._dump = clips._reader._dump
        mel = clips.front.mel(torch.eye(clips.front.n_fft // 2 + 1, device=clips.device))
        self._mel = np.ascontiguousarray(mel.T.cpu(), np.float32)  # (F, bins)
        self._loader = DataLoader(
            self,
            batch_size=None,
            sampler=chosen,
            num_workers=clips._workers,
            persistent_workers=clips._workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def batches(self) -> Iterator[Batch]:
        for values in self._loader:
            yield Batch(*(value.to(self.device, non_blocking=True) for value in values))

    def prepared(self, batch: Batch, augmentation: Any, *_: Any) -> tuple[Batch, Any]:
        return batch, augmentation

    def __getitem__(self, examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
        found = [self._features(self._mixed(example)) for example in examples]
        frames = torch.tensor([one.shape[1] for one in found])
        batch = np.zeros((len(found), 1, 128, int(frames.max())), np.float32)
        targets = torch.zeros(len(found), len(self._clips.labels))
        for row, (one, example) in enumerate(zip(found, examples, strict=True)):
            batch[row, 0, :, : one.shape[1]] = one
            targets[row, list(self._clips.pool.tags_of(example))] = 1
        return torch.from_numpy(batch), targets, frames

    def _wave(self, position: int) -> Wave:
        samples = self._dump.read(self._clips.utterances[position])[:, 0]
        return np.asarray(samples / np.float32(32768), np.float32)

    def _mixed(self, example: Example) -> Wave:
        base = self._wave(example.base)
        out = np.zeros(example.samples, np.float32)
        lead = max(-example.delay, 0)
        out[lead : lead + len(base)] = example.own * base
        if example.partner >= 0:
            other = self._wave(example.partner)
            gain = example.part * np.abs(base).max() / max(np.abs(other).max(), 1e-3)
            start = lead + example.delay
            out[start : start + len(other)] += gain * other
        return out

    def _features(self, wave: Wave) -> Wave:
        _, _, spectrum = scipy.signal.stft(
            wave, RATE, window="blackman", nperseg=1764, noverlap=882, nfft=2048, padded=True
        )
        return np.log(np.maximum(self._mel @ np.abs(spectrum) ** 2, 1e-18))


def same(work: Path) -> float:
    """The largest difference between a batch of ours and of the plain loader."""
    clips, chosen = _clips(work, 24, 1.0, 1, torch.device("cpu"), 0)
    (batch,) = clips.batches(chosen)
    (plain,) = PlainSet(clips, chosen).batches()
    ours, _ = clips.prepared(batch, NoAugmentation())
    assert torch.equal(ours.targets, plain.targets) and ours.features.shape == plain.features.shape
    return float((ours.features - plain.features).abs().max())
