"""A part of the training data to choose the epoch by: whole locations, all classes and cities."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from espnet_like.data.dcase.layout import Clip

SHARE = 0.2


def held_out(clips: Iterable[Clip], share: float = SHARE) -> set[str]:
    """Locations to validate on, about `share` of the clips; always the same for the same clips.

    Scene by scene, and each time from the city that has given the smallest share of its clips so
    far, the location that brings the scene nearest to `share`, until one more would take it further
    away. A scene gives one location at least and keeps one at least.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)  # scene -> clips of each location
    city: dict[str, str] = {}
    for clip in clips:
        sizes[clip.scene][clip.location] += 1
        city[clip.location] = clip.city
    total: Counter[str] = Counter()
    for locations in sizes.values():
        for location, count in locations.items():
            total[city[location]] += count
    taken: Counter[str] = Counter()
    chosen: set[str] = set()
    for scene in sorted(sizes):
        free, missing = dict(sizes[scene]), share * sizes[scene].total()
        first = True
        while len(free) > 1:
            location = min(
                free,
                key=lambda at: (taken[city[at]] / total[city[at]], abs(missing - free[at]), at),
            )
            if not first and abs(missing - free[location]) >= abs(missing):
                break
            first = False
            chosen.add(location)
            taken[city[location]] += free[location]
            missing -= free.pop(location)
    return chosen
