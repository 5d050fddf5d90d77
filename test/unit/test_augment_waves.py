"""Methods on waveforms and SpeechMix, against loops over clips written from the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.augment import (
    BCLearning,
    Chain,
    Mixup,
    NoAugmentation,
    OneOf,
    SpecMix,
    SpeechMix,
    Superposition,
    WaveMixup,
    build_augmentation,
    one_hot,
)
from espnet_like.augment.bc_learning import a_weighting, loudest, mix
from espnet_like.augment.pairs import choose, different_classes

RATE = 16000
WAVES = {
    "bc_learning": {"name": "bc_learning"},
    "superposition": {"name": "superposition", "max_seconds": 0.4},
    "wave_mixup": {"name": "wave_mixup"},
    "speechmix": {"name": "speechmix"},
    "chain": {"name": "chain", "methods": [{"name": "wave_mixup"}, {"name": "specmix"}]},
    "one_of": {"name": "one_of", "methods": [{"name": "bc_learning"}, {"name": "mixup"}]},
}
LENGTHS = {"full": None, "padded": torch.tensor([3000, 900, 2000, 2500])}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    wave = 0.1 * torch.randn(4, 2, 3000, generator=generator(9))
    return wave + 0.05, one_hot(torch.tensor([0, 1, 2, 1]), 3)


# -- what all have in common


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("spec", WAVES.values(), ids=WAVES)
def test_contract(batch, spec, lengths):
    """Seeded, input untouched, padding unheard, targets of the right mass, a plan afterwards."""
    method = build_augmentation(spec)
    assert method.needs_wave
    before = batch[0].clone(), batch[1].clone()
    loud = batch[0].clone()
    for i, n in enumerate([] if lengths is None else lengths.tolist()):
        loud[i, :, n:] = 1e6
    seen = set()
    for seed in range(6):
        state = torch.random.get_rng_state()
        first = method.draw_wave(*batch, lengths, RATE, generator(seed))
        assert torch.equal(torch.random.get_rng_state(), state)
        again = method.draw_wave(loud, batch[1], lengths, RATE, generator(seed))
        assert torch.equal(batch[0], before[0]) and torch.equal(batch[1], before[1])
        ends = first.lengths
        ends = torch.full((4,), first.wave.shape[2]) if ends is None else ends
        assert first.wave.shape[:2] == (4, 2) and int(ends.max()) == first.wave.shape[2]
        for i, n in enumerate(ends):
            torch.testing.assert_close(first.wave[i, :, :n], again.wave[i, :, :n])
        seen.add(float(first.wave.abs().sum()))
        features = torch.randn(4, 1, 6, 5)
        plan = first.then.draw(features, first.targets, None, generator(seed))
        for k in range(5):
            plan(k, features)
        if spec["name"] != "superposition":
            torch.testing.assert_close(plan.targets.sum(1), torch.ones(4))
    assert len(seen) > 1


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("spec", WAVES.values(), ids=WAVES)
def test_nothing_waits_for_the_device(batch, spec, lengths):
    wave, targets = (x.to("meta") for x in batch)
    for seed in range(4):
        found = build_augmentation(spec).draw_wave(wave, targets, lengths, RATE, generator(seed))
        assert found.wave.device.type == "meta" and found.targets.shape == (4, 3)
        assert found.lengths is None or found.lengths.device.type == "cpu"


@pytest.mark.parametrize("spec", WAVES.values(), ids=WAVES)
@pytest.mark.filterwarnings("ignore:a batch of one")
def test_batch_of_one(batch, spec):
    wave, targets = batch[0][:1], batch[1][:1]
    found = build_augmentation(spec).draw_wave(wave, targets, None, RATE, generator())
    assert torch.equal(found.targets, targets)
    if spec["name"] in ("bc_learning", "speechmix", "one_of"):
        torch.testing.assert_close(found.wave, wave)


@pytest.mark.parametrize("name", ["bc_learning", "superposition", "wave_mixup"])
def test_a_method_on_waveforms_says_when_it_saw_none(name):
    with pytest.raises(ValueError, match="call draw_wave before the front end"):
        build_augmentation({"name": name}).draw(torch.zeros(2, 1, 3, 3), torch.eye(2))


def test_methods_on_features_leave_waveforms_alone(batch):
    for method in (NoAugmentation(), Mixup(), SpecMix(), SpeechMix((0, 1), waveform=False)):
        found = method.draw_wave(*batch, None, RATE, generator())
        assert found.wave is batch[0] and found.targets is batch[1] and found.then is method
        assert not method.needs_wave


def test_chain_hears_first_and_then_looks(batch):
    chain = Chain([SpecMix(layers=(3,)), BCLearning(), WaveMixup(1.0)])
    found = chain.draw_wave(*batch, None, RATE, generator(4))
    g = generator(4)
    one = BCLearning().draw_wave(*batch, None, RATE, g)
    two = WaveMixup(1.0).draw_wave(one.wave, one.targets, None, RATE, g)
    assert torch.equal(found.wave, two.wave) and torch.equal(found.targets, two.targets)
    plan = found.then.draw(torch.zeros(4, 1, 5, 5), found.targets, None, g)
    assert [op.layer for op in plan.ops] == [3]


def test_one_of_chooses_once(batch):
    """What was drawn for the waveforms holds for the features."""
    method = OneOf([BCLearning(), SpecMix()])
    kinds = []
    for seed in range(20):
        found = method.draw_wave(*batch, None, RATE, generator(seed))
        plan = found.then.draw(torch.zeros(4, 1, 5, 5), found.targets, None, generator(seed))
        assert (found.wave is batch[0]) == bool(plan.ops)
        kinds.append(bool(plan.ops))
    assert 4 < sum(kinds) < 16


# -- partners of other classes


@settings(max_examples=40, deadline=None)
@given(classes=st.lists(st.integers(0, 3), min_size=2, max_size=12), seed=st.integers(0, 999))
def test_partners_are_of_another_class(classes, seed):
    size = len(classes)
    allowed = different_classes(one_hot(torch.tensor(classes), 4))
    partner, found = choose(torch.rand(size, size, generator=generator(seed)), allowed)
    for i, j in enumerate(partner.tolist()):
        alone = all(c == classes[i] for c in classes)
        assert bool(found[i]) == (not alone)
        assert i == j if alone else classes[i] != classes[j]


def test_every_other_class_is_an_equally_likely_partner():
    allowed = different_classes(one_hot(torch.tensor([0, 1, 0, 2]), 3))
    g = generator()
    firsts = torch.tensor([int(choose(torch.rand(4, 4, generator=g), allowed)[0][0])
                           for _ in range(2000)])  # fmt: skip
    share = torch.bincount(firsts, minlength=4) / 2000
    assert share[0] == share[2] == 0 and abs(share[1] - 0.5) < 0.04


def test_clips_that_share_a_tag_are_not_mixed():
    tags = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert different_classes(tags).tolist() == [[False, False, True], [False, False, True],
                                                [True, True, False]]  # fmt: skip
    with pytest.raises(ValueError, match="one_hot"):
        different_classes(torch.tensor([0, 1]))


# -- between-class learning


def weight_db(frequency):
    """A-weighting from the standard's rational function of the frequency."""
    if frequency == 0:
        return -80.0
    f = frequency
    ratio = 12194.217**2 * f**4 / (
        (f**2 + 20.598997**2) * math.sqrt((f**2 + 107.65265**2) * (f**2 + 737.86223**2))
        * (f**2 + 12194.217**2)
    )  # fmt: skip
    return max(-80.0, 20 * math.log10(ratio) + 2.0)


def gain(sound, rate, n_fft):
    """G in dB of one sound (C, L), window by window."""
    sound = np.pad(sound, ((0, 0), (0, max(0, n_fft - sound.shape[1]))))
    hann = np.hanning(n_fft + 1)[:-1]
    a = np.array([10 ** (weight_db(k * rate / n_fft) / 10) for k in range(n_fft // 2 + 1)])
    best = 0.0
    for start in range(0, sound.shape[1] - n_fft + 1, n_fft // 2):
        power = np.abs(np.fft.rfft(hann * sound[:, start : start + n_fft])) ** 2
        best = max(best, float((power * a).sum(1).mean()))
    return 10 * math.log10(max(best, 1e-8))


def bc_mix(one, two, r, rate, n_fft):
    """The paper's formula; the second sound cut or ended in silence."""
    second = np.zeros_like(one)
    n = min(one.shape[1], two.shape[1])
    second[:, :n] = two[:, :n]
    t = 1 / (1 + 10 ** ((gain(one, rate, n_fft) - gain(two, rate, n_fft)) / 20) * (1 - r) / r)
    return (t * one + (1 - t) * second) / math.sqrt(t**2 + (1 - t) ** 2)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("rate", "window"), [(22050, 2048), (44100, 4096), (16000, 256)])
def test_bc_mix_is_the_formula(batch, lengths, rate, window):
    wave = batch[0] * torch.tensor([1.0, 0.01, 3.0, 0.3])[:, None, None]
    ratio, partner = torch.tensor([0.3, 0.7, 0.01, 0.5]), torch.tensor([1, 2, 3, 0])
    given_window = window if window == 256 else None
    found = mix(wave, lengths, rate, ratio, partner, given_window)
    ends = [3000] * 4 if lengths is None else lengths.tolist()
    clips = [wave[i, :, :n].double().numpy() for i, n in enumerate(ends)]
    for i, j in enumerate(partner.tolist()):
        expected = bc_mix(clips[i], clips[j], float(ratio[i]), rate, window)
        np.testing.assert_allclose(found[i, :, : ends[i]], expected, rtol=1e-3, atol=2e-5)


def test_level_is_that_of_the_loudest_window():
    time = torch.arange(8000) / RATE
    tone = torch.sin(2 * math.pi * 1000 * time) * (time > 0.3)
    level = loudest(tone[None, None], None, RATE, 2048)
    whole = loudest(torch.sin(2 * math.pi * 1000 * time)[None, None], None, RATE, 2048)
    torch.testing.assert_close(level, whole, rtol=2e-3, atol=0)
    assert 10 * math.log10(level) == pytest.approx(gain(tone[None].numpy(), RATE, 2048), abs=1e-3)
    assert loudest(torch.zeros(1, 1, 500), None, RATE, 2048).item() == pytest.approx(1e-8)
    # silence and loudness beyond the end count for nothing
    padded = torch.cat([tone[:3000], 100 * torch.ones(5000)])[None, None]
    clean = torch.where(torch.arange(8000) < 3000, padded, 0)
    assert loudest(clean, torch.tensor([3000]), RATE, 2048).item() == pytest.approx(1e-8)


def test_a_weighting_is_the_standard_s():
    found = a_weighting(RATE, 64)
    for k, value in enumerate(found.tolist()):
        assert 10 * math.log10(value) == pytest.approx(weight_db(k * 250.0), abs=1e-4)
    assert 10 * math.log10(a_weighting(2000, 2)[1]) == pytest.approx(0, abs=0.01)  # 1 kHz


def test_equal_ratio_makes_loud_and_soft_equally_loud():
    """What the formula is for: at r = 1/2 both parts have one level in the mix."""
    loud, soft = torch.randn(1, 4096, generator=generator(1)), torch.zeros(1, 4096)
    soft[0, ::64] = 0.1
    mixed = mix(
        torch.stack([loud, soft]), None, RATE, torch.tensor([0.5, 0.5]), torch.tensor([1, 0])
    )
    parts = torch.linalg.lstsq(torch.stack([loud[0], soft[0]], 1), mixed[0, 0, :, None]).solution
    levels = loudest(torch.stack([parts[0] * loud, parts[1] * soft]), None, RATE, 2048)
    torch.testing.assert_close(levels[0], levels[1], rtol=1e-3, atol=0)


def test_bc_ratio_at_its_ends(batch):
    partner = torch.tensor([1, 0, 3, 2])
    whole = mix(batch[0], None, RATE, torch.ones(4), partner)
    torch.testing.assert_close(whole, batch[0])
    none = mix(batch[0], None, RATE, torch.zeros(4), partner)
    torch.testing.assert_close(none, batch[0][partner])
    silent = mix(torch.zeros(4, 1, 100), None, RATE, torch.full((4,), 0.3), partner)
    assert torch.equal(silent, torch.zeros(4, 1, 100))


def test_bc_learning_draws(batch):
    size = 4000
    wave = torch.zeros(1).expand(size, 1, 16)
    targets = one_hot(torch.arange(size) % 2, 2)
    found = BCLearning(16).draw_wave(wave, targets, None, RATE, generator())
    own = found.targets[torch.arange(size), torch.arange(size) % 2]
    assert own.min() < 0.005 and own.max() > 0.995
    assert own.mean().item() == pytest.approx(0.5, abs=0.015)
    assert own.var().item() == pytest.approx(1 / 12, abs=0.004)
    same = BCLearning().draw_wave(batch[0], torch.ones(4, 1), None, RATE, generator())
    torch.testing.assert_close(same.wave, batch[0])
    assert torch.equal(same.targets, torch.ones(4, 1))


# -- SpeechMix


@pytest.mark.parametrize("lengths", [None, torch.tensor([8, 3, 5, 8])])
def test_speechmix_equals_the_loop(lengths):
    x, y = torch.randn(4, 2, 3, 8), one_hot(torch.tensor([0, 1, 2, 1]), 3)
    before = x.clone()
    plan = SpeechMix((0,)).draw(x, y, lengths, generator())
    mixed = plan(0, x)
    assert torch.equal(x, before)
    (op,) = plan.ops
    ends = [8] * 4 if lengths is None else lengths.tolist()
    for i, j in enumerate(op.partner.tolist()):
        r, both = float(op.ratio[i]), min(ends[i], ends[j])
        expected = x[i].clone()
        expected[..., :both] = r * x[i, ..., :both] + (1 - r) * x[j, ..., :both]
        torch.testing.assert_close(mixed[i], expected)
        own = 1 - (1 - r) * both / ends[i]
        torch.testing.assert_close(plan.targets[i], own * y[i] + (1 - own) * y[j])
    g = x.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda h: SpeechMix((0,)).draw(h, y, None, generator())(0, h), g
    )


def test_speechmix_mixes_once_at_a_layer_drawn(batch):
    method, layers = SpeechMix((0, 2, 4)), []
    features = torch.randn(4, 1, 6, 5)
    for seed in range(300):
        g = generator(seed)
        found = method.draw_wave(*batch, None, RATE, g)
        plan = found.then.draw(features, found.targets, None, g)
        assert (found.wave is batch[0]) == bool(plan.ops)
        layers.append(plan.ops[0].layer if plan.ops else 0)
    share = torch.bincount(torch.tensor(layers), minlength=5) / 300
    assert (share[[0, 2, 4]] - 1 / 3).abs().max() < 0.08
    plans = [method.draw(features, batch[1], None, generator(seed)) for seed in range(30)]
    assert {plan.ops[0].layer for plan in plans} == {0, 2, 4}  # spectrograms, where no wave is


# -- superposition


def superposed(base, other, tau, own, part):
    """Sample by sample; tau counts from the base's first sample."""
    begin, end = min(0, tau), max(base.shape[1], tau + other.shape[1])
    out = np.zeros((base.shape[0], end - begin))
    scale = np.abs(base).max() / max(np.abs(other).max(), 1e-3)
    for t in range(begin, end):
        if 0 <= t < base.shape[1]:
            out[:, t - begin] += own * base[:, t]
        if 0 <= t - tau < other.shape[1]:
            out[:, t - begin] += part * scale * other[:, t - tau]
    return out


class Spied(Superposition):
    """Keeps the draws."""

    def _complete(self, *args):
        drawn = super()._complete(*args)
        self.pairs = (drawn.partner, drawn.mixed)
        return drawn

    def _delays(self, *args):
        self.delays = super()._delays(*args)
        return self.delays

    def _gains(self, *args):
        self.gains = super()._gains(*args)
        return self.gains


@pytest.mark.parametrize("scaled", [True, False])
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=5), seed=st.integers(0, 999),
    longest=st.integers(20, 60),
)  # fmt: skip
def test_superposition_equals_the_loop(scaled, lengths, seed, longest):
    size = len(lengths)
    wave = torch.randn(size, 2, max(lengths), generator=generator(seed))
    wave[0] *= 1e-4
    method = Spied(max_seconds=longest / 10, scale_when_unmixed=scaled)
    targets = torch.eye(size)
    found = method.draw_wave(wave, targets, torch.tensor(lengths), 10, generator(seed))
    ends = [found.wave.shape[2]] * size if found.lengths is None else found.lengths.tolist()
    partner, mixed = method.pairs
    clips = [wave[i, :, :n].double().numpy() for i, n in enumerate(lengths)]
    for i, j in enumerate(partner.tolist()):
        own, part = method.gains[:, i].tolist()
        result = found.wave[i, :, : ends[i]].double().numpy()
        if not mixed[i]:
            assert ends[i] == lengths[i]
            np.testing.assert_allclose(result, (own if scaled else 1) * clips[i], rtol=1e-5)
            assert torch.equal(found.targets[i], targets[i])
            continue
        low, high = max(-lengths[j], lengths[i] - longest), min(lengths[i], longest - lengths[j])
        assert (low, high) == tuple(int(d[i]) for d in method.delays)
        assert i != j and lengths[j] <= 1.1 * lengths[i] and ends[i] <= longest
        candidates = [
            superposed(clips[i], clips[j], tau, own, part) for tau in range(low, high + 1)
        ]
        assert any(
            c.shape == result.shape and np.allclose(c, result, rtol=1e-4, atol=1e-6)
            for c in candidates
        )
        assert torch.equal(found.targets[i], torch.maximum(targets[i], targets[j]))
        assert np.abs(result).max() <= 4 * np.abs(clips[i]).max() * (1 + 1e-5)
        assert (found.wave[i, :, ends[i] :] == 0).all()


def test_superposition_draws():
    size = 4000
    method = Spied()
    gains = method._gains(size, generator())
    for gain_ in gains:
        assert gain_.min() >= 0.5 and gain_.max() <= 2
        up = gain_ >= 1  # half the time U(1, 2), half the time its inverse
        assert up.float().mean().item() == pytest.approx(0.5, abs=0.03)
        for part in (gain_[up], 1 / gain_[~up]):
            assert part.mean().item() == pytest.approx(1.5, abs=0.02)
            assert part.var().item() == pytest.approx(1 / 12, abs=0.006)
    assert abs(torch.corrcoef(gains)[0, 1]) < 0.05
    wave = torch.ones(1).expand(1000, 1, 20)
    found = method.draw_wave(wave, torch.eye(1000), None, 1, generator(1))
    assert found.targets.sum(1).unique().tolist() == [1.0, 2.0]
    assert (found.targets.sum(1) == 2).float().mean().item() == pytest.approx(2 / 3, abs=0.05)
    # 20 s clips within 30 s: tau is U(-10, 10), the length 20 + |tau|, both ends reachable
    ends = found.lengths[method.pairs[1]]
    share = torch.bincount(ends, minlength=31)[20:].double() / len(ends)
    assert share[0].item() == pytest.approx(1 / 21, abs=0.03)
    assert (share[1:] - 2 / 21).abs().max() < 0.04 and ends.max() == 30


def test_who_is_superposed_on_whom():
    """Tj <= 1.1 Ti; clips over the bound stay alone; a clip without a partner too."""
    method, lengths = Spied(probability=1.0, max_seconds=30), torch.tensor([10, 11, 12, 31])
    for seed in range(30):
        method.draw_wave(torch.ones(4, 1, 31), torch.eye(4), lengths, 1, generator(seed))
        partner, mixed = method.pairs
        assert mixed.tolist() == [True, True, True, False]
        assert partner[0] == 1 and partner[1] in (0, 2) and partner[2] in (0, 1)
    alone = Spied(probability=1.0, allow_self=True)
    alone.draw_wave(torch.ones(2, 1, 9), torch.eye(2), torch.tensor([9, 4]), 1, generator(1))
    assert alone.pairs[1].all() and alone.pairs[0][1] == 1
    off = Superposition(probability=0.0, scale_when_unmixed=False)
    found = off.draw_wave(torch.ones(2, 1, 9), torch.eye(2), None, 1, generator())
    assert torch.equal(found.wave, torch.ones(2, 1, 9)) and found.lengths is None


# -- SSAST's mixup


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_wave_mixup_equals_the_loop(batch, lengths):
    wave, targets = batch
    ends = [3000] * 4 if lengths is None else lengths.tolist()
    found = WaveMixup(1.0).draw_wave(wave, torch.eye(4), lengths, RATE, generator())
    clips = [wave[i, :, :n].double() for i, n in enumerate(ends)]
    clips = [clip - clip.mean(1, keepdim=True) for clip in clips]
    for i, row in enumerate(found.targets):
        lam = float(row[i])
        (j,) = (k for k in range(4) if k != i and row[k] > 0)
        second = torch.zeros_like(clips[i])
        n = min(ends[i], ends[j])
        second[:, :n] = clips[j][:, :n]
        expected = lam * clips[i] + (1 - lam) * second
        expected = expected - expected.mean(1, keepdim=True)
        torch.testing.assert_close(
            found.wave[i, :, : ends[i]].double(), expected, rtol=0, atol=1e-6
        )
        assert (found.wave[i, :, ends[i] :] == 0).all()
    unmixed = WaveMixup(0.0).draw_wave(wave, targets, lengths, RATE, generator())
    assert torch.equal(unmixed.targets, targets)
    for i, n in enumerate(ends):
        torch.testing.assert_close(unmixed.wave[i, :, :n].double(), clips[i], rtol=0, atol=1e-6)


def test_wave_mixup_draws():
    wave = torch.zeros(1).expand(3000, 1, 4)
    found = WaveMixup(0.6).draw_wave(wave, torch.eye(3000), None, RATE, generator())
    lam = found.targets.diagonal()
    mixed = lam < 1
    assert mixed.float().mean().item() == pytest.approx(0.6, abs=0.03)
    assert lam[mixed].mean().item() == pytest.approx(0.5, abs=0.01)
    assert lam[mixed].var().item() == pytest.approx(1 / 84, rel=0.1)  # Beta(10, 10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BCLearning(window=1),
        lambda: Superposition(probability=1.5),
        lambda: Superposition(max_seconds=0),
        lambda: WaveMixup(-0.1),
        lambda: WaveMixup(alpha=0),
        lambda: SpeechMix(()),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ValueError, match="must"):
        make()
