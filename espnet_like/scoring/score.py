"""From a run's posteriors to its result.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from espnet_like.data.ark import ArkReader
from espnet_like.data.directory import DataDir
from espnet_like.data.tables import read_labels
from espnet_like.errors import MissingInput, UserError
from espnet_like.features.dump import FeatureDump
from espnet_like.files import read_json, write_json
from espnet_like.scoring.counts import by_domain
from espnet_like.scoring.metrics import single_label
from espnet_like.scoring.tables import Planned, config_digest


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
    reader = ArkReader(scp)
    bad = FeatureDump(config.data.dump).bad
    utterances = [utt for utt in data.utterances if utt not in bad]
    lacking = [utt for utt in utterances if utt not in reader]
    if lacking:
        raise UserError(f"{scp}: no scores of {lacking[0]} ({len(lacking)} in all): --stage infer")
    scores = np.stack([reader[utt] for utt in utterances])
    several = [utt for utt in utterances if len(data.tags[utt]) != 1]
    if several:
        raise UserError(
            f"{data.path}/utt2labels: {several[0]} has {len(data.tags[several[0]])} labels; "
            "accuracy is of clips with one"
        )
    position = {label: i for i, label in enumerate(data.labels)}
    targets = np.zeros_like(scores)
    for i, utt in enumerate(utterances):
        targets[i, [position[tag] for tag in data.tags[utt]]] = 1
    training = read_json(done)
    result = {
        "row": planned.row,
        "corpus": config.data.corpus,
        "fold": planned.fold,
        "seed": planned.seed,
        "model": config.model["name"],
        "augment": config.augment["name"],
        "selection": config.train.selection,
        "metric": "accuracy",
        "clips": len(utterances),
        "labels": list(data.labels),
        **single_label(scores, targets, data.labels),
        "domains": by_domain(scores, targets, utterances, data, DataDir.load(config.data.train)),
        **read_json(directory / "scores" / "test.json"),
        "train_seconds": training["seconds"],
        "clips_per_second": training["clips_per_second"],
        "epochs": training["epochs"],
        "environment": {
            key: read_json(directory / "env.json")[key] for key in ("revision", "torch", "device")
        },
        "config": config_digest(config),
    }
    path = directory / "result.json"
    if not path.is_file() or read_json(path) != result:
        write_json(path, result)
    return result
