#!/usr/bin/env python3
"""Stage 1 of fsdkaggle19: the official layout -> data directories.

    <out>/all                      every recording; what stage feats dumps
    <out>/curated                  to train on, correct labels
    <out>/noisy                    to train on, wrong labels among them
    <out>/noisy_s<k>               the noisy recordings, each cut in two at a place drawn with seed
                                   k = 0, 1, 2: segments, ids <recording>_s<k>_1 and _2
    <out>/fold<n>/{train,test}     n = 1..15, for the models that relabel: f = (n - 1) mod 5 + 1,
                                   k = (n - 1) div 5; test: part f of five equal ones of curated,
                                   train: the other four and all of noisy_s<k>
    <out>/norm                     curated and noisy, whole: what features are normalised by
    <out>/test                     all test clips; test_public and test_private: its two parts
    <out>/noisy_true               noisy with true labels; the demo alone knows them

What is trained on has no clips longer than --max-seconds, and none of the six that the publisher
found to be bad. `all` and the test sets have every clip. `utt2spk` is the Freesound sound or the
Flickr video, `utt2portion` curated, noisy or test.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import fsd
import numpy as np

from espnet_like.data.corpus import check_apart, is_fresh, write_sets
from espnet_like.data.directory import DataDir
from espnet_like.data.excerpts import cut_in_two
from espnet_like.data.sets import combine
from espnet_like.data.tables import by_group
from espnet_like.errors import UserError, run
from espnet_like.files import digest

SPLITS, FOLDS = 3, 5
MAX_SECONDS = 30.0  # no mix of the UPB report is longer, so no clip that is mixed may be


def fold_of(data: DataDir, folds: int = FOLDS) -> dict[str, int]:
    """Utterance -> fold, from 1: equal parts of the groups in an order drawn with seed 0.

    A group stays together, so parts differ by a clip, or by a group's clips where these are more.
    """
    groups = list(by_group(data.groups).values())
    np.random.RandomState(0).shuffle(groups)
    found: dict[str, int] = {}
    total = len(data.utterances)
    for members in groups:
        found.update(dict.fromkeys(members, len(found) * folds // total + 1))
    return found


def make_sets(
    all_clips: DataDir,
    parts: Mapping[str, Mapping[str, fsd.Clip]],
    drop_known_bad: bool,
    max_seconds: float,
) -> dict[str, DataDir]:
    """The sets, of all recordings of the corpus."""

    def short(ids: Sequence[str], part: str) -> list[str]:
        kept = [utt for utt in ids if all_clips.durations[utt] <= max_seconds]
        if long := len(ids) - len(kept):
            print(f"{part}: {long} clip(s) longer than {max_seconds:g} s are not trained on")
        return kept

    curated = list(parts["curated"])
    if drop_known_bad:
        curated = [utt for utt in curated if utt not in fsd.KNOWN_BAD]
        print(f"curated: {len(parts['curated']) - len(curated)} clips known to be bad left out")
    noisy_all = all_clips.subset(parts["noisy"])
    noisy = noisy_all.subset(short(noisy_all.utterances, "noisy"))
    sets = {"all": all_clips, "curated": all_clips.subset(short(curated, "curated"))}
    sets["noisy"] = noisy
    for k in range(SPLITS):
        # All are cut, so that a place does not depend on which recordings are kept.
        cut = cut_in_two(noisy_all, fsd.RATE, seed=k, suffix=f"_s{k}")
        sets[f"noisy_s{k}"] = cut.subset(
            u for u, s in cut.segments.items() if s.recording in noisy.wav
        )
    sets["norm"] = combine([sets["curated"], noisy])
    folds = fold_of(sets["curated"])
    for k, fold in product(range(SPLITS), range(1, FOLDS + 1)):
        name = f"fold{FOLDS * k + fold}"
        held_out = {utt for utt, of in folds.items() if of == fold}
        rest = sets["curated"].subset(utt for utt in folds if utt not in held_out)
        sets[f"{name}/train"] = combine([rest, sets[f"noisy_s{k}"]])
        sets[f"{name}/test"] = sets["curated"].subset(held_out)
        check_apart(sets, f"{name}/train", f"{name}/test")
    sets["test"] = all_clips.subset(parts["test"])
    for usage in fsd.USAGES:
        ids = [utt for utt, clip in parts["test"].items() if clip.usage == usage]
        sets[f"test_{usage.lower()}"] = all_clips.subset(ids)
    return sets


def prepare(
    db: Path,
    out: Path,
    demo: bool = False,
    drop_known_bad: bool = True,
    max_seconds: float = MAX_SECONDS,
) -> bool:
    """Check the copy in `db` and write the sets below `out`; return whether anything was made.

    Args:
        db: the directory of the copy (fsd.find_root).
        out: where the sets go.
        demo: the copy is demo.py's, with fewer clips.
        drop_known_bad: leave the six bad curated clips out of what is trained on.
        max_seconds: leave longer clips out of what is trained on.
    """
    root = fsd.find_root(db)
    files = [
        (part.audio, f.name, f.stat().st_size, f.stat().st_mtime_ns)
        for part in fsd.PARTS
        for f in sorted((root / part.audio).glob("*"))
    ]
    tables = [path.read_bytes() for path in sorted((root / fsd.META).glob("*.csv"))]
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    key = digest(str(root), demo, drop_known_bad, max_seconds, files, *tables, *code)
    if is_fresh(out, key):
        return False
    labels = fsd.read_vocabulary(root)
    parts = {part.name: fsd.read_part(root, part, labels) for part in fsd.PARTS}
    fsd.check_counts(root, parts, fsd.DEMO if demo else fsd.OFFICIAL)
    clips: dict[str, fsd.Clip] = {}
    durations: dict[str, float] = {}
    for part in fsd.PARTS:
        clips |= parts[part.name]
        durations |= fsd.check_files(root, part, parts[part.name])
    everything = to_data(clips, durations, labels)
    portion = {utt: name for name, own in parts.items() for utt in own}
    everything = replace(everything, domains={"portion": portion})
    sets = make_sets(everything, parts, drop_known_bad, max_seconds)
    if true := fsd.read_truth(root, parts["noisy"], labels):
        sets["noisy_true"] = to_data(true, durations, labels).subset(sets["noisy"].utterances)
    both = fsd.crossing(parts["curated"].values(), parts["test"].values())
    if both:
        print(f"{root}: {len(both)} Freesound sounds are in curated and in test, e.g. {both[0]}")
    write_sets(out, sets, key)
    return True


def to_data(
    clips: Mapping[str, fsd.Clip], durations: Mapping[str, float], labels: tuple[str, ...]
) -> DataDir:
    """Clips as one set."""
    return DataDir(
        wav={utt: str(clip.path) for utt, clip in clips.items()},
        groups={utt: clip.group for utt, clip in clips.items()},
        tags={utt: clip.tags for utt, clip in clips.items()},
        labels=labels,
        durations={utt: durations[utt] for utt in clips},
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help=f"directory of {fsd.META} and the audio"
    )
    parser.add_argument("--out", type=Path, default=Path("data/fsdkaggle19"), help="for the sets")
    parser.add_argument(
        "--drop-known-bad",
        choices=("true", "false"),
        default="true",
        help="leave out the six curated clips that the publisher found to be bad",
    )
    parser.add_argument(
        "--max-seconds", type=float, default=MAX_SECONDS, help="longest clip to train on"
    )
    parser.add_argument("--demo", action="store_true", help="the copy is stage 0's --demo")
    args = parser.parse_args(argv)
    if not args.max_seconds > 0:
        raise UserError(f"--max-seconds {args.max_seconds:g}: must be more than 0")
    drop = args.drop_known_bad == "true"
    made = prepare(args.db_root, args.out, args.demo, drop, args.max_seconds)
    print(f"{args.out}: {'made' if made else 'fresh, nothing to do'}")


if __name__ == "__main__":
    run(main)
