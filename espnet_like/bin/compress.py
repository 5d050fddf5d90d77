"""Stage compress: a run's weights as one small file, read back and scored beside the original.

The values in the file are fp16; the network computes with them in fp32 (in bf16 autocast where its
configuration says so). What later stages score and report is this file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from espnet_like.bin import Parser
from espnet_like.bin.plan import add_share, read_plan
from espnet_like.bin.train import add_device, device
from espnet_like.compress.packed import load_packed, pack, rounded
from espnet_like.compress.size import size_report, size_table
from espnet_like.config import experiment, load_layers
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.files import atomic_path, write_json
from espnet_like.schema import Store
from espnet_like.scoring.metrics import accuracy
from espnet_like.training.evaluation import logits
from espnet_like.training.runs import Run

REPORT = "compress.json"


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="compress", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--plan", type=Path, help="list of runs")
    add_share(parser)
    parser.add_argument("--run", type=Path, help="instead of a list: directory of a trained run")
    add_device(parser)
    args, overrides = parser.parse_known_args(argv)
    if args.plan and not (args.run or overrides):
        runs = [Run(p.directory, p.config) for p in read_plan(args.plan, args.job, args.jobs)]
    elif args.run and not args.plan:
        runs = [_alone(args.run, overrides)]
    else:
        raise UserError("give --plan LIST, or --run DIRECTORY [--store.limit BYTES ...]")
    for run_ in runs:
        (run_.directory / REPORT).unlink(missing_ok=True)  # written last: the sign that all is done
        store(run_)
        report = compare(run_, device(args.device))
        write_json(run_.directory / REPORT, report)
        print(f"{run_.weights}: {report['significand']} bits of precision")
        print(size_table(report["size"]))
        print(
            f"accuracy {report['accuracy']:.2%} of the file, {report['accuracy_before']:.2%} "
            f"before; logits differ by at most {report['largest_difference']:.2e}"
        )


def _alone(directory: Path, overrides: list[str]) -> Run:
    """A run as its config.yaml describes it, with a stored form."""
    config = experiment(load_layers([directory / "config.yaml"], overrides))
    return Run(directory, replace(config, store=config.store or Store()))


def store(run_: Run) -> None:
    """Write the stored form of a trained run, at the finest precision that its limit allows.

    Raises:
        MissingInput: not trained. UserError: no stored form asked for; too large at any precision.
    """
    settings = run_.config.store
    if settings is None:
        raise UserError(f"{run_.directory}: no store in its configuration: set --store.limit")
    if not run_.trained():
        raise MissingInput(
            f"stage compress needs {run_.directory}/train.json of these settings: "
            f"run --stage {run_.training_stage}"
        )
    trained = run_.model(run_.trained_weights, torch.device("cpu")).state_dict()
    for significand in range(settings.significand, 1, -1):
        metadata = {**run_.origin(), "significand": significand}
        data = pack(rounded(trained, significand), metadata)
        if settings.limit is None or len(data) <= settings.limit:
            break
    else:
        raise UserError(
            f"{run_.weights}: {len(data):,} bytes at 2 bits of precision, store.limit is "
            f"{settings.limit:,}: prune more, or raise the limit"
        )
    with atomic_path(run_.weights) as temporary:
        temporary.write_bytes(data)


def compare(run_: Run, where: torch.device) -> dict[str, Any]:
    """Size of the stored form; its accuracy on the test part, read back, and that of the original.

    Accuracies are those of stage infer; logits are compared in fp32, over the whole test part.
    """
    config, precision = run_.config, run_.config.train.precision
    before, after = (run_.model(w, where) for w in (run_.trained_weights, run_.weights))
    clips = run_.inputs.clips(config.data.test, where)
    old, new = (logits(model, clips, "fp32").cpu() for model in (before, after))
    scored = [logits(model, clips, precision).float().cpu() for model in (before, after)]
    return {
        **load_packed(run_.weights)[1],
        "scored": config.data.test,
        "precision": precision,
        "accuracy_before": accuracy(scored[0], clips.targets),
        "accuracy": accuracy(scored[1], clips.targets),
        "largest_difference": float((new - old).abs().max()),
        "size": size_report(after, run_.weights),
    }


if __name__ == "__main__":
    run(main)
