"""Two rows on the same clips: which is right more often, and could that be chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import NamedTuple

import numpy as np

from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned
from espnet_like.features.dump import FeatureDump
from espnet_like.scoring.score import read_scores

Right = dict[str, int]  # clip -> how many of its repeats are right


class Paired(NamedTuple):
    """What a pair of rows comes to.

    Args:
        clips: compared.
        repeats: of each clip in each row (seeds).
        accuracy: of the first and the second row on them.
        wins: clips on which the first, and on which the second row is right more often.
        p: of so uneven a number of wins, or one more uneven, were both equally likely to win.
    """

    clips: int
    repeats: int
    accuracy: tuple[float, float]
    wins: tuple[int, int]
    p: float


def sign_test(first: int, second: int) -> float:
    """Two-sided exact binomial p of so many wins: min(1, 2 P(X <= min)), X ~ B(n, 1/2).

    For wins of one run over another on clips that each has once, this is McNemar's exact test.
    """
    n = first + second
    tail = sum(comb(n, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**n)


def compare(first: Mapping[str, Right], second: Mapping[str, Right]) -> Paired:
    """Compare two rows clip by clip.

    The clips are what is drawn at random here, so each counts once: with several seeds as a win
    of the row that is right in more of them, or as none.

    Args:
        first, second: seed (and fold) -> clip -> 1 if right, else 0; of the same runs.

    Raises:
        UserError: runs or clips that only one of the rows has.
    """
    if first.keys() != second.keys() or not first:
        raise UserError("the rows have no runs of the same folds and seeds to compare")
    totals: list[Right] = []
    for row in (first, second):
        total: Right = {}
        for run in row.values():
            for utt, right in run.items():
                total[utt] = total.get(utt, 0) + right
        totals.append(total)
    if any(first[run].keys() != second[run].keys() for run in first):
        raise UserError("the rows were scored on different clips: run --stage infer and score")
    one, other = totals
    wins = sum(one[u] > other[u] for u in one), sum(one[u] < other[u] for u in one)
    scored = sum(len(run) for run in first.values())
    accuracy = sum(one.values()) / scored, sum(other.values()) / scored
    return Paired(len(one), scored // len(one), accuracy, wins, sign_test(*wins))


def right_of(planned: Planned) -> Right:
    """Of each test clip of a run, 1 where the highest score is its label's, else 0.

    Raises:
        MissingInput: no scores. UserError: a clip without a label, or with several.
    """
    config = planned.config
    data = DataDir.load(config.data.test)
    scp = planned.directory / "scores" / "test.scp"
    utterances, scores = read_scores(scp, data, FeatureDump(config.data.dump).bad)
    found = np.argmax(scores, 1)
    result = {}
    for utt, place in zip(utterances, found, strict=True):
        tags = data.tags.get(utt, ())
        if len(tags) != 1:
            raise UserError(
                f"{config.data.test}/utt2labels: {utt} has {len(tags)} labels; comparing is for "
                "clips with one"
            )
        result[utt] = int(data.labels[place] == tags[0])
    return result


def of_rows(runs: Sequence[Planned], row: str, other: str) -> dict[int | None, Paired]:
    """Each seed that both rows have, on all folds that both have; under None all seeds together.

    Raises:
        UserError: no such row, or one that is reported at another epoch than was scored.
        MissingInput: none of a row's runs matches one of the other's, or a run without scores.
    """
    by_row: dict[str, dict[tuple[int, int], Planned]] = {}
    for run in runs:
        by_row.setdefault(run.row, {})[(run.seed, run.fold)] = run
    for name in (row, other):
        if name not in by_row:
            raise UserError(f"no row {name!r}; there are {', '.join(map(repr, by_row))}")
        if any(run.config.train.selection == "best_mean" for run in by_row[name].values()):
            raise UserError(
                f"row {name!r} is reported at the epoch with the best mean, of which there are no "
                "scores: compare rows of another train.selection"
            )
    both = sorted(by_row[row].keys() & by_row[other].keys())
    right = [
        {f"{seed} {fold}": right_of(by_row[name][seed, fold]) for seed, fold in both}
        for name in (row, other)
    ]
    if not both:
        raise MissingInput(f"{row!r} and {other!r} have no fold and seed in common")
    result: dict[int | None, Paired] = {}
    seeds = sorted({seed for seed, _ in both})
    for seed in seeds:
        own = [f"{s} {fold}" for s, fold in both if s == seed]
        result[seed] = compare(*({key: row[key] for key in own} for row in right))
    return {**result, None: compare(*right)} if len(seeds) > 1 else result
