"""Sets of utterances cut into parts, and joined."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from espnet_like.data.directory import FIELDS, DataDir, Segment, sort_table
from espnet_like.data.tables import by_group, domain_table
from espnet_like.errors import UserError


def split(data: DataDir, n: int, keep_groups: bool = False) -> list[DataDir]:
    """Cut a set into `n` contiguous parts of near-equal total duration (or number of utterances,
    where durations are not known).

    Args:
        data: the set.
        n: number of parts; none is empty.
        keep_groups: keep the utterances of a group together, groups in order.

    Raises:
        UserError: fewer utterances (or groups) than parts.
    """
    units = list(by_group(data.groups).values()) if keep_groups else [[u] for u in data.utterances]
    if not 1 <= n <= len(units):
        kind = "groups" if keep_groups else "utterances"
        name = data.path or "the set"
        raise UserError(f"{name}: {len(units)} {kind} do not make {n} parts: ask for fewer")
    totals = [0.0, *accumulate(sum(data.durations.get(u, 1.0) for u in unit) for unit in units)]
    cuts = [0]
    for part in range(1, n):
        ideal = totals[-1] * part / n
        cut = bisect_left(totals, ideal)
        if cut > 0 and ideal - totals[cut - 1] < totals[cut] - ideal:
            cut -= 1
        cuts.append(min(max(cut, cuts[-1] + 1), len(units) - n + part))  # no part is empty
    cuts.append(len(units))
    return [
        data.subset(utt for unit in units[first:last] for utt in unit)
        for first, last in pairwise(cuts)
    ]


def combine(sets: Sequence[DataDir], labels: Sequence[str] | None = None) -> DataDir:
    """The union of several sets. An utterance may be in two of them if both say the same of it.

    Durations and each domain are kept if every set has them; whole recordings become segments if
    any set has them.

    Args:
        sets: one or more.
        labels: class order of the result; None: the longest list of labels among the sets, which
            must hold every other one in the same order.

    Raises:
        UserError: two sets differ about an id, only some have labels, or the orders differ.
    """
    tagged = [bool(data.tags) for data in sets]
    if any(tagged) and not all(tagged):
        raise UserError(f"{sets[tagged.index(False)].path}: no utt2labels, but other sets have it")
    if labels is None:
        labels = max((data.labels for data in sets), key=len)
        for data in sets:
            rest = iter(labels)
            if not all(label in rest for label in data.labels):  # a subsequence uses up `rest`
                raise UserError(
                    f"{data.path}/labels: not in the order of another set's labels: give the "
                    "order that you want (--labels)"
                )
    segmented = any(data.segments for data in sets)
    domains = [n for n in sets[0].domains if all(n in data.domains for data in sets)]
    merged: dict[str, dict[str, Any]] = {
        name: {} for name in (*FIELDS, *map(domain_table, domains))
    }
    for data in sets:
        tables: dict[str, Mapping[str, Any]] = {n: getattr(data, f) for n, f in FIELDS.items()}
        tables.update({domain_table(n): data.domains[n] for n in domains})
        if segmented and not data.segments:
            tables["segments"] = {utt: Segment(utt, 0.0, None) for utt in data.utterances}
        if not all(other.durations for other in sets):
            tables["utt2dur"] = {}
        for name, table in tables.items():
            for key, value in table.items():
                if merged[name].setdefault(key, value) != value:
                    raise UserError(
                        f"{data.path}/{name}: {key!r} is {value!r} here and "
                        f"{merged[name][key]!r} in another set: rename one"
                    )
    fields: dict[str, Any] = {f: sort_table(merged[name]) for name, f in FIELDS.items()}
    values = {n: sort_table(merged[domain_table(n)]) for n in domains}
    return DataDir(labels=tuple(labels), domains=values, **fields)
