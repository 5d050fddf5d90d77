"""From a run's posteriors to its result.json."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from espnet_like.data.ark import ArkReader
from espnet_like.data.directory import DataDir
from espnet_like.data.tables import read_labels
from espnet_like.errors import MissingInput, UserError
from espnet_like.experiments.runs import Planned, config_digest
from espnet_like.features.dump import FeatureDump
from espnet_like.files import read_json, update_json
from espnet_like.results.counts import by_domain
from espnet_like.schema import Experiment
from espnet_like.scoring.metrics import single_label
from espnet_like.scoring.tagging import multi_label
from espnet_like.training.losses import LOSSES

log = logging.getLogger(__name__)


def score_run(planned: Planned) -> dict[str, Any]:
    """Score the stored posteriors of a run against its test part; write result.json.

    Raises:
        MissingInput: not inferred yet. UserError: the labels are not those of the training part.
    """
    directory, config = planned.directory, planned.config
    scp, done = directory / "scores" / "test.scp", directory / "train.json"
    for path, stage in ((done, "train"), (scp, "infer")):
        if not path.is_file():
            raise MissingInput(f"stage score needs {path}: run --stage {stage}")
    data = DataDir.load(config.data.test)
    if data.labels != read_labels(Path(config.data.train) / "labels"):
        raise UserError(
            f"{config.data.test}/labels: not those of {config.data.train} in the same order, which "
            "the model was trained on: make them alike and train again"
        )
    train = DataDir.load(config.data.train)
    if both := sorted({*data.utterances} & {*train.utterances}):
        log.warning(
            "%s: %d clips, %s first, are in %s as well: the score is not of unseen clips",
            *(config.data.test, len(both), both[0], config.data.train),
        )
    utterances, scores = read_scores(scp, data, FeatureDump(config.data.dump).bad)
    training = read_json(done)
    result = {
        "row": planned.row,
        "corpus": config.data.corpus,
        "fold": planned.fold,
        "seed": planned.seed,
        "model": config.model["name"],
        "augment": config.augment["name"],
        "selection": scored_epoch(config),
        "clips": len(utterances),
        "labels": list(data.labels),
        **evaluate(scores, utterances, data, may_be_several(config), train),
        **read_json(directory / "scores" / "test.json"),
        "train_seconds": training["seconds"],
        "clips_per_second": training["clips_per_second"],
        "epochs": training["epochs"],
        "environment": {
            key: read_json(directory / "env.json")[key] for key in ("revision", "torch", "device")
        },
        "config": config_digest(config),
    }
    update_json(directory / "result.json", result)
    return result


def read_scores(
    scp: Path, data: DataDir, bad: Collection[str] = ()
) -> tuple[list[str], NDArray[np.float32]]:
    """The utterances of a set that have scores, and these scores (N, K).

    Args:
        scp: of the scores.
        data: the set; all of it must be there but what is in `bad`.

    Raises:
        MissingInput: no such scores. UserError: an utterance without.
    """
    if not scp.is_file():
        raise MissingInput(f"{scp}: no scores: run --stage infer")
    reader = ArkReader(scp)
    utterances = [utt for utt in data.utterances if utt not in bad]
    lacking = [utt for utt in utterances if utt not in reader]
    if lacking:
        raise UserError(f"{scp}: no scores of {lacking[0]} ({len(lacking)} in all): --stage infer")
    return utterances, np.stack([reader[utt] for utt in utterances])


def evaluate(
    scores: ArrayLike,
    utterances: Sequence[str],
    test: DataDir,
    several: bool = False,
    train: DataDir | None = None,
) -> dict[str, Any]:
    """Every metric of a test part, and which of them counts (`metric`).

    Clips with one label each: accuracy, by domain too where `train` says what was seen; a set in
    which clips have several, if the models give several: lwlrap.

    Raises:
        UserError: a clip without labels, or with several where models give one.
    """
    position = {label: i for i, label in enumerate(test.labels)}
    targets = np.zeros((len(utterances), len(position)), np.float32)
    for i, utt in enumerate(utterances):
        if not test.tags.get(utt):
            raise UserError(f"{test.path}/utt2labels: {utt} has no label: add it or leave it out")
        if len(test.tags[utt]) > 1 and not several:
            raise UserError(
                f"{test.path}/utt2labels: {utt} has {len(test.tags[utt])} labels; accuracy is of "
                "clips with one (a loss for several: binary_cross_entropy)"
            )
        targets[i, [position[tag] for tag in test.tags[utt]]] = 1
    if (targets.sum(1) > 1).any():
        return {"metric": "lwlrap", **multi_label(scores, targets, test.labels)}
    domains = by_domain(scores, targets, utterances, test, train) if train else []
    single = single_label(scores, targets, test.labels)
    return {"metric": "accuracy", **single, "domains": domains}


def scored_epoch(config: Experiment) -> str:
    """Whose weights are scored: with `best_mean`, which only stage report can tell, the last's."""
    selection = config.train.selection
    return "last" if selection == "best_mean" else selection


def may_be_several(config: Experiment) -> bool:
    """Whether the model was trained to give a clip several tags."""
    return bool(LOSSES[config.loss["name"]].multi_label)
