"""Frequency warping, noise and time roll against loops and closed forms."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.augment import FrequencyWarp, Noise, TimeRoll, build_augmentation
from espnet_like.augment.frequency_warp import WarpOp
from espnet_like.augment.noise import uniform_field

METHODS = {"warp": FrequencyWarp(strength=0.5), "noise": Noise(), "roll": TimeRoll()}


def draw(method, x, lengths=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return method.draw(x, torch.zeros(len(x), 2), lengths, generator)


def g(f, alpha, fc, size, corner="mid"):
    """The bin that bin f reads: UPB's piece-wise linear map."""
    if corner == "mid":
        fs = 2 * fc / (1 + alpha)
    else:
        fs = fc / alpha if alpha > 1 else fc
    fd = alpha * fs
    if fs >= size or fd >= size or f <= fd:
        return f / alpha
    return fs + (f - fd) * (size - fs) / (size - fd)


def read(x, position, edge):
    """x (C, F, T) at a place between two bins."""
    size = x.shape[1]
    if edge == "clamp":
        position = min(position, size - 1)
    low = math.floor(position)
    total = torch.zeros_like(x[:, 0])
    for bin_, weight in ((low, 1 - (position - low)), (low + 1, position - low)):
        if bin_ < size:
            total = total + weight * x[:, bin_]
    return total


@pytest.mark.parametrize("corner", ["mid", "vtlp"])
@pytest.mark.parametrize("edge", ["zero", "clamp"])
@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(1, 4), channels=st.integers(1, 2), bins=st.integers(1, 12),
    frames=st.integers(1, 3), strength=st.sampled_from([0.07, 0.5, 3.0]), seed=st.integers(0, 999),
)  # fmt: skip
def test_warp_equals_the_loop(corner, edge, size, channels, bins, frames, strength, seed):
    x = torch.randn(size, channels, bins, frames, dtype=torch.float64)
    before = x.clone()
    plan = draw(FrequencyWarp((0,), strength, 0.5, corner, edge), x, seed=seed)
    warped = plan(0, x)
    assert torch.equal(x, before)
    (op,) = plan.ops
    for i in range(size):
        alpha, fc = float(op.alpha[i]), float(op.fc[i]) * bins
        places = [g(f, alpha, fc, bins, corner) for f in range(bins)]
        assert op.source(bins)[i].tolist() == pytest.approx(places)
        expected = torch.stack([read(x[i], place, edge) for place in places], 1)
        torch.testing.assert_close(warped[i], expected, rtol=1e-9, atol=1e-9)


def test_warp_s_map_is_continuous_rises_and_keeps_its_ends():
    alpha = torch.tensor([0.6, 0.9, 1.0, 1.1, 1.7] * 4, dtype=torch.float64)
    fc = torch.tensor([0.05, 0.3, 0.5, 0.7], dtype=torch.float64).repeat_interleave(5)
    size = 4096
    for corner in ("mid", "vtlp"):
        source = WarpOp(0, alpha, fc, corner).source(size)
        assert (source[:, 0] == 0).all()
        steps = source.diff(dim=1)
        assert steps.min() > 0
        assert (steps.max(1).values <= torch.maximum(1 / alpha, source.new_tensor(8.0))).all()
        torch.testing.assert_close(source[:, 1], 1 / alpha)
    inside = WarpOp(0, alpha[3:4], fc[5:6]).source(size)  # 1.1 and 0.3: F stays where it is
    fs = 2 * 0.3 * size / 2.1
    slope = (size - fs) / (size - 1.1 * fs)
    assert float(inside[0, -1]) == pytest.approx(size - slope)
    mean = (fs + 1.1 * fs) / 2  # f_c lies in the middle of f_s and f_d
    assert mean == pytest.approx(0.3 * size)


def test_warp_draws():
    """Percentiles of alpha, P(f_c > F) = exp(-2), and both directions alike."""
    (op,) = draw(FrequencyWarp(), torch.zeros(1).expand(100_000, 1, 2, 2)).ops
    quantiles = op.alpha.quantile(torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64))
    expected = [1 / (1 - 0.07 * math.log(0.02)), 1.0, 1 - 0.07 * math.log(0.02)]
    assert quantiles.tolist() == pytest.approx(expected, abs=0.006)
    assert (op.fc > 1).double().mean().item() == pytest.approx(math.exp(-2), abs=0.004)
    assert op.fc.mean().item() == pytest.approx(0.5, abs=0.01)
    u = torch.maximum(op.alpha, 1 / op.alpha) - 1
    assert u.mean().item() == pytest.approx(0.07, abs=0.001)
    assert u.min() >= 0
    assert (op.alpha > 1).double().mean().item() == pytest.approx(0.5, abs=0.006)
    assert abs(torch.corrcoef(torch.stack([op.alpha.log(), op.fc]))[0, 1]) < 0.02


def test_warp_of_strength_zero_is_the_identity():
    x = torch.randn(50, 2, 13, 3)
    for edge in ("zero", "clamp"):
        assert torch.equal(draw(FrequencyWarp(strength=0.0, edge=edge), x)(0, x), x)


def test_warp_moves_a_tone_up_for_alpha_above_one():
    x = torch.zeros(2, 1, 64, 1)
    x[:, 0, 20] = 1.0
    op = WarpOp(0, torch.tensor([1.25, 0.8]).double(), torch.tensor([0.7, 0.7]).double())
    assert op(x, None)[0][:, 0, :, 0].argmax(1).tolist() == [25, 16]


def test_warp_s_edge_is_read_only_where_all_is_squeezed():
    x = torch.ones(1, 1, 10, 2)
    op = WarpOp(0, torch.tensor([0.5]).double(), torch.tensor([3.0]).double(), edge="zero")
    assert op(x, None)[0][0, 0, :, 0].tolist() == [1.0] * 5 + [0.0] * 5  # bin 5 reads 10
    op = WarpOp(0, torch.tensor([0.5]).double(), torch.tensor([3.0]).double(), edge="clamp")
    assert (op(x, None)[0] == 1).all()


def splitmix64(cell, key):
    """The noise of one cell in plain integers: a quarter of a word of SplitMix64."""
    z = (key + (cell // 4 + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) % 2**64
    quarter = (z ^ z >> 31).to_bytes(8, sys.byteorder)[cell % 4 * 2 :][:2]
    return (int.from_bytes(quarter, sys.byteorder, signed=True) + 2**15) / 2**16


def test_the_loop_s_generator_is_splitmix64():
    """The first word of seed 1234567, as published test vectors have it."""
    cells = [round(splitmix64(i, 1234567) * 2**16 - 2**15) for i in range(4)]
    word = b"".join(c.to_bytes(2, sys.byteorder, signed=True) for c in cells)
    assert int.from_bytes(word, sys.byteorder) == 6457827717110365317


@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(1, 4), channels=st.integers(1, 3), bins=st.integers(1, 4),
    frames=st.integers(1, 6), seed=st.integers(0, 999), data=st.data(),
)  # fmt: skip
def test_noise_equals_the_loop(size, channels, bins, frames, seed, data):
    lengths = torch.tensor([data.draw(st.integers(1, frames)) for _ in range(size)])
    x = torch.randn(size, channels, bins, frames)
    before, expected = x.clone(), x.clone()
    plan = draw(Noise(), x, lengths, seed)
    (op,) = plan.ops
    for i in range(size):
        for c in range(channels):
            for f in range(bins):
                for t in range(int(lengths[i])):
                    cell = (c * bins + f) * frames + t
                    expected[i, c, f, t] += float(op.level[i]) * splitmix64(cell, int(op.keys[i]))
    torch.testing.assert_close(plan(0, x), expected)
    assert torch.equal(x, before)


def test_noise_is_uniform_and_independent():
    keys = torch.tensor([0, 1, 2**62, -1])  # close ones too
    field = uniform_field(keys, (1, 256, 256)).double()
    n = field[0].numel()
    assert field.min() >= 0 and field.max() < 1
    assert field.min() < 1e-4 and field.max() > 1 - 1e-4
    for noise in field:
        count = torch.histc(noise, 64, 0, 1)
        assert ((count - n / 64) ** 2 / (n / 64)).sum() < 110  # chi-square of 63: 1e-4 beyond 111
        assert noise.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * n))
    rows = [*field.flatten(1), field[0, 0].T.flatten()]
    rows += [field[0].flatten().roll(k) for k in (1, 2, 3, 4, 256, 257)]
    correlation = torch.corrcoef(torch.stack(rows)).fill_diagonal_(0)
    assert correlation.abs().max() < 5 / math.sqrt(n)


def test_noise_levels():
    (op,) = draw(Noise(), torch.zeros(1).expand(50_000, 1, 1, 1)).ops
    assert op.level.min() >= 0 and op.level.max() < 0.1
    assert op.level.min() < 1e-4 and op.level.max() > 0.0999
    assert op.level.double().mean().item() == pytest.approx(0.05, abs=0.0006)
    assert op.keys.min() < -(2**62) and op.keys.max() > 2**62
    assert len(op.keys.unique()) == 50_000


def test_noise_is_the_same_when_the_plan_is_applied_again():
    x = torch.randn(3, 1, 4, 5)
    plan = draw(Noise(), x)
    assert torch.equal(plan(0, x), plan(0, x))
    assert torch.equal(draw(Noise(), x, seed=1)(0, x), draw(Noise(), x, seed=1)(0, x))
    assert not torch.equal(draw(Noise(), x, seed=2)(0, x), draw(Noise(), x, seed=1)(0, x))
    assert torch.equal(draw(Noise(amplitude=0.0), x)(0, x), x)


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 4), channels=st.integers(1, 2), bins=st.integers(1, 3),
    frames=st.integers(1, 12), seed=st.integers(0, 999), padded=st.booleans(), data=st.data(),
)  # fmt: skip
def test_roll_equals_the_loop(size, channels, bins, frames, seed, padded, data):
    lengths = [data.draw(st.integers(1, frames)) if padded else frames for _ in range(size)]
    x = torch.randn(size, channels, bins, frames)
    before = x.clone()
    plan = draw(TimeRoll(low=-20, high=20), x, torch.tensor(lengths) if padded else None, seed)
    rolled = plan(0, x)
    assert torch.equal(x, before)
    for i, n in enumerate(lengths):
        shift = int(plan.ops[0].shift[i])
        expected = x[i].clone()
        expected[..., :n] = torch.roll(x[i, ..., :n], shift, -1)
        assert torch.equal(rolled[i], expected)


@pytest.mark.parametrize(("preset", "low", "high"), [("ssast", -10, 9), ("cpjku", -50, 50)])
def test_roll_draws_both_ends(preset, low, high):
    method = build_augmentation({"name": "time_roll", "preset": preset})
    (op,) = draw(method, torch.zeros(1).expand(50_000, 1, 1, 200)).ops
    share = torch.bincount(op.shift - low) / 50_000
    assert len(share) == high - low + 1
    assert (share - 1 / len(share)).abs().max() < 0.01 / math.sqrt(len(share) / 20)


def test_roll_s_default_is_ssast_s():
    x = torch.randn(4, 1, 2, 30)
    assert torch.equal(
        draw(TimeRoll(), x)(0, x),
        draw(build_augmentation({"name": "time_roll", "preset": "ssast"}), x)(0, x),
    )


def test_roll_of_nothing_is_the_identity():
    x = torch.randn(3, 1, 2, 5)
    assert torch.equal(draw(TimeRoll(low=0, high=0), x)(0, x), x)


def test_roll_scales_with_a_hidden_map():
    x, hidden = torch.zeros(50, 1, 2, 100), torch.randn(50, 3, 2, 25)
    plan = draw(TimeRoll((2,), -50, 50), x)
    rolled = plan(2, hidden)
    for i, shift in enumerate(plan.ops[0].shift.tolist()):
        assert torch.equal(rolled[i], hidden[i].roll(round(shift / 4), -1))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 1, 3])])
def test_gradients(method, lengths):
    x = torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    plan = draw(method, x, lengths)
    assert torch.autograd.gradcheck(lambda h: plan(0, h), x)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_padding_stays_and_goes_nowhere(method):
    """Warping is the same for every frame, so padding is warped in place."""
    lengths = torch.tensor([7, 2, 5])
    x = torch.randn(3, 1, 6, 7)
    for i, n in enumerate(lengths):
        x[i, :, :, n:] = 1e6
    for seed in range(10):
        changed = draw(method, x, lengths, seed)(0, x)
        for i, n in enumerate(lengths):
            assert changed[i, :, :, :n].abs().max() < 100
            if not isinstance(method, FrequencyWarp):
                assert torch.equal(changed[i, :, :, n:], x[i, :, :, n:])


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_bf16_and_channels_last_survive(method):
    x = torch.randn(4, 8, 6, 7).bfloat16().contiguous(memory_format=torch.channels_last)
    plan = draw(method, x)
    out = plan(0, x)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    exact = plan(0, x.float().contiguous())
    torch.testing.assert_close(out.float(), exact, rtol=0.02, atol=0.03)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FrequencyWarp(layers=()),
        lambda: FrequencyWarp(strength=-0.1),
        lambda: FrequencyWarp(corner_scale=0),
        lambda: FrequencyWarp(corner="top"),
        lambda: FrequencyWarp(edge="wrap"),
        lambda: Noise(amplitude=-1),
        lambda: TimeRoll(low=3, high=2),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match="must"):
        make()
