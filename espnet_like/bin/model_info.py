"""Print what a model configuration amounts to, as one JSON object.

python -m espnet_like.bin.model_info --config conf/model/cp_resnet.yaml --model.rho 7
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from espnet_like.bin import Parser
from espnet_like.config import check, load_layers
from espnet_like.errors import UserError, run
from espnet_like.models import MODELS
from espnet_like.models.summary import describe
from espnet_like.registry import build
from espnet_like.schema import Experiment

PAPER_SHAPE = (256, 431)  # SpecAugment++: 256 mel bins, ten seconds


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="model_info",
        description="Print name, parameters, receptive field, MACs, bytes and taps of a model.",
        epilog="Any key of the configuration is an option, for instance --model.rho 5.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="append", required=True, help="YAML; later ones win")
    parser.add_argument(
        "--input-shape",
        metavar="C,F,T",
        help="for MACs and tap shapes; default: the configuration's input_shape, then 256 x 431",
    )
    args, overrides = parser.parse_known_args(argv)
    layers = load_layers(args.config, overrides)
    if args.input_shape:
        layers["input_shape"] = _shape(args.input_shape)
    config = check(layers, Experiment)
    print(json.dumps(model_info(config.model, config.input_shape)))


def model_info(spec: dict[str, Any], input_shape: tuple[int, int, int] | None) -> dict[str, Any]:
    """The facts that `main` prints.

    Raises:
        UserError: a model that cannot be built, or an input that it cannot take.
    """
    with torch.device("meta"):  # shapes are enough
        model = build(MODELS, spec, "model")
    channels = _in_channels(model)
    shape = input_shape or (channels, *PAPER_SHAPE)
    if shape[0] != channels:
        raise UserError(f"input_shape {list(shape)}: model.in_channels is {channels}")
    try:
        facts = describe(model, shape)
    except RuntimeError as error:
        raise UserError(f"input_shape {list(shape)}: {str(error).splitlines()[0]}") from None
    info = {"name": spec["name"], **facts, "input_shape": list(shape)}
    published = getattr(model, "published", {}).get(spec.get("preset"), {})
    different = [f"{key} {says}" for key, says in published.items() if info[key] != says]
    if different:
        info["note"] = f"the paper prints {' and '.join(different)} for this network"
    return info


def _in_channels(model: nn.Module) -> int:
    return next(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))


def _shape(text: str) -> list[int]:
    try:
        shape = [int(n) for n in text.split(",")]
    except ValueError:
        shape = []
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"--input-shape {text}: expected C,F,T, for instance 1,256,431")
    return shape


if __name__ == "__main__":
    run(main)
