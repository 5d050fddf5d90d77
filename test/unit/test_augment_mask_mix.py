"""CutMix, SpecMix and FreqMix against loops over samples and cells, and the specs' closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.augment import CutMix, FreqMix, SpecMix, build_augmentation
from espnet_like.augment.partner import partners

METHODS = {
    "cutmix": CutMix(),
    "cutmix drawn": CutMix(corrected=False),
    "cutmix shift": CutMix(per="batch", edges="shift"),
    "specmix": SpecMix(0.3),
    "specmix batch": SpecMix("uniform", 3, "batch"),
    "specmix uniform": SpecMix("uniform"),
    "freqmix": FreqMix(),
    "freqmix start": FreqMix(per="sample", anchor="start"),
    "freqmix wrap": FreqMix(per="sample", edges="wrap"),
    "freqmix shift": FreqMix(per="sample", edges="shift"),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(method, x, lengths=None, seed=0, targets=None):
    targets = torch.eye(len(x)) if targets is None else targets
    return method.draw(x, targets, lengths, generator(seed))


def other(op, size):
    return partners(size, op.shift, torch.device("cpu")).tolist()


def cutmix_mask(op, i, bins, frames):
    """The authors' box, in their own steps; True where x_i stays."""
    cut = math.sqrt(1 - float(op.lam[i]))
    sides = []
    for axis, size in enumerate((bins, frames)):
        width, unit = int(size * cut), float(op.units[axis, i])
        if op.edges == "shift":
            low = int(unit * (size - width + 1))
            sides.append((low, low + width))
        else:
            centre = int(unit * size)
            low, high = centre - width // 2, centre + width // 2
            sides.append((min(max(low, 0), size), min(max(high, 0), size)))
    (f0, f1), (t0, t1) = sides
    return [[not (f0 <= f < f1 and t0 <= t < t1) for t in range(frames)] for f in range(bins)]


def specmix_mask(op, i, bins, frames):
    """Band by band."""
    mask = [[True] * frames for _ in range(bins)]
    for axis, size in enumerate((bins, frames)):
        width = math.floor(float(op.gamma[i]) * size + 1e-9)
        for n in range(int(op.counts[axis, i])):
            start = int(float(op.units[axis, i, n]) * (size - width + 1))
            for f in range(bins):
                for t in range(frames):
                    if start <= (f, t)[axis] < start + width:
                        mask[f][t] = False
    return mask


def freqmix_mask(op, i, bins, frames):
    """x_A inside the band."""
    width, unit = round(float(op.lam[i]) * bins), float(op.unit[i])
    first = int(unit * bins) - (width // 2 if op.anchor == "centre" else 0)
    if op.edges == "shift":
        first = int(unit * (bins - width + 1))
    inside = range(first, first + width)
    if op.edges == "wrap":
        inside = [f % bins for f in inside]
    return [[f in inside] * frames for f in range(bins)]


MASKS = {"CutMixOp": cutmix_mask, "SpecMixOp": specmix_mask, "FreqMixOp": freqmix_mask}


def naive(x, op, ends=None):
    """Cell by cell; the mixed batch and the share of each sample's frames that stayed its own."""
    size, _, bins, frames = x.shape
    mixed, own = x.clone(), []
    for i, j in enumerate(other(op, size)):
        end = frames if ends is None else int(ends[i])
        both = frames if ends is None else min(int(ends[i]), int(ends[j]))
        mask = MASKS[type(op).__name__](op, i, bins, both)
        kept = bins * end
        for f in range(bins):
            for t in range(both):
                if not mask[f][t]:
                    mixed[i, :, f, t] = x[j, :, f, t]
                    kept -= 1
        own.append(kept / (bins * end))
    return mixed, torch.tensor(own)


def soft(own, op):
    size = len(own)
    expected = torch.zeros(size, size)
    for i, j in enumerate(other(op, size)):
        expected[i, i] += own[i]
        expected[i, j] += 1 - own[i]
    return expected


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(2, 5), channels=st.integers(1, 2), bins=st.integers(1, 7),
    frames=st.integers(1, 9), seed=st.integers(0, 999), data=st.data(),
)  # fmt: skip
def test_equals_the_loop(name, size, channels, bins, frames, seed, data):
    x = torch.randn(size, channels, bins, frames, generator=generator(seed))
    lengths = data.draw(st.none() | st.lists(st.integers(1, frames), min_size=size, max_size=size))
    lengths = None if lengths is None else torch.tensor(lengths)
    before = x.clone()
    plan = draw(METHODS[name], x, lengths, seed)
    changed = plan(0, x)
    (op,) = plan.ops
    expected, own = naive(x, op, lengths)
    assert torch.equal(changed, expected)
    assert torch.equal(x, before)
    if name == "cutmix drawn":
        ends = torch.full((size,), frames) if lengths is None else lengths
        both = torch.minimum(ends, ends[other(op, size)])
        own = 1 - (1 - op.lam) * both / ends
    torch.testing.assert_close(plan.targets, soft(own, op))
    torch.testing.assert_close(plan.targets.sum(1), torch.ones(size))


@pytest.mark.parametrize("name", ["cutmix", "specmix uniform", "freqmix start"])
def test_gradients_are_those_of_the_loop(name):
    x = torch.randn(3, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    plan = draw(METHODS[name], x, seed=3)
    weight = torch.randn(3, 1, 4, 5, dtype=torch.float64)
    (fast,) = torch.autograd.grad((plan(0, x) * weight).sum(), x)
    (slow,) = torch.autograd.grad((naive(x, plan.ops[0])[0] * weight).sum(), x)
    torch.testing.assert_close(fast, slow)
    assert torch.autograd.gradcheck(lambda h: plan(0, h), x)


@pytest.mark.parametrize("name", METHODS)
def test_a_hidden_map_of_any_size(name):
    """One plan fits the maps of every layer; the weight is the area on the map that was mixed."""
    method = METHODS[name]
    for seed, shape in enumerate([(4, 3, 15, 26), (4, 2, 1, 1), (4, 5, 2, 31)]):
        hidden = torch.randn(shape)
        plan = draw(method, torch.zeros(4, 1, 30, 52), seed=seed)
        expected, own = naive(hidden, plan.ops[0])
        assert torch.equal(plan(0, hidden), expected)
        if name != "cutmix drawn":
            torch.testing.assert_close(plan.targets, soft(own, plan.ops[0]))


@pytest.mark.parametrize("name", METHODS)
def test_padding_goes_nowhere(name):
    lengths = torch.tensor([9, 4, 6, 1])
    for seed in range(6):
        x = torch.randn(4, 2, 5, 9)
        for i, n in enumerate(lengths):
            x[i, :, :, n:] = 1e6
        changed = draw(METHODS[name], x, lengths, seed)(0, x)
        for i, n in enumerate(lengths):
            assert torch.equal(changed[i, :, :, n:], x[i, :, :, n:])
            assert changed[i, :, :, :n].abs().max() < 100
    full = torch.full((4,), 9)
    plans = [draw(METHODS[name], x, ends, 1) for ends in (None, full)]
    assert torch.equal(plans[0](0, x), plans[1](0, x))
    torch.testing.assert_close(plans[0].targets, plans[1].targets)


def shares(method, bins, frames, size=10_000):
    """Measured weights of many draws."""
    x = torch.zeros(1).expand(size, 1, bins, frames)
    (op,) = method.draw(x, torch.zeros(size, 2), None, generator()).ops
    freq, time = op.covers(bins, frames, None)
    rows = freq.double().mean(1)
    columns = torch.ones(size).double() if time is None else time.double().mean(1)
    return 1 - (rows + columns - rows * columns if op.union else rows * columns), op


@pytest.mark.parametrize(("gamma", "mean", "whole"), [(0.3, 0.543, 1 / 9), (0.7, 0.252, 1 / 9),
                                                      ("uniform", 0.429, 0.116)])  # fmt: skip
def test_specmix_share_of_the_specs(gamma, mean, whole):
    own, _ = shares(SpecMix(gamma), 128, 400)
    assert own.mean().item() == pytest.approx(mean, abs=0.01)
    assert (own == 1).double().mean().item() == pytest.approx(whole, abs=0.01)


def test_specmix_draws():
    """Counts and starts uniform with both ends; bands of their own length on each axis."""
    _, op = shares(SpecMix(0.3), 10, 20)
    for axis, (size, width) in enumerate(((10, 3), (20, 6))):
        share = torch.bincount(op.counts[axis], minlength=3) / 10_000
        assert len(share) == 3 and (share - 1 / 3).abs().max() < 0.03
        placed = op.place(axis, size)
        there = placed.width > 0
        assert (placed.width[there] == width).all()
        assert (there.sum(1) == op.counts[axis]).all()
        starts = torch.bincount(placed.start[there], minlength=size - width + 1)
        assert len(starts) == size - width + 1
        assert (starts / there.sum() - 1 / len(starts)).abs().max() < 0.015


def test_specmix_width_is_the_floor():
    for gamma, size, width in ((0.29, 100, 29), (0.3, 128, 38), (0.7, 10, 7), (1.0, 5, 5)):
        _, op = shares(SpecMix(gamma, 2, "batch"), size, 4, 3)
        assert int(op.place(0, size).width.max()) in (0, width)
        both = torch.tensor([size, size, size])
        assert torch.equal(op.place(0, both).width, op.place(0, size).width)


@pytest.mark.parametrize(
    ("edges", "anchor", "mean"),
    [("clip", "centre", 5 / 12), ("clip", "start", 1 / 3), ("wrap", "centre", 0.5),
     ("wrap", "start", 0.5), ("shift", "centre", 0.5)],
)  # fmt: skip
def test_freqmix_share_of_the_specs(edges, anchor, mean):
    own, op = shares(FreqMix(1.0, "sample", edges, anchor), 256, 1)
    assert own.mean().item() == pytest.approx(mean, abs=0.01)
    width = (op.lam * 256).round() / 256
    if edges == "clip":
        assert (own <= width + 1e-6).all() and (own < width - 1e-6).any()
    else:
        torch.testing.assert_close(own, width.double())
    assert own.min() == 0 and own.max() > 0.98


def test_freqmix_bands_reach_every_bin():
    for edges in ("clip", "wrap", "shift"):
        _, op = shares(FreqMix(1.0, "sample", edges), 16, 1)
        kept = (~op.covers(16, 1, None)[0]).double().mean(0)
        assert kept.min() > 0.1
        if edges == "wrap":
            assert (kept - 0.5).abs().max() < 0.03


def test_cutmix_share():
    """E[own] of a box with clipped sides: 1 - integral over lambda of (E side)^2."""
    own, op = shares(CutMix(), 256, 400)
    side = (1 - torch.linspace(0, 1, 4001, dtype=torch.float64)).sqrt()
    expected = 1 - ((side - side**2 / 4) ** 2).mean().item()
    assert own.mean().item() == pytest.approx(expected, abs=0.01)
    assert (own >= op.lam - 1e-6).all()
    whole, op = shares(CutMix(edges="shift"), 256, 400)
    torch.testing.assert_close(whole, op.lam.double(), rtol=0, atol=0.01)


def test_one_draw_a_batch_or_one_a_sample():
    x = torch.zeros(8, 1, 64, 64)
    for name, fields in (("cutmix", ("lam", "units")), ("specmix", ("gamma", "counts", "units")),
                         ("freqmix", ("lam", "unit"))):  # fmt: skip
        for per in ("batch", "sample"):
            spec = {"name": name, "per": per}
            if name == "specmix":
                spec["gamma"] = "uniform"
            (op,) = draw(build_augmentation(spec), x).ops
            for field in fields:
                rows = getattr(op, field)
                rows = rows if rows.dim() == 1 else rows.transpose(0, 1).flatten(1)
                assert (len(rows.unique(dim=0)) == 1) == (per == "batch"), (name, field)


def forced(method, x, **fields):
    """A plan of `method` with some of its numbers set."""
    plan = draw(method, x)
    for name, value in fields.items():
        object.__setattr__(plan.ops[0], name, torch.full_like(getattr(plan.ops[0], name), value))
    return plan


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_nothing_and_everything(per):
    """Zero width is the identity, the whole axis the partner."""
    x = torch.randn(4, 2, 6, 8)
    for plan in (
        forced(CutMix(per=per), x, lam=1.0),
        forced(SpecMix(per=per), x, gamma=0.0),
        forced(SpecMix(per=per), x, counts=0),
        forced(FreqMix(per=per, edges="wrap"), x, lam=1.0),
        draw(SpecMix(0.9, max_bands=0), x),
    ):
        assert torch.equal(plan(0, x), x)
        torch.testing.assert_close(plan.targets, torch.eye(4))
    for plan in (
        forced(CutMix(per=per), x, lam=0.0, units=0.5),
        forced(CutMix(per=per, edges="shift"), x, lam=0.0),
        forced(SpecMix(1.0, per=per), x, counts=1),
        forced(FreqMix(per=per), x, lam=0.0),
    ):
        partner = other(plan.ops[0], 4)
        assert torch.equal(plan(0, x), x[partner])
        torch.testing.assert_close(plan.targets, torch.eye(4)[partner])


def test_a_whole_band_that_is_clipped_is_no_longer_whole():
    x = torch.randn(2, 1, 8, 3)
    plan = forced(FreqMix(), x, lam=1.0, unit=0.0)
    plan(0, x)
    torch.testing.assert_close(plan.targets.diagonal(), torch.full((2,), 0.5))


@pytest.mark.parametrize("name", METHODS)
def test_batch_of_one_is_left_alone_with_a_warning(name):
    x = torch.randn(1, 1, 4, 5)
    with pytest.warns(UserWarning, match="batch of one"):
        plan = draw(METHODS[name], x)
    assert plan(0, x) is x
    assert torch.equal(plan.targets, torch.eye(1))


@pytest.mark.parametrize("name", ["cutmix", "specmix", "freqmix"])
def test_layers_are_equally_likely(name):
    method, g = build_augmentation({"name": name, "layers": [0, 2, 3]}), generator()
    x, y = torch.zeros(2, 1, 2, 2), torch.zeros(2, 2)
    layers = torch.tensor([method.draw(x, y, generator=g).ops[0].layer for _ in range(900)])
    share = torch.bincount(layers, minlength=4) / 900
    assert share[1] == 0 and (share[[0, 2, 3]] - 1 / 3).abs().max() < 0.06


@pytest.mark.parametrize("name", METHODS)
def test_bf16_and_channels_last_survive(name):
    x = torch.randn(4, 8, 6, 7).bfloat16().contiguous(memory_format=torch.channels_last)
    plan = draw(METHODS[name], x)
    out = plan(0, x)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, naive(x, plan.ops[0])[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: CutMix(alpha=0),
        lambda: FreqMix(alpha=-1),
        lambda: SpecMix(1.1),
        lambda: SpecMix("drawn"),
        lambda: SpecMix(max_bands=-1),
        lambda: SpecMix(layers=()),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match="must"):
        make()
