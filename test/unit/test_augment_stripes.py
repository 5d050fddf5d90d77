"""SpecAugment and SpecAugment++ against loops written from the paper's Algorithms 1-3."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.augment import SpecAugment, SpecAugmentPP
from espnet_like.augment.partner import partners

MODES = ("zero", "mixture", "cutting")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(method, x, lengths=None, seed=0):
    return method.draw(x, torch.zeros(len(x), 2), lengths, generator(seed))


def other(op, size):
    return partners(size, op.shift, torch.device("cpu")).tolist()


def algorithm(mode, x, y, t0, t, f0, f, end=None):
    """Algorithms 1-3 for one sample (C, F, T); stripes half-open, frames before `end` only."""
    cells = [list(row.unbind(1)) for row in x.unbind(1)]  # cells[j][i] is (C,)
    end = x.shape[2] if end is None else end

    def change(i, j):
        if i < end:
            cells[j][i] = {
                "zero": lambda: torch.zeros_like(x[:, j, i]),
                "mixture": lambda: 0.5 * (x[:, j, i] + y[:, j, i]),
                "cutting": lambda: y[:, j, i],
            }[mode]()

    for i in range(t0, t0 + t):
        for j in range(x.shape[1]):
            change(i, j)
    for i in range(x.shape[2]):
        for j in range(f0, f0 + f):
            change(i, j)
    return torch.stack([torch.stack(row, -1) for row in cells], 1)


def naive(mode, x, op, valid=None):
    """The batch, sample by sample."""
    partner = other(op, len(x)) if mode != "zero" else list(range(len(x)))
    ends = [x.shape[3]] * len(x)
    if valid is not None:
        ends = [min(int(valid[i]), int(valid[p])) for i, p in enumerate(partner)]
    time, freq = op.stripes(x.shape, None if valid is None else torch.tensor(ends))
    return torch.stack(
        [
            algorithm(
                mode, x[i], x[p], int(time.start[i]), int(time.width[i]),
                int(freq.start[i]), int(freq.width[i]), ends[i],
            )
            for i, p in enumerate(partner)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(2, 5), channels=st.integers(1, 3), bins=st.integers(1, 7),
    frames=st.integers(1, 9), time=st.floats(0, 1), freq=st.floats(0, 1), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_paper_s_algorithm(mode, size, channels, bins, frames, time, freq, seed):
    x = torch.randn(size, channels, bins, frames, generator=generator(seed))
    before = x.clone()
    plan = draw(SpecAugmentPP(mode, (0,), time, freq), x, seed=seed)
    torch.testing.assert_close(plan(0, x), naive(mode, x, plan.ops[0]), rtol=0, atol=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_equal_the_naive_ones_partner_included(mode):
    x = torch.randn(4, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    plan = draw(SpecAugmentPP(mode, (0,), 0.7, 0.7), x.detach())
    weight = torch.randn(4, 2, 6, 7, dtype=torch.float64)
    (fast,) = torch.autograd.grad((plan(0, x) * weight).sum(), x)
    (slow,) = torch.autograd.grad((naive(mode, x, plan.ops[0]) * weight).sum(), x)
    torch.testing.assert_close(fast, slow)
    assert torch.autograd.gradcheck(lambda h: plan(0, h), x)


@pytest.mark.parametrize("mode", MODES)
def test_stripes_and_content_keep_out_of_padding(mode):
    lengths = torch.tensor([9, 4, 6, 1])
    for seed in range(10):
        x = torch.randn(4, 2, 5, 9)
        plan = draw(SpecAugmentPP(mode, (0,), 0.8, 0.5), x, lengths, seed)
        torch.testing.assert_close(plan(0, x), naive(mode, x, plan.ops[0], lengths))
        for i, n in enumerate(lengths):
            x[i, :, :, n:] = 1e6  # padding stays, and goes nowhere else
        changed = plan(0, x)
        for i, n in enumerate(lengths):
            assert torch.equal(changed[i, :, :, n:], x[i, :, :, n:])
            assert changed[i, :, :, :n].abs().max() < 100


def test_hidden_layer_scales_the_valid_part_up():
    x, hidden = torch.zeros(2, 1, 8, 100), torch.ones(2, 3, 4, 13)
    lengths = torch.tensor([50, 1])  # of 13 cells: ceil(6.5) = 7, ceil(0.13) = 1
    plan = draw(SpecAugmentPP("zero", (2,), 1.0, 1.0), x, lengths)
    time, _ = plan.ops[0].stripes(hidden.shape, torch.tensor([7, 1]))
    assert (time.start + time.width <= torch.tensor([[7], [1]])).all()
    assert torch.equal(plan(2, hidden), naive("zero", hidden, plan.ops[0], torch.tensor([7, 1])))
    assert (plan(2, hidden)[0, :, :, 7:] == 1).all()


def test_full_lengths_are_no_lengths():
    x = torch.randn(6, 1, 256, 431)
    for mode in MODES:
        for method in (SpecAugmentPP(mode, (1,)), SpecAugmentPP(mode, (1,), time_width=43)):
            hidden = torch.randn(6, 2, 127, 215)
            full = draw(method, x, torch.full((6,), 431))
            assert torch.equal(full(1, hidden), draw(method, x)(1, hidden))


def test_draws_are_uniform_with_both_ends():
    size, frames, most = 40_000, 10, 4
    x = torch.zeros(size, 1, 8, frames)
    (op,) = draw(SpecAugmentPP("zero", (0,), time_width=most, freq_width=2), x).ops
    time, freq = (s for s in op.stripes(x.shape))
    share = torch.bincount(time.width[:, 0], minlength=most + 1) / size
    torch.testing.assert_close(share, torch.full((most + 1,), 1 / 5), rtol=0, atol=0.012)
    for t in range(most + 1):
        starts = time.start[time.width == t]
        share = torch.bincount(starts, minlength=frames - t + 1) / len(starts)
        assert len(share) == frames - t + 1
        assert (share - 1 / (frames - t + 1)).abs().max() < 0.02
    assert freq.width.float().mean().item() == pytest.approx(1.0, abs=0.02)
    # independent axes, and samples of their own
    pairs = torch.corrcoef(torch.stack([time.width[:, 0], freq.width[:, 0], time.start[:, 0]]))
    assert abs(pairs[0, 1]) < 0.02 and abs(pairs[1, 2]) < 0.02


def test_mean_masked_share_is_half_the_ratio():
    x = torch.ones(2000, 1, 1, 431)
    masked = 1 - draw(SpecAugmentPP("zero", (0,), 0.1, 0.0), x)(0, x).mean().item()
    assert masked == pytest.approx(21.5 / 431, abs=0.002)


def test_layers_are_equally_likely():
    method, g = SpecAugmentPP("zero"), generator()
    x, y = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2)
    layers = torch.tensor([method.draw(x, y, generator=g).ops[0].layer for _ in range(2000)])
    share = torch.bincount(layers, minlength=5) / 2000
    assert len(share) == 5 and (share - 0.2).abs().max() < 0.04


@pytest.mark.parametrize(
    ("kwargs", "size", "expected"),
    [  # largest widths (time, frequency) for 431 x 256 at the input
        ({}, (256, 431), (43, 26)),
        ({}, (127, 215), (22, 13)),
        ({}, (15, 26), (3, 2)),
        ({"time_width": 43, "freq_width": 26}, (256, 431), (43, 26)),
        ({"time_width": 43, "freq_width": 26}, (127, 215), (21, 13)),
        ({"time_width": 43, "freq_width": 26}, (15, 26), (3, 2)),
        ({"time_width": 43, "freq_width": 26, "hidden_width": "clamp"}, (15, 26), (26, 15)),
        ({"time_width": 1, "freq_width": 0}, (15, 26), (1, 0)),
        ({"time_ratio": 0.001, "freq_ratio": 0.0}, (15, 26), (1, 0)),
        ({"time_ratio": 1.0, "freq_ratio": 1.0}, (15, 26), (26, 15)),
    ],
)
def test_largest_widths(kwargs, size, expected):
    method = SpecAugmentPP("zero", **kwargs)
    assert (method.time.cells(size[1], 431), method.freq.cells(size[0], 256)) == expected
    (op,) = draw(
        SpecAugmentPP("zero", (2,), **kwargs), torch.zeros(1).expand(5000, 1, 256, 431)
    ).ops
    time, freq = op.stripes((5000, 1, *size))
    assert (int(time.width.max()), int(freq.width.max())) == expected


@pytest.mark.parametrize("mode", MODES)
def test_zero_ratio_changes_nothing(mode):
    x = torch.randn(3, 2, 6, 7)
    assert torch.equal(draw(SpecAugmentPP(mode, (0,), 0.0, 0.0), x)(0, x), x)


def test_a_stripe_may_cover_the_whole_axis():
    x = torch.randn(500, 1, 4, 3)
    plan = draw(SpecAugmentPP("cutting", (0,), 1.0, 0.0), x)
    time, _ = plan.ops[0].stripes(x.shape)
    whole = (time.width[:, 0] == 3).nonzero()[:, 0]
    assert len(whole)
    assert torch.equal(plan(0, x)[whole], x[torch.tensor(other(plan.ops[0], 500))[whole]])


@settings(max_examples=50, deadline=None)
@given(size=st.integers(2, 64), seed=st.integers(0, 10_000))
def test_partners_are_a_derangement(size, seed):
    (op,) = draw(SpecAugmentPP("mixture", (0,)), torch.zeros(size, 1, 2, 2), seed=seed).ops
    partner = other(op, size)
    assert sorted(partner) == list(range(size))
    assert all(p != i for i, p in enumerate(partner))


def test_every_other_sample_is_an_equally_likely_partner():
    method, g, x, y = SpecAugmentPP("mixture", (0,)), generator(), torch.zeros(5, 1, 1, 1), None
    y = torch.zeros(5, 2)
    firsts = torch.tensor([other(method.draw(x, y, None, g).ops[0], 5)[0] for _ in range(4000)])
    share = torch.bincount(firsts, minlength=5) / 4000
    assert share[0] == 0 and (share[1:] - 0.25).abs().max() < 0.03


def test_allow_self_lets_a_batch_keep_its_own():
    method, g = SpecAugmentPP("cutting", (0,), allow_self=True), generator()
    plans = [method.draw(torch.zeros(3, 1, 1, 1), torch.zeros(3, 2), None, g) for _ in range(600)]
    assert sum(not p.ops for p in plans) / 600 == pytest.approx(1 / 3, abs=0.06)


@pytest.mark.parametrize("mode", ["mixture", "cutting"])
def test_batch_of_one_is_left_alone_with_a_warning(mode):
    x = torch.randn(1, 1, 4, 5)
    with pytest.warns(UserWarning, match="batch of one"):
        plan = draw(SpecAugmentPP(mode, (0,), 1.0, 1.0), x)
    assert plan(0, x) is x
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = draw(SpecAugmentPP("zero", (0,), 1.0, 1.0), x)
    assert torch.equal(plan(0, x), naive("zero", x, plan.ops[0]))


@pytest.mark.parametrize("fill", ["zero", "mean", "value"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([8, 3, 6])])
def test_specaugment_with_several_stripes(fill, lengths):
    x = torch.randn(3, 2, 6, 8)
    plan = draw(SpecAugment((0,), 3, 2, 0.4, 0.4, fill=fill, value=-2.5), x, lengths)
    time, freq = plan.ops[0].stripes(x.shape, lengths)
    assert time.start.shape == (3, 3) and freq.start.shape == (3, 2)
    expected = x.clone()
    for b in range(3):
        end = 8 if lengths is None else int(lengths[b])
        for c in range(2):
            value = {"zero": 0.0, "mean": x[b, c, :, :end].mean(), "value": -2.5}[fill]
            for n in range(3):
                t0, t = int(time.start[b, n]), int(time.width[b, n])
                expected[b, c, :, t0 : t0 + t] = value
            for n in range(2):
                f0, f = int(freq.start[b, n]), int(freq.width[b, n])
                expected[b, c, f0 : f0 + f, :end] = value
    torch.testing.assert_close(plan(0, x), expected)


def test_specaugment_default_is_the_input_with_one_stripe_per_axis():
    x = torch.randn(4, 1, 256, 431)
    plan = draw(SpecAugment(), x)
    assert [op.layer for op in plan.ops] == [0]
    torch.testing.assert_close(
        plan(0, x[:, :, :64, :99]), naive("zero", x[:, :, :64, :99], plan.ops[0])
    )


def test_no_stripes_is_the_identity():
    x = torch.randn(2, 1, 4, 5)
    assert torch.equal(draw(SpecAugment(time_stripes=0, freq_stripes=0), x)(0, x), x)


@pytest.mark.parametrize("mode", MODES)
def test_bf16_and_channels_last_survive(mode):
    x = torch.randn(4, 8, 6, 7).bfloat16().contiguous(memory_format=torch.channels_last)
    plan = draw(SpecAugmentPP(mode, (0,), 0.6, 0.6), x)
    out = plan(0, x)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, naive(mode, x, plan.ops[0]), rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpecAugmentPP("mixed"),
        lambda: SpecAugmentPP(layers=()),
        lambda: SpecAugmentPP(layers=(0, -1)),
        lambda: SpecAugmentPP(layers=(1, 1)),
        lambda: SpecAugmentPP(time_ratio=1.1),
        lambda: SpecAugmentPP(freq_width=-1),
        lambda: SpecAugment(time_stripes=-1),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match=r"must"):
        make()
