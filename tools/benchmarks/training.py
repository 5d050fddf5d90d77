"""Sections on training: step, augment, wait. CP-ResNet, rho 5, on 5-s clips of 256 mel bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring import (
    Row,
    here,
    in_turns,
    paired,
    plain_program,
    quiet,
    section,
    write_corpus,
)
from espnet_like.augment import Augmentation, NoAugmentation, SpecAugmentPP, one_hot
from espnet_like.config import experiment
from espnet_like.features.dump import Settings
from espnet_like.features.make_dump import dump_part, merge_parts
from espnet_like.features.stats import compute_stats
from espnet_like.files import read_json
from espnet_like.layers import merge
from espnet_like.models.cp_resnet import CPResNet
from espnet_like.schema import Train
from espnet_like.training.batches import Batch
from espnet_like.training.losses import CrossEntropy
from espnet_like.training.ranks import Ranks
from espnet_like.training.runs import Run
from espnet_like.training.schedules import Constant
from espnet_like.training.trainer import Trainer

CLASSES = 10
SIZES = ((32, 16), (128, 4))  # base width, clips in a batch: the larger network is slow here
FAST = {"precision": "bf16", "channels_last": True, "threads": 1}
Function = Callable[[], object]


@section
def step(work: Path, quick: bool) -> Iterator[Row]:
    """training step in bf16, channels_last, with fused Adam, against a plain fp32 step"""
    for width, size in ((4, 2),) if quick else SIZES:
        frames = 64 if quick else 216
        own = here(_trainer_step(width, _batch(size, frames), work))
        with plain_program(torch.device("cpu"), _plain_step, width, size, frames) as plain:
            ours, other = in_turns(1 if quick else 8, own, plain)
        ms = (1e3 * median(ours), 1e3 * median(other))
        what = f"step, base width {width}, batch {size}"
        yield Row("step", what, *ms, "ms", paired(other, ours), (">=", 2.5))


@section
def augment(work: Path, quick: bool) -> Iterator[Row]:
    """SpecAugment++, draw and apply, mean over layers 0 to 4, as a share of the step"""
    for width, size in ((4, 2),) if quick else SIZES:
        batch = _batch(size, 64 if quick else 216)
        modes = {mode: _all_layers(mode, _maps(width, batch), batch) for mode in MODES}
        clocks = map(here, (_trainer_step(width, batch, work), *modes.values()))
        whole, *fives = in_turns(1 if quick else 8, *clocks)
        for mode, five in zip(modes, fives, strict=True):
            own = [seconds / 5 for seconds in five]
            ms = (1e3 * median(own), 1e3 * median(whole))
            what = f"{mode}, base width {width}, batch {size}"
            yield Row("augment", what, *ms, "ms", paired(own, whole), ("<=", 0.03))


def _batch(size: int, frames: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(size, 1, 256, frames, generator=generator)
    return Batch(features, one_hot(torch.arange(size) % CLASSES, CLASSES), None)


def _trainer_step(width: int, batch: Batch, work: Path) -> Function:
    torch.manual_seed(0)
    model = CPResNet(CLASSES, base_width=width, rho=5).to(memory_format=torch.channels_last)
    return step_of(model, batch, work, NoAugmentation())


def step_of(model: nn.Module, batch: Batch, work: Path, augmentation: Augmentation) -> Function:
    """The trainer's own step, fetching no data."""
    trainer = Trainer(
        Train(**FAST),
        seed=0,
        fingerprint="",
        model=model,
        criterion=CrossEntropy(),
        schedule=Constant(),
        augmentation=augmentation,
        clips=SimpleNamespace(
            device=batch.features.device,
            prepared=lambda batch, augmentation, *_: (batch, augmentation),
        ),
        monitor=None,
        directory=work,
        ranks=Ranks(),
    )
    return lambda: trainer._step(batch)


def _plain_step(width: int, size: int, frames: int) -> Function:
    """The step of torch's tutorials."""
    batch = _batch(size, frames)
    torch.manual_seed(0)
    model = CPResNet(CLASSES, base_width=width, rho=5)
    optimizer = torch.optim.Adam(model.parameters())

    def plain() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(batch.features), batch.targets).backward()
        optimizer.step()

    return plain


MODES = ("zero", "mixture", "cutting")


def _maps(width: int, batch: Batch) -> list[Tensor]:
    """What arrives at each tap in training."""
    found: list[Tensor] = []

    def tap(k: int, x: Tensor) -> Tensor:
        found.append(x.detach().requires_grad_(k > 0))
        return x

    model = CPResNet(CLASSES, base_width=width, rho=5).to(memory_format=torch.channels_last)
    features = batch.features.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        model(features, tap=tap)
    return found


def _all_layers(mode: Any, maps: list[Tensor], batch: Batch) -> Function:
    """Plans for each layer in turn: drawn, applied, differentiated."""
    methods = [SpecAugmentPP(mode, (k,)) for k in range(len(maps))]
    gradients = [torch.ones_like(x) for x in maps]

    def layers() -> None:
        for k, method in enumerate(methods):
            plan = method.draw(batch.features, batch.targets)
            changed = plan(k, maps[k])
            if k:  # nothing wants the gradient of the input
                torch.autograd.grad(changed, maps[k], gradients[k])

    return layers


@section
def wait(work: Path, quick: bool) -> Iterator[Row]:
    """share of an epoch spent waiting for data, by the clock on the wall"""
    clips, epochs = (16, 2) if quick else (320, 6)  # as many clips as ESC-10 trains on
    base = prepare(work, clips, 0.5 if quick else 5.0)
    model = {"base_width": 4 if quick else 32, "rho": 5}
    for where, in_memory, workers in (("memory", True, 0), ("archives, 2 workers", False, 2)):
        own = {"epochs": epochs, "workers": workers}
        layers = {"model": model, "data": {"in_memory": in_memory}, "train": own}
        train(work / where, merge(base, layers))
        shares, seconds = [], []
        for row in read_json(work / where / "train.json")["history"]:
            shares.append(row["waiting"])
            seconds.append(clips / row["clips_per_second"])
        first = (shares[0] * seconds[0], seconds[0], "s", shares[0])
        share, whole = median(shares[1:]), median(seconds[1:])
        yield Row("wait", f"from {where}", share * whole, whole, "s", share, ("<=", 0.02))
        if workers:
            yield Row("wait", "  its first epoch, which starts them", *first)


def prepare(root: Path, clips: int, seconds: float) -> dict[str, Any]:
    """A corpus, its features and their statistics; the configuration of a run on them."""
    corpus = write_corpus(root / "wav", clips, 8, seconds, 22050, 1, "PCM_16")
    settings, dump = Settings.resolve({"name": "cpjku"}), root / "dump"
    dump_part(settings, corpus, dump, 1, 1, log=quiet)
    merge_parts(settings, corpus, dump, 1, log=quiet)
    compute_stats(dump, corpus, root / "stats.json", log=quiet)
    directory = str(corpus.path)
    return {
        "features": settings.features,
        "model": {"name": "cp_resnet", "num_classes": CLASSES},
        "augment": {"name": "specaugment_pp"},
        "data": {
            "dump": str(dump),
            "stats": str(root / "stats.json"),
            "train": directory,
            "test": directory,
        },
        "train": {"batch_size": 16, "schedule": {"name": "constant"}, **FAST},
    }


def train(directory: Path, layers: dict[str, Any]) -> None:
    """Stage train."""
    Run(directory, experiment(layers)).train(torch.device("cpu"))
