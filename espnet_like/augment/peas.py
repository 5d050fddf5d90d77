"""PEAS: masks laid on what the network itself finds hard to reconstruct.

Zhang et al., "Prediction-error-based Adaptive SpecAugment for Fine-tuning the Masked Model on
Audio Classification Tasks". The paper leaves much open: an option below says which reading is
meant, its default is the likeliest one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from espnet_like.augment.base import Augmentation, Batch, Op, Share, check_layers
from espnet_like.augment.block_schedule import FREQUENCY, TIME, Rounding, Schedule
from espnet_like.augment.block_selector import (
    Choice,
    Placement,
    choose_windows,
    place_in_windows,
)
from espnet_like.augment.chain import build_methods
from espnet_like.augment.error_maps import ErrorMaps, Overlap, Scaling, Score, error_maps
from espnet_like.augment.noise import uniform_field
from espnet_like.augment.stripes import FillOp, MaxWidth, Placed, Stripes
from espnet_like.errors import UserError

Masking = Literal["conventional", "random", "peas"]
Window = Literal["max", "expected", "actual"]
Fill = Literal["value", "clip_mean", "noise"]


class PEAS(Augmentation):
    """Frequency and time blocks of each clip; the first n_a of an axis lie where it is hard.

    The other blocks are drawn as torchaudio draws them: width floor(u P), start
    floor(v (size - u P)); adaptive ones have such a width too. In the last fifth of training
    every width is floor(P / 2). Equation 3 gives n_a, with epoch e of e_t counted from 0:

        n_a = min(n, 0.1 e + 0.9 n H(e - 0.8 e_t)),  H(0) = 1,  and n_a = n for one block.

    While no adaptive block is due the network is not asked; the numbers drawn are the same. It is
    the network in training that is asked, or, with `train.teacher`, an earlier or averaged one.

    Args:
        masking: `peas`; `random`: all the same with n_a = 0; `conventional`: and without the last
            fifth's fixed widths, which for one block an axis is `ssast_masks`.
        layers: taps; one of them is drawn per batch. Blocks scale with a hidden map.
        freq_blocks, time_blocks: n of each axis.
        freq_width, time_width: P in bins and frames.
        value: what masked cells hold; SSAST's 0 before normalisation in presets `esc50`, `sc_v2`.
        fill: `value`, each clip's mean (`clip_mean`), or uniform `noise` of mean 0, deviation 0.5.
        score, scaling: the map that ranks blocks (see `error_maps`).
        aux_stride: patches of the auxiliary tasks, every (F, T) cells; None: as the classifier's.
        overlap: what a cell gets that several patches guess.
        window: cells over which the score is averaged: P (`max`), floor(P / 2) (`expected`), or
            each block's own width (`actual`).
        placement: of a block in its window (see `block_selector`).
        choice: of several windows in one clip (see `block_selector`).
        per: a profile of scores for each `clip`, or one mean profile of the `batch`.
        count: equation 3 for each axis (`per_axis`), or for both at once (`joint`): then n is the
            sum, and time and frequency blocks become adaptive in turn, time first.
        schedule_single: equation 3 holds for n = 1 too.
        rounding: of 0.1 e; `bernoulli` draws floor or ceil with that mean, once a batch.
        first_epoch: number of the first epoch in equation 3 and for the last fifth: 0 or 1.
        fixed_late: widths are fixed in the last fifth; None: unless `conventional`.
        padding: blocks may lie on padding, as SSAST's do, and its errors count. If not, no error
            counts beyond a clip's length, nor in frames at its end that are one number throughout
            (`ssast_fbank` pads to a fixed length), wherever `first` has moved them; and no block
            lies beyond a clip's length.
        aux_loss: weights of the mean e_rec and the mean e_pred in the training loss. Not 0: their
            gradients reach the network in every step, whether a block is due or not, and, with
            `model.pretext: generative`, the layer that reconstructs as well.
        first: methods that act before, e.g. noise and time_roll: the network then sees the
            features as they left them. (In a `chain`, methods before PEAS would move what it has
            found; those behind it act on its masks, SSAST's own order. It sees the batch as it
            came in both cases.)

    Raises:
        ValueError: a setting out of range.
        UserError: in `first`, a specification that cannot be built.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "esc50": {"freq_width": 24, "time_width": 96, "value": 6.6268077 / (2 * 5.358466)},
        "sc_v2": {"freq_width": 48, "time_width": 48, "value": 6.845978 / (2 * 5.5654526)},
    }

    def __init__(
        self,
        masking: Masking = "peas",
        layers: tuple[int, ...] = (0,),
        freq_blocks: int = 1,
        time_blocks: int = 1,
        freq_width: int = 24,
        time_width: int = 96,
        value: float = 0.0,
        fill: Fill = "value",
        score: Score = "e_pred",
        scaling: Scaling = "raw",
        aux_stride: tuple[int, int] | None = None,
        overlap: Overlap = "mean",
        window: Window = "max",
        placement: Placement = "start",
        choice: Choice = "residual",
        per: Literal["clip", "batch"] = "clip",
        count: Literal["per_axis", "joint"] = "per_axis",
        schedule_single: bool = False,
        rounding: Rounding = "floor",
        first_epoch: Literal[0, 1] = 0,
        fixed_late: bool | None = None,
        padding: bool = True,
        aux_loss: tuple[float, float] = (0.0, 0.0),
        first: list[Any] | None = None,
    ) -> None:
        if min(freq_blocks, time_blocks, freq_width, time_width) < 0:
            raise ValueError("blocks and widths must not be negative")
        self.blocks = {FREQUENCY: freq_blocks, TIME: time_blocks}
        self.widths = {FREQUENCY: freq_width, TIME: time_width}
        self.masking, self.value, self.fill = masking, value, fill
        self.needs_reconstruction = masking == "peas"
        self.score, self.scaling = score, scaling
        self.aux_stride, self.overlap = aux_stride, overlap
        self.window, self.placement, self.choice, self.per = window, placement, choice, per
        self.schedule = Schedule(count == "joint", schedule_single, rounding, first_epoch)
        self.fixed_late = masking != "conventional" if fixed_late is None else fixed_late
        self.padding = padding
        if aux_stride is not None and min(aux_stride) < 1:
            raise ValueError(f"aux_stride must be at least 1, not {aux_stride}")
        if any(aux_loss) and (masking != "peas" or min(aux_loss) < 0):
            raise ValueError("aux_loss: two weights of at least 0, with masking peas")
        if aux_loss[1] and score in ("e_rec", "masked_rec"):
            raise ValueError(f"aux_loss: score {score} makes no e_pred that could weigh something")
        self.aux_loss = aux_loss
        self.first = build_methods(first or [])
        if any(method.needs_wave for method in self.first):
            raise ValueError("first must hold no method of waveforms: chain it with peas")
        self.acts = check_layers(layers)
        self.layers = tuple(sorted({*self.acts, *(k for m in self.first for k in m.layers)}))

    def check(self, shape: tuple[int, ...]) -> None:
        for axis, key, cells in ((-2, "freq_width", "bins"), (-1, "time_width", "frames")):
            most = self.widths[axis + 4]
            if most > shape[axis]:
                text = f"a mask of {most} {cells}, but there are only {shape[axis]}"
                raise UserError(f"augment peas, {key}: {text}")

    def ops(self, batch: Batch) -> list[Op]:
        self.check(batch.features.shape)
        before = [op for method in self.first for op in method.ops(batch)]
        layer = self.acts[batch.integer(0, len(self.acts))]
        units = {
            axis: batch.uniform(2, len(batch.features), number)
            for axis, number in self.blocks.items()
        }
        due = self.schedule.adaptive(self.blocks, batch)
        maps = None
        if self.masking == "peas" and (any(due.values()) or any(self.aux_loss)):
            maps = self.ask(batch, before)
            if any(self.aux_loss):
                before.append(AuxiliaryLoss(self._loss(maps)))
        freq, time = (
            self._stripes(batch, axis, units[axis], due[axis], maps) for axis in (FREQUENCY, TIME)
        )
        if self.fill == "noise":
            keys = torch.randint(
                -(2**63), 2**63 - 1, (len(batch.features),), generator=batch.generator
            )
            return [*before, NoiseFillOp(layer, time, freq, keys=batch.move(keys))]
        return [
            *before,
            FillOp(layer, time, freq, None if self.fill == "clip_mean" else self.value),
        ]

    def ask(self, batch: Batch, before: list[Op]) -> ErrorMaps:
        """The network's error maps of the batch after the ops `before` at the input.

        Raises:
            UserError: a network that does not reconstruct, or does not learn where it should.
        """
        learns = any(p.requires_grad for p in batch.model.parameters()) if batch.model else False
        if any(self.aux_loss) and not learns:
            raise UserError("augment.aux_loss trains the network that is asked: no train.teacher")
        x = batch.features.detach()
        lengths = None if batch.lengths is None else batch.move(batch.lengths)
        for op in before:
            if op.layer == 0:
                x, _ = op(x, lengths)
        settings = (self.score, self.scaling, self.aux_stride, self.overlap)
        content = None if self.padding else _content(batch, before, lengths)
        return error_maps(batch.model, x, *settings, lengths, content, any(self.aux_loss))

    def _loss(self, maps: ErrorMaps) -> Tensor:
        """(B,) lambda_1 mean(e_rec) + lambda_2 mean(e_pred)."""
        loss = self.aux_loss[0] * maps.mean(maps.e_rec)
        return loss if maps.e_pred is None else loss + self.aux_loss[1] * maps.mean(maps.e_pred)

    @torch.no_grad()
    def _stripes(
        self, batch: Batch, axis: int, units: Tensor, due: int, maps: ErrorMaps | None
    ) -> Stripes:
        """The blocks of one axis: the first `due` adaptive if there are maps, the rest random."""
        size, most = batch.features.shape[axis], self.widths[axis]
        end = torch.full((len(batch.features),), size, device=units.device)
        if axis == TIME and not self.padding and batch.lengths is not None:
            end = batch.move(batch.lengths).long()
        fixed = self.fixed_late and self.schedule.late(batch.progress)
        value = torch.full_like(units[0], most // 2) if fixed else units[0] * most
        value = value.minimum(end[:, None].to(value.dtype))
        start, width = (units[1] * (end[:, None] - value)).long(), value.long()
        due = 0 if maps is None else due
        if maps is not None and due:
            profile = maps.profile(axis)
            if self.per == "batch":
                profile = profile.mean(0, keepdim=True).expand_as(profile)
            own = width[:, :due]
            cells = {"max": most, "expected": most // 2}.get(self.window)
            windows = own if cells is None else torch.full_like(own, cells)
            chosen = choose_windows(profile, windows, end, self.choice)
            chosen = place_in_windows(
                profile, chosen, windows, own, units[1, :, :due], end, self.placement
            )
            start = torch.cat([chosen, start[:, due:]], 1)
        placed = Placed(start, width)
        return FixedStripes(MaxWidth(count=most), size, units, at=placed, adaptive=due)


def _content(batch: Batch, before: list[Op], lengths: Tensor | None) -> Tensor:
    """(B, T) bool: frames that are not padding after the ops `before` at the input."""
    x = batch.features
    last = x[:, :1, :1, -1:]
    padded = (x == last).all(2).all(1).flip(1).cumprod(1).flip(1).bool()
    if lengths is not None:
        padded |= torch.arange(x.shape[3], device=x.device) >= lengths[:, None]
    marked = padded[:, None, None].to(x.dtype)
    for op in before:  # what moves frames moves the marks; noise leaves them near 0 and 1
        if op.layer == 0:
            marked, _ = op(marked, lengths)
    return marked[:, 0, 0] < 0.5


@dataclass(frozen=True, eq=False)
class AuxiliaryLoss(Op):
    """What the auxiliary tasks add to the training loss, `loss` (B,); the map stays as it is."""

    loss: Tensor
    layer: int = 0

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        return x, None


@dataclass(frozen=True)
class FixedStripes(Stripes):
    """Blocks placed on the input's axis; on a hidden map they scale with it.

    Args:
        at: where they are.
        adaptive: how many of each clip's, from the first, the network has placed.
    """

    at: Placed = field(kw_only=True)
    adaptive: int = field(kw_only=True)

    def place(self, size: int, valid: Tensor | None = None) -> Placed:
        start, width = self.at
        if size != self.base:
            end = (2 * (start + width) * size + self.base) // (2 * self.base)  # rounded
            start = (2 * start * size + self.base) // (2 * self.base)
            width = end - start
        return Placed(start, width)


@dataclass(frozen=True, eq=False)
class NoiseFillOp(FillOp):
    """Blocks of noise, uniform with mean 0 and deviation 0.5; `keys` (B,) say which."""

    keys: Tensor = field(kw_only=True)

    def __call__(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Share | None]:
        noise = (uniform_field(self.keys, x.shape[1:]) - 0.5) * 3**0.5
        return torch.where(self.mask(x, valid), noise.to(x.dtype), x), None
