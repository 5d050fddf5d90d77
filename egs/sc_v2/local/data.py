#!/usr/bin/env python3
"""Stage 1 of sc_v2: the official lists -> data directories.

    <out>/all                        every clip of the sets below
    <out>/fold1/{train,test}         what no list names; testing_list.txt
    <out>/fold1/{train_valid,valid}  the same as train; validation_list.txt

The validation list is never trained on, as in SSAST and PEAS, so train_valid is all of train.
With --task 12, the words that are no command become `_unknown_`, one for every ten commands;
`_silence_` is cut from the background noises (silence.py) and lies in <out>/silence; the test part
is the archive of its own. `utt2spk` is the speaker.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import demo
import silence
import speech_commands as sc
from speech_commands import Clip, Counts

from espnet_like.data.corpus import check_apart, expect, is_fresh, write_sets
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError, run
from espnet_like.files import digest

LABELS_12 = (*sc.COMMANDS, sc.UNKNOWN, sc.SILENCE)
PARTS = {"train": "training", "train_valid": "training", "valid": "validation", "test": "testing"}


def make_set(
    clips: Sequence[Clip], silences: Mapping[str, Path], durations: Mapping[Path, float], task: str
) -> DataDir:
    """A set of words and silences. In task 12 a word that is no command is unknown."""

    def label(word: str) -> str:
        return word if task == "35" or word in sc.COMMANDS else sc.UNKNOWN

    paths = {**{clip.utterance: clip.path for clip in clips}, **silences}
    return DataDir(
        wav={utt: str(path) for utt, path in paths.items()},
        # of a silence: <silence>_<noise>_<part>_<number>, less the last two
        groups={
            **{clip.utterance: clip.speaker for clip in clips},
            **{utt: utt.rsplit("_", 2)[0] for utt in silences},
        },
        tags={
            **{clip.utterance: (label(clip.word),) for clip in clips},
            **dict.fromkeys(silences, (sc.SILENCE,)),
        },
        labels=LABELS_12 if task == "12" else sc.WORDS,
        durations={utt: durations[path] for utt, path in paths.items()},
    )


def tenth(clips: Sequence[Clip]) -> int:
    """How many unknown words, and how many silences, go with the commands among these."""
    return -(-sum(clip.word in sc.COMMANDS for clip in clips) // 10)


def chosen(clips: Sequence[Clip]) -> list[Clip]:
    """All commands, and a tenth as many of the other words, always the same ones."""
    others = [clip for clip in clips if clip.word not in sc.COMMANDS]
    others.sort(key=lambda clip: digest(clip.utterance))
    return [clip for clip in clips if clip.word in sc.COMMANDS] + others[: tenth(clips)]


def with_unknown(
    root: Path, test: Path, parts: Mapping[str, list[Clip]], counts: Counts, out: Path
) -> tuple[dict[str, list[Clip]], dict[str, dict[str, Path]]]:
    """The clips of each part of the task with twelve classes, and its silences, written."""
    words, silent = sc.read_test_12(test, counts)
    clips = {part: chosen(parts[part]) for part in ("training", "validation")}
    needed = {part: tenth(own) for part, own in clips.items()}
    for part, wanted in (("training", counts.training_12), ("validation", counts.validation_12)):
        expect(f"{root}: {part} clips", len(clips[part]) + needed[part], wanted, sc.AGAIN)
    silences = silence.write(out / "silence", root, needed)
    silences["testing"] = {f"silence_test_{path.stem}": path for path in silent}
    return {**clips, "testing": words}, silences


def prepare(db: Path, out: Path, task: str = "35", is_demo: bool = False) -> bool:
    """Check the copy in `db` and write the sets below `out`; return whether anything was made.

    Raises:
        UserError: the copy is not as published; says where. No set is written then.
    """
    root = sc.find_root(db)
    roots = [root] if task == "35" else [root, sc.find_root(db, task)]
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    key = digest(task, is_demo, *map(sc.listing, roots), *code)
    if is_fresh(out, key) and (task == "35" or silence.are_there(out)):
        return False
    if (root / demo.NOTE).exists() != is_demo:
        kinds = ("Speech Commands", "its demo") if is_demo else ("the demo", "Speech Commands")
        raise UserError(f"{root}: holds {kinds[0]}, not {kinds[1]}: give another --db-root")
    counts = demo.COUNTS if is_demo else sc.OFFICIAL
    clips = sc.read_lists(root, sc.read_clips(root))
    sc.check_counts(root, clips, counts)
    silences: dict[str, dict[str, Path]] = {part: {} for part in clips}
    if task == "12":
        clips, silences = with_unknown(root, roots[1], clips, counts, out)
    durations = sc.check_audio(
        path
        for part in clips
        for path in (*(clip.path for clip in clips[part]), *silences[part].values())
    )
    sets = {
        f"fold1/{name}": make_set(clips[part], silences[part], durations, task)
        for name, part in PARTS.items()
    }
    everything = [clip for own in clips.values() for clip in own]
    silent = {utt: path for own in silences.values() for utt, path in own.items()}
    sets["all"] = make_set(everything, silent, durations, task)
    for first, second in (("train", "test"), ("train_valid", "valid"), ("valid", "test")):
        check_apart(sets, f"fold1/{first}", f"fold1/{second}")
    write_sets(out, sets, key)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help=f"directory that holds {sc.DIRECTORY}"
    )
    parser.add_argument("--out", type=Path, default=Path("data/sc_v2"), help="for the sets")
    parser.add_argument("--task", choices=("35", "12"), default="35", help="number of classes")
    parser.add_argument("--demo", action="store_true", help="the copy is stage 0's --demo")
    args = parser.parse_args(argv)
    made = prepare(args.db_root, args.out, args.task, args.demo)
    print(f"{args.out}: {'made' if made else 'fresh, nothing to do'}")


if __name__ == "__main__":
    run(main)
