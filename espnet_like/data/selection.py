"""Choose a part of a data directory."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError


def select(
    data: DataDir,
    *,
    ids: Collection[str] | None = None,
    labels: Collection[str] | None = None,
    groups: Collection[str] | None = None,
    first: int | None = None,
    number: int | None = None,
    per_label: bool = False,
    seed: int = 0,
) -> DataDir:
    """Apply the filters `ids`, `groups` and `labels`, then take `first` or draw `number`.

    Args:
        data: the set.
        ids: utterances to keep.
        labels: labels to keep: those that are left, in class order, are the classes of the
            result; an utterance loses its other tags and stays while it has one.
        groups: groups to keep.
        first: keep this many, in the order of the ids.
        number: draw this many without replacement.
        per_label: `number` is drawn of each label (of its utterances whose first tag it is).
        seed: of the drawing; the same seed and set give the same part.

    Raises:
        UserError: an unknown id, label or group, more wanted than there is, or nothing left.
    """
    if ids is not None:
        data = data.subset(ids)
    if groups is not None:
        _refuse_unknown("group", groups, set(data.groups.values()))
        data = data.subset(utt for utt, group in data.groups.items() if group in groups)
    if labels is not None:
        _refuse_unknown("label", labels, data.labels)
        tags = {u: tuple(t for t in data.tags[u] if t in labels) for u in data.utterances}
        kept = {utt: left for utt, left in tags.items() if left}
        names = tuple(label for label in data.labels if label in labels)
        data = replace(replace(data, tags=kept).subset(kept), labels=names)
    if first is not None:
        data = data.subset(_enough(data.utterances, first, "utterances")[:first])
    if number is not None:
        generator = random.Random(seed)
        pools: dict[str, list[str]] = {"utterances": list(data.utterances)}
        if per_label:
            pools = {label: [] for label in data.labels}
            for utt in data.utterances:
                if utt not in data.tags:
                    raise UserError(f"{data.path}: no utt2labels, needed to draw by label")
                pools[data.tags[utt][0]].append(utt)
        data = data.subset(
            utt
            for name, pool in pools.items()
            for utt in generator.sample(_enough(pool, number, name), number)
        )
    if not data.utterances:
        raise UserError("no utterance is left: choose other ids, labels or groups")
    return data


def _refuse_unknown(kind: str, wanted: Collection[str], known: Collection[str]) -> None:
    if unknown := sorted(set(wanted) - set(known)):
        names = ", ".join(sorted(known)[:20])
        raise UserError(f"no {kind} {unknown[0]!r} in the set; there are {names}")


def _enough(pool: Sequence[str], number: int, name: str) -> list[str]:
    if not 1 <= number <= len(pool):
        raise UserError(f"{number} of {name} wanted, there are {len(pool)}: ask for 1 or more")
    return list(pool)
