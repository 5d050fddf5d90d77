#!/usr/bin/env python3
"""Stage 1 of secl_umons: a published split of the unilabel sequences -> data directories.

    <out>/all                        every sequence, one microphone each
    <out>/fold1/{train,test}         the published lists
    <out>/fold1/{train_valid,valid}  the training part in two, in the way the split was made

`utt2spk` is the sequence, which all seven microphones share. Domains: room, microphone, subclass
(the object, or who did it).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import demo
import secl_umons
from secl_umons import Clip

from espnet_like.data.corpus import check_apart, is_fresh, write_sets
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError, run
from espnet_like.files import digest

EVERY = 10  # one sequence in so many validates


def held_out(train: Sequence[Clip], split: int) -> set[str]:
    """Utterances of the training part that choose the epoch, always the same for the same clips.

    Split 1: one sequence in ten of each class in each room. Split 2, where test subclasses are
    new: one subclass of each class that has two or more.
    """
    cells: dict[tuple[str, int], list[Clip]] = defaultdict(list)
    for clip in sorted(train, key=lambda clip: digest(clip.sequence)):
        cells[clip.category, clip.room if split == 1 else 0].append(clip)
    chosen: set[str] = set()
    for clips in cells.values():
        if split == 1:
            chosen |= {clip.utterance for clip in clips[::EVERY]}
        elif len({clip.subclass for clip in clips}) > 1:
            chosen |= {clip.utterance for clip in clips if clip.subclass == clips[0].subclass}
    return chosen


def make_sets(
    train: Sequence[Clip], test: Sequence[Clip], split: int, durations: dict[str, float]
) -> dict[str, DataDir]:
    """The sets of a split."""
    clips = [*train, *test]
    everything = DataDir(
        wav={clip.utterance: str(clip.path) for clip in clips},
        groups={clip.utterance: clip.sequence for clip in clips},
        tags={clip.utterance: (clip.category,) for clip in clips},
        labels=secl_umons.CLASSES,
        durations=durations,
        domains={
            "room": {clip.utterance: f"room{clip.room}" for clip in clips},
            "microphone": {clip.utterance: f"micro{clip.micro}" for clip in clips},
            "subclass": {clip.utterance: f"{clip.category}-{clip.subclass}" for clip in clips},
        },
    )
    valid = held_out(train, split)

    def of(ids: Iterable[str]) -> DataDir:
        return everything.subset(ids)

    return {
        "all": everything,
        "fold1/train": of(clip.utterance for clip in train),
        "fold1/test": of(clip.utterance for clip in test),
        "fold1/train_valid": of(c.utterance for c in train if c.utterance not in valid),
        "fold1/valid": of(valid),
    }


def prepare(db: Path, out: Path, split: int = 1, is_demo: bool = False) -> bool:
    """Check the copy in `db` and write the sets below `out`; return whether anything was made.

    Raises:
        UserError: the copy is not as published; says where. Nothing is written then.
    """
    root = secl_umons.find_root(db)
    lists = [secl_umons.list_of(root, split, part) for part in ("train", "test")]
    files = [
        (str(f), f.stat().st_size, f.stat().st_mtime_ns)
        for f in sorted((root / "Unilabel").rglob("*.*"))
    ]
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    texts = [path.read_bytes() if path.is_file() else b"" for path in lists]
    key = digest(str(root), split, is_demo, files, *texts, *code)
    if is_fresh(out, key):
        return False
    if (root / demo.NOTE).exists() != is_demo:
        kinds = ("SECL-UMONS", "its demo") if is_demo else ("the demo", "SECL-UMONS")
        raise UserError(f"{root}: holds {kinds[0]}, not {kinds[1]}: give another --db-root")
    train, test = (secl_umons.read_part(root, split, part) for part in ("train", "test"))
    counts = (demo.SPLITS if is_demo else secl_umons.SPLITS)[split]
    secl_umons.check_counts({"train": train, "test": test}, counts)
    secl_umons.check_metadata(root, [*train, *test])
    durations = secl_umons.check_audio(root, [*train, *test])
    sets = make_sets(train, test, split, durations)
    check_apart(sets, "fold1/train", "fold1/test")
    check_apart(sets, "fold1/train_valid", "fold1/valid")
    write_sets(out, sets, key)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help="where unilabel_split1_train.csv is"
    )
    parser.add_argument("--out", type=Path, default=Path("data/secl_umons"), help="for the sets")
    parser.add_argument(
        "--split", type=int, choices=sorted(secl_umons.SPLITS), default=1, help="published split"
    )
    parser.add_argument("--demo", action="store_true", help="the copy is stage 0's --demo")
    args = parser.parse_args(argv)
    made = prepare(args.db_root, args.out, args.split, args.demo)
    print(f"{args.out}: {'made' if made else 'fresh, nothing to do'}")


if __name__ == "__main__":
    run(main)
