"""The schema of every YAML, as frozen dataclasses; `config` reads and checks them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from espnet_like.layers import plain

Selection = Literal["last", "best_valid", "best_test", "best_mean"]


@dataclass(frozen=True)
class Audio:
    """What the dump reads: `channels` 1 (stereo is averaged) or 2; `expect_rate` in Hz if fixed."""

    channels: Literal[1, 2] = 1
    expect_rate: int | None = None


@dataclass(frozen=True)
class Data:
    """Where a run finds its data.

    Args:
        corpus: name of the corpus in result tables.
        dump: directory of the feature dump.
        waves: directory of the dump of waveforms, for augmentations that change these.
        stats: normalisation of the training part (JSON of stage 3).
        norm: data directory that the statistics are of, where it is not the training part.
        train: data directory to train on.
        valid: data directory that chooses the epoch, if one does.
        test: data directory to score.
        in_memory: keep features as one tensor on the device; `auto` when they fit.
    """

    corpus: str = ""
    dump: str = ""
    waves: str | None = None
    stats: str = ""
    norm: str | None = None
    train: str = ""
    valid: str | None = None
    test: str = ""
    in_memory: bool | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Optimizer:
    """Adam; `lr` is the rate that the schedule starts from."""

    name: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"train.optimizer.lr must be positive, not {self.lr}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"train.optimizer.betas must be in [0, 1), not {list(self.betas)}")
        if self.eps < 0 or self.weight_decay < 0:
            raise ValueError("train.optimizer.eps and weight_decay must not be negative")


@dataclass(frozen=True)
class Average:
    """Equal-weight average of the weights (SWA).

    Args:
        start, every: with unit `epoch`, after epoch `start` (0-based) and each `every` epochs
            from there; with `iteration`, at every multiple of `every` steps after step `start`.
        unit: what they count.
    """

    start: int = 250
    every: int = 3
    unit: Literal["epoch", "iteration"] = "epoch"

    def __post_init__(self) -> None:
        if self.start < 0 or self.every < 1:
            raise ValueError("train.average: start must be at least 0, every at least 1")


@dataclass(frozen=True)
class Teacher:
    """Which weights answer methods that ask the network (PEAS), where not those in training.

    Args:
        kind: `frozen`: those that training started from; `ema`: their exponential moving average;
            `refreshed`: those of some steps ago.
        decay: of the moving average.
        every: steps from one update to the next; a `refreshed` one is up to so many steps old.
    """

    kind: Literal["frozen", "ema", "refreshed"] = "ema"
    decay: float = 0.999
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or self.every < 1:
            raise ValueError("train.teacher: decay must be in [0, 1), every at least 1")


@dataclass(frozen=True)
class Init:
    """The weights that training starts from.

    Args:
        weights: a weights file, or the directory of a run.
        config: identifies the configuration that trained them, where it is planned with this one;
            then another place of the weights does not make another configuration.
    """

    weights: str = ""
    config: str = ""


@dataclass(frozen=True)
class Prune:
    """Zero this share of the convolution weights that training starts from, and keep it zero."""

    amount: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.amount < 1:
            raise ValueError(f"train.prune.amount must be in [0, 1), not {self.amount}")


@dataclass(frozen=True)
class Store:
    """How the trained weights are kept, packed, and scored (`compress/`).

    Args:
        significand: bits of precision; 11 is all of fp16.
        limit: bytes that the file may have; precision is given up, bit by bit, until it fits.
    """

    significand: int = 11
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.significand <= 11:
            raise ValueError(f"store.significand must be 2 to 11 bits, not {self.significand}")


@dataclass(frozen=True)
class Pool:
    """Examples and batches as UPB's tagger has them (`training/pool.py`).

    Args:
        repeats: R, passes over the curated portion in one over the noisy portion.
        max_padding: the largest part of a clip in a batch that may be padding.
        event_rule: two examples of a batch, by their tags: `antichain`: neither has all tags of
            the other (the authors' code); `disjoint`: they have none in common; `none`: any.
        patience: a batch that has waited for so many times its size of examples, or for as many
            as an epoch has, is given out as it is (`incomplete: emit`), or dropped (`drop`, the
            authors' code).
        incomplete: see patience.
        max_seconds: longer clips are not trained on.
        norm: features are normalised by the statistics of all clips (`global`), or in training by
            those of the base's portion (`per_set`, the authors' code); what is scored always by
            those of all.
    """

    repeats: int = 8
    max_padding: float = 0.2
    event_rule: Literal["antichain", "disjoint", "none"] = "antichain"
    patience: int = 2000
    incomplete: Literal["emit", "drop"] = "emit"
    max_seconds: float = 30.0
    norm: Literal["global", "per_set"] = "global"

    def __post_init__(self) -> None:
        if self.repeats < 0 or self.patience < 1:
            raise ValueError("train.pool: repeats must be at least 0, patience at least 1")
        if not 0 <= self.max_padding < 1:
            raise ValueError(f"train.pool.max_padding must be in [0, 1), not {self.max_padding}")
        if self.max_seconds <= 0:
            raise ValueError(f"train.pool.max_seconds must be positive, not {self.max_seconds}")


@dataclass(frozen=True)
class Train:
    """How to train.

    Args:
        init: weights of the same network to start from, if any.
        pretrained: SSAST's weights to fine-tune, if any, of this repository's pretraining or its
            authors' (`.pth`); other lengths and strides are adapted to. `init` wins over it.
        prune: sparsity to train with, if any; needs `init`.
        epochs: passes over the training part; with `iterations` the most there may be.
        iterations: stop after so many steps, if given; what goes by the share of training that is
            done (PEAS) still counts `epochs`.
        batch_size: clips in a batch, over all ranks.
        crop_frames: train on so many frames of each clip, from a place drawn anew in each epoch;
            scoring sees whole clips.
        drop_last: leave out the last, smaller batch of an epoch.
        optimizer: Adam's settings.
        schedule: learning rate by epoch or step (component; `training/schedules.py`).
        selection: which weights are scored: `last`; `best_valid`: the epoch with the best metric
            on `data.valid`; `best_test`: on the test part itself, as some papers did;
            `best_mean`: the epoch with the best mean over the folds' test parts, as SSAST reports
            ESC-50 (what is reported; the weights that stay are the last epoch's).
        average: weight averaging, if any.
        teacher: another network than the one in training for methods that ask one, if any.
        pool: batches of superposed clips of alike length, instead of clips in random order.
        precision: `bf16` autocasts the model; weights and optimiser stay fp32. `fp32` is as
            PyTorch has it: on a GPU, cuDNN's convolutions round their inputs to TF32.
        channels_last: memory layout of convolutions.
        compile: `torch.compile` the model.
        clip_norm: total gradient norm to clip at, if any.
        workers: loader processes when the data is not in memory.
        checkpoint_steps: save every so many steps as well as after each epoch, if given.
        checkpoint_seconds: after an epoch, save only when this long has passed since last time.
        threads: CPU threads; 0 leaves torch's choice.
    """

    init: Init | None = None
    pretrained: Init | None = None
    prune: Prune | None = None
    epochs: int = 350
    iterations: int | None = None
    batch_size: int = 10
    drop_last: bool = False
    crop_frames: int | None = None
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "specaugment_pp"})
    selection: Selection = "last"
    average: Average | None = None
    teacher: Teacher | None = None
    pool: Pool | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    clip_norm: float | None = None
    workers: int = 2
    checkpoint_steps: int | None = None
    checkpoint_seconds: float = 30.0
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1")
        for name in ("iterations", "crop_frames", "checkpoint_steps", "clip_norm"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"train.{name} must be positive, or null")
        if self.prune and not self.init:
            raise ValueError("train.prune needs train.init: what is pruned has been trained")
        if self.workers < 0 or self.threads < 0:
            raise ValueError("train.workers and train.threads must not be negative")


@dataclass(frozen=True)
class Experiment:
    """One run, complete: this is what `config.yaml` in its directory holds.

    `normalize` brings each bin to mean 0 and deviation 1 by the statistics of the training part;
    `one_scale` brings each bin to mean 0 and divides all by one number, the deviation that is left
    over all bins, as UPB's report does; `false` leaves features as the front end gives them.
    """

    features: dict[str, Any] = field(default_factory=dict)
    audio: Audio = field(default_factory=Audio)
    normalize: bool | Literal["one_scale"] = True
    model: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=lambda: {"name": "none"})
    loss: dict[str, Any] = field(default_factory=lambda: {"name": "cross_entropy"})
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    store: Store | None = None
    seed: int = 0
    input_shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must not be negative: {self.seed}")

    def resolved(self) -> dict[str, Any]:
        """Plain data, every default written out."""
        return plain(asdict(self))
