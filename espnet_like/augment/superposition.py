"""Superposition mixup: two waveforms added, all tags of both.

Ebbers and Haeb-Umbach, "Convolutional Recurrent Neural Network and Data Augmentation for Audio
Tagging with Noisy Labels and Minimal Supervision" (UPB, DCASE 2019 Task 2), section 2.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from espnet_like.augment.base import Batch, Waves
from espnet_like.augment.none import NoAugmentation
from espnet_like.augment.pairs import choose
from espnet_like.augment.waveforms import WaveMethod, content

SILENT = 1e-3  # the least peak that a partner is divided by, and the level of one over silence


class Pairs(NamedTuple):
    """What is drawn for each of N clips, on the CPU.

    partner: (N,) index of the other clip; mixed: (N,) whether it is laid over this one.
    delay: (N,) tau in samples; own, part: (N,) l_0 and l_1.
    samples: (N,) length of the result.
    """

    partner: Tensor
    mixed: Tensor
    delay: Tensor
    own: Tensor
    part: Tensor
    samples: Tensor


class Superposition(WaveMethod):
    """x(t) = l_0 x_i(t) + gamma l_1 (max |x_i| / max |x_j|) x_j(t - tau), y = y_i OR y_j.

    gamma ~ Bernoulli(probability). l_m = a_m^(2 b_m - 1) with a_m ~ U(1, 2) and b_m ~
    Bernoulli(1/2): each sound is made louder or softer by a factor between one and two. x_j is
    any other clip of the batch with T_j <= max_ratio T_i; a clip without one is not mixed. tau ~
    U(max(-T_j, T_i - max_seconds), min(T_i, max_seconds - T_j)), in whole samples, so that x_j may
    start before x_i and end after it, and the result, which begins with the earlier and ends with
    the later of the two, is not longer than max_seconds. Clips longer than that are not mixed.

    Args:
        probability: of mixing, 2/3 in the report.
        max_ratio: the longest partner, in lengths of the base.
        max_seconds: the longest result.
        scale_when_unmixed: apply l_0 where gamma = 0 too, as the formula says; the authors' code
            scales only what it mixes.
        allow_self: let a clip be its own partner.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        probability: float = 2 / 3,
        max_ratio: float = 1.1,
        max_seconds: float = 30.0,
        scale_when_unmixed: bool = True,
        allow_self: bool = False,
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, not {probability}")
        if min(max_ratio, max_seconds) <= 0:
            raise ValueError("max_ratio and max_seconds must be positive")
        self.probability = probability
        self.max_ratio = max_ratio
        self.max_seconds = max_seconds
        self.scale_when_unmixed = scale_when_unmixed
        self.allow_self = allow_self

    def mix_waves(self, batch: Batch) -> Waves:
        wave, targets, lengths = batch.features, batch.targets, batch.lengths
        sample_rate, generator = batch.sample_rate, batch.generator
        size, _, samples = wave.shape
        ours = torch.full((size,), samples) if lengths is None else lengths.cpu()
        drawn = self._draw_within(ours, sample_rate, generator)
        j, both = batch.move(drawn.partner), batch.move(drawn.mixed)
        inside = content(wave, lengths)
        clean = wave if inside is None else wave * inside
        theirs = torch.where(drawn.mixed, ours[drawn.partner], 0)
        out = superpose(clean, clean[j], ours, theirs, drawn)
        union = torch.where(both[:, None], torch.maximum(targets, targets[j]), targets)
        equal = lengths is None and bool((drawn.samples == samples).all())
        return Waves(out, union, None if equal else drawn.samples, NoAugmentation())

    def _draw_within(
        self, lengths: Tensor, sample_rate: int, generator: torch.Generator | None
    ) -> Pairs:
        """Partners among the clips themselves, of `lengths` (B,)."""
        size = len(lengths)
        short = lengths <= self.max_seconds * sample_rate
        allowed = (lengths <= self.max_ratio * lengths[:, None]) & short & short[:, None]
        if not self.allow_self:
            allowed.fill_diagonal_(False)
        partner, found = choose(torch.rand(size, size, generator=generator), allowed)
        return self._complete(lengths, lengths[partner], partner, found, sample_rate, generator)

    def draw_among(
        self, lengths: Tensor, others: Tensor, sample_rate: int, generator: torch.Generator | None
    ) -> Pairs:
        """Partners for clips of `lengths` (N,) samples among clips of `others` (M,).

        Each is uniform over those that are short enough, and may be the clip itself.
        """
        order = others.argsort()
        longest = int(self.max_seconds * sample_rate)
        most = (self.max_ratio * lengths.double()).long().clamp(max=longest)
        count = torch.searchsorted(others[order].contiguous(), most, right=True)
        unit = torch.rand(len(lengths), dtype=torch.float64, generator=generator)
        partner = order[(unit * count).long().clamp(max=max(len(others) - 1, 0))]
        found = (count > 0) & (lengths <= longest)
        return self._complete(lengths, others[partner], partner, found, sample_rate, generator)

    def _complete(
        self,
        ours: Tensor,
        theirs: Tensor,
        partner: Tensor,
        found: Tensor,
        sample_rate: int,
        generator: torch.Generator | None,
    ) -> Pairs:
        """Whether, where and how loud the `found` partners of length `theirs` are mixed in."""
        size = len(ours)
        mixed = found & (torch.rand(size, generator=generator) < self.probability)
        theirs = torch.where(mixed, theirs, 0)
        low, high = self._delays(ours, theirs, sample_rate)
        unit = torch.rand(size, dtype=torch.float64, generator=generator)
        delay = torch.where(mixed, low + (unit * (high - low + 1)).long(), 0)
        own, part = self._gains(size, generator)
        if not self.scale_when_unmixed:
            own = torch.where(mixed, own, 1)
        samples = torch.maximum(ours, delay + theirs) + (-delay).clamp(min=0)
        return Pairs(partner, mixed, delay, own, part, samples)

    def _delays(self, ours: Tensor, theirs: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
        """(B,) the least and the greatest tau in samples."""
        longest = int(self.max_seconds * sample_rate)
        return torch.maximum(-theirs, ours - longest), torch.minimum(ours, longest - theirs)

    def _gains(self, size: int, generator: torch.Generator | None) -> Tensor:
        """l_0 and l_1, (2, B)."""
        factor = 1 + torch.rand(2, size, generator=generator)
        return torch.where(torch.rand(2, size, generator=generator) < 0.5, factor, 1 / factor)


def superpose(wave: Tensor, other: Tensor, ours: Tensor, theirs: Tensor, drawn: Pairs) -> Tensor:
    """l_0 x_i(t) + l_1 (max |x_i| / max |x_j|) x_j(t - tau), (B, C, longest of drawn.samples).

    Args:
        wave, other: (B, C, L) and (B, C, L'): x_i and x_j, zero after their ends.
        ours, theirs: (B,) their samples, on the CPU; 0 for no x_j.
        drawn: see `Pairs`, on the CPU.
    """
    own, part = (x.to(wave.device, non_blocking=True) for x in (drawn.own, drawn.part))
    level = _peak(wave)
    level = torch.where(level > 0, level, SILENT)  # or its tags would name what nobody hears
    part = part * level / _peak(other).clamp(min=SILENT)
    lead = (-drawn.delay).clamp(min=0)  # of x_j over x_i
    out = wave.new_zeros(*wave.shape[:2], int(drawn.samples.max()))
    # Clip by clip: the places are the host's, and to gather cells takes thirty times as long.
    places = zip(*(x.tolist() for x in (lead, lead + drawn.delay, ours, theirs)), strict=True)
    for i, (first, second, count, more) in enumerate(places):
        torch.mul(wave[i, :, :count], own[i], out=out[i, :, first : first + count])
        out[i, :, second : second + more].addcmul_(other[i, :, :more], part[i])
    return out


def _peak(wave: Tensor) -> Tensor:
    """max |x| of each clip, (B,)."""
    return torch.maximum(wave.amax((1, 2)), -wave.amin((1, 2)))
