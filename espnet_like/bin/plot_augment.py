"""Draw augmentations on two utterances: the target, its partner and what each method makes of it.

    plot_augment --data data/x/fold1/test --dump dump/cpjku/x --stats dump/cpjku/x/stats/... \\
        --augment conf/augment/specmix.yaml --augment conf/augment/mixup.yaml --out a.png utt1 utt2

--layer 3 --model RUN shows hidden maps, the mean over their channels, of a trained run, or of a new
network (--model conf/model/NAME.yaml). Methods that change waveforms need --waves and act before
the front end. All methods are drawn from the same seed, so methods that draw alike show the same
stripes: Figure 1 of SpecAugment++ is --augment conf/augment/specaugment_pp_{zm,mm,cm}.yaml.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_like.augment import AUGMENTATIONS, Augmentation, build_augmentation
from espnet_like.bin import Parser
from espnet_like.data.directory import DataDir
from espnet_like.errors import UserError, run
from espnet_like.features import FRONT_ENDS
from espnet_like.features.base import FrontEnd
from espnet_like.features.dump import FeatureDump
from espnet_like.features.normalize import Normalize
from espnet_like.layers import read_part
from espnet_like.models import MODELS
from espnet_like.registry import build
from espnet_like.results import figures
from espnet_like.training.checkpoint import load_weights


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="plot_augment", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="data directory")
    parser.add_argument("--dump", type=Path, required=True, help="its feature dump")
    parser.add_argument("--stats", type=Path, required=True, help="normalisation of stage stats")
    parser.add_argument("--waves", type=Path, help="its dump of waveforms")
    parser.add_argument("--augment", type=Path, action="append", required=True, help="YAML files")
    parser.add_argument("--layer", type=int, default=0, help="where they act (default: the input)")
    parser.add_argument("--model", type=Path, help="for hidden layers: run directory or YAML file")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "utterances", nargs="*", help="target and partner; by default one of the first two labels"
    )
    args = parser.parse_args(argv)
    data = DataDir.load(args.data)
    target, partner = _choose(data, args.utterances)
    dump = FeatureDump(args.dump)
    front: FrontEnd = build(FRONT_ENDS, dump.features, "features")
    pair = Pair(
        _clips(FeatureDump(args.waves), target, partner) if args.waves else None,
        _clips(dump, target, partner),
        front,
        Normalize.load(args.stats),
        _model(args.model, args.layer, dump.channels),
        args.layer,
    )
    maps, seconds = pair.seen()
    panels = {
        f"target: {target}": figures.Panel(maps[0], seconds),
        f"partner: {partner}": figures.Panel(maps[1], seconds),
    }
    for path in args.augment:
        spec = read_part(path, "augment")["augment"]
        augmentation = build_augmentation(_at(spec, args.layer), str(path))
        if why := _unable(augmentation, args.layer, args.waves):
            print(f"{path}: {spec['name']} {why}")
            continue
        changed, seconds = pair.seen(augmentation, args.seed)
        same = changed.shape == maps.shape and torch.equal(changed[0], maps[0])
        note = " (this seed leaves it as it is)" if same else ""
        panels[path.stem + note] = figures.Panel(changed[0], seconds)
    hidden = f"mean over channels, layer {args.layer}"
    label = hidden if args.layer else "standard deviations from the mean"
    figures.save(figures.spectrograms(panels, label), args.out)
    print(args.out)


class Pair:
    """Two clips on their way to a layer.

    Args:
        waves: (2, C, L), if there are any; else `features` (2, C, F, T) not yet normalised.
        front, normalize: from waveforms to features.
        model: with taps; None for layer 0.
        layer: the one to look at.
    """

    def __init__(
        self,
        waves: Tensor | None,
        features: Tensor,
        front: FrontEnd,
        normalize: Normalize,
        model: nn.Module | None,
        layer: int,
    ) -> None:
        self.waves, self.features, self.front = waves, features, front
        self.normalize, self.model, self.layer = normalize, model, layer

    @torch.no_grad()
    def seen(self, augmentation: Augmentation | None = None, seed: int = 0) -> tuple[Tensor, float]:
        """(2, F, T) at the layer, after `augmentation`, and the seconds of its time axis."""
        then = augmentation or build_augmentation({"name": "none"})
        targets, generator = torch.eye(2), torch.Generator().manual_seed(seed)
        features, rate = self.features, self.front.sample_rate
        if self.waves is not None:
            wave, targets, lengths, then = then.draw_wave(
                self.waves, targets, None, rate, generator
            )
            features, _ = self.front(wave, lengths)
        features = self.normalize(features)
        plan = then.draw(features, targets, generator=generator, model=self.model)
        seconds = features.shape[-1] / self.front.frames_per_second
        if self.model is None:
            return plan(0, features)[:, 0], seconds
        found: list[Tensor] = []

        def tap(k: int, x: Tensor) -> Tensor:
            x = plan(k, x)
            if k == self.layer:
                found.append(x.mean(1))
            return x

        self.model(features, tap=tap)
        return found[0], seconds


def _at(spec: dict[str, Any], layer: int) -> dict[str, Any]:
    """The method, and those that it is made of, with `layers` at this one."""
    if "methods" in spec:
        return {**spec, "methods": [_at(method, layer) for method in spec["methods"]]}
    kind = AUGMENTATIONS.get(spec.get("name", ""))
    takes = kind is not None and "layers" in inspect.signature(kind).parameters
    return {**spec, "layers": [layer]} if takes else spec


def _unable(augmentation: Augmentation, layer: int, waves: Path | None) -> str | None:
    """Why it cannot act there."""
    if augmentation.needs_wave and waves is None:
        return "changes waveforms: give --waves"
    if layer not in augmentation.layers and not (augmentation.needs_wave and layer == 0):
        return f"does not act at layer {layer}: left out"
    return None


def _clips(dump: FeatureDump, *utterances: str) -> Tensor:
    """The clips, of which the longer ones are cut."""
    clips = [torch.from_numpy(dump.load(utt).copy()) for utt in utterances]
    shortest = min(clip.shape[-1] for clip in clips)
    return torch.stack([clip[..., :shortest] for clip in clips])


def _model(path: Path | None, layer: int, channels: int) -> nn.Module | None:
    """The network in evaluation mode; None for the input."""
    if layer == 0:
        return None
    if path is None:
        raise UserError(f"--layer {layer} needs --model: a run directory or conf/model/NAME.yaml")
    weights = path / "checkpoints" / "final.safetensors" if path.is_dir() else None
    spec = read_part(path / "config.yaml" if weights else path, "model")["model"]
    torch.manual_seed(0)
    model: nn.Module = build(MODELS, {**spec, "in_channels": channels}, "model")
    taps: Any = model.taps
    if not 0 < layer < len(taps):
        names = ", ".join(f"{k} {name}" for k, name in enumerate(taps))
        raise UserError(f"--layer {layer}: the model has {names}")
    if weights:
        load_weights(weights, model)
    return model.eval()


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
