"""Statistics against NumPy over everything at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_like.config import experiment
from espnet_like.errors import MissingInput, UserError
from espnet_like.features.normalize import Normalize, Stats


def clips(lengths: list[int], channels: int = 2, bins: int = 3, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    scale = np.array([1e-2, 1.0, 30.0])[:, None]
    offset = np.array([1000.0, 0.0, -40.0])[:, None]
    return [
        (offset + scale * generator.standard_normal((channels, bins, n))).astype(np.float32)
        for n in lengths
    ]


def pooled(parts: list[np.ndarray]) -> np.ndarray:
    """(F, everything) float64."""
    return np.concatenate([c.astype(np.float64) for p in parts for c in p], axis=1)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 8))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_mean_and_unbiased_std_in_any_parts(lengths: list[int], cut: int) -> None:
    parts = clips(lengths)
    first, second = Stats(3), Stats(3)
    for index, part in enumerate(parts):
        (first if index < cut else second).add(part)
    first.merge(second)
    values = pooled(parts)
    assert first.count == values.shape[1]
    np.testing.assert_allclose(first.mean, values.mean(1), rtol=1e-12)
    np.testing.assert_allclose(first.std, values.std(1, ddof=1), rtol=1e-9)


def test_a_small_spread_under_a_large_mean_is_kept() -> None:
    part = 1e9 + np.array([[[0.0, 1.0] * 1000]])
    stats = Stats(1)
    for chunk in np.split(part, 20, axis=2):
        stats.add(chunk)
    assert stats.std[0] == pytest.approx(part.std(ddof=1), rel=1e-9)


def test_nothing_gathered() -> None:
    stats = Stats(2)
    stats.merge(Stats(2))
    stats.add(np.zeros((1, 2, 0)))
    assert stats.count == 0 and stats.std.tolist() == [0, 0]


def test_another_number_of_bins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(C, 2, T\)"):
        Stats(2).add(np.zeros((1, 3, 5)))


def test_save_and_load(tmp_path: Path) -> None:
    stats = Stats(3)
    for part in clips([5, 9]):
        stats.add(part)
    stats.made = {"utterances": 2}
    stats.save(tmp_path / "stats.json")
    loaded = Stats.load(tmp_path / "stats.json")
    assert loaded.count == stats.count and loaded.made == {"utterances": 2}
    np.testing.assert_array_equal(loaded.mean, stats.mean)
    np.testing.assert_array_equal(loaded.std, stats.std)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="--stage stats"):
        Stats.load(tmp_path / "none.json")
    for text in ("{}", "[1]", "nothing"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(UserError, match=r"other\.json"):
            Stats.load(tmp_path / "other.json")


def test_normalised_features_have_mean_0_and_std_1(tmp_path: Path) -> None:
    parts = clips([50, 70])
    stats = Stats(3)
    for part in parts:
        stats.add(part)
    stats.save(tmp_path / "stats.json")
    normalize = Normalize.load(tmp_path / "stats.json")
    values = pooled([normalize(torch.from_numpy(part)[None])[0].numpy() for part in parts])
    np.testing.assert_allclose(values.mean(1), 0, atol=1e-2)  # float32 at 1000 +- 0.01
    np.testing.assert_allclose(values.std(1, ddof=1), 1, rtol=1e-2)


def one_scale(parts: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Mean per bin, and sqrt(E[x^2] - mean over bins of mean^2) over everything."""
    values = pooled(parts)
    mean = values.mean(1)
    return mean, float(np.sqrt(np.square(values).mean() - np.square(mean).mean()))


def test_one_scale_for_all_bins_from_merged_sets(tmp_path: Path) -> None:
    curated, noisy = clips([50, 70]), clips([30], seed=1)
    stats = Stats(3)
    for group in (curated, noisy):
        part = Stats(3)
        for clip in group:
            part.add(clip)
        stats.merge(part)
    stats.save(tmp_path / "stats.json")
    mean, scale = one_scale([*curated, *noisy])
    assert stats.scale == pytest.approx(scale, rel=1e-9)
    normalize = Normalize.load(tmp_path / "stats.json", "one_scale")
    found = normalize(torch.from_numpy(noisy[0])[None])[0].numpy()
    expected = (noisy[0] - mean[:, None]) / scale
    np.testing.assert_allclose(found, expected, atol=1e-4)
    values = pooled([normalize(torch.from_numpy(c)[None])[0].numpy() for c in curated + noisy])
    np.testing.assert_allclose(values.mean(1), 0, atol=1e-4)
    assert np.square(values).mean() == pytest.approx(1, rel=1e-4)
    assert values.std(1).max() > 1.5 > 0.01 > values.std(1).min()  # bins keep their proportions


def test_nothing_has_scale_0_and_silence_is_only_centred(tmp_path: Path) -> None:
    assert Stats(2).scale == 0
    stats = Stats(2)
    stats.add(np.full((1, 2, 9), -41.4, np.float32))
    stats.save(tmp_path / "stats.json")
    normalize = Normalize.load(tmp_path / "stats.json", "one_scale")
    assert normalize(torch.full((1, 1, 2, 3), -41.4)).abs().max() < 1e-4


def test_the_configuration_says_how() -> None:
    assert [experiment({"normalize": how}).normalize for how in (True, False, "one_scale")] == [
        True, False, "one_scale",
    ]  # fmt: skip
    with pytest.raises(UserError, match="normalize"):
        experiment({"normalize": "two_scales"})


def test_false_leaves_features_as_they_are(tmp_path: Path) -> None:
    stats = Stats(3)
    stats.add(clips([9])[0])
    stats.save(tmp_path / "stats.json")
    x = torch.randn(1, 2, 3, 7)
    assert torch.equal(Normalize.load(tmp_path / "stats.json", False)(x), x)


def test_a_constant_bin_is_only_centred() -> None:
    silence = np.full((1, 2, 99), -15.942385, np.float32)  # the sum of 99 equal values rounds
    stats = Stats(2)
    for _ in range(7):
        stats.add(silence)
    normalize = Normalize(stats.mean, stats.std)
    assert normalize.std.tolist() == [1, 1]
    assert normalize(torch.from_numpy(silence)).abs().max() < 1e-5


def test_the_state_carries_the_numbers() -> None:
    normalize = Normalize(np.array([1.0, 2.0]), np.array([3.0, 0.0]))
    other = Normalize(np.zeros(2), np.ones(2))
    other.load_state_dict(normalize.state_dict())
    assert other.mean.tolist() == [1, 2] and other.std.tolist() == [3, 1]


def test_unfit_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        Normalize(np.zeros(2), np.ones(3))
