"""Stage relabel: new tags for noisy excerpts, and training sets that have them.

Writes <out>/noisy_s<k> (the excerpts that are left, with their new tags), <out>/fold<k+1>/train
(curated and noisy_s<k>) and test, <out>/relabel.json (thresholds and counts by class, and the label
error before and after where the truth is known) and <out>/changes.tsv (old and new tags).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_like.bin import Parser
from espnet_like.bin.plan import read_plan
from espnet_like.data.corpus import is_fresh, write_sets
from espnet_like.data.directory import DataDir
from espnet_like.data.sets import combine
from espnet_like.data.tables import read_labels
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.features.dump import FeatureDump
from espnet_like.files import digest, read_json, write_json, write_text
from espnet_like.scoring.ensemble import mean_scores
from espnet_like.scoring.relabel import Mask, label_error, relabel, summary


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="relabel", description=__doc__, allow_abbrev=False)
    parser.add_argument("--plan", type=Path, required=True, help="list of the runs that relabel")
    parser.add_argument("--data", type=Path, required=True, help="directory of the sets")
    parser.add_argument("--sets", nargs="+", required=True, help="noisy sets, scored by name")
    parser.add_argument("--curated", default="curated", help="set to train on as well")
    parser.add_argument("--test", default="test", help="set to score the new models on")
    parser.add_argument("--truth", help="set of the noisy recordings with their true tags")
    parser.add_argument("--out", type=Path, required=True, help="directory of the new sets")
    args = parser.parse_args(argv)
    runs = read_plan(args.plan)
    directories = [planned.directory for planned in runs]
    dumps = {planned.config.data.dump for planned in runs}
    bad = {utt for dump in dumps for utt in FeatureDump(dump).bad}
    noisy = {name: _audible(DataDir.load(args.data / name), bad) for name in args.sets}
    curated, test = (DataDir.load(args.data / name) for name in (args.curated, args.test))
    for planned in runs:
        for name, data in noisy.items():
            _check_labels(Path(planned.config.data.train), args.data / name, data.labels)
    key = _key(directories, noisy, (curated, test), args.truth)
    if is_fresh(args.out, key):
        print(f"{args.out}: fresh, nothing to do")
        return
    utterances, scores, targets = _all_scores(directories, noisy)
    tags, thresholds = relabel(scores, targets)
    if not tags.any():
        raise UserError(
            f"{args.plan}: these models' scores give no excerpt any class: train them longer"
        )
    labels = next(iter(noisy.values())).labels
    log = {"models": len(directories), **summary(tags, targets, thresholds, labels)}
    if args.truth:
        log |= _errors(DataDir.load(args.data / args.truth), noisy, utterances, tags, targets)
    new = {
        utt: tuple(label for label, on in zip(labels, row, strict=True) if on)
        for utt, row in zip(utterances, tags, strict=True)
    }
    write_text(args.out / "changes.tsv", _changes(noisy, new))
    write_json(args.out / "relabel.json", log)
    write_sets(args.out, _sets(noisy, new, curated, test), key)  # the sign that all is there, last
    print(
        f"{args.out}: {log['excerpts']} excerpts, {log['changed']} with other tags, "
        f"{log['dropped']} without any left out; classes that lost all of theirs: "
        f"{len(log['never_given'])}"
    )
    if args.truth:
        print(
            f"label error of the excerpts that are left: {log['label_error_before_of_kept']:.3f} "
            f"-> {log['label_error_after']:.3f}"
        )


def _check_labels(train: Path, path: Path, labels: tuple[str, ...]) -> None:
    if labels != read_labels(train / "labels"):
        raise UserError(
            f"{path}/labels: not those of {train} in the same order, which the models were trained "
            "on: make them alike"
        )


def _changes(noisy: Mapping[str, DataDir], new: Mapping[str, tuple[str, ...]]) -> str:
    """A line for each excerpt whose tags changed; no new ones: it is left out."""
    lines = ["utterance\told\tnew\n"]
    for data in noisy.values():
        for utt in data.utterances:
            old, now = data.tags[utt], new[utt]
            if set(old) != set(now):
                lines.append(f"{utt}\t{' '.join(old)}\t{' '.join(now)}\n")
    return "".join(lines)


def _audible(data: DataDir, bad: Collection[str]) -> DataDir:
    """The set without excerpts of recordings that have no features."""
    return data.subset(
        utt
        for utt in data.utterances
        if utt not in bad and (utt not in data.segments or data.segments[utt].recording not in bad)
    )


def _key(
    directories: Sequence[Path], noisy: Mapping[str, DataDir], others: Sequence[DataDir], *more: Any
) -> str:
    """Changes with the scores of the noisy sets and with whatever is written of all sets.

    Raises:
        MissingInput: a run has not scored a noisy set.
    """
    made = []
    for done in (d / "scores" / f"{name}.json" for d in directories for name in noisy):
        if not done.is_file():
            raise MissingInput(f"stage relabel needs {done}: run --stage relabel, which scores")
        made.append(read_json(done)["inputs"])
    tables = [[data.wav, data.tags, data.domains] for data in (*noisy.values(), *others)]
    return digest(made, tables, *more)


def _all_scores(
    directories: Sequence[Path], noisy: Mapping[str, DataDir]
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Utterances of all sets, the ensemble's scores and the present targets, (M, K)."""
    utterances: list[str] = []
    parts = []
    for name, data in noisy.items():
        own, scores = mean_scores(directories, name, data)
        if twice := set(own) & set(utterances):
            raise UserError(f"{name}: {min(twice)} is in another of the sets, too: rename it")
        utterances += own
        parts.append((scores, _targets(data, own)))
    scores, targets = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return utterances, scores, targets


def _targets(data: DataDir, utterances: Sequence[str]) -> NDArray[np.float64]:
    position = {label: k for k, label in enumerate(data.labels)}
    targets = np.zeros((len(utterances), len(position)))
    for row, utt in zip(targets, utterances, strict=True):
        row[[position[tag] for tag in data.tags[utt]]] = 1
    return targets


def _errors(
    truth: DataDir,
    noisy: Mapping[str, DataDir],
    utterances: Sequence[str],
    tags: Mask,
    targets: NDArray[np.float64],
) -> dict[str, Any]:
    """(FP + FN) / true labels, of the excerpts that are left and of all."""
    recording = {u: s.recording for data in noisy.values() for u, s in data.segments.items()}
    whole = replace(truth, tags={u: truth.tags[recording.get(u, u)] for u in utterances})
    true = _targets(whole, utterances) > 0.5
    kept, before = tags.any(1), targets > 0.5
    return {
        "label_error_before": label_error(before, true),
        "label_error_after": label_error(tags[kept], true[kept]),
        "label_error_before_of_kept": label_error(before[kept], true[kept]),
        "label_error_after_of_all": label_error(tags, true),
    }


def _sets(
    noisy: Mapping[str, DataDir],
    new: Mapping[str, tuple[str, ...]],
    curated: DataDir,
    test: DataDir,
) -> dict[str, DataDir]:
    """The relabelled sets, and what a model is trained and scored on."""
    sets = {}
    for number, (name, data) in enumerate(noisy.items(), 1):
        kept = data.subset(utt for utt in data.utterances if new[utt])
        kept = replace(kept, path=None, tags={utt: new[utt] for utt in kept.utterances})
        sets[name] = kept
        sets[f"fold{number}/train"] = combine([curated, kept])
        sets[f"fold{number}/test"] = test
    return sets


if __name__ == "__main__":
    run(main)
