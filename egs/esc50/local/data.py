#!/usr/bin/env python3
"""Stage 1 of esc50: the official layout -> data directories.

    <out>/all                        every clip
    <out>/fold<k>/{train,test}       test: fold k, train: the other four; k = 1..5
    <out>/fold<k>/{train_valid,valid}
                                     valid: fold k % 5 + 1, train_valid: the other three

`utt2spk` is the Freesound recording (see esc50.Clip.group), labels are in the order of `target`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import esc50

from espnet_like.data.corpus import check_apart, is_fresh, write_sets
from espnet_like.data.directory import DataDir
from espnet_like.errors import run
from espnet_like.files import digest

PER_CLASS, PER_CLASS_DEMO = 8, 2  # clips of a class in a fold


def fold_sets(everything: DataDir, clips: Sequence[esc50.Clip]) -> dict[str, DataDir]:
    """The sets of all folds, checked to keep recordings apart."""

    def of(*folds: int) -> DataDir:
        return everything.subset(clip.utterance for clip in clips if clip.fold in folds)

    sets = {"all": everything}
    for k in range(1, esc50.FOLDS + 1):
        valid = k % esc50.FOLDS + 1
        rest = [fold for fold in range(1, esc50.FOLDS + 1) if fold not in (k, valid)]
        sets[f"fold{k}/train"] = of(valid, *rest)
        sets[f"fold{k}/test"] = of(k)
        sets[f"fold{k}/train_valid"] = of(*rest)
        sets[f"fold{k}/valid"] = of(valid)
        check_apart(sets, f"fold{k}/train", f"fold{k}/test")
        check_apart(sets, f"fold{k}/train_valid", f"fold{k}/valid")
    return sets


def prepare(db: Path, out: Path, corpus: str = "esc50", demo: bool = False) -> bool:
    """Check the copy in `db` and write the sets below `out`; return whether anything was made.

    Args:
        db: the directory that holds ESC-50-master.
        out: where the sets go.
        corpus: "esc50" or "esc10".
        demo: the copy is demo.py's, with fewer clips.
    """
    root = esc50.find_root(db)
    files = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(root.glob("audio/*"))]
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    table = (root / "meta" / "esc50.csv").read_bytes()
    key = digest(str(root), corpus, demo, files, table, *code)
    if is_fresh(out, key):
        return False
    listed = esc50.read_clips(root)
    if demo:  # its clips are not ESC-50's, and all of ESC-10's classes
        clips = listed
        esc50.check_counts(clips, esc50.ESC10, PER_CLASS_DEMO)
    else:
        clips = esc50.check_names(root, listed, corpus)
        esc50.check_counts(clips, esc50.CORPORA[corpus], PER_CLASS)
    durations = esc50.check_audio(root, clips, listed)
    everything = DataDir(
        wav={clip.utterance: str(clip.path) for clip in clips},
        groups={clip.utterance: clip.group for clip in clips},
        tags={clip.utterance: (esc50.CATEGORIES[clip.target],) for clip in clips},
        labels=tuple(esc50.CATEGORIES[target] for target in esc50.CORPORA[corpus]),
        durations=durations,
    )
    write_sets(out, fold_sets(everything, clips), key)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help=f"directory that holds {esc50.DIRECTORY}"
    )
    parser.add_argument("--out", type=Path, help="where the sets go (default: data/<corpus>)")
    parser.add_argument(
        "--subset", choices=sorted(esc50.CORPORA), default="esc50", help="which classes"
    )
    parser.add_argument("--demo", action="store_true", help="the copy is stage 0's --demo")
    args = parser.parse_args(argv)
    out = args.out or Path("data") / args.subset
    made = prepare(args.db_root, out, args.subset, args.demo)
    print(f"{out}: {'made' if made else 'fresh, nothing to do'}")


if __name__ == "__main__":
    run(main)
