"""One trainer for all systems.

A run killed at any step and started again ends with the same weights, bit for bit (CPU, same
number of threads and ranks): every random number comes from (seed, epoch, step, rank).
"""

from __future__ import annotations

import logging
import math
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from espnet_like.augment import Augmentation, NoAugmentation, Progress
from espnet_like.errors import UserError
from espnet_like.files import atomic_path
from espnet_like.schema import Train
from espnet_like.scoring.tagging import overall
from espnet_like.training import seeds
from espnet_like.training.averaging import Follower, WeightAverage, renew_batch_norm
from espnet_like.training.batches import Batch, ClipSet, crop
from espnet_like.training.checkpoint import State, load, save, save_weights
from espnet_like.training.evaluation import autocast, posteriors
from espnet_like.training.losses import Loss
from espnet_like.training.ranks import Ranks
from espnet_like.training.schedules import Schedule

PREEMPTED = 75  # exit code: saved, start me again
NAN_CHECK_STEPS = {"cpu": 1, "cuda": 50}  # reading a loss off a GPU makes it wait

log = logging.getLogger(__name__)


class Preempted(Exception):
    """SIGTERM came and the run is saved."""


class Trainer:
    """Trains `model` on `clips` and leaves the chosen weights in `directory`.

    Args:
        settings: the `train` part of the configuration.
        seed: of everything random.
        fingerprint: identifies the configuration in checkpoints.
        model: on its device.
        criterion: says what is called as `(features, lengths=, tap=)`, mostly the model, and makes
            losses (B,) of its logits and the targets.
        schedule: epoch and step -> factor of the learning rate.
        augmentation: draws one plan a batch.
        clips: the training part.
        monitor: scored after each epoch, if given.
        directory: of the run.
        ranks: processes that train together.
    """

    def __init__(
        self,
        settings: Train,
        seed: int,
        fingerprint: str,
        model: nn.Module,
        criterion: Loss,
        schedule: Schedule,
        augmentation: Augmentation,
        clips: ClipSet,
        monitor: ClipSet | None,
        directory: Path,
        ranks: Ranks,
    ) -> None:
        self.settings, self.seed, self.fingerprint = settings, seed, fingerprint
        self.model, self.criterion = model, criterion
        self.schedule, self.augmentation = schedule, augmentation
        self.clips, self.monitor = clips, monitor
        self.checkpoints = directory / "checkpoints"
        self.directory, self.ranks = directory, ranks
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer.name]
        options = {k: v for k, v in asdict(settings.optimizer).items() if k != "name"}
        self.optimizer = kind(model.parameters(), **options, fused=True)
        self.average = WeightAverage(model, settings.average) if settings.average else None
        self.teacher = Follower(model, settings.teacher) if settings.teacher else None
        self.state = State()
        self.stop = False
        self._losses: list[torch.Tensor] = []
        self._saved_at = time.monotonic()
        self._callable = ranks.wrap(criterion.task(model))
        if settings.compile:
            self._callable = torch.compile(self._callable)

    def fit(self) -> State:
        """Train to the end, from the last checkpoint if there is one.

        Raises:
            Preempted: after SIGTERM, with everything saved.
            UserError: the loss is not finite; names epoch and step.
        """
        if self._last.exists():
            self.state = load(self._last, self.fingerprint, self._parts())
            if not self.ranks.first:  # the saved sums are those of all ranks
                self.state.sums = dict.fromkeys(self.state.sums, 0.0)
            log.info("resume at epoch %d step %d", self.state.epoch + 1, self.state.step)
        handler = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            with self._events() as events:
                while not self._done():
                    self._epoch(events)
            self._save()
            self._finish()
        finally:
            signal.signal(signal.SIGTERM, handler)
        return self.state

    @property
    def _last(self) -> Path:
        return self.checkpoints / "last.pt"

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer}
        more = {"average": self.average, "teacher": self.teacher}
        return {**parts, **{name: part for name, part in more.items() if part}}

    def _done(self) -> bool:
        limit = self.settings.iterations
        return self.state.epoch >= self.settings.epochs or (
            limit is not None and self.state.total_steps >= limit
        )

    def _epoch(self, events: SummaryWriter | None) -> None:
        state, settings = self.state, self.settings
        if state.step == 0:
            state.sums = dict.fromkeys(("loss", "correct", "clips", "seconds", "waited"), 0.0)
        self.model.train()
        began = time.perf_counter()
        asked = began
        positions = self._positions()
        for batch in self.clips.batches(positions[state.step :]):
            state.sums["waited"] += time.perf_counter() - asked
            self._step(batch)
            state.step += 1
            state.total_steps += 1
            if self.average:
                self.average.after("iteration", state.total_steps, self.model)
            if self.teacher:
                self.teacher.after(state.total_steps, self.model)
            if len(self._losses) >= NAN_CHECK_STEPS.get(self.clips.device.type, 1):
                self._collect_losses()
            asked = time.perf_counter()
            due = settings.checkpoint_steps and state.total_steps % settings.checkpoint_steps == 0
            stop = self.ranks.any(self.stop)
            if due or stop:
                self._collect_losses()
                state.sums["seconds"] += time.perf_counter() - began
                began = time.perf_counter()
                self._save()
            if stop:
                raise Preempted
            if settings.iterations is not None and state.total_steps >= settings.iterations:
                break
        self._collect_losses()
        state.sums["seconds"] += time.perf_counter() - began
        self._end_epoch(events)

    def _positions(self) -> list[list[Any]]:
        """This rank's batches of the epoch, shared out clip by clip."""
        batches = self.clips.epoch(self.seed, self.state.epoch, self.settings)
        enough = [self.ranks.share(b) for b in batches if len(b) >= self.ranks.size]
        if len(enough) < len(batches):
            text = "%d batches of fewer clips than the %d processes are left out"
            log.info(text, len(batches) - len(enough), self.ranks.size)
        return enough

    def _step(self, batch: Batch) -> None:
        factor = self.schedule.at(self.state.epoch, self.state.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.optimizer.lr * factor
        where = (self.state.epoch, self.state.step, self.ranks.rank)
        torch.manual_seed(seeds.derive(self.seed, seeds.MODEL, *where))
        generator = seeds.generator(self.seed, seeds.PLAN, *where)
        progress = Progress(self.state.epoch, self.settings.epochs)
        batch, augmentation = self.clips.prepared(batch, self.augmentation, generator, progress)
        if self.settings.crop_frames is not None:
            batch = crop(batch, self.settings.crop_frames, generator)
        precision = autocast(self.clips.device, self.settings.precision)
        with precision:  # on its own: it keeps weights that it casts, here often without gradients
            asked = self.teacher.network if self.teacher else self.model
            plan = augmentation.draw(*batch, generator, progress, asked)
        features = batch.features
        if self.settings.channels_last:
            features = features.contiguous(memory_format=torch.channels_last)
        with precision:
            logits = self._callable(features, lengths=batch.lengths, tap=plan)
        losses = self.criterion(logits.float(), plan.targets)
        if plan.loss is not None:
            losses = losses + plan.loss
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            correct = self.criterion.right(logits, plan.targets).sum()
            self._losses.append(torch.stack([losses.sum(), correct, correct * 0 + len(losses)]))

    def _collect_losses(self) -> None:
        """Add the pending steps to the epoch's sums; stop at the first loss that is not finite."""
        if not self._losses:
            return
        first = self.state.step - len(self._losses)
        rows = torch.stack(self._losses).tolist()
        self._losses.clear()
        for offset, (loss, correct, clips) in enumerate(rows):
            if not math.isfinite(loss):
                kept = f"; {self._last} holds the last good state" if self._last.exists() else ""
                raise UserError(
                    f"{self.directory}: loss is {loss} at epoch {self.state.epoch + 1} step "
                    f"{first + offset + 1}{kept}: lower train.optimizer.lr or set train.clip_norm",
                    code=1,
                )
            self.state.sums["loss"] += loss
            self.state.sums["correct"] += correct
            self.state.sums["clips"] += clips

    def _end_epoch(self, events: SummaryWriter | None) -> None:
        state = self.state
        sums = self._totals()
        if self.average:
            self.average.after("epoch", state.epoch, self.model)
        row = {
            "epoch": state.epoch + 1,
            "loss": sums["loss"] / sums["clips"],
            "accuracy": sums["correct"] / sums["clips"],
            "lr": self.optimizer.param_groups[0]["lr"],
            "clips_per_second": sums["clips"] / max(sums["seconds"], 1e-9),
            "waiting": sums["waited"] / max(sums["seconds"], 1e-9),
        }
        if self.monitor is not None and self.ranks.first:
            settings = (self.criterion.multi_label, self.settings.precision)
            found = posteriors(self.model, self.monitor, *settings)
            metric, value = overall(found, self.monitor.targets)
            row[f"monitor_{metric}"] = value
            if value > state.best_metric:
                state.best_metric, state.best_epoch = value, state.epoch
                best = self.checkpoints / "best.safetensors"
                save_weights(best, self.model.state_dict(), epoch=str(state.epoch + 1))
        state.seconds += state.sums["seconds"]
        state.history.append(row)
        state.epoch, state.step = state.epoch + 1, 0
        self._report(row, events)
        if self.ranks.any(time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds):
            self._save()

    def _totals(self) -> dict[str, float]:
        """The epoch's sums over all ranks; the times are this rank's own."""
        own = self.state.sums
        return {**self.ranks.total(own), **{k: own[k] for k in ("seconds", "waited") if k in own}}

    def _report(self, row: dict[str, float], events: SummaryWriter | None) -> None:
        done, total = self.state.epoch, self.settings.epochs
        share = max(done / total, self.state.total_steps / (self.settings.iterations or math.inf))
        left = self.state.seconds * (1 / share - 1)
        own = [name for name in row if name.startswith("monitor_")]
        monitor = "".join(f" {name.replace('_', ' ')} {row[name]:.2%}" for name in own)
        log.info(
            "epoch %d/%d loss %.4f accuracy %.2f%%%s lr %.2e, %.1f clips/s, waiting %.1f%%, "
            "left %s",
            *(done, total, row["loss"], 100 * row["accuracy"], monitor, row["lr"]),
            *(row["clips_per_second"], 100 * row["waiting"]),
            _clock(left),
        )
        if events:
            for name, value in row.items():
                events.add_scalar(f"train/{name}", value, done)

    def _finish(self) -> None:
        """Write the weights that the selection rule names."""
        if not self.ranks.first:
            return
        state, target = self.state, self.checkpoints / "final.safetensors"
        if self.settings.selection in ("best_valid", "best_test"):
            if self.average:
                text = "train.selection %s takes one epoch's weights: no use of train.average"
                log.warning(text, self.settings.selection)
            with atomic_path(target) as temporary:
                shutil.copyfile(self.checkpoints / "best.safetensors", temporary)
        elif self.average and self.average.count:
            averaged = self.average.averaged.module
            with autocast(self.clips.device, self.settings.precision):
                renew_batch_norm(averaged, self._all_batches())
            save_weights(target, averaged.state_dict(), epoch=f"mean of {self.average.count}")
        else:
            if self.average:
                log.warning("train.average.start was not reached: the last weights, no mean")
            save_weights(target, self.model.state_dict(), epoch=str(state.epoch))

    def _all_batches(self) -> Iterator[Batch]:
        for batch in self.clips.batches(self.clips.by_length(self.settings.batch_size)):
            yield self.clips.prepared(batch, NoAugmentation())[0]

    def _save(self) -> None:
        state = replace(self.state, sums=self._totals())
        if self.ranks.first:
            save(self._last, self.fingerprint, state, self._parts())
        self._saved_at = time.monotonic()

    def _events(self) -> AbstractContextManager[SummaryWriter | None]:
        if not self.ranks.first:
            return nullcontext()
        return SummaryWriter(str(self.directory / "events"), purge_step=self.state.epoch + 1)

    def _on_sigterm(self, *_: Any) -> None:
        self.stop = True


def _clock(seconds: float) -> str:
    """Hours, of which there may be many, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"
