"""The corpus of synthetic scenes on disk, in the layout of the DCASE corpora."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from espnet_like.data.scenes import CITIES, SCENES, VERSION, synthesize
from espnet_like.errors import UserError
from espnet_like.files import read_json, write_json, write_text

DEVICE_ORDER = "aabac"  # taken in turn, place by place and segment by segment


@dataclass(frozen=True)
class Corpus:
    """Size and seed of a corpus: scenes x cities x locations x segments clips.

    Every scene has `locations` places in each city; the last `held_out` of them are for testing.
    """

    seed: int = 0
    cities: int = 3
    locations: int = 5
    held_out: int = 2
    segments: int = 3
    seconds: float = 3.0
    rate: int = 22050

    def __post_init__(self) -> None:
        if not 1 <= self.cities <= len(CITIES):
            raise ValueError(f"cities must be 1..{len(CITIES)}, not {self.cities}")
        if not 1 <= self.held_out < self.locations:
            raise ValueError(f"held_out must be 1..locations-1, not {self.held_out}")
        if self.segments < 1 or self.seconds < 0.5 or self.rate < 16000:
            raise ValueError("needs segments >= 1, seconds >= 0.5 and rate >= 16000")

    def clips(self) -> Iterator[tuple[str, str, int, int, str, bool]]:
        """(scene, city, location, segment, device, held out), in the order of meta.csv.

        A location's number is unique in its city over all scenes, as in the DCASE corpora.
        """
        for index, scene in enumerate(SCENES):
            for city in CITIES[: self.cities]:
                for place in range(self.locations):
                    for segment in range(self.segments):
                        device = DEVICE_ORDER[(3 * place + segment) % len(DEVICE_ORDER)]
                        yield (
                            scene, city, 100 * index + place, segment, device,
                            place >= self.locations - self.held_out,
                        )  # fmt: skip


# A small part of the default corpus, to try the stages with.
DEMO = Corpus(cities=2, locations=2, held_out=1, segments=2)


def write_corpus(root: str | Path, corpus: Corpus | None = None) -> bool:
    """Write a corpus in the layout of the DCASE corpora; return whether anything was made.

    `root` gets audio/*.wav (16 bit, mono), meta.csv (filename, scene_label, identifier,
    source_label), evaluation_setup/fold1_train.csv and fold1_evaluate.csv (filename,
    scene_label), all TAB-separated with a header, and corpus.json, its settings. It appears
    whole, in place of a corpus with other settings.

    Raises:
        UserError: `root` holds something else.
    """
    root, corpus = Path(root), corpus or Corpus()
    settings = {**asdict(corpus), "version": VERSION}
    stamp = root / "corpus.json"
    if stamp.exists() and read_json(stamp) == settings:
        return False
    if root.exists() and not stamp.exists() and any(root.iterdir()):
        raise UserError(f"{root}: holds other files: give another place (--db-root)")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as scratch:
        fresh = Path(scratch) / root.name
        _write(fresh, corpus)
        write_json(fresh / "corpus.json", settings)
        if root.exists():
            os.replace(root, Path(scratch) / "old")
        os.replace(fresh, root)
    return True


def _write(root: Path, corpus: Corpus) -> None:
    (root / "audio").mkdir(parents=True)
    meta: list[str] = []
    train: list[str] = []
    test: list[str] = []
    for scene, city, location, segment, device, held_out in corpus.clips():
        name = f"audio/{scene}-{city}-{location}-{segment}-{device}.wav"
        wave = synthesize(
            corpus.seed, scene, city, location, segment, device, corpus.seconds, corpus.rate
        )
        samples = np.rint(wave * 32767).astype(np.int16)
        soundfile.write(root / name, samples, corpus.rate, subtype="PCM_16")
        meta.append(f"{name}\t{scene}\t{city}-{location}\t{device}")
        (test if held_out else train).append(f"{name}\t{scene}")
    for path, header, rows in (
        ("meta.csv", "filename\tscene_label\tidentifier\tsource_label", meta),
        ("evaluation_setup/fold1_train.csv", "filename\tscene_label", train),
        ("evaluation_setup/fold1_evaluate.csv", "filename\tscene_label", test),
    ):
        write_text(root / path, "\n".join([header, *rows]) + "\n")
