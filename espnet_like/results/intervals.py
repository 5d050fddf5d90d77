"""95 % intervals of accuracies, from the number of clips alone.

Several seeds score the same clips, so a mean over seeds is an interval of so many clips, not of so
many times more: `wilson` takes the mean share of right answers and the clips once. Each clip then
has a share p_i of seeds that get it right, and the variance of these over clips is at most
p (1 - p): where seeds differ about a clip, the interval is wider than it need be, never narrower.
Clips are taken as independent; those of one recording place are not, which no count of clips shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


def wilson(share: float, clips: int) -> tuple[float, float]:
    """Score interval of a share of `clips`, in [0, 1] (Wilson 1927, equation 5).

    Its ends are the p with |share - p| = z sqrt(p (1 - p) / clips).

    Raises:
        ValueError: no clips, or a share outside [0, 1].
    """
    if clips < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share in [0, 1] of one clip or more, not {share} of {clips}")
    scale = 1 + Z**2 / clips
    centre = (share + Z**2 / (2 * clips)) / scale
    half = Z / scale * math.sqrt(share * (1 - share) / clips + Z**2 / (4 * clips**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mean_interval(shares: Sequence[float], clips: Sequence[int]) -> tuple[float, float]:
    """Interval of the mean of shares of different clips: the macro average over classes.

    The distances from each share to the ends of its own Wilson interval are added as standard
    errors are (Zou and Donner's "variance estimates recovery", of which Newcombe's interval of a
    difference is the best known); with one share it is Wilson's.

    Raises:
        ValueError: see `wilson`; no shares.
    """
    if not shares:
        raise ValueError("the mean of one share or more")
    mean = sum(shares) / len(shares)
    ends = [wilson(share, n) for share, n in zip(shares, clips, strict=True)]
    below = math.hypot(*(share - low for share, (low, _) in zip(shares, ends, strict=True)))
    above = math.hypot(*(high - share for share, (_, high) in zip(shares, ends, strict=True)))
    return mean - below / len(shares), mean + above / len(shares)
