"""Section methods: every augmentation against plain loops, known code, the step, and the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchaudio.functional import mask_along_axis_iid

from benchmarks import loops
from benchmarks.measuring import Row, here, in_turns, paired, section
from benchmarks.training import CLASSES, _batch, _trainer_step
from espnet_like.augment import build_augmentation, one_hot

CLIPS, STEP_CLIPS, FRAMES = 32, 4, 431
Batched = Callable[[Tensor, Tensor], object]


def torchaudio_masks(time: int, freq: int, share: float = 1.0) -> Batched:
    """Its masks with one width and place for each sample."""

    def masks(x: Tensor, y: Tensor) -> Tensor:
        x = mask_along_axis_iid(x, time, 0.0, 3, share)
        return mask_along_axis_iid(x, freq, 0.0, 2)

    return masks


def batch_mixup(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The published one: one weight a batch, a random permutation."""
    own, order = float(np.random.beta(1, 1)), torch.randperm(len(x))
    return own * x + (1 - own) * x[order], own * y + (1 - own) * y[order]


def batch_cutmix(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The published one: one box a batch, written into the batch itself."""
    order, side = torch.randperm(len(x)), (1 - np.random.beta(1, 1)) ** 0.5
    box = []
    for size in x.shape[2:]:
        centre, half = np.random.randint(size), int(size * side) // 2
        box.append(slice(max(centre - half, 0), min(centre + half, size)))
    x[:, :, box[0], box[1]] = x[order, :, box[0], box[1]]
    own = 1 - (box[0].stop - box[0].start) * (box[1].stop - box[1].start) / x[0, 0].numel()
    return x, own * y + (1 - own) * y[order]


@dataclass(frozen=True)
class Case:
    """A method, as plain loops and, perhaps, in well-known code.

    Args:
        spec: of our method.
        loop: see `loops`.
        known: its name and itself.
        mask: whether the target of memory traffic is about it.
        wave: it changes waveforms.
    """

    spec: dict[str, Any]
    loop: loops.Loop
    known: tuple[str, Batched] | None = None
    mask: bool = False
    wave: bool = False


PP = {"name": "specaugment_pp", "layers": [0]}
AUDIO = ("torchaudio", torchaudio_masks(43, 26))
CASES = {
    "specaugment": Case({"name": "specaugment"}, loops.zeros(43, 26), AUDIO, True),
    "zero masks": Case({**PP, "mode": "zero"}, loops.zeros(43, 26), AUDIO, True),
    "mixture masks": Case({**PP, "mode": "mixture"}, loops.partner(0.5), None, True),
    "cutting masks": Case({**PP, "mode": "cutting"}, loops.partner(1.0), None, True),
    "upb_masks": Case(
        {"name": "upb_masks"},
        loops.zeros(70, 16),
        ("torchaudio", torchaudio_masks(70, 16, 0.2)),
        True,
    ),
    "ssast_masks": Case(
        {"name": "ssast_masks"},
        loops.zeros(96, 24),
        ("torchaudio", torchaudio_masks(96, 24)),
        True,
    ),
    "mixup": Case({"name": "mixup"}, loops.mixup, ("one weight a batch", batch_mixup)),
    "cutmix": Case({"name": "cutmix"}, loops.cutmix, ("one box a batch", batch_cutmix)),
    "specmix": Case({"name": "specmix"}, loops.specmix),
    "freqmix": Case({"name": "freqmix"}, loops.freqmix),
    "speechmix": Case({"name": "speechmix", "layers": [0], "waveform": False}, loops.speechmix),
    "frequency_warp": Case({"name": "frequency_warp"}, loops.frequency_warp),
    "noise": Case({"name": "noise"}, loops.noise),
    "time_roll": Case({"name": "time_roll", "preset": "cpjku"}, loops.time_roll),
    "bc_learning": Case({"name": "bc_learning"}, loops.bc_learning, wave=True),
    "superposition": Case({"name": "superposition"}, loops.superposition, wave=True),
    "wave_mixup": Case({"name": "wave_mixup"}, loops.wave_mixup, wave=True),
}


@section
def methods(work: Path, quick: bool) -> Iterator[Row]:
    """every augmentation of a batch of 32 10-s clips, against loops, known code and the step"""
    size = 2 if quick else CLIPS
    width, step_clips = (4, 2) if quick else (128, STEP_CLIPS)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(size, 1, 256, FRAMES, generator=generator)
    waves = 0.1 * torch.randn(size, 1, 10 * loops.RATE, generator=generator)
    stage1 = torch.randn(size, 128, 15, 26)  # of base width 128
    y = one_hot(torch.arange(size) % CLASSES, CLASSES)
    clocks = [here(_trainer_step(width, _batch(step_clips, FRAMES), work))]
    for case in CASES.values():
        x = waves if case.wave else features
        functions: list[Batched] = [_ours(case), case.loop]
        functions += [case.known[1]] if case.known else []
        clocks += [here(partial(function, x.clone(), y)) for function in functions]
    step, *rest = in_turns(1 if quick else 7, *clocks)
    step = [seconds / step_clips * size for seconds in step]
    times = iter(rest)
    for name, case in CASES.items():
        ours, loop = next(times), next(times)
        yield _row(f"{name}, plain loop", loop, ours, ("ms", ">=", 5.0))
        if case.known:
            yield _row(f"{name}, {case.known[0]}", next(times), ours, ("ms", ">=", 1.0))
        yield _row(f"{name}, step", ours, step, ("ms", "<=", 0.05))
        x = waves if case.wave else features
        moved, least = traffic(_ours(case), x, y) / 2**20, 2 * x.nbytes / 2**20
        target = ("<=", 1.5) if case.mask else None
        yield Row("methods", f"{name}, traffic", moved, least, "MiB", moved / least, target)
        if case.mask:
            hidden = Case({**case.spec, "layers": [2]}, case.loop)
            moved, least = traffic(_ours(hidden, 2), stage1, y) / 2**20, 2 * stage1.nbytes / 2**20
            what = f"{name}, traffic at layer 2"
            yield Row("methods", what, moved, least, "MiB", moved / least, target)


def _row(what: str, above: list[float], below: list[float], goal: tuple[str, str, float]) -> Row:
    """The ratio above : below; ours is in the first column."""
    unit, relation, bound = goal
    ours, other = (below, above) if relation == ">=" else (above, below)
    ms = (1e3 * median(ours), 1e3 * median(other))
    return Row("methods", what, *ms, unit, paired(above, below), (relation, bound))


def _ours(case: Case, layer: int = 0) -> Batched:
    method = build_augmentation(case.spec)

    def wave(x: Tensor, y: Tensor) -> object:
        return method.draw_wave(x, y, None, loops.RATE)

    def features(x: Tensor, y: Tensor) -> object:
        plan = method.draw(x, y)
        return plan(layer, x), plan.targets

    return wave if case.wave else features


def traffic(function: Batched, x: Tensor, y: Tensor) -> int:
    """Bytes that `function` reads and writes.

    Counted, not measured: every operation that torch carries out reads each tensor that it is
    given and writes each that it makes once, whole, however many of its cells it needs; what is
    only looked at in another shape moves nothing, and of a tensor that is repeated along an axis
    one copy is read. Caches, and what happens within an operation, are left out.
    """
    torch.manual_seed(0)
    with _Counter() as counter:
        function(x, y)
    return counter.bytes


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        schema = func._schema
        view = any(r.alias_info and not r.alias_info.is_write for r in schema.returns)
        if view or schema.name.startswith("aten::empty"):
            return result
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
        only_written = {a.name for a in schema.arguments if a.is_out}
        read = [value for name, value in given.items() if name not in only_written]
        self.bytes += sum(map(_bytes, [*read, result]))
        return result


def _bytes(value: object) -> int:
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    if not isinstance(value, Tensor):
        return 0
    own = [n for n, stride in zip(value.shape, value.stride(), strict=True) if stride]
    return int(np.prod(own, dtype=np.int64)) * value.element_size()
