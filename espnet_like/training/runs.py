"""A run: one configuration, fold and seed, in one directory.

<exp>/<name>/fold<k>/seed<s>/ holds config.yaml, env.json, train.log, events/, checkpoints/,
train.json (written last of training), scores/ and result.json.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espnet_like.compress.packed import load_packed
from espnet_like.compress.pruning import prune
from espnet_like.compress.size import size_report
from espnet_like.config import check_fit, identity, try_together
from espnet_like.data.ark import ArkWriter, is_whole
from espnet_like.environment import environment
from espnet_like.errors import MissingInput, UserError
from espnet_like.files import alone, digest, read_json, write_json, write_text
from espnet_like.layers import write_yaml
from espnet_like.models import MODELS
from espnet_like.registry import build
from espnet_like.schema import Experiment
from espnet_like.training import seeds
from espnet_like.training.allocator import keep_freed_memory
from espnet_like.training.checkpoint import State, load_weights
from espnet_like.training.evaluation import posteriors
from espnet_like.training.inputs import Inputs
from espnet_like.training.losses import LOSSES, Loss
from espnet_like.training.ranks import Ranks
from espnet_like.training.schedules import SCHEDULES
from espnet_like.training.starts import load_start, need_start, start_file, trained_weights
from espnet_like.training.trainer import Preempted, Trainer

FINGERPRINT = "# fingerprint "  # in the first line of config.yaml

log = logging.getLogger(__name__)


class Run:
    """One run and its files.

    Args:
        directory: of the run.
        config: complete (see `config.experiment`).
    """

    def __init__(self, directory: str | Path, config: Experiment) -> None:
        self.directory = Path(directory)
        self.config = config
        self.inputs = Inputs(config)
        self._started = ""  # what there is to tell of the weights that it starts from

    @property
    def trained_weights(self) -> Path:
        """The weights that the selection rule chose, as training left them."""
        return trained_weights(self.directory)

    @property
    def weights(self) -> Path:
        """The weights that are scored: in the stored form, if the configuration has one."""
        if self.config.store is None:
            return self.trained_weights
        return self.trained_weights.with_name("final.packed")

    @property
    def training_stage(self) -> str:
        """The stage that trains the run."""
        if self.config.train.init:
            return "prune"
        return "train" if LOSSES[self.config.loss["name"]].supervised else "pretrain"

    def need_inputs(self, stage: str = "train") -> None:
        """Say which earlier stage is missing (exit code 3)."""
        self.inputs.need(stage)
        need_start(self.config.train, stage)

    def fingerprint(self) -> str:
        """Changes when the settings, the features, the statistics or the clips do.

        How the weights are stored afterwards does not matter; those it starts from do.
        """
        data, start = self.config.data, start_file(self.config.train)
        names = ("utt2labels", "segments", "utt2portion")
        sets = [Path(d) / name for d in (data.train, data.valid) if d for name in names]
        sets = [path for path in sets if path.is_file()]
        settings = identity(replace(self.config, store=None))
        started = [_hash(start)] if start else []
        return digest(settings, self.config.seed, *self.inputs.contents(sets), *started)

    def trained(self) -> bool:
        """Whether training is done with just these settings and inputs, its files all there."""
        done = self.directory / "train.json"
        files = (done, self.trained_weights, self.directory / "env.json")
        whole = all(path.is_file() for path in files)
        return whole and read_json(done)["fingerprint"] == self.fingerprint()

    def stale(self) -> bool:
        """Whether training will move aside what other settings or inputs have left here."""
        return self._claimed_by() not in (None, self.fingerprint())

    def _claimed_by(self) -> str | None:
        """The fingerprint of what was last trained here."""
        marker = self.directory / "config.yaml"
        if not marker.is_file():
            return None
        return marker.read_text().partition("\n")[0].removeprefix(FINGERPRINT)

    def train(self, device: torch.device) -> None:
        """Train from where the run stands; a run of other settings is moved aside.

        Raises:
            MissingInput, UserError, Preempted: see `Trainer.fit`.
        """
        self.need_inputs()
        fingerprint = self.fingerprint()
        if self.trained():
            log.info("%s: fresh, nothing to do", self.directory)
            return
        ranks = Ranks()
        place = self.directory.with_name(f".{self.directory.name}.lock")
        busy = f"{self.directory}: another process is training this run"
        with alone(place, busy) if ranks.first else nullcontext():
            state = self._fit(fingerprint, device, ranks)
            if state and ranks.first:
                self._write_done(fingerprint, state)
        gc.collect()  # a model shared over ranks must be gone before they part
        ranks.close()
        if not state:
            raise Preempted

    def _fit(self, fingerprint: str, device: torch.device, ranks: Ranks) -> State | None:
        """Train; None when pre-empted. Nothing of the trainer outlives this."""
        config = self.config
        self._compute_on(device)
        trainer = self._trainer(fingerprint, device, ranks)
        if ranks.first:
            self._claim(fingerprint, device)
        ranks.wait()
        with _logging_to(self.directory / "train.log") if ranks.first else nullcontext():
            log.info(
                "%s: %d parameters, %d clips, seed %d, %s",
                *(config.model["name"], sum(p.numel() for p in trainer.model.parameters())),
                *(len(trainer.clips), config.seed, device),
            )
            if self._started:
                log.info(self._started)
            try:
                return trainer.fit()
            except Preempted:
                return None

    def _compute_on(self, device: torch.device) -> None:
        """Set this process up: its threads and, for good, its memory."""
        if self.config.train.threads:
            torch.set_num_threads(self.config.train.threads)
        if device.type == "cpu":
            keep_freed_memory()

    def _write_done(self, fingerprint: str, state: State) -> None:
        """train.json, the sign that training is done."""
        write_json(
            self.directory / "train.json",
            {
                "fingerprint": fingerprint,
                "selection": self.config.train.selection,
                "epochs": state.epoch,
                "steps": state.total_steps,
                "best_epoch": state.best_epoch + 1 if state.best_epoch >= 0 else None,
                "seconds": round(state.seconds, 1),
                "clips_per_second": round(state.history[-1]["clips_per_second"], 1),
                "weights": _hash(self.trained_weights),
                "history": state.history,
            },
        )

    def stored(self) -> bool:
        """Whether the stored form is there and is that of the present weights."""
        if self.config.store is None or not self.weights.is_file():
            return self.config.store is None
        made = load_packed(self.weights)[1]
        return self.origin().items() <= made.items()

    def origin(self) -> dict[str, Any]:
        """What the stored form was made from, and how."""
        weights = read_json(self.directory / "train.json")["weights"]
        return {"weights": weights, "store": self.config.resolved()["store"]}

    def inferred(self, name: str = "test", directory: str | None = None) -> bool:
        """Whether the scores are those of the present weights and clips; see `infer`."""
        done = self.directory / "scores" / f"{name}.json"
        inputs = self._scored_inputs(directory or self.config.data.test)
        if not (done.is_file() and read_json(done)["inputs"] == inputs):
            return False
        return is_whole(done.with_suffix(".scp"))

    def infer(self, device: torch.device, name: str = "test", directory: str | None = None) -> None:
        """Score a set: scores/<name>.ark,scp (posteriors) and scores/<name>.json, last.

        Args:
            device: that computes.
            name: of the set.
            directory: its data directory; None for the test part.

        Raises:
            MissingInput: not trained, or an earlier stage is missing.
        """
        self.need_inputs("infer")
        if not self.trained():
            raise MissingInput(
                f"stage infer needs {self.directory}/train.json of these settings: "
                f"run --stage {self.training_stage}"
            )
        if not self.stored():
            raise MissingInput(f"stage infer needs {self.weights}: run --stage compress")
        config, scores = self.config, self.directory / "scores"
        directory = directory or config.data.test
        if self.inferred(name, directory):
            log.info("%s: scores of %s are fresh", self.directory, directory)
            return
        self._compute_on(device)
        model = self.model(self.weights, device)
        clips = self.inputs.clips(directory, device)
        multi_label = LOSSES[config.loss["name"]].multi_label
        found = posteriors(model, clips, multi_label, config.train.precision).numpy()
        with ArkWriter(scores / f"{name}.ark", scores / f"{name}.scp") as writer:
            for utt, row in zip(clips.utterances, found, strict=True):
                writer.write(utt, row)
        write_json(
            scores / f"{name}.json",
            {
                "inputs": self._scored_inputs(directory),
                "scored": directory,
                "parameters": sum(p.numel() for p in model.parameters()),
                "bytes": self.weights.stat().st_size,
                "size": size_report(model, self.weights),
            },
        )
        log.info("%s: scored %d clips of %s", self.directory, len(clips), directory)

    def model(self, weights: Path, device: torch.device) -> nn.Module:
        """The network with these weights, as it is scored."""
        model: nn.Module = build(MODELS, self.config.model, "model")
        load_weights(weights, model)
        if self.config.train.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.to(device)

    def _scored_inputs(self, directory: str) -> str:
        weights = read_json(self.directory / "train.json")["weights"]
        if self.config.store:
            weights = _hash(self.weights)
        names = ("utt2labels", "segments")
        listed = [path for name in names if (path := Path(directory) / name).is_file()]
        return digest(weights, *self.inputs.contents(listed))

    def _trainer(self, fingerprint: str, device: torch.device, ranks: Ranks) -> Trainer:
        config = self.config
        monitor = _monitored(config)
        torch.manual_seed(seeds.derive(config.seed, seeds.WEIGHTS))
        model: nn.Module = build(MODELS, config.model, "model")
        needed = self.inputs.augmentation().needs_reconstruction
        self._started = load_start(config.train, model, needed)
        self.inputs.check_stats()
        clips, augmentation = self.inputs.training(device)
        channels, bins, frames = clips.shape
        cut = min(frames, config.train.crop_frames or frames)
        try_together(config, model, augmentation)
        check_fit(config, model, (channels, bins, cut))
        augmentation.check((channels, bins, cut))
        criterion: Loss = build(LOSSES, config.loss, "loss")
        criterion.fit(clips.targets)
        model = model.to(device)
        if config.train.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.train.prune:
            prune(model, config.train.prune.amount)
        return Trainer(
            config.train,
            config.seed,
            fingerprint,
            model,
            criterion.to(device),
            build(SCHEDULES, config.train.schedule, "train.schedule"),
            augmentation,
            clips,
            self.inputs.clips(monitor, device) if monitor else None,
            self.directory,
            ranks,
        )

    def _claim(self, fingerprint: str, device: torch.device) -> None:
        """Make the directory this configuration's; what another one left is moved aside."""
        if self._claimed_by() not in (None, fingerprint):
            aside = self.directory.with_name(
                f"{self.directory.name}.stale-{time.strftime('%Y%m%d-%H%M%S')}"
            )
            self.directory.rename(aside)
            print(f"{self.directory}: stale (settings or inputs changed), moved to {aside.name}")
        self.directory.mkdir(parents=True, exist_ok=True)
        text = f"{FINGERPRINT}{fingerprint}\n" + write_yaml(self.config.resolved())
        write_text(self.directory / "config.yaml", text)
        write_json(self.directory / "env.json", environment(device))


def _hash(path: Path) -> str:
    found = path.stat()
    return _hash_of(path, found.st_size, found.st_mtime_ns)


@lru_cache  # a list of runs asks for the same 350 MB at each of its lines
def _hash_of(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _monitored(config: Experiment) -> str | None:
    """The data directory to score after each epoch."""
    if config.train.selection == "best_valid" and not config.data.valid:
        raise UserError("train.selection best_valid needs data.valid: give --valid")
    by_test = config.train.selection in ("best_test", "best_mean")
    return config.data.test if by_test else config.data.valid


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """The package's log goes to `path` as well."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("espnet_like")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
