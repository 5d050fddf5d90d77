"""Which runs make a table: its rows x folds x seeds.

A recipe's conf/ holds features*.yaml, train*.yaml, model/*.yaml and augment/*.yaml; a table's rows
name them by stem, and find in egs/common/conf what the recipe has not of its own (but features). A
plain run is a table of one row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from espnet_like.config import ONLY_TIME, experiment, identity, parse_overrides, try_out
from espnet_like.errors import UserError
from espnet_like.experiments.tables import Row, Table
from espnet_like.files import digest
from espnet_like.layers import find_conf, merge, read_part, read_yaml
from espnet_like.schema import Experiment


class Place(NamedTuple):
    """Where a recipe keeps things.

    conf: its configuration; data: data directories of the corpus (fold<k>/train, test, ...);
    dump: the feature dump (stats/fold<k>/train.json beside the arks); exp: runs;
    corpus: name in tables; folds: all of them; valid: a fold of the training part picks the epoch;
    waves: the dump of waveforms, if there is one; norm: data directory of the statistics of all
    runs (dump/stats/norm.json), where it is not each one's training part.
    """

    conf: Path
    data: Path
    dump: Path
    exp: Path
    corpus: str
    folds: tuple[int, ...]
    valid: bool = False
    waves: Path | None = None
    norm: Path | None = None


#: What a network's pretraining shares with the rows that fine-tune it.
SHARED = ("features", "audio", "normalize", "model", "input_shape")


class Planned(NamedTuple):
    """One run of a row; `model` and `augment` are stems of conf files."""

    row: str
    model: str
    augment: str
    fold: int
    seed: int
    directory: Path
    config: Experiment


def row_layers(conf: Path, table: Table, row: Row) -> dict[str, Any]:
    """The merged configuration of a row, before anything that a fold or seed adds."""
    start = table.start_of(row)
    if start:
        before = row_layers(conf, table, start)
        made = digest(identity(experiment(before)))
        own = read_yaml(find_conf(conf, "", row.train or table.train))
        return reduce(merge, [before, own, nested({"train.init.config": made, **row.overrides})])
    layers = [
        *_network(conf, table, row),
        read_part(find_conf(conf, "augment", row.augment), "augment"),
        # may say how many classes a subset has
        read_yaml(find_conf(conf, "", row.train or table.train)),
        nested(table.overrides),
    ]
    if table.pretraining_of(row):
        made = digest(identity(experiment(pretraining_layers(conf, table, row))))
        layers.append(nested({"train.pretrained.config": made}))
    return reduce(merge, [*layers, nested(row.overrides)])


def pretraining_layers(
    conf: Path, table: Table, row: Row, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """The merged configuration by which a row's network is pretrained.

    Its front end and network are the row's; how the row is fine-tuned does not matter to it.
    """
    changes = [nested(table.overrides), nested(row.overrides), parse_overrides(overrides)]
    return reduce(
        merge,
        [
            *_network(conf, table, row),
            *({key: c[key] for key in SHARED if key in c} for c in changes),
            read_yaml(find_conf(conf, "", table.pretraining_of(row))),
        ],
    )


def _network(conf: Path, table: Table, row: Row) -> list[dict[str, Any]]:
    """The layers of a row's front end and network."""
    return [
        read_part(conf / f"{table.features}.yaml", "features"),
        read_part(find_conf(conf, "model", row.model or table.model), "model"),
    ]


def row_config(place: Place, table: Table, row: Row, overrides: Sequence[str] = ()) -> Experiment:
    """The row's checked configuration without data, fold and seed."""
    try:
        changes = parse_overrides(overrides)
        layers = merge(row_layers(place.conf, table, row), changes)
        if place.valid:
            asked = _flat(changes).get("train.selection", "best_valid")
            if asked != "best_valid":
                raise UserError(
                    f"--train.selection {asked}: --valid, which is on, chooses the epoch on "
                    "validation: add --valid false"
                )
            layers = merge(layers, {"train": {"selection": "best_valid"}})
        config = experiment(layers)
        try_out(config)
        start = config.train.pretrained
        if start and start.config and start.weights:
            raise UserError(
                f"train.pretrained.weights is given, and pretraining by {table.pretraining_of(row)}"
                ": one of them"
            )
        return config
    except UserError as error:
        raise UserError(f"row {row.name!r}: {error}", error.code) from None


def plan(
    place: Place, table: Table, overrides: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> Iterator[Planned]:
    """Every run of a table: seeds outermost, so that whole repeats come one after another."""
    rows = [row for row in table.rows if row.augment]
    wanted = [(row, table.seeds_of(row) if seeds is None else tuple(seeds)) for row in rows]
    configs = {row.name: row_config(place, table, row, overrides) for row, _ in wanted}
    names = {row.name: _told(place, table, row, overrides, configs[row.name]) for row, _ in wanted}
    for seed in sorted({seed for _, own in wanted for seed in own}):
        for row, own in wanted:
            if seed not in own:
                continue
            for fold in place.folds:
                config = with_data(configs[row.name], place, fold, seed)
                part = Path(f"fold{fold}") / f"seed{seed}"
                directory = place.exp / run_name(place, table, row, overrides) / part
                if start := table.start_of(row):
                    first = place.exp / run_name(place, table, start, overrides) / part
                    config = started(config, first)
                elif table.pretraining_of(row):
                    first = pretraining_root(place, table, row, overrides) / part
                    config = started(config, first, "pretrained")
                model = row.model or table.model
                told = names[row.name]
                yield Planned(told, model, row.augment, fold, seed, directory, config)


def pretrainings(
    place: Place, table: Table, runs: Sequence[Planned], overrides: Sequence[str] = ()
) -> Iterator[Planned]:
    """The runs that pretrain the networks of `runs`, each on what those train on; each once."""
    rows = [row for row in table.rows if row.augment and table.pretraining_of(row)]
    by_root = {pretraining_root(place, table, row, overrides): row for row in rows}
    done: set[Path] = set()
    for fine in runs:
        start = None if fine.config.train.init else fine.config.train.pretrained
        directory = Path(start.weights) if start and start.config else None
        if directory is None or directory in done:
            continue
        done.add(directory)
        row = by_root[directory.parents[1]]
        stem = table.pretraining_of(row)
        try:
            config = experiment(pretraining_layers(place.conf, table, row, overrides))
            try_out(config)
        except UserError as error:
            raise UserError(f"conf/{stem}.yaml: {error}", error.code) from None
        config = with_data(config, place, fine.fold, fine.seed)
        own = {"data": {"valid": None, "test": "", "waves": None}}
        config = experiment(merge(config.resolved(), own))
        name = row.model or table.model
        yield Planned(f"{name}, {stem}", name, "none", fine.fold, fine.seed, directory, config)


def with_data(config: Experiment, place: Place, fold: int, seed: int) -> Experiment:
    """The configuration of one fold and seed."""
    train = "train_valid" if place.valid else "train"
    base, stats = place.data / f"fold{fold}", place.dump / "stats"
    data = {
        "corpus": place.corpus,
        "dump": str(place.dump),
        "waves": str(place.waves) if place.waves else None,
        "stats": str(stats / ("norm.json" if place.norm else f"fold{fold}/{train}.json")),
        "norm": str(place.norm) if place.norm else None,
        "train": str(base / train),
        "valid": str(base / "valid") if place.valid else None,
        "test": str(base / "test"),
    }
    return experiment(merge(config.resolved(), {"data": data, "seed": seed}))


def started(config: Experiment, run: Path, key: str = "init") -> Experiment:
    """The configuration with the weights of a run to start from."""
    weights = {"train": {key: {"weights": str(run)}}}
    return experiment(merge(config.resolved(), weights))


def run_name(place: Place, table: Table, row: Row, overrides: Sequence[str] = ()) -> str:
    """<model>_<augment>_<tag>; the tag names the corpus, the training file and what is overlaid."""
    own = {**row.overrides, **_flat(parse_overrides(overrides))}
    if start := table.start_of(row):
        parts = [run_name(place, table, start), row.train or table.train, *_short(own)]
    else:
        parts = [row.model or table.model, row.augment, place.corpus, row.train or table.train]
        parts += [table.features] if table.features != Table.features else []
        parts += [stem] if (stem := table.pretraining_of(row)) else []
        parts += ["valid"] if place.valid else []
        parts += _short({**table.overrides, **own})
    return _joined(parts)


def pretraining_root(place: Place, table: Table, row: Row, overrides: Sequence[str] = ()) -> Path:
    """Where a row's network is pretrained: exp/<model>_<pretrain>_<tag>, tagged as `run_name`."""
    own = {**table.overrides, **row.overrides, **_flat(parse_overrides(overrides))}
    parts = [row.model or table.model, table.pretraining_of(row), place.corpus]
    parts += [table.features] if table.features != Table.features else []
    parts += ["valid"] if place.valid else []
    parts += _short({key: v for key, v in own.items() if key.split(".")[0] in SHARED})
    return place.exp / _joined(parts)


def _joined(parts: Sequence[str]) -> str:
    return re.sub(r"[^\w.=+-]+", "-", "_".join(parts)).strip("-")


def _told(
    place: Place, table: Table, row: Row, overrides: Sequence[str], config: Experiment
) -> str:
    """The row's name, with what the command line changes: a table's rows are what its file says."""
    if identity(experiment(row_layers(place.conf, table, row))) == identity(config):
        return row.name
    changes = _short(_flat(parse_overrides(overrides)))
    return ", ".join([row.name, *(["valid"] if place.valid else []), *changes])


def config_digest(config: Experiment) -> str:
    """Identifies a configuration on a corpus, whatever its fold and seed."""
    return digest(identity(config), config.data.corpus)


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    result: dict[str, Any] = {}
    for key, value in dotted.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        result = merge(result, value)
    return result


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            result.update(_flat(item, f"{prefix}{key}."))
        else:
            result[f"{prefix}{key}"] = item
    return result


def _short(overlaid: Mapping[str, Any]) -> list[str]:
    """`key=value`, without the key's first part; of what makes another run."""
    return [
        f"{key.split('.', 1)[-1]}="
        + (value if isinstance(value, str) else json.dumps(value).strip("[]{}"))
        for key, value in overlaid.items()
        if key not in ONLY_TIME
    ]
