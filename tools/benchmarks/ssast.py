"""Section ssast: a step of SSAST as trained here, as one first writes it, and the share of PEAS."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchaudio import transforms
from torchaudio.compliance import kaldi

from benchmarks.measuring import Row, in_turns, on, paired, plain_program, section
from benchmarks.training import CLASSES, Function, step_of
from espnet_like.augment import base as augment
from espnet_like.augment import build_augmentation, one_hot
from espnet_like.augment.error_maps import ErrorMaps
from espnet_like.augment.peas import PEAS
from espnet_like.features.ssast_fbank import SSASTFbank
from espnet_like.models.ssast import SSAST
from espnet_like.models.transformer import CLASS_TOKENS, Attention
from espnet_like.training.batches import Batch

RATE, MEAN, STD = 16000, -6.6268077, 5.358466
AUGMENTED = {
    "name": "chain",
    "methods": [
        {"name": "ssast_masks", "preset": "esc50"},
        {"name": "noise"},
        {"name": "time_roll", "preset": "ssast"},
    ],
}
# (1.67 and 1.27 of the arithmetic, and a tenth)
TARGETS = {"same stride": (None, 1.84), "stride 16": ((16, 16), 1.4)}


@section
def ssast(work: Path, quick: bool) -> Iterator[Row]:
    """SSAST's step and attention in bf16 against plain ones; PEAS's passes; the selector's share"""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    size, clips, repeats = ("tiny", 1, 1) if quick else ("base", 10 if cuda else 2, 5)
    frames = 128 if quick else 512
    batch = _batch(_waves(clips, frames).to(device), frames)

    def network() -> SSAST:
        return _network(size, frames, device)

    functions = {
        "ours": step_of(network(), batch, work, build_augmentation(AUGMENTED)),
        "random": step_of(network(), batch, work, _peas(None, "random")),
        **{n: step_of(network(), batch, work, _peas(to)) for n, (to, _) in TARGETS.items()},
        "selector": _selector(network(), batch),
        "attention": _attention(network(), clips, Attention.forward),
        "fused kernel": _attention(network(), clips, _fused),
        "product": _product(128 if quick else 8192 if cuda else 2048, device),
    }
    with plain_program(device, _plain_step, size, clips, frames, device) as plain:
        clocks = {"plain": plain, **{n: on(device, f) for n, f in functions.items()}}
        seconds = dict(zip(clocks, in_turns(repeats, *clocks.values()), strict=True))

    def row(what: str, a: str, b: str, ratio: float, target: tuple[str, float]) -> Row:
        ms = (1e3 * median(seconds[a]), 1e3 * median(seconds[b]))
        return Row("ssast", what, *ms, "ms", ratio, target)

    what = f"step, plain step, {size}, {clips} clips of {frames} frames"
    faster = paired(seconds["plain"], seconds["ours"])
    yield row(what, "ours", "plain", faster, (">=", 5.0 if cuda else 3.0))
    rates = {n: [_flops(functions[n]) / s / 1e9 for s in seconds[n]] for n in ("ours", "product")}
    own, peak = rates.values()
    what = "arithmetic of the step, of a product of matrices in bf16"
    yield Row("ssast", what, median(own), median(peak), "GFLOP/s", paired(own, peak))
    faster = paired(seconds["fused kernel"], seconds["attention"])
    what = "attention in bf16, PyTorch's fused kernel"
    yield row(what, "attention", "fused kernel", faster, (">=", 0.9 if cuda else 1.5))
    for name, (_, most) in TARGETS.items():
        share = paired(seconds[name], seconds["random"])
        yield row(f"step of PEAS, random masks, {name}", name, "random", share, ("<=", most))
    share = paired(seconds["selector"], seconds["same stride"])
    yield row("selector, step of PEAS", "selector", "same stride", share, ("<=", 0.01))


def _waves(clips: int, frames: int) -> Tensor:
    return 0.1 * torch.randn(clips, 160 * frames, generator=torch.Generator().manual_seed(0))


def _network(size: Any, frames: int, device: torch.device) -> SSAST:
    torch.manual_seed(0)
    return SSAST(CLASSES, size=size, frames=frames).to(device)


def _batch(waves: Tensor, frames: int) -> Batch:
    """The clips as the dump has them, in memory."""
    features, _ = SSASTFbank(frames=frames, mean=MEAN, std=STD).to(waves.device)(waves[:, None])
    classes = torch.arange(len(waves), device=waves.device) % CLASSES
    return Batch(features, one_hot(classes, CLASSES), None)


def _peas(stride: tuple[int, int] | None, masking: Any = "peas") -> PEAS:
    first = [{"name": "noise"}, {"name": "time_roll", "preset": "ssast"}]
    return PEAS(masking, freq_width=24, time_width=96, aux_stride=stride, first=first)


def _selector(model: SSAST, batch: Batch) -> Function:
    """PEAS's plan where the error maps are there already."""

    class Chosen(PEAS):
        maps: ErrorMaps

        def ask(self, batch: augment.Batch, before: list[augment.Op]) -> ErrorMaps:
            return self.maps

    peas = Chosen(freq_width=24, time_width=96)
    with torch.autocast(batch.features.device.type, torch.bfloat16):
        peas.maps = PEAS.ask(peas, augment.Batch(*batch, model=model), [])
    return lambda: peas.draw(*batch, model=model)


def _attention(
    model: SSAST, clips: int, forward: Callable[[Attention, Tensor], Tensor]
) -> Function:
    """One block's attention and its gradients in bf16, with its products made by `forward`."""
    device, width = model.v.norm.weight.device, len(model.v.norm.weight)
    tokens = torch.randn(clips, CLASS_TOKENS + model.grid[0] * model.grid[1], width, device=device)
    block = model.v.blocks[0].attn

    def both_ways() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            forward(block, tokens).sum().backward()

    return both_ways


def _product(size: int, device: torch.device) -> Function:
    """A product of square matrices, the most that the processor does."""
    matrix = torch.randn(size, size, dtype=torch.bfloat16, device=device)
    return lambda: matrix @ matrix


def _flops(function: Function) -> int:
    """Operations of its products, two for each multiplication and addition."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def _fused(own: Attention, x: Tensor) -> Tensor:
    qkv = own.qkv(x).unflatten(-1, (3, own.heads, -1)).permute(2, 0, 3, 1, 4)
    x = functional.scaled_dot_product_attention(*qkv)
    return own.proj(x.transpose(1, 2).flatten(2))


class PlainAttention(nn.Module):
    """Attention with its map written out."""

    def __init__(self, own: Attention) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = own.qkv, own.proj, own.heads

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        size, tokens, width = x.shape
        qkv = self.qkv(x).reshape(size, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(size, tokens, width))


def _plain_step(size: Any, clips: int, frames: int, device: torch.device) -> Function:
    """fp32, and features, masks, noise and roll of one clip after the other, as a loader does."""
    waves, model = _waves(clips, frames), _network(size, frames, device)
    targets = one_hot(torch.arange(clips) % CLASSES, CLASSES).to(device)
    for block in model.v.blocks:
        block.attn = PlainAttention(block.attn)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    freq_mask, time_mask = transforms.FrequencyMasking(24), transforms.TimeMasking(96)

    def clip(wave: Tensor) -> Tensor:
        x = kaldi.fbank(
            (wave - wave.mean())[None],
            htk_compat=True,
            sample_frequency=RATE,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=128,
            dither=0.0,
            frame_shift=10,
        )
        x = functional.pad(x, (0, 0, 0, frames - len(x)))
        x = time_mask(freq_mask(x.T[None]))
        x = (x - MEAN) / (2 * STD)
        x = x + torch.rand_like(x) * random.random() / 10
        return torch.roll(x, random.randint(-10, 9), -1)

    def plain() -> None:
        x = torch.stack([clip(wave) for wave in waves]).to(device)
        optimizer.zero_grad()
        functional.cross_entropy(model(x), targets).backward()
        optimizer.step()

    return plain
