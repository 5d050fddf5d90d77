"""Write a network as ONNX: features to logits, batches and clips of any size.

python -m espnet_like.bin.export_onnx --run exp/.../fold1/seed0 --out model.onnx
python -m espnet_like.bin.export_onnx --config conf/features.yaml --config model.yaml --out m.onnx
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espnet_like.bin import Parser
from espnet_like.config import experiment, load_layers
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.features import FRONT_ENDS, FrontEnd
from espnet_like.features.normalize import Normalize
from espnet_like.files import atomic_path
from espnet_like.models import MODELS
from espnet_like.models.summary import tap_shapes
from espnet_like.registry import build
from espnet_like.schema import Experiment
from espnet_like.training.checkpoint import load_weights
from espnet_like.training.runs import Run

NEEDS = ("onnx", "onnxruntime")
SECONDS = 10  # of the clip that is traced; any other may come later
TOLERANCE = 1e-4  # of the largest logit: what two programs may differ by in single precision


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="export_onnx",
        description="Write a network as ONNX: features, as the front end gives them, to logits.",
        epilog="Any key of the configuration can be given as --dotted.key VALUE with --config.",
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, help="directory of a trained run")
    parser.add_argument(
        "--config", action="append", default=[], help="instead: YAML of an untrained network"
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--frames", type=int, help="for clips of so many alone (default: of any)")
    args, overrides = parser.parse_known_args(argv)
    if bool(args.run) == bool(args.config) or (args.run and overrides):
        raise UserError("give --run DIRECTORY, or --config YAML [--key value]")
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise UserError(f"ONNX needs {', '.join(missing)}: type tools/install.sh --dev")
    if args.run:
        network, config, labels = trained(args.run)
    else:
        config, labels = experiment(load_layers(args.config, overrides)), ()
        network = untrained(config)
    about = {"features": config.features, "labels": labels}
    export(network, example(config, args.frames), args.out, about, args.frames is None)
    print(args.out)


class Network(nn.Module):
    """Normalisation and network: (B, C, F, T) of the front end to logits (B, K)."""

    def __init__(self, normalize: Normalize, model: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.model(self.normalize(features))
        return logits


def trained(directory: Path) -> tuple[Network, Experiment, tuple[str, ...]]:
    """The network of a run with its weights and normalisation; its configuration and labels.

    Raises:
        MissingInput: not trained, or its statistics or test part are not there.
    """
    path = directory / "config.yaml"
    if not path.is_file():
        raise MissingInput(f"{path}: no such file: name the directory of a run, or --stage train")
    config = experiment(load_layers([path]))
    model: nn.Module = build(MODELS, config.model, "model")
    load_weights(Run(directory, config).weights, model)
    normalize = Normalize.load(config.data.stats, config.normalize)
    return Network(normalize, model), config, DataDir.load(config.data.test).labels


def untrained(config: Experiment) -> Network:
    """The network as training finds it; features are expected to be normalised."""
    bins = _front(config).num_bins
    model: nn.Module = build(MODELS, config.model, "model")
    return Network(Normalize(torch.zeros(bins), torch.ones(bins)), model)


def example(config: Experiment, frames: int | None = None) -> Tensor:
    """Noise like two clips of the configuration's features, of so many frames or of ten seconds."""
    front = _front(config)
    if frames is None:
        frames = front.num_frames(SECONDS * front.sample_rate)
    if frames < 1:
        raise UserError(f"--frames {frames}: at least 1")
    return torch.randn(2, config.audio.channels * front.maps, front.num_bins, frames)


def export(
    network: Network, features: Tensor, out: Path, about: dict[str, Any], any_frames: bool = True
) -> None:
    """Write `out`: input `features` (batch, C, F, frames), output `logits` (batch, K).

    The file appears once onnxruntime has found torch's logits with it.

    Args:
        network: what to write.
        features: (2, C, F, T) to trace with; the batch is left open.
        out: ONNX file to write.
        about: plain data that goes into the file's metadata, as JSON by key.
        any_frames: leave T open as well.

    Raises:
        UserError: features that the network cannot take, a network that ONNX cannot express, or
            logits that differ.
    """
    import onnx

    try:
        tap_shapes(network.model, features.shape[1:])
    except RuntimeError as error:
        raise UserError(f"model: {str(error).splitlines()[0]}") from None
    open_sizes = {0: "batch", 3: "frames"} if any_frames else {0: "batch"}
    with atomic_path(out) as temporary:
        with _quiet():
            torch.onnx.export(
                network,
                (features,),
                str(temporary),
                input_names=["features"],
                output_names=["logits"],
                dynamic_axes={"features": open_sizes, "logits": {0: "batch"}},
                dynamo=False,  # the newer exporter cannot trace a GRU over any number of frames
            )
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in about.items()})
        onnx.save(model, temporary)
        longer = torch.cat([features, features[..., :13]], dim=3) if any_frames else features
        if not agree(network, temporary, (features, longer[:1])):
            raise UserError(
                "logits of onnxruntime are not those of torch"
                + (": give --frames N, for clips of this length alone" * any_frames),
                code=1,
            )


@torch.no_grad()
def agree(network: Network, path: Path, batches: Sequence[Tensor]) -> bool:
    """Whether onnxruntime and torch give the same logits, up to `TOLERANCE` of the largest."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # that a network takes no other length is said by the caller
    session = onnxruntime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
    for x in batches:
        expected = network(x).numpy()
        try:
            (found,) = session.run(None, {"features": x.numpy()})
        except Exception:  # its own kinds, one for each of its errors
            return False
        largest = max(1.0, float(np.abs(expected).max()))
        if float(np.abs(found - expected).max()) > TOLERANCE * largest:
            return False
    return True


def _front(config: Experiment) -> FrontEnd:
    if config.features.get("name") not in FRONT_ENDS:
        raise UserError("features: name a front end, for instance with --config conf/features.yaml")
    return build(FRONT_ENDS, config.features, "features")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its age, and of sizes that it takes for constants: `agree` looks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(f"model: ONNX cannot express it: {str(error).splitlines()[0]}") from None


if __name__ == "__main__":
    run(main)
