"""Learning rates at the epochs that the specifications name (epochs count from 0)."""

from __future__ import annotations

import pytest

from espnet_like.training.schedules import CPJKU, Constant, FreqMix, SpecAugmentPP

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
