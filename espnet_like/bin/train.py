"""Stage train: one run of a list, or the run that a config.yaml describes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import torch

from espnet_like.bin.plan import read_plan
from espnet_like.config import experiment, load_layers
from espnet_like.errors import UserError, run
from espnet_like.training.runs import Run
from espnet_like.training.trainer import PREEMPTED, Preempted


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="train",
        description=__doc__,
        allow_abbrev=False,
        epilog="Any key of the configuration can be given as --dotted.key VALUE with --config.",
    )
    parser.add_argument("--plan", type=Path, help="list of runs that stage train wrote")
    parser.add_argument("--job", type=int, help="line of the list, from 1")
    parser.add_argument("--config", action="append", default=[], help="YAML; later ones win")
    parser.add_argument("--exp", type=Path, help="with --config: directory of the run")
    add_device(parser)
    args, overrides = parser.parse_known_args(argv)
    level = logging.INFO if int(os.environ.get("RANK", 0)) == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    if args.plan and args.job and not (overrides or args.config):
        planned = read_plan(args.plan, args.job)[0]
        run_ = Run(planned.directory, planned.config)
    elif args.config and args.exp and not args.plan:
        run_ = Run(args.exp, experiment(load_layers(args.config, overrides)))
    else:
        raise UserError("give --plan LIST --job N, or --config YAML --exp DIRECTORY [--key value]")
    try:
        run_.train(device(args.device))
    except Preempted:
        print(f"{run_.directory}: saved after SIGTERM; the same command goes on")
        return PREEMPTED
    return 0


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option --device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def device(name: str) -> torch.device:
    """The device that an option names; `auto` is a GPU when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(name)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: choose auto, cpu, cuda or cuda:N")
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"--device {name}: this torch sees no GPU (tools/check_install.py)")
        index = found.index if found.index is not None else int(os.environ.get("LOCAL_RANK", 0))
        if index >= torch.cuda.device_count():
            raise UserError(f"--device {name}: this torch sees {torch.cuda.device_count()} GPUs")
        found = torch.device("cuda", index)
        torch.cuda.set_device(found)
    return found


if __name__ == "__main__":
    run(main)
