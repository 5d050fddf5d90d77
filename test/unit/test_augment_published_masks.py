"""The masks of UPB and of SSAST against loops, closed forms and torchaudio's own draws."""

from __future__ import annotations

from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.augment import SSASTMasks, UPBMasks, build_augmentation
from espnet_like.augment.ssast_masks import TorchaudioStripes
from espnet_like.augment.stripes import MaxWidth
from espnet_like.augment.upb_masks import LesserWidth

BOTH = {"upb": UPBMasks, "ssast": SSASTMasks}


def draw(method, x, lengths=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return method.draw(x, torch.zeros(len(x), 2), lengths, generator)


def upb_stripe(width_unit, start_unit, most, end, anywhere):
    """Width and start of one mask, of 0 .. `most` cells before `end`."""
    width = floor(width_unit * (most + 1))
    if anywhere:
        start = floor(start_unit * end)
        return start, min(width, end - start)
    return floor(start_unit * (end - width + 1)), width


def fill(x, stripes, end, value=0.0):
    """x (C, F, T) with the stripes (axis, start, width) set to `value` before frame `end`."""
    x = x.clone()
    for axis, start, width in stripes:
        for cell in range(start, start + width):
            if axis == 2 and cell < end:
                x[:, :, cell] = value
            elif axis == 1:
                x[:, cell, :end] = value
    return x


@pytest.mark.parametrize("start", ["inside", "anywhere"])
@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(1, 3), bins=st.integers(1, 9), frames=st.integers(1, 30),
    width=st.integers(0, 12), share=st.sampled_from([0.0, 0.2, 0.29, 1.0]), data=st.data(),
)  # fmt: skip
def test_upb_equals_the_loop(start, size, bins, frames, width, share, data):
    seed = data.draw(st.integers(0, 999))
    lengths = torch.tensor([data.draw(st.integers(1, frames)) for _ in range(size)])
    x = torch.randn(size, 2, bins, frames)
    before = x.clone()
    method = UPBMasks(time_width=width, time_ratio=share, freq_width=3, start=start)
    plan = draw(method, x, lengths, seed)
    masked = plan(0, x)
    assert torch.equal(x, before)
    (op,) = plan.ops
    for i, n in enumerate(lengths.tolist()):
        time = upb_stripe(
            *op.time.units[:, i, 0].tolist(), min(width, n * round(100 * share) // 100), n,
            start == "anywhere",
        )  # fmt: skip
        freq = upb_stripe(*op.freq.units[:, i, 0].tolist(), min(3, bins), bins, start == "anywhere")
        assert torch.equal(masked[i], fill(x[i], [(2, *time), (1, *freq)], n))


@pytest.mark.parametrize(("frames", "most"), [(4, 0), (5, 1), (99, 19), (349, 69), (1501, 70)])
def test_upb_widths_are_uniform_with_both_ends(frames, most):
    """W ~ U{0 .. min(70, floor(0.2 N))}, H ~ U{0 .. 16}."""
    size = 20_000
    x = torch.zeros(1).expand(size, 1, 128, frames)
    lengths = torch.full((size,), frames)
    for time, freq in (
        draw(UPBMasks(), x).ops[0].stripes(x.shape),
        draw(UPBMasks(), x.expand(size, 1, 128, frames)).ops[0].stripes(x.shape, lengths),
    ):
        for placed, top, axis in ((time, most, frames), (freq, 16, 128)):
            share = torch.bincount(placed.width[:, 0], minlength=top + 1) / size
            assert len(share) == top + 1 and share.min() > 0
            assert (share - 1 / (top + 1)).abs().max() < 0.015
            assert (placed.start + placed.width).max() == axis and placed.start.min() == 0


def test_upb_takes_each_clip_s_own_frames():
    lengths = torch.tensor([500, 100, 33, 4]).repeat(3000)
    x = torch.zeros(1).expand(12_000, 1, 128, 500)
    time, _ = draw(UPBMasks(), x, lengths).ops[0].stripes(x.shape, lengths)
    for i, most in enumerate((70, 20, 6, 0)):
        assert int(time.width[i::4].max()) == most
        assert int((time.start + time.width)[i::4].max()) == int(lengths[i])


def test_upb_s_share_is_that_of_exact_arithmetic():
    """0.29 * 100 is 28.999999999999996 in floating point."""
    width = LesserWidth(0.29, None)
    assert width.cells(100, 100) == 29
    assert width.cells(200, 200, torch.tensor([100, 99, 0])).tolist() == [29, 28, 0]


def test_upb_start_anywhere_makes_smaller_masks():
    """E = E[W] - E[max(0, n0 + W - N)]: sum over n0 of sum over W of min(W, N - n0)."""
    x = torch.zeros(1).expand(40_000, 1, 1, 20)
    method = UPBMasks(time_width=None, time_ratio=0.5, start="anywhere")
    time, _ = draw(method, x).ops[0].stripes(x.shape)
    expected = sum(min(w, 20 - n) for w in range(11) for n in range(20)) / (11 * 20)
    assert time.width.double().mean().item() == pytest.approx(expected, abs=0.05)
    assert int(time.start.max()) == 19


def test_upb_scales_cells_at_a_hidden_layer_and_keeps_shares():
    x = torch.zeros(1).expand(5000, 1, 128, 500)
    (op,) = draw(UPBMasks((2,)), x).ops
    time, freq = op.stripes((5000, 8, 16, 50))  # 70 -> 7 of 50, below 0.2 * 50; 16 -> 2 of 16
    assert (int(time.width.max()), int(freq.width.max())) == (7, 2)
    (op,) = draw(UPBMasks((2,), hidden_width="clamp"), x).ops
    time, freq = op.stripes((5000, 8, 16, 50))
    assert (int(time.width.max()), int(freq.width.max())) == (10, 16)


def torchaudio_units(seed):
    """The numbers that torchaudio's frequency, then time masking of one clip draw."""
    torch.manual_seed(seed)
    return [torch.rand(1) for _ in range(4)]


def test_ssast_equals_the_golden_masks(shared_dir):
    golden = torch.load(shared_dir / "golden" / "ssast_tiny.pt", weights_only=True)
    rows = golden["specaug_seed_f0_f1_t0_t1"].tolist()
    units = torch.stack([torch.cat(torchaudio_units(row[0])) for row in rows])[:, :, None]
    freq = TorchaudioStripes(MaxWidth(count=24), 128, units[:, :2].movedim(1, 0)).place(128)
    time = TorchaudioStripes(MaxWidth(count=96), 512, units[:, 2:].movedim(1, 0)).place(512)
    for i, (_, f0, f1, t0, t1) in enumerate(rows):
        for placed, (first, end) in ((freq, (f0, f1)), (time, (t0, t1))):
            start, width = int(placed.start[i]), int(placed.width[i])
            assert ((start, start + width) if width else (0, 0)) == (first, end)


@pytest.mark.parametrize("size", [5, 100])
def test_ssast_equals_torchaudio(size):
    functional = pytest.importorskip("torchaudio.functional")
    x = torch.ones(1, 1, 1, size)
    for seed in range(100):
        torch.manual_seed(seed)
        theirs = functional.mask_along_axis(x[0], 5, 0.0, 2)
        torch.manual_seed(seed)
        units = torch.stack([torch.rand(1), torch.rand(1)])[:, :, None]
        ours = TorchaudioStripes(MaxWidth(count=5), size, units).place(size).cover(size)
        assert torch.equal(ours[0], theirs[0, 0] == 0)


@pytest.mark.parametrize("padding", [True, False])
@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(1, 3), bins=st.integers(1, 9), frames=st.integers(1, 20),
    width=st.integers(0, 30), data=st.data(),
)  # fmt: skip
def test_ssast_equals_the_loop(padding, size, bins, frames, width, data):
    seed = data.draw(st.integers(0, 999))
    lengths = torch.tensor([data.draw(st.integers(1, frames)) for _ in range(size)])
    x = torch.randn(size, 2, bins, frames)
    before = x.clone()
    method = SSASTMasks(freq_width=4, time_width=width, value=0.618, padding=padding)
    plan = draw(method, x, lengths, seed)
    masked = plan(0, x)
    assert torch.equal(x, before)
    (op,) = plan.ops
    for i, n in enumerate(lengths.tolist()):
        stripes = []
        for axis, units, most, end in (
            (1, op.freq.units[:, i, 0], min(4, bins), bins),
            (2, op.time.units[:, i, 0], width, frames if padding else n),
        ):
            value = units[0] * min(most, end)
            stripes.append((axis, int(units[1] * (end - value)), int(value)))
        assert torch.equal(masked[i], fill(x[i], stripes, n, 0.618))


def test_ssast_widths_are_uniform_below_the_largest():
    size = 40_000
    x = torch.zeros(1).expand(size, 1, 128, 512)
    time, freq = draw(SSASTMasks(), x).ops[0].stripes(x.shape)
    for placed, most, axis in ((time, 96, 512), (freq, 24, 128)):
        share = torch.bincount(placed.width[:, 0], minlength=most) / size
        assert len(share) == most  # 0 .. P - 1
        assert (share - 1 / most).abs().max() < 0.01
        assert placed.start.min() == 0 and (placed.start + placed.width).max() >= axis - 1


def test_ssast_presets_hold_the_published_fill():
    """(0 - mean) / (2 std) of SSAST's fine-tuning sets."""
    for preset, widths, value in (("esc50", (24, 96), 0.6183), ("sc_v2", (48, 48), 0.6150)):
        method = build_augmentation({"name": "ssast_masks", "preset": preset})
        assert (method.freq.count, method.time.count) == widths
        assert method.value == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("make", BOTH.values(), ids=BOTH)
def test_zero_width_changes_nothing(make):
    x = torch.randn(3, 2, 6, 7)
    for kwargs in (
        {"time_width": 0, "freq_width": 0},
        {"time_width": None, "freq_width": None, "time_ratio": 0.0, "freq_ratio": 0.0},
    ):
        assert torch.equal(draw(make((0,), **kwargs), x)(0, x), x)


@pytest.mark.parametrize("make", BOTH.values(), ids=BOTH)
def test_a_mask_as_wide_as_the_axis_is_legal_and_so_is_a_batch_of_one(make):
    whole = {"time_width": None, "freq_width": 99, "time_ratio": 1.0, "freq_ratio": 1.0}
    x, widest = torch.ones(1, 1, 4, 3), 0
    for seed in range(60):
        plan = draw(make((0,), **whole), x, seed=seed)
        time, freq = plan.ops[0].stripes(x.shape)
        assert int(time.start + time.width) <= 3 and int(freq.start + freq.width) <= 4
        assert plan(0, x).shape == x.shape
        widest = max(widest, int(time.width))
    assert widest == (3 if make is UPBMasks else 2)  # torchaudio's rule stays below


@pytest.mark.parametrize("make", BOTH.values(), ids=BOTH)
def test_gradients_are_those_of_the_cells_that_stay(make):
    x = torch.randn(2, 2, 9, 12, dtype=torch.float64, requires_grad=True)
    plan = draw(make(), x)
    assert torch.autograd.gradcheck(lambda h: plan(0, h), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: UPBMasks(layers=()),
        lambda: UPBMasks(time_ratio=1.5),
        lambda: UPBMasks(freq_width=-1),
        lambda: UPBMasks(start="end"),
        lambda: SSASTMasks(time_width=-1),
        lambda: SSASTMasks(freq_ratio=-0.1),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match="must"):
        make()
