"""Parts of recordings, to the sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from espnet_like.data.directory import DataDir, Segment
from espnet_like.data.excerpts import cut_in_two, excerpts
from espnet_like.errors import UserError

RATE = 44100
LENGTHS = {f"r{i:03d}": int(n) for i, n in enumerate(np.geomspace(2, 15 * RATE, 200))}


def recordings() -> DataDir:
    return DataDir(
        wav={r: f"{r}.wav" for r in LENGTHS},
        groups={r: f"g{r}" for r in LENGTHS},
        tags={r: ("a", "b") if r.endswith("1") else ("b",) for r in LENGTHS},
        labels=("a", "b"),
        durations={r: n / RATE for r, n in LENGTHS.items()},
        domains={"device": dict.fromkeys(LENGTHS, "x")},
    )


def test_halves_meet_at_the_sample_that_was_drawn(tmp_path):
    cut_in_two(recordings(), RATE, seed=2, suffix="_s2").save(tmp_path)
    data = DataDir.load(tmp_path)  # through six digits of a second
    found = excerpts(data, RATE, LENGTHS)
    assert list(found) == sorted(f"{r}_s2_{half}" for r in LENGTHS for half in "12")
    generator = np.random.RandomState(2)
    for recording in sorted(LENGTHS):
        share, length = generator.uniform(0.1, 0.9), LENGTHS[recording]
        place = max(1, int(share * length))
        assert found[f"{recording}_s2_1"] == (recording, 0, place)
        assert found[f"{recording}_s2_2"] == (recording, place, length)
        for half in "12":
            utt = f"{recording}_s2_{half}"
            assert data.tags[utt] == recordings().tags[recording]
            assert data.groups[utt] == f"g{recording}" and data.domains["device"][utt] == "x"
            samples = found[utt].after - found[utt].first
            assert abs(data.durations[utt] - samples / RATE) < 1e-6


def test_another_seed_cuts_elsewhere_and_the_same_one_does_not():
    first, again, other = (cut_in_two(recordings(), RATE, seed=k) for k in (0, 0, 1))
    assert first == again and first.segments.keys() == other.segments.keys()
    apart = [first.segments[u].start != other.segments[u].start for u in first.segments]
    assert sum(apart) > 0.9 * len(LENGTHS)


def test_shares_are_uniform():
    many = {f"{i:05d}": 10.0 for i in range(4000)}
    data = DataDir(wav=dict.fromkeys(many, "x.wav"), groups={u: u for u in many}, durations=many)
    cut = cut_in_two(data, RATE, seed=0)
    shares = np.sort([s.end / 10 for u, s in cut.segments.items() if u.endswith("_1")])
    assert shares[0] >= 0.1 and shares[-1] <= 0.9
    line = 0.1 + 0.8 * (np.arange(4000) + 0.5) / 4000
    assert np.abs(shares - line).max() < 0.8 * 1.63 / np.sqrt(4000)  # Kolmogorov, 1 %


def test_whole_recordings_and_segments_to_the_end():
    assert excerpts(recordings(), RATE, LENGTHS)["r007"] == ("r007", 0, LENGTHS["r007"])
    data = DataDir(
        wav={"r": "r.wav"},
        groups=dict.fromkeys("abc", "g"),
        segments={
            "a": Segment("r", 0.5, None),
            "b": Segment("r", 0, 1.009),
            "c": Segment("r", 0, 1),
        },
    )
    assert excerpts(data, 1000, {"r": 1000}) == {
        "a": ("r", 500, 1000),
        "b": ("r", 0, 1000),  # 9 ms past the end
        "c": ("r", 0, 1000),
    }


@pytest.mark.parametrize(
    ("segment", "lengths", "says"),
    [
        (Segment("r", 0, 1.02), {"r": 1000}, "u: samples 0 to 1020 of r, which has 1000: run"),
        (Segment("r", 1.5, None), {"r": 1000}, "u: samples 1500 to 1000 of r"),
        (Segment("r", 0.5, 0.5001), {"r": 1000}, "u: samples 500 to 500 of r"),
        (Segment("r", 0, 1), {"s": 1000}, "u: no waveform of r: run --stage feats"),
    ],
)
def test_segments_that_do_not_fit(segment, lengths, says):
    data = DataDir(wav={"r": "r.wav"}, groups={"u": "g"}, segments={"u": segment})
    with pytest.raises(UserError, match=says):
        excerpts(data, 1000, lengths)


def test_what_cannot_be_cut():
    data = recordings()
    with pytest.raises(ValueError, match="whole recordings"):
        cut_in_two(cut_in_two(data, RATE, seed=0), RATE, seed=0)
    with pytest.raises(ValueError, match="whole recordings"):
        cut_in_two(replace(data, durations={}), RATE, seed=0)
    with pytest.raises(ValueError, match="low <= high"):
        cut_in_two(data, RATE, seed=0, low=0.9, high=0.1)
    short = replace(data, durations={**data.durations, "r005": 1 / RATE})
    with pytest.raises(UserError, match=r"r005\.wav: 1 sample\(s\)"):
        cut_in_two(short, RATE, seed=0)
