"""The pairs of rows that a table compares clip by clip: pairs.csv, and a section of RESULTS.md.

The test needs the scores of every clip; pairs.csv keeps what came of it, so that the page can be
rendered without the runs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned, config_digest
from espnet_like.experiments.tables import Table
from espnet_like.files import read_json, update_text
from espnet_like.results.markdown import markdown
from espnet_like.results.sign_test import of_rows, sign_test
from espnet_like.results.store import Result

NOTES = """\
Two rows on the same clips, folds and seeds. A clip counts once: for the row that is right on it (in
more of the seeds), or for none. p is McNemar's exact test, two-sided: how often rows that are
equally good would be apart so far, or farther. These numbers come from `pairs.csv`.
"""


class Key(NamedTuple):
    """Which rows of which table are compared."""

    corpus: str
    table: str
    first: str
    second: str


class Pair(NamedTuple):
    """What came of it.

    Args:
        configs: digests of both rows' configurations.
        runs: (seed, fold) that were compared.
        clips: that both were scored on.
        wins: clips that count for the first, and for the second row.
    """

    configs: tuple[str, str]
    runs: tuple[tuple[int, int], ...]
    clips: int
    wins: tuple[int, int]

    @property
    def p(self) -> float:
        """Of McNemar's exact test."""
        return sign_test(*self.wins)


Pairs = dict[Key, Pair]


def collect_pairs(stem: str, table: Table, runs: Sequence[Planned]) -> Pairs:
    """The pairs that `table` asks for and whose rows have been scored here.

    Seeds count that have all of the table's folds in both rows. A row of `best_mean` has no scores
    of its epoch.

    Raises:
        UserError: rows whose clips cannot be compared (see `paired.of_rows`).
    """
    scored = [run for run in runs if _is_scored(run)]
    found = {}
    for names in table.compare:
        own = [run for run in scored if run.row in names]
        there = {(run.row, run.seed, run.fold) for run in own}
        seeds = {run.seed for run in own}
        whole = [s for s in seeds if {(n, s, f) for n in names for f in table.folds} <= there]
        own = [run for run in own if run.seed in whole]
        both = [{(run.seed, run.fold): run for run in own if run.row == name} for name in names]
        together = tuple(sorted(both[0].keys() & both[1].keys()))
        if not together:
            continue
        try:
            tested = of_rows(own, *names)
        except MissingInput:  # result.json came without the scores: what is known stays
            continue
        last = list(tested.values())[-1]  # of all seeds
        configs = [config_digest(rows[together[0]].config) for rows in both]
        pair = Pair((configs[0], configs[1]), together, last.clips, last.wins)
        found[Key(own[0].config.data.corpus, stem, *names)] = pair
    return found


def merge_pairs(old: Pairs, new: Pairs) -> Pairs:
    """`old` with `new` put in, but where the old one is of the same rows and of more runs."""
    merged = dict(old)
    for key, pair in new.items():
        before = merged.get(key)
        if before is None or before.configs != pair.configs or len(before.runs) <= len(pair.runs):
            merged[key] = pair
    return merged


def pairs_section(
    stem: str, table: Table, results: Mapping[str, Result | None], pairs: Pairs
) -> list[str]:
    """Markdown: a line for each pair that the table asks for; nothing if it asks for none."""
    if not table.compare or not any(results.values()):
        return []
    lines = []
    for names in table.compare:
        digests = tuple(r.config if (r := results.get(name)) else "" for name in names)
        own = pairs.get(Key(table.corpus, stem, *names))
        others = (p for key, p in pairs.items() if table.about(key.corpus))  # of the same rows
        pair = next((p for p in (own, *others) if p and p.configs == digests), None)
        if pair is None:
            lines.append([*names, "not compared", "", "", "", ""])
            continue
        seeds = len({seed for seed, _ in pair.runs})
        wins = [f"{n:,}" for n in pair.wins]
        lines.append([*names, str(seeds), f"{pair.clips:,}", *wins, f"{pair.p:.2g}"])
    header = ["first", "second", "seeds", "clips", "for the first", "for the second", "p"]
    return ["### Clip by clip\n", NOTES, markdown(header, lines)]


def _is_scored(run: Planned) -> bool:
    path = run.directory / "result.json"
    if run.config.train.selection == "best_mean" or not path.is_file():
        return False
    return bool(read_json(path)["config"] == config_digest(run.config))


COLUMNS = (*Key._fields, "configs", "runs", "clips", "wins", "p")


def write_pairs(path: Path, pairs: Pairs) -> None:
    """One line a pair, p to be read; or no file."""
    if not pairs:
        path.unlink(missing_ok=True)
        return
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for key, pair in sorted(pairs.items()):
        runs = " ".join(f"{seed}:{fold}" for seed, fold in pair.runs)
        wins = " ".join(map(str, pair.wins))
        writer.writerow((*key, " ".join(pair.configs), runs, pair.clips, wins, f"{pair.p:.3g}"))
    update_text(path, file.getvalue())


def read_pairs(path: Path) -> Pairs:
    """What `write_pairs` wrote; nothing for an absent file.

    Raises:
        UserError: a line that it did not write; names it.
    """
    if not path.is_file():
        return {}
    with open(path, newline="") as file:
        return dict(_parsed(path, csv.DictReader(file)))


def _parsed(path: Path, lines: csv.DictReader[str]) -> Iterator[tuple[Key, Pair]]:
    for number, line in enumerate(lines, 2):
        try:
            (first, second), (one, other) = line["configs"].split(), line["wins"].split()
            runs = [run.split(":") for run in line["runs"].split()]
            yield (
                Key(*(line[name] for name in Key._fields)),
                Pair(
                    (first, second),
                    tuple((int(seed), int(fold)) for seed, fold in runs),
                    int(line["clips"]),
                    (int(one), int(other)),
                ),
            )
        except (KeyError, ValueError, TypeError, AttributeError):
            raise UserError(
                f"{path}:{number}: not a line that stage report wrote: restore the file"
            ) from None
