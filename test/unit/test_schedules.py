"""Learning rates at the epochs that the specifications name (epochs count from 0)."""

from __future__ import annotations

import pytest
import tiny
import torch

from espnet_like.training.schedules import (
    CPJKU,
    SSAST,
    Constant,
    FreqMix,
    MultiStep,
    SpecAugmentPP,
)
from espnet_like.training.trainer import Trainer

EPOCHS = (0, 49, 50, 150, 249, 250, 349)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (SpecAugmentPP(), (1e-4, 1e-4, 1e-4, 5.25e-5, 5.475e-6, 5e-6, 5e-6)),
        (CPJKU(), (1e-4, 1e-4, 1e-4, 5e-5, 5e-7, 1e-6, 1e-6)),
        (FreqMix(), (1e-4, 1e-4, 1e-4, 1e-5, 1e-4 * 0.01 ** (199 / 200), 1e-6, 1e-6)),
        (Constant(), (1e-4,) * 7),
    ],
)
def test_rates(schedule, rates):
    assert [1e-4 * schedule(e) for e in EPOCHS] == pytest.approx(rates, rel=1e-9)


@pytest.mark.parametrize("kind", [SpecAugmentPP, CPJKU, FreqMix])
def test_an_order_that_cannot_be_is_refused(kind):
    with pytest.raises(ValueError, match="hold"):
        kind(hold=10, reach=10)


def test_multistep_is_torchs_called_after_each_step():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3, 7], gamma=0.5)
    ours = MultiStep((2, 3, 7), 0.5)
    for step in range(10):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_specmix_falls_at_its_milestones():
    steps = (0, 9_999, 10_000, 29_999, 30_000, 89_999, 90_000, 199_999)
    found = [1e-3 * MultiStep()(step) for step in steps]
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-7, 1e-8, 1e-8])


@pytest.mark.parametrize("bad", [{"milestones": (5, 5)}, {"milestones": (0, 3)}, {"factor": 0.0}])
def test_milestones_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        MultiStep(**bad)


@pytest.mark.parametrize(("start", "hold"), [(6, 5), (5, 4)])
def test_ssast_decays_as_its_authors_scheduler(start, hold):
    """MultiStepLR with a milestone at each epoch from `start` on, stepped at each epoch's end."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(range(start, 1000)), gamma=0.85)
    ours = SSAST(hold)
    for epoch in range(30):
        assert ours.at(epoch, 7) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_ssast_ends_where_the_paper_does():
    assert 1e-4 * SSAST(5).at(24, 10**5) == pytest.approx(4.56e-6, rel=1e-3)  # ESC-50, epoch 25
    assert 2.5e-4 * SSAST(4).at(29, 10**5) == pytest.approx(4.3e-6, rel=1e-2)  # the other, 30


def test_ssast_warms_up_in_stairs():
    ours, rate = SSAST(4, warm_up=1000), None
    for step in range(1500):  # their code: at each 50th step up to the 1000th the rate is set anew
        if step <= 1000 and step % 50 == 0:
            rate = step / 1000
        assert ours.at(0, step) == pytest.approx(rate)
    assert [SSAST().at(0, step) for step in (0, 1)] == [1, 1]
    assert ours.at(6, 50) == pytest.approx(0.05 * 0.85**2)


@pytest.mark.parametrize("bad", [{"hold": -1}, {"decay": 0.0}, {"warm_up": -1}, {"stair": 0}])
def test_an_ssast_schedule_that_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match="must"):
        SSAST(**bad)


def test_a_trainer_warms_up_by_steps_and_decays_by_epochs(tmp_path, monkeypatch):
    schedule = {"name": "ssast", "hold": 0, "decay": 0.5, "warm_up": 4, "stair": 2}
    rates = []
    step = Trainer._step

    def spying(self, batch):
        step(self, batch)
        rates.append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(Trainer, "_step", spying)
    config = tiny.config(tiny.make(tmp_path / "corpus"), {"train": {"schedule": schedule}})
    tiny.trained(tmp_path / "run", config)
    assert rates == pytest.approx([0, 0, 5e-4, 5e-4, 1e-3] + [5e-4] * 5 + [2.5e-4] * 5)


def test_a_run_by_steps_stopped_within_an_epoch_ends_with_the_same_weights(tmp_path, monkeypatch):
    root = tiny.make(tmp_path / "corpus")
    layers = {
        "train": {
            "schedule": {"name": "multistep", "milestones": [2, 7], "factor": 0.5},
            "checkpoint_steps": 1,
        }
    }
    config = tiny.config(root, layers)
    rates = []
    step = Trainer._step

    def spying(self, batch):
        step(self, batch)
        rates.append(self.optimizer.param_groups[0]["lr"])
        if len(rates) == 9:  # the fourth step of the second epoch of five
            raise KeyboardInterrupt

    whole = tiny.trained(tmp_path / "whole", config)
    monkeypatch.setattr(Trainer, "_step", spying)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(tmp_path / "run", config)
    rates.pop()  # the step that was lost
    rates.append(0.0)
    tiny.assert_same(tiny.trained(tmp_path / "run", config), whole)
    del rates[8]
    assert rates == pytest.approx([1e-3] * 2 + [5e-4] * 5 + [2.5e-4] * 8)
