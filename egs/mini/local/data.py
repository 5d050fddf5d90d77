#!/usr/bin/env python3
"""Stage 1 of mini: the corpus in its DCASE layout -> data directories all, fold1/{train,test}.

The split is the corpus's own, by place: `utt2spk` is the identifier (city-location) of meta.csv,
and no place is on both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from espnet_like.data import audio
from espnet_like.data.corpus import check_apart, expect, is_fresh, read_table, write_sets
from espnet_like.data.directory import DataDir
from espnet_like.data.scene_corpus import DEMO, Corpus
from espnet_like.data.scenes import SCENES
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.files import digest, read_json

REMAKE = "remove the corpus and run --stage download"


def require(db: Path, corpus: Corpus) -> None:
    """Refuse a corpus that is missing or has other settings than stage 0 would give it."""
    stamp = db / "corpus.json"
    if not stamp.exists():
        raise MissingInput(f"{stamp}: no such file: run --stage download")
    found = read_json(stamp)
    for name, wanted in asdict(corpus).items():
        if found.get(name) != wanted:
            raise MissingInput(
                f"{stamp}: {name} is {found.get(name)}, must be {wanted}: run --stage download "
                "(with --demo here and there, or neither)"
            )


def read_all(db: Path, corpus: Corpus) -> DataDir:
    """Every clip of meta.csv as one set; names, labels and audio checked."""
    wav, groups, tags, durations = {}, {}, {}, {}
    table = db / "meta.csv"
    columns = ("filename", "scene_label", "identifier", "source_label")
    for line, row in read_table(table, columns, "\t"):
        utt = Path(row["filename"]).stem
        expected = "{scene_label}-{identifier}-".format(**row), "-{source_label}".format(**row)
        if not (utt.startswith(expected[0]) and utt.endswith(expected[1])):
            raise UserError(f"{table}:{line}: {row['filename']} is not named as its row: {REMAKE}")
        if row["scene_label"] not in SCENES:
            raise UserError(f"{table}:{line}: unknown scene {row['scene_label']!r}: {REMAKE}")
        if utt in wav:
            raise UserError(f"{table}:{line}: {utt} is listed twice: {REMAKE}")
        path = db / row["filename"]
        if not path.exists():
            raise UserError(f"{table}:{line}: {path} is missing: {REMAKE}")
        header = audio.info(path)
        if (header.rate, header.channels) != (corpus.rate, 1):
            raise UserError(
                f"{path}: {header.rate} Hz, {header.channels} channels, must be {corpus.rate} Hz "
                f"mono: {REMAKE}"
            )
        wav[utt], groups[utt], tags[utt] = str(path), row["identifier"], (row["scene_label"],)
        durations[utt] = header.frames / header.rate
    return DataDir(None, wav, groups, tags, tuple(SCENES), durations)


def prepare(db: Path, out: Path, corpus: Corpus) -> bool:
    """Write the sets below `out`; return whether anything was made."""
    require(db, corpus)
    tables = [db / "meta.csv"]
    tables += [db / f"evaluation_setup/fold1_{part}.csv" for part in ("train", "evaluate")]
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(db.glob("audio/*"))]
    texts = [path.read_bytes() if path.exists() else b"" for path in tables]
    key = digest(str(db), Path(__file__).read_bytes(), files, *texts)
    if is_fresh(out, key):
        return False
    everything = read_all(db, corpus)
    sets = {"all": everything}
    for table, name in zip(tables[1:], ("fold1/train", "fold1/test"), strict=True):
        ids = []
        for line, row in read_table(table, ("filename", "scene_label"), "\t"):
            ids.append(Path(row["filename"]).stem)
            if everything.tags.get(ids[-1]) != (row["scene_label"],):
                raise UserError(f"{table}:{line}: not as in meta.csv: {REMAKE}")
        sets[name] = everything.subset(ids)
    places = len(SCENES) * corpus.cities * corpus.segments
    for name, count in (
        ("all", places * corpus.locations),
        ("fold1/train", places * (corpus.locations - corpus.held_out)),
        ("fold1/test", places * corpus.held_out),
    ):
        expect(f"{db}: clips in {name}", len(sets[name].utterances), count, REMAKE)
    check_apart(sets, "fold1/train", "fold1/test")
    write_sets(out, sets, key)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db-root", type=Path, default=Path("db"), help="as for stage 0")
    parser.add_argument("--out", type=Path, default=Path("data/mini"), help="where the sets go")
    parser.add_argument("--demo", action="store_true", help="the corpus is stage 0's --demo")
    args = parser.parse_args(argv)
    corpus = DEMO if args.demo else Corpus()
    made = prepare(args.db_root / "synthetic-scenes", args.out, corpus)
    print(f"{args.out}: {'made' if made else 'fresh, nothing to do'}")


if __name__ == "__main__":
    run(main)
