"""train.crop_frames: a part of each clip, from anywhere in it."""

from __future__ import annotations

import tiny
import torch

from espnet_like.training.batches import Batch, crop
from espnet_like.training.ranks import Ranks


def batch(size: int, frames: int, lengths: list[int] | None = None) -> Batch:
    """Cells that say where they come from: 1000 times the sample, and the frame."""
    sample = 1000.0 * torch.arange(size)[:, None, None, None]
    features = (sample + torch.arange(frames)).expand(size, 2, 3, frames).clone()
    known = None if lengths is None else torch.tensor(lengths)
    return Batch(features, torch.eye(size), known)


def test_every_place_is_as_likely_as_any_other():
    generator = torch.Generator().manual_seed(0)
    whole = batch(4000, 7)
    cut = crop(whole, 5, generator)
    assert cut.features.shape == (4000, 2, 3, 5) and cut.lengths is None
    first = (cut.features[:, 0, 0, 0] % 1000).long()
    for i in range(0, 4000, 97):
        start = int(first[i])
        assert torch.equal(cut.features[i], whole.features[i, ..., start : start + 5])
    counts = torch.bincount(first, minlength=3).double()
    assert len(counts) == 3  # 0, 1, 2
    assert ((counts / 4000 - 1 / 3).abs() < 4 * (2 / 9 / 4000) ** 0.5).all()


def test_short_clips_stay_whole_and_padding_is_never_cut_out():
    generator = torch.Generator().manual_seed(0)
    whole = batch(3, 10, [10, 6, 3])
    seen = set()
    for _ in range(50):
        cut = crop(whole, 5, generator)
        assert cut.lengths.tolist() == [5, 5, 3]
        first = (cut.features[:, 0, 0, 0] % 1000).long().tolist()
        assert first[1] in (0, 1) and first[2] == 0 and 0 <= first[0] <= 5
        seen.add((first[0], first[1]))
    assert {a for a, _ in seen} == set(range(6)) and {b for _, b in seen} == {0, 1}


def test_a_batch_that_is_short_enough_is_left_alone():
    whole = batch(2, 5)
    assert crop(whole, 5, torch.Generator()) is whole


def test_training_on_parts_scores_whole_clips(tmp_path):
    root = tiny.make(tmp_path / "corpus")
    seen: list[int] = []
    run = tiny.Run(tmp_path / "run", tiny.config(root, {"train": {"crop_frames": 20}}))
    trainer = run._trainer("f", torch.device("cpu"), Ranks())
    trainer.model.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[-1]))
    trainer.fit()
    assert set(seen) == {20}
    clips = run.inputs.clips(run.config.data.test, torch.device("cpu"))
    assert {b.features.shape[-1] for b in clips.batches(clips.in_order(4))} == {32}
