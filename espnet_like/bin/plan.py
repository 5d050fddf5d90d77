"""Which runs of a table (or of one configuration) are still to be done; prints how many."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from espnet_like.bin import Parser
from espnet_like.config import experiment
from espnet_like.errors import MissingInput, UserError, run
from espnet_like.experiments.runs import Place, Planned, config_digest, plan, pretrainings
from espnet_like.experiments.tables import Row, Table, read_table
from espnet_like.files import write_text
from espnet_like.results.store import Result, read_csv
from espnet_like.schema import Experiment
from espnet_like.training.runs import Run
from espnet_like.training.starts import check_given

STAGES = ("waves", "pretrain", "train", "prune", "compress", "infer", "all")


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="plan", description=__doc__, allow_abbrev=False)
    parser.add_argument("--stage", choices=STAGES, default="all")
    parser.add_argument("--out", type=Path, required=True, help="list to write, one run a line")
    parser.add_argument("--conf", type=Path, default=Path("conf"))
    parser.add_argument("--data", type=Path, required=True, help="data/<corpus>")
    parser.add_argument("--dump", type=Path, required=True, help="dump/<features>/<corpus>")
    parser.add_argument("--waves", type=Path, help="dump/raw/<corpus>, for what changes waveforms")
    parser.add_argument("--norm", type=Path, help="set of the statistics, if one serves all runs")
    parser.add_argument("--exp", type=Path, default=Path("exp"))
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--folds", type=_numbers, required=True, help='e.g. "1 2 3 4 5"')
    parser.add_argument("--missing", type=Path, help="results.csv: leave out the runs that it has")
    parser.add_argument("--check-start", action="store_true", help="look at given checkpoints")
    parser.add_argument("--seeds", type=_numbers, help="default: the table's, or 0")
    parser.add_argument("--valid", action="store_true", help="a fold of the training part chooses")
    parser.add_argument("--table", help="stem of conf/tables/<table>.yaml")
    parser.add_argument("--model", help="without --table: stem of conf/model/<model>.yaml")
    parser.add_argument("--augment", default="none", help="stem of conf/augment/<augment>.yaml")
    parser.add_argument("--train", default="train", help="stem of conf/<train>.yaml")
    parser.add_argument("--features", default="features", help="stem of conf/<features>.yaml")
    parser.add_argument("--finetune", help="with --model: then one more by conf/<finetune>.yaml")
    parser.add_argument("--pretrain", default="", help="with --model: conf/<pretrain>.yaml first")
    args, overrides = parser.parse_known_args(argv)
    place = Place(
        args.conf,
        args.data,
        args.dump,
        args.exp,
        args.corpus,
        tuple(args.folds),
        args.valid,
        args.waves,
        args.norm,
    )
    if args.table:
        table = read_table(args.conf / "tables" / f"{args.table}.yaml")
        if not table.about(args.corpus):
            raise UserError(
                f"table {args.table} is about {table.corpus}, this is {args.corpus}: choose the "
                "subset that it names, or another table"
            )
        if table.features != args.features:
            raise UserError(
                f"table {args.table} has the front end of conf/{table.features}.yaml, this is "
                f"conf/{args.features}.yaml: add --features {table.features}"
            )
    elif args.model:
        stems = (args.model, args.augment, args.train, args.finetune, args.features, args.pretrain)
        table = single(args.corpus, *stems)
    else:
        raise UserError("give --table or --model")
    runs = list(plan(place, table, overrides, args.seeds))
    if args.missing:
        runs = missing(runs, read_csv(args.missing))
    if args.check_start:
        check_given(planned.config for planned in runs)
    if args.stage == "pretrain":
        runs = list(pretrainings(place, table, runs, overrides))
    runs = [planned for planned in runs if _concerned(planned.config, args.stage)]
    chosen = [run_ for run_ in runs if args.stage == "all" or _pending(run_, args.stage)]
    write_plan(args.out, chosen)
    if args.stage not in ("waves", "all"):
        print(f"{args.stage}: {len(chosen)} of {len(runs)} runs to do", file=sys.stderr)
    if args.stage in ("pretrain", "train", "prune") and (stale := sum(map(_stale, chosen))):
        text = f"{stale} of them are there, of other settings or inputs: these are moved aside"
        print(f"{args.stage}: {text}", file=sys.stderr)
    print(len(chosen))


def single(
    corpus: str,
    model: str,
    augment: str,
    train: str,
    finetune: str | None = None,
    features: str = "features",
    pretrain: str = "",
) -> Table:
    """A table of one row, or of two: the second starts from the first's weights."""
    name = ", ".join([model, augment, *([train] if train != "train" else [])])
    name += f", {pretrain}" if pretrain else ""
    rows = [Row(name, augment)]
    if finetune:
        rows.append(Row(f"{name}, {finetune}", augment, train=finetune, init=name))
    return Table(
        name, model, tuple(rows), corpus, train=train, features=features, pretrain=pretrain
    )


def missing(runs: list[Planned], results: Iterable[Result]) -> list[Planned]:
    """Those whose value no result has; one that lies in exp/ here stays, whoever has its value."""
    known = {(result.config, *run_) for result in results for run_ in result.runs}
    return [
        planned
        for planned in runs
        if planned.directory.exists()
        or (config_digest(planned.config), planned.seed, planned.fold) not in known
    ]


def write_plan(path: Path, runs: list[Planned]) -> None:
    """One JSON object a line."""
    lines = []
    for planned in runs:
        fields = planned._asdict()
        fields.update(directory=str(planned.directory), config=planned.config.resolved())
        lines.append(json.dumps(fields))
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_plan(path: Path, job: int | None = None, jobs: int | None = None) -> list[Planned]:
    """The runs of a list, or just the one on line `job` (from 1).

    Args:
        path: of the list.
        job: its line, or which of `jobs` asks.
        jobs: how many share the list: lines job, job + jobs, ... are this one's.

    Raises:
        MissingInput: no such list. UserError: no such line.
    """
    if not path.is_file():
        raise MissingInput(f"{path}: no such list of runs: run --stage train")
    lines = path.read_text().splitlines()
    if job is not None and not 1 <= job <= len(lines):
        raise UserError(f"{path}: job {job} is not among its {len(lines)} lines")
    runs = []
    for number, line in enumerate(lines, 1):
        if job is not None and (number != job if jobs is None else (number - job) % jobs):
            continue
        try:
            fields = json.loads(line)
            fields.update(directory=Path(fields["directory"]), config=experiment(fields["config"]))
            runs.append(Planned(**fields))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}:{number}: not a run: run --stage train to list it") from None
    return runs


def add_share(parser: argparse.ArgumentParser) -> None:
    """The options --job and --jobs of a stage that goes through a list."""
    parser.add_argument("--job", type=int, help="line of the list, from 1; all when not given")
    parser.add_argument("--jobs", type=int, help="so many share the list, --job says which this is")


def _concerned(config: Experiment, stage: str) -> bool:
    """Whether a stage is about such runs: train before prune, which starts from its weights."""
    if stage in ("train", "prune"):
        return (config.train.init is None) == (stage == "train")
    return stage != "compress" or config.store is not None


def _pending(planned: Planned, stage: str) -> bool:
    run_ = Run(planned.directory, planned.config)
    if stage == "waves":
        return run_.inputs.needs_wave()
    run_.need_inputs(stage)
    if stage in ("pretrain", "train", "prune"):
        return not run_.trained()
    if not run_.trained():
        fresh = (planned.directory / "train.json").is_file()
        why = "was trained with other settings or inputs" if fresh else "is not trained"
        raise MissingInput(
            f"stage {stage}: {planned.directory} {why}: run --stage {run_.training_stage}"
        )
    if stage == "compress":
        return not (run_.stored() and (planned.directory / "compress.json").is_file())
    return not run_.inferred()


def _stale(planned: Planned) -> bool:
    return Run(planned.directory, planned.config).stale()


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from None
    if not numbers:
        raise argparse.ArgumentTypeError("the list is empty")
    return numbers


if __name__ == "__main__":
    run(main)
