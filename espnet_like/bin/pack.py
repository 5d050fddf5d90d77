"""Stage pack: what it takes to classify a wav, in one directory, from one run of a list."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from espnet_like.bin import Parser
from espnet_like.bin.plan import read_plan
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, run
from espnet_like.experiments.runs import Planned
from espnet_like.features.normalize import Normalize
from espnet_like.files import read_json, write_json
from espnet_like.inference import Classifier
from espnet_like.training.checkpoint import load_weights
from espnet_like.training.runs import Run


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="pack", description=__doc__, allow_abbrev=False)
    parser.add_argument("--plan", type=Path, required=True, help="list of runs")
    args = parser.parse_args(argv)
    for planned in read_plan(args.plan):
        print(pack(planned))


def pack(planned: Planned) -> Path:
    """Write <run>/pack/{model.safetensors,settings.json}; `settings.json` comes last.

    A run with a stored form gives model.packed instead: the same values, with the normalisation.

    Raises:
        MissingInput: the run has no weights yet.
    """
    run_, config = Run(planned.directory, planned.config), planned.config
    if not run_.weights.is_file():
        maker = run_.training_stage if config.store is None else "compress"
        raise MissingInput(f"stage pack needs {run_.weights}: run --stage {maker}")
    target, result = planned.directory / "pack", planned.directory / "result.json"
    found = read_json(result) if result.is_file() else None
    settings = {
        "features": config.features,
        "audio": config.resolved()["audio"],
        "model": config.model,
        "loss": config.loss,
        "precision": config.train.precision,
        "store": config.resolved()["store"],
        "labels": list(DataDir.load(config.data.test).labels),
        "trained": {"row": planned.row, "fold": planned.fold, "seed": planned.seed},
        "result": {found["metric"]: found[found["metric"]]} if found else None,
        "environment": read_json(planned.directory / "env.json"),
    }
    classifier = Classifier(settings)
    load_weights(run_.weights, classifier.model)
    classifier.normalize = Normalize.load(config.data.stats, config.normalize)
    staging = target.with_name(".pack.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    classifier.save_weights(staging)
    write_json(staging / "settings.json", settings)
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    _check(classifier, Classifier.load(target))
    return target


def _check(before: Classifier, after: Classifier) -> None:
    """The pack on disk gives the scores of the model in memory."""
    wave = torch.randn(1, before.audio.channels, before.front_end.sample_rate)
    torch.testing.assert_close(after(wave), before(wave))


if __name__ == "__main__":
    run(main)
