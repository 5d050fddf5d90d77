"""PEAS against loops over clips, and what it must leave alone."""

from __future__ import annotations

from math import floor

import pytest
import torch
from test_block_schedule import equation_3
from test_block_selector import best_window
from torch import nn

from espnet_like.augment import PEAS, Progress, SSASTMasks, build_augmentation
from espnet_like.augment.block_schedule import FREQUENCY, TIME
from espnet_like.augment.error_maps import error_maps
from espnet_like.errors import UserError
from espnet_like.models import SSAST, CPResNet

START, LATE = Progress(0, 1), Progress(24, 25)
SMALL = {"freq_width": 12, "time_width": 16}


class Net(SSAST):
    """A small SSAST that counts the passes through it."""

    passes = 0

    def encode(self, *args, **kwargs):
        self.passes += 1
        return super().encode(*args, **kwargs)


@pytest.fixture(scope="module")
def model() -> Net:
    torch.manual_seed(0)
    return Net(num_classes=3, size="tiny", bins=40, frames=60)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    x = 0.5 * torch.randn(3, 1, 40, 60, generator=torch.Generator().manual_seed(1))
    return x, torch.zeros(3, 3)


def draw(method, batch, model=None, progress=START, lengths=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return method.draw(*batch, lengths, generator, progress, model)


def test_conventional_masks_are_those_of_ssast(batch):
    ours = build_augmentation(
        {"name": "peas", "preset": "esc50", "masking": "conventional", **SMALL}
    )
    theirs = SSASTMasks(value=ours.value, **SMALL)
    for seed in range(5):
        for progress in (Progress(0, 25), LATE):
            a = draw(ours, batch, progress=progress, seed=seed)
            b = draw(theirs, batch, seed=seed)
            assert torch.equal(a(0, batch[0]), b(0, batch[0]))


def masked_cells(plan, batch):
    marked = plan(0, batch[0])
    return marked != batch[0]


@pytest.mark.parametrize("progress", [Progress(0, 25), LATE])
def test_blocks_are_adaptive_where_due_and_random_elsewhere(model, batch, progress):
    method = PEAS(time_blocks=3, freq_blocks=2, value=9.0, **SMALL)
    plain = PEAS("random", time_blocks=3, freq_blocks=2, value=9.0, **SMALL)
    progress = progress._replace(epoch=max(progress.epoch, 12))
    a, b = (draw(m, batch, model, progress).ops[0].stripes(batch[0].shape) for m in (method, plain))
    maps, marked = error_maps(model, batch[0]), draw(method, batch, model, progress)
    for ours, theirs, axis, n in ((a[0], b[0], TIME, 3), (a[1], b[1], FREQUENCY, 2)):
        due = equation_3(n, *progress)
        assert torch.equal(ours.width, theirs.width)
        assert torch.equal(ours.start[:, due:], theirs.start[:, due:])
        window = SMALL["time_width" if axis == TIME else "freq_width"]
        size = batch[0].shape[axis]
        for clip in range(3):
            profile = maps.profile(axis)[clip].tolist()
            for k in range(due):
                start = best_window(profile, window, size)
                width = int(ours.width[clip, k])
                assert int(ours.start[clip, k]) == min(start, size - width)
                profile[start : start + window] = [0.0] * window
        if progress == LATE:
            assert set(ours.width.flatten().tolist()) == {window // 2}
    expected = torch.zeros(3, 1, 40, 60, dtype=torch.bool)
    for clip in range(3):
        for s, w in zip(a[0].start[clip], a[0].width[clip], strict=True):
            expected[clip, :, :, s : s + w] = True
        for s, w in zip(a[1].start[clip], a[1].width[clip], strict=True):
            expected[clip, :, s : s + w] = True
    assert torch.equal(masked_cells(marked, batch), expected)


def test_error_maps_are_equations_1_and_2(model, batch):
    x = batch[0]
    maps = error_maps(model, x)
    with torch.no_grad():
        e_rec = (model.reconstruct(x) - x) ** 2
        e_pred = (model.reconstruct(e_rec) - e_rec) ** 2
    torch.testing.assert_close(maps.e_rec, e_rec)
    torch.testing.assert_close(maps.e_pred, e_pred)
    covered = torch.zeros(40, 60, dtype=torch.bool)
    covered[:36, :56] = True
    assert torch.equal(maps.covered, covered[None])
    for clip in range(3):
        for t in range(60):
            mean = sum(float(e_pred[clip, 0, f, t]) for f in range(36)) / 36 if t < 56 else 0.0
            assert float(maps.profile(TIME)[clip, t]) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("scaling", ["raw", "standardize", "log1p", "sqrt"])
def test_scaled_errors(model, batch, scaling):
    raw = error_maps(model, batch[0], "e_rec").e_rec
    found = error_maps(model, batch[0], "e_pred", scaling)
    inside = found.e_rec[:, 0, :36, :56]
    if scaling == "standardize":
        torch.testing.assert_close(inside.mean((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
        deviation = inside.std((1, 2), correction=0)
        torch.testing.assert_close(deviation, torch.full((3,), 0.5))
    else:
        function = {"raw": lambda e: e, "log1p": torch.log1p, "sqrt": torch.sqrt}[scaling]
        torch.testing.assert_close(inside, function(raw)[:, 0, :36, :56])
    with torch.no_grad():
        expected = (model.reconstruct(found.e_rec) - found.e_rec) ** 2
    torch.testing.assert_close(found.e_pred, expected)


def test_scores_of_other_readings(model, batch):
    x = batch[0]
    e_rec, guess = error_maps(model, x, "e_rec"), error_maps(model, x, "rec_pred")
    assert torch.equal(e_rec.score, e_rec.e_rec) and e_rec.e_pred is None
    assert torch.equal(guess.e_rec, e_rec.e_rec)
    shift = guess.score - guess.prediction
    assert float(guess.score[..., :36, :56].min()) >= 0
    torch.testing.assert_close(shift.amax((1, 2, 3)), shift.amin((1, 2, 3)))
    summed = error_maps(model, x, "e_rec", overlap="sum")
    torch.testing.assert_close(summed.reconstruction, model.reconstruct(x, overlap="sum"))


@torch.no_grad()
def test_masked_reconstruction_shows_every_patch_to_no_pass_that_guesses_it(model, batch):
    x, layout = batch[0], model.layout(batch[0])
    vectors = torch.zeros(3, 15, 256)
    for k in range(4):
        hidden = [(2 * f + t) % 4 == k for f in range(3) for t in range(5)]
        guess = model.guess(x, masked=torch.tensor([hidden] * 3))
        for i in range(15):
            if hidden[i]:
                vectors[:, i] = guess[:, i]
    found = error_maps(model, x, "masked_rec")
    torch.testing.assert_close(found.reconstruction, layout.join(vectors))


def test_a_loud_transient_is_masked_under_e_rec(batch):
    """With a network that reconstructs nothing the error is the energy."""

    class Silent(SSAST):
        def guess(self, x, lengths=None, masked=None, stride=None):
            return torch.zeros(len(x), 15, 256)

    x = 0.1 * batch[0]
    x[1, :, 20:24, 30:33] = 5.0
    method = PEAS(score="e_rec", **SMALL)
    with torch.device("meta"):
        silent = Silent(num_classes=3, size="tiny", bins=40, frames=60)
    time, freq = draw(method, (x, batch[1]), silent, LATE).ops[0].stripes(x.shape)
    assert 33 - 16 <= int(time.start[1]) <= 30
    assert 24 - 12 <= int(freq.start[1]) <= 20


@pytest.mark.parametrize("stride", [None, (16, 16)])
def test_auxiliary_passes_touch_nothing(batch, stride):
    class Moody(Net):
        """With parts that behave otherwise in training."""

        def __init__(self):
            super().__init__(num_classes=3, size="tiny", bins=40, frames=60)
            self.moods = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5))

        def encode(self, x, *args, **kwargs):
            return super().encode(self.moods(x), *args, **kwargs)

    torch.manual_seed(0)
    model = Moody().train()
    model.mlp_head.eval()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    ambient = torch.random.get_rng_state()
    x = batch[0].requires_grad_()
    states = []
    for masking in ("random", "peas"):
        generator = torch.Generator().manual_seed(0)
        plan = PEAS(masking, aux_stride=stride, **SMALL).draw(
            x, batch[1], None, generator, model=model
        )
        states.append(generator.get_state())
    assert model.passes == 2
    assert torch.equal(states[0], states[1])
    assert torch.equal(torch.random.get_rng_state(), ambient)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and x.grad is None
    assert model.training and model.moods[1].training and not model.mlp_head.training
    model(x, tap=plan).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("choice", ["residual", "topk", "nms"])
@pytest.mark.parametrize("placement", ["start", "best", "random_inside"])
def test_nothing_waits_for_the_device(batch, choice, placement):
    """On a device without values any read on the host is an error."""
    with torch.device("meta"):
        net = SSAST(num_classes=3, size="tiny", bins=40, frames=60)
    method = PEAS(choice=choice, placement=placement, time_blocks=3, scaling="standardize", **SMALL)
    x = batch[0].to("meta")
    plan = draw(method, (x, batch[1].to("meta")), net, LATE, torch.tensor([60, 30, 7]))
    assert plan(0, x).shape == x.shape


def test_passes_are_made_exactly_when_an_adaptive_block_is_due(model, batch):
    for masking, n, epoch, passes in (
        ("peas", 1, 0, 2), ("random", 1, 0, 0), ("conventional", 1, 20, 0), ("peas", 2, 9, 0),
        ("peas", 2, 10, 2), ("peas", 0, 20, 0),
    ):  # fmt: skip
        before = model.passes
        method = PEAS(masking, time_blocks=n, freq_blocks=n, **SMALL)
        draw(method, batch, model, Progress(epoch, 25))
        assert model.passes - before == passes
    for score, passes in (("e_rec", 1), ("rec_pred", 2), ("masked_rec", 4)):
        before = model.passes
        draw(PEAS(score=score, **SMALL), batch, model)
        assert model.passes - before == passes


def test_the_auxiliary_tasks_may_be_part_of_the_loss(batch):
    """lambda_1 mean e_rec + lambda_2 mean e_pred over covered cells, in every step."""
    torch.manual_seed(0)
    model = Net(num_classes=3, size="tiny", bins=40, frames=60, pretext="generative")
    x = batch[0]
    y = model.reconstruct(x)
    e_rec = (y - x) ** 2
    e_pred = (model.reconstruct(e_rec) - e_rec) ** 2
    expected = (0.5 * e_rec + 0.25 * e_pred)[..., :36, :56].mean((1, 2, 3))
    weights = [model.v.blocks[3].mlp.fc1.weight, model.gpredlayer[2].weight]
    gradients = torch.autograd.grad(expected.sum(), weights)
    settings = {"time_blocks": 2, "freq_blocks": 2, **SMALL}
    for progress in (START, LATE):
        plain = draw(PEAS(**settings), batch, model, progress)
        plan = draw(PEAS(aux_loss=(0.5, 0.25), **settings), batch, model, progress)
        assert plain.loss is None
        torch.testing.assert_close(plan.loss, expected)
        found = torch.autograd.grad(plan.loss.sum(), weights)
        for a, b in zip(found, gradients, strict=True):
            torch.testing.assert_close(a, b)
        assert torch.equal(plan(0, x), plain(0, x))


def test_an_auxiliary_loss_needs_a_network_that_learns(model, batch):
    with torch.random.fork_rng():
        resting = Net(num_classes=3, size="tiny", bins=40, frames=60).requires_grad_(False)
    with pytest.raises(UserError, match=r"no train\.teacher"):
        draw(PEAS(aux_loss=(1.0, 0.0), **SMALL), batch, resting)
    for bad in (
        {"aux_loss": (0.0, 1.0), "score": "e_rec"},
        {"aux_loss": (-1.0, 1.0)},
        {"aux_loss": (1.0, 0.0), "masking": "random"},
    ):
        with pytest.raises(ValueError, match="aux_loss"):
            PEAS(**bad)


def test_before_an_adaptive_block_is_due_peas_is_random_masking(model, batch):
    plans = [
        draw(PEAS(masking, time_blocks=2, freq_blocks=2, **SMALL), batch, model, Progress(5, 25))
        for masking in ("peas", "random")
    ]
    assert torch.equal(*(plan(0, batch[0]) for plan in plans))


def test_the_network_sees_what_the_methods_before_have_done(model, batch):
    first = [{"name": "noise"}, {"name": "time_roll"}]
    method = PEAS(first=first, value=9.0, **SMALL)
    plan = draw(method, batch, model)
    x = batch[0]
    for op in plan.ops[:-1]:
        x, _ = op(x, None)
    maps = error_maps(model, x)
    time, _ = plan.ops[-1].stripes(x.shape)
    for clip in range(3):
        start = best_window(maps.profile(TIME)[clip].tolist(), 16, 60)
        assert int(time.start[clip]) == min(start, 60 - int(time.width[clip]))
    marked = plan(0, batch[0])
    assert torch.equal(marked[marked != 9], x[marked != 9])


@pytest.mark.parametrize("window", ["max", "expected", "actual"])
def test_windows_may_be_as_wide_as_the_block(model, batch, window):
    time, _ = draw(PEAS(window=window, **SMALL), batch, model).ops[0].stripes(batch[0].shape)
    profile = error_maps(model, batch[0]).profile(TIME)
    for clip in range(3):
        width = int(time.width[clip])
        cells = {"max": 16, "expected": 8, "actual": width}[window]
        start = best_window(profile[clip].tolist(), cells, 60) if cells else 0
        assert int(time.start[clip]) == min(start, 60 - width)


def test_one_profile_for_the_batch(model, batch):
    time, _ = draw(PEAS(per="batch", **SMALL), batch, model, LATE).ops[0].stripes(batch[0].shape)
    mean = error_maps(model, batch[0]).profile(TIME).mean(0).tolist()
    assert time.start.flatten().tolist() == [best_window(mean, 16, 60)] * 3


def test_padding_is_masked_or_not(model, batch):
    lengths = torch.tensor([60, 30, 9])
    for masking in ("random", "peas"):
        for seed in range(5):
            method = PEAS(masking, padding=False, time_blocks=2, **SMALL)
            plan = draw(method, batch, model, Progress(15, 25), lengths, seed)
            time, _ = plan.ops[0].stripes(batch[0].shape, lengths)
            assert bool((time.start + time.width <= lengths[:, None]).all())
            assert bool((time.start >= 0).all())
    reached = [
        int((t.start + t.width)[2].max())
        for seed in range(5)
        for t, _ in [draw(PEAS("random", **SMALL), batch, seed=seed).ops[0].stripes(batch[0].shape)]
    ]
    assert max(reached) > 9


def test_errors_of_a_fixed_length_s_padding_may_be_left_out(model, batch):
    """SSAST's front end pads with a number, and its roll moves that into the clip."""
    x = batch[0].clone()
    x[0, :, :, 45:] = 0.618
    x[1, :, :, 52:55] = 0.618  # in the middle: content
    x[2, :, 1:, 57:] = 0.618  # one bin differs: content
    first = [{"name": "noise"}, {"name": "time_roll", "low": 4, "high": 4}]
    seen = []

    class Watched(PEAS):
        def ask(self, batch, before):
            maps = super().ask(batch, before)
            seen.append(maps.covered)
            return maps

    for padding in (False, True):
        draw(Watched(padding=padding, first=first, **SMALL), (x, batch[1]), model)
    expected = torch.zeros(3, 40, 60, dtype=torch.bool)
    expected[:, :36, :56] = True
    assert torch.equal(seen[1].expand(3, -1, -1), expected)
    expected[0, :, :4] = expected[0, :, 49:] = False  # frames 45 to 59, four later
    assert torch.equal(seen[0], expected)


def test_a_clip_s_errors_do_not_depend_on_its_batch(model, batch):
    x, lengths = batch[0].clone(), torch.tensor([60, 37, 20])
    for clip, n in enumerate(lengths.tolist()):
        x[clip, :, :, n:] = 0
    for scaling in ("raw", "standardize"):
        content = torch.arange(60) < lengths[:, None]
        maps = error_maps(model, x, "e_pred", scaling, lengths=lengths, content=content)
        for clip, n in enumerate(lengths.tolist()):
            alone = error_maps(model, x[clip : clip + 1, :, :, :n], "e_pred", scaling)
            for axis in (FREQUENCY, TIME):
                expected = alone.profile(axis)[0]
                found = maps.profile(axis)[clip]
                assert not found[len(expected) :].any()
                torch.testing.assert_close(found[: len(expected)], expected, atol=1e-4, rtol=1e-3)


def test_the_same_blocks_under_autocast_each_time(model, batch):
    def starts():
        with torch.autocast("cpu", torch.bfloat16):
            plan = draw(PEAS(time_blocks=3, **SMALL), batch, model, LATE)
        return plan.ops[0].stripes(batch[0].shape)[0].start

    assert torch.equal(starts(), starts())
    with torch.autocast("cpu", torch.bfloat16):
        rough = error_maps(model, batch[0])
    assert rough.score.dtype == torch.float32
    torch.testing.assert_close(
        rough.profile(TIME), error_maps(model, batch[0]).profile(TIME), atol=0.02, rtol=0.1
    )


def test_auxiliary_patches_leave_no_gaps(model, batch):
    with pytest.raises(UserError, match=r"patches every \(17, 16\) cells leave gaps"):
        draw(PEAS(aux_stride=(17, 16), **SMALL), batch, model)


@pytest.mark.parametrize("fill", ["value", "clip_mean", "noise"])
def test_fills(batch, fill):
    x = batch[0].repeat(40, 1, 1, 1)
    method = PEAS("random", fill=fill, value=7.0, **SMALL)
    plan = draw(method, (x, torch.zeros(120, 3)))
    found, mask = plan(0, x), plan.ops[0].mask(x, None).expand_as(x)
    assert torch.equal(found[~mask], x[~mask])
    if fill == "value":
        assert set(found[mask].tolist()) == {7.0}
    elif fill == "clip_mean":
        means = x.mean((1, 2, 3), keepdim=True).expand_as(x)
        torch.testing.assert_close(found[mask], means[mask])
    else:
        assert float(found[mask].mean()) == pytest.approx(0, abs=0.01)
        assert float(found[mask].std()) == pytest.approx(0.5, abs=0.01)


def test_blocks_scale_with_a_hidden_map(batch):
    plan = draw(PEAS("random", layers=(2,), **SMALL), batch)
    (op,) = plan.ops
    assert op.layer == 2
    time, freq = op.stripes((3, 8, 20, 15))
    whole_time, whole_freq = op.stripes(batch[0].shape)
    for small, whole, scale in ((time, whole_time, 4), (freq, whole_freq, 2)):
        for edge in ("start", "end"):
            a, b = (s.start + (s.width if edge == "end" else 0) for s in (small, whole))
            assert a.tolist() == [[floor(v / scale + 0.5) for v in row] for row in b.tolist()]


@pytest.mark.parametrize("name", ["ssast", "cp_resnet", "none"])
def test_networks_that_do_not_reconstruct_are_refused(batch, name):
    model = {
        "ssast": lambda: SSAST(size="tiny", bins=40, frames=60, pretext="none"),
        "cp_resnet": lambda: CPResNet(base_width=2),
        "none": lambda: None,
    }[name]()
    with pytest.raises(UserError, match="needs a network that reconstructs"):
        draw(PEAS(**SMALL), batch, model)


def test_a_mask_wider_than_the_axis(batch):
    with pytest.raises(UserError, match=r"peas, time_width: a mask of 61 frames.*only 60"):
        draw(PEAS("random", time_width=61, freq_width=40), batch)


@pytest.mark.parametrize(
    "bad",
    [
        {"time_blocks": -1},
        {"freq_width": -2},
        {"layers": ()},
        {"aux_stride": (0, 16)},
        {"first": [{"name": "bc_learning"}]},
    ],
)
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match="must"):
        PEAS(**bad)
