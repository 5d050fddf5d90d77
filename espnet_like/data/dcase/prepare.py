"""Stage 1: the published layout -> data directories.

    <out>/all                        every clip
    <out>/fold1/{train,test}         the published split (test: fold1_evaluate)
    <out>/fold1/{train_valid,valid}  the training part in two, by location (holdout.py)
    <out>/fold1/test_<device>        the test part by recorder, where there are several, and
    <out>/fold1/test_{seen,unseen}   by whether its recorder is in the training part

`utt2spk` is the location (<city>-<number>); none is in train and in test. Domains: city, and device
where there are several. An utterance is named as its file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from espnet_like.data.corpus import check_apart, is_fresh, write_sets
from espnet_like.data.dcase import demo as demo_corpus
from espnet_like.data.dcase.corpora import Corpus
from espnet_like.data.dcase.holdout import held_out
from espnet_like.data.dcase.layout import (
    Clip,
    check_audio,
    check_counts,
    check_names,
    find_root,
    read_clips,
    read_fold,
    tables,
)
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError
from espnet_like.files import digest


def prepare(db: Path, out: Path, corpus: Corpus, demo: bool = False) -> bool:
    """Check the copy below `db` and write the sets below `out`; return whether anything was made.

    Args:
        db: the directory that holds the corpus's own.
        out: where the sets go.
        corpus: which one it must be.
        demo: the copy must be demo.py's.

    Raises:
        UserError: the copy is not as published; says where. Nothing is written then.
    """
    root = find_root(db, corpus)
    sources = tables(root, corpus)
    files = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(root.glob("audio/*"))]
    texts = [path.read_bytes() if path.is_file() else b"" for path in sources.values()]
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    key = digest(str(root), corpus.recipe, demo, files, *texts, *code)
    if is_fresh(out, key):
        return False
    if demo_corpus.is_demo(root, corpus) != demo:
        kinds = (corpus.title, "its demo") if demo else ("the demo", corpus.title)
        raise UserError(
            f"{root}: holds {kinds[0]}, not {kinds[1]}: give another --db-root, or "
            f"{'leave out' if demo else 'add'} --demo"
        )
    clips = read_clips(root, corpus)
    parts = {
        "all": list(clips.values()),
        "train": read_fold(sources["train"], corpus, clips),
        "test": read_fold(sources["test"], corpus, clips),
    }
    check_names(root, clips)
    releases = [demo_corpus.release(corpus)] if demo else corpus.releases
    found = check_counts(root, corpus, parts, releases)
    everything = _everything(corpus, parts["all"], check_audio(root, corpus, parts["all"]))
    sets = {"all": everything, **_fold(everything, parts, corpus)}
    check_apart(sets, "fold1/train", "fold1/test")
    write_sets(out, sets, key)
    sizes = ", ".join(f"{len(parts[part]):,} {part}" for part in parts)
    print(f"{root}: {corpus.title}{', ' * bool(found.name)}{found.name}: {sizes}")
    return True


def _everything(corpus: Corpus, clips: Sequence[Clip], seconds: Mapping[str, float]) -> DataDir:
    """All clips as one set."""
    domains = {"city": {clip.utterance: clip.city for clip in clips}}
    if len(corpus.devices) > 1:
        domains["device"] = {clip.utterance: clip.device for clip in clips}
    return DataDir(
        wav={clip.utterance: str(clip.path) for clip in clips},
        groups={clip.utterance: clip.location for clip in clips},
        tags={clip.utterance: (clip.label,) for clip in clips},
        labels=corpus.labels,
        durations=dict(seconds),
        domains=domains,
    )


def _fold(
    everything: DataDir, parts: Mapping[str, Sequence[Clip]], corpus: Corpus
) -> dict[str, DataDir]:
    """The sets of fold 1."""

    def of(clips: Iterable[Clip]) -> DataDir:
        return everything.subset(clip.utterance for clip in clips)

    train, test = parts["train"], parts["test"]
    valid = held_out(train)
    sets = {
        "fold1/train": of(train),
        "fold1/test": of(test),
        "fold1/train_valid": of(clip for clip in train if clip.location not in valid),
        "fold1/valid": of(clip for clip in train if clip.location in valid),
    }
    if len(corpus.devices) > 1:
        for device in corpus.devices:
            sets[f"fold1/test_{device}"] = of(clip for clip in test if clip.device == device)
        seen = {clip.device for clip in train}
        sets["fold1/test_seen"] = of(clip for clip in test if clip.device in seen)
        sets["fold1/test_unseen"] = of(clip for clip in test if clip.device not in seen)
    return sets


def main(corpus: Corpus, argv: Sequence[str] | None = None) -> None:
    """A recipe's local/data.py."""
    parser = argparse.ArgumentParser(description=f"{corpus.title} -> data directories")
    parser.add_argument(
        "--db-root", type=Path, default=Path("db"), help=f"directory that holds {corpus.directory}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data") / corpus.recipe, help="where the sets go"
    )
    parser.add_argument("--demo", action="store_true", help="the copy is stage 0's --demo")
    args = parser.parse_args(argv)
    made = prepare(args.db_root, args.out, corpus, args.demo)
    print(f"{args.out}: {'made' if made else 'fresh, nothing to do'}")
