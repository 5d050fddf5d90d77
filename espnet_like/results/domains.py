"""Accuracy by city or device, seen in training or not: Markdown from counts of clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from espnet_like.results.counts import Counts, Part, total
from espnet_like.results.intervals import mean_interval, wilson
from espnet_like.results.markdown import markdown
from espnet_like.results.store import Result

NOTES = """\
In brackets: 95 % intervals from the number of clips (Wilson's; of a mean over classes, those of the
classes combined). Several seeds score the same clips: the value is their mean, and a clip counts
once. Clips of one place resemble each other, so the true uncertainty is larger. Seen: the training
part has clips of this value. These numbers come from `counts.csv`.
"""

ALL = "*all*"


class Value(NamedTuple):
    """A share and its 95 % interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.share:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def micro(by_class: Mapping[str, tuple[float, int]]) -> Value:
    """Share of the clips that are right."""
    right, clips = (sum(column) for column in zip(*by_class.values(), strict=True))
    return Value(right / clips, *wilson(min(right / clips, 1.0), int(clips)))


def macro(by_class: Mapping[str, tuple[float, int]]) -> Value:
    """Mean over the classes that occur."""
    pairs = [(min(right / n, 1.0), n) for right, n in by_class.values() if n]
    shares, clips = [share for share, _ in pairs], [n for _, n in pairs]
    return Value(sum(shares) / len(shares), *mean_interval(shares, clips))


def section(domain: str, results: Mapping[str, Result | None], counts: Counts) -> str:
    """Markdown: a line for each value of the domain, a column for each row of a table.

    Args:
        domain: its name.
        results: name of a row -> its result, None if it was not run.
        counts: of the runs.
    """
    rows = {name: _lines(domain, total(counts, r)) if r else {} for name, r in results.items()}
    there = {name: lines for name, lines in rows.items() if lines}
    lacking = ", ".join(name for name in rows if name not in there)
    parts = [f"### By {domain}\n"]
    if there:
        parts.append(NOTES)
        parts += [_table(f"{domain}, clips that are right (%)", there, micro)]
        parts += [_table(f"{domain}, mean over classes (%)", there, macro)]
    if lacking:
        parts.append(f"Not run, or scored without domains: {lacking}.\n")
    return "\n".join(parts)


Key = tuple[str, str]
ByClass = Mapping[str, tuple[float, int]]


def _lines(domain: str, totals: Mapping[Part, ByClass]) -> dict[Key, ByClass]:
    """(value, seen or unseen) -> counts, with the sums over what is seen, unseen, and all."""
    found = [part for part in totals if part.domain == domain]
    parts = {part: totals[part] for part in sorted(found, key=lambda p: (p.value, not p.seen))}
    lines: dict[Key, ByClass] = {(p.value, _seen(p.seen)): own for p, own in parts.items()}
    kinds = sorted({part.seen for part in parts}, reverse=True)
    for seen in kinds if len(kinds) > 1 else ():
        lines[ALL, _seen(seen)] = _sum([own for p, own in parts.items() if p.seen == seen])
    if parts:
        lines[ALL, ""] = _sum(list(parts.values()))
    return lines


def _seen(seen: bool) -> str:
    return "seen" if seen else "unseen"


def _sum(several: Sequence[ByClass]) -> ByClass:
    return {
        label: (sum(own[label][0] for own in several), sum(own[label][1] for own in several))
        for label in several[0]
    }


def _table(
    caption: str, there: Mapping[str, Mapping[Key, ByClass]], value: Callable[[ByClass], Value]
) -> str:
    keys = list(dict.fromkeys(key for lines in there.values() for key in lines))
    keys.sort(key=lambda key: key[0] == ALL)  # sums stay behind, in their order
    rows = []
    for key in keys:
        found = [lines.get(key) for lines in there.values()]
        clips = max(sum(n for _, n in own.values()) for own in found if own)
        rows.append([*key, f"{clips:,}", *(str(value(own)) if own else "" for own in found)])
    return markdown([caption, "in training", "clips", *there], rows)
