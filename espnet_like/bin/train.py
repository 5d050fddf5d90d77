"""Stage train: one run of a list, or the run that a config.yaml describes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch

from espnet_like.bin import Parser
from espnet_like.bin.plan import read_plan
from espnet_like.cluster.local import GRACE
from espnet_like.config import experiment, load_layers
from espnet_like.errors import UserError, run
from espnet_like.training.runs import Run
from espnet_like.training.trainer import PREEMPTED, Preempted


def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="train",
        description=__doc__,
        allow_abbrev=False,
        epilog="Any key of the configuration can be given as --dotted.key VALUE with --config; "
        "python -m espnet_like.bin.keys lists them.",
    )
    parser.add_argument("--plan", type=Path, help="list of runs that stage train wrote")
    parser.add_argument("--job", type=int, help="line of the list, from 1")
    parser.add_argument("--config", action="append", default=[], help="YAML; later ones win")
    parser.add_argument("--exp", type=Path, help="with --config: directory of the run")
    parser.add_argument(
        "--ngpu", type=int, default=1, help="processes that train one run together, a GPU each"
    )
    add_device(parser)
    args, overrides = parser.parse_known_args(argv)
    if args.ngpu > 1 and "RANK" not in os.environ:
        return together(args.ngpu, args.device, sys.argv[1:] if argv is None else argv)
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


def together(count: int, device_name: str, argv: list[str]) -> int:
    """Run this module in several processes of this machine, as torchrun would.

    Unlike torchrun's they stay in this process's group, so that a job's signals reach them; they
    save, and say so by their exit code.

    Args:
        count: how many.
        device_name: the option --device.
        argv: what each is called with.

    Returns:
        The exit code of the first that failed, or 0.

    Raises:
        UserError: fewer GPUs than processes.
    """
    there = torch.cuda.device_count()
    if device_name != "cpu" and there < count:
        raise UserError(
            f"--ngpu {count}: this torch sees {there or 'no'} GPUs; with --device cpu, {count} "
            "processes share the cores"
        )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    command = [sys.executable, "-m", "espnet_like.bin.train", *argv]
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(*_: object) -> None:  # to whom the signal was not sent as well
        for process in running:
            process.terminate()

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal's reaches all
    running += [subprocess.Popen(command, env={**os.environ, **world, **rank}) for rank in own]
    failed, since = 0, 0.0
    while running:
        time.sleep(0.1)
        for process in [p for p in running if p.poll() is not None]:
            running.remove(process)
            if process.returncode and not failed:
                failed, since = process.returncode, time.monotonic()
                for other in running:
                    other.terminate()
        if failed and time.monotonic() - since > GRACE:  # they wait for the one that is gone
            for other in running:
                other.kill()
    return failed if failed >= 0 else 128 - failed


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
