"""Draw augmentations on two utterances: the target, its partner and what each method makes of it.

Figure 1 of SpecAugment++: --augment conf/augment/specaugment_pp_{zm,mm,cm}.yaml. All methods are
drawn from the same seed, so methods that draw alike show the same stripes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from espnet_like.augment import build_augmentation
from espnet_like.config import read_yaml
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError, run
from espnet_like.features.dump import FeatureDump
from espnet_like.features.normalize import Normalize
from espnet_like.scoring import figures


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="plot_augment", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="data directory")
    parser.add_argument("--dump", type=Path, required=True, help="its feature dump")
    parser.add_argument("--stats", type=Path, required=True, help="normalisation of stage stats")
    parser.add_argument("--augment", type=Path, action="append", required=True, help="YAML files")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "utterances", nargs="*", help="target and partner; by default one of the first two labels"
    )
    args = parser.parse_args(argv)
    data = DataDir.load(args.data)
    target, partner = _choose(data, args.utterances)
    dump = FeatureDump(args.dump)
    clips = [torch.from_numpy(dump.load(utt).copy()) for utt in (target, partner)]
    frames = min(clip.shape[-1] for clip in clips)
    pair = Normalize.load(args.stats)(torch.stack([clip[..., :frames] for clip in clips]))
    panels = {f"target: {target}": pair[0], f"partner: {partner}": pair[1]}
    for path in args.augment:
        augmentation = build_augmentation({**read_yaml(path)["augment"], "layers": [0]}, str(path))
        plan = augmentation.draw(
            pair, torch.eye(2), generator=torch.Generator().manual_seed(args.seed)
        )
        panels[path.stem] = plan(0, pair)[0]
    features = dump.features
    seconds = frames * features.get("hop_length", 0) / features["sample_rate"] or frames / 100
    figures.save(figures.spectrograms(panels, seconds), args.out)
    print(args.out)


def _choose(data: DataDir, given: list[str]) -> tuple[str, str]:
    if not given:
        given = [
            next(utt for utt in data.utterances if label in data.tags[utt])
            for label in data.labels[:2]
        ]
    if len(given) != 2:
        raise UserError(f"give two utterances, or none, not {len(given)}")
    for utt in given:
        if utt not in data.utterances:
            raise UserError(f"{data.path}: no utterance {utt}")
    return given[0], given[1]


if __name__ == "__main__":
    run(main)
