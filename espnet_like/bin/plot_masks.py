"""What PEAS sees of a clip: spectrogram, reconstruction, error maps and the blocks it masks.

    plot_masks --run exp/.../seed0 --out masks.png UTTERANCE [UTTERANCE ...]

The network and the features are those of the run; --weights takes another checkpoint (SSAST's own
among them), --augment other settings than the run's. Noise and roll, which come first in training,
are left out, so that the clip can be recognised.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_like.augment import Augmentation, build_augmentation
from espnet_like.augment.base import Batch, Progress
from espnet_like.augment.peas import PEAS
from espnet_like.bin import Parser
from espnet_like.config import experiment
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.features import FRONT_ENDS
from espnet_like.features.base import FrontEnd
from espnet_like.layers import read_part, read_yaml
from espnet_like.models import MODELS, SSAST
from espnet_like.registry import build
from espnet_like.results import figures
from espnet_like.results.mask_figure import Block, Image, Seen, peas_figure
from espnet_like.schema import Experiment
from espnet_like.training.batches import ClipSet
from espnet_like.training.checkpoint import load_weights
from espnet_like.training.pretrained import load_pretrained
from espnet_like.training.runs import Run

CPU = torch.device("cpu")


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="plot_masks", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--run", type=Path, required=True, help="directory of a run")
    parser.add_argument("--weights", type=Path, help="other weights than the run's")
    parser.add_argument("--augment", type=Path, help="YAML with PEAS (default: the run's)")
    parser.add_argument("--data", help="data directory (default: the run's test part)")
    parser.add_argument("--epoch", type=int, help="from 1 (default: the last one)")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("utterances", nargs="+")
    args = parser.parse_args(argv)
    config = _config(args.run)
    spec = read_part(args.augment, "augment")["augment"] if args.augment else config.augment
    peas = _peas(build_augmentation(spec, str(args.augment or args.run)))
    epochs = config.train.epochs
    epoch = epochs if args.epoch is None else args.epoch
    if not 1 <= epoch <= epochs:
        raise UserError(f"--epoch {epoch}: the run has epochs 1 to {epochs}")
    run_ = Run(args.run, config)
    model = _model(run_, args.weights)
    data = args.data or config.data.test or config.data.train
    clips = run_.inputs.clips(data, CPU)
    front: FrontEnd = build(FRONT_ENDS, config.features, "features")
    seen = {}
    for utt in args.utterances:
        if utt not in clips.utterances:
            raise UserError(f"{data}: no utterance {utt}")
        seen[utt] = look(clips, utt, peas, model, Progress(epoch - 1, epochs), args.seed, front)
    figures.save(peas_figure(seen), args.out)
    print(args.out)


@torch.no_grad()
def look(
    clips: ClipSet,
    utterance: str,
    peas: PEAS,
    model: nn.Module,
    progress: Progress,
    seed: int,
    front: FrontEnd,
) -> Seen:
    """The maps of one clip, and the blocks that PEAS masks at this point of training."""
    position = list(clips.utterances).index(utterance)
    raw = next(iter(clips.batches([[position]])))
    generator = torch.Generator().manual_seed(seed)
    plan = peas.draw(raw.features, raw.targets, raw.lengths, generator, progress, model)
    batch = Batch(raw.features, raw.targets, raw.lengths, generator, progress, model)
    maps = peas.ask(batch, [])
    errors = {"reconstruction error": maps.e_rec}
    if peas.score != "e_rec" and maps.e_pred is not None:
        errors["score that ranks blocks"] = maps.score
    return Seen(
        _image(raw.features),
        _image(maps.reconstruction),
        {
            name: _image(torch.where(maps.covered[:, None], e, torch.nan))
            for name, e in errors.items()
        },
        _image(plan(0, raw.features)),
        list(_blocks(plan.ops[-1], raw.features.shape)),
        raw.features.shape[-1] / front.frames_per_second,
    )


def _blocks(op: Any, shape: torch.Size) -> Iterator[Block]:
    """The blocks of a masking op."""
    stripes = (op.freq, op.time)
    for axis, (own, placed) in enumerate(zip(stripes, reversed(op.stripes(shape)), strict=True)):
        starts, widths = (values[0].tolist() for values in placed)
        for k, (start, width) in enumerate(zip(starts, widths, strict=True)):
            yield Block(axis, start, width, k < own.adaptive)


def _image(x: Tensor) -> Image:
    """The first channel of the first clip, (F, T)."""
    image: Image = x[0, 0].float().numpy()
    return image


def _config(directory: Path) -> Experiment:
    path = directory / "config.yaml"
    if not path.is_file():
        raise MissingInput(
            f"{path}: no such run: give the directory of one, exp/<name>/fold<k>/..."
        )
    return experiment(read_yaml(path))


def _peas(augmentation: Augmentation) -> PEAS:
    """PEAS, alone or among the methods of a chain, without what acts before it."""
    found = [
        m for m in [augmentation, *getattr(augmentation, "methods", [])] if isinstance(m, PEAS)
    ]
    if not found:
        raise UserError("the run's augmentation has no peas: give --augment conf/augment/peas.yaml")
    found[0].first = []
    return found[0]


def _model(run_: Run, weights: Path | None) -> nn.Module:
    """The network in evaluation mode."""
    model: nn.Module = build(MODELS, run_.config.model, "model")
    if not isinstance(model, SSAST):
        raise UserError(f"{run_.directory}: its network is {run_.config.model['name']}, not ssast")
    if weights is None:
        load_weights(run_.trained_weights, model)
    else:
        print(load_pretrained(weights, model, reconstruct=True))
    return model.eval()


if __name__ == "__main__":
    run(main)
