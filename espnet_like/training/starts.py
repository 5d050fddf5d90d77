"""The weights that a run starts from: those of another run, or pretrained ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from espnet_like.augment import AUGMENTATIONS
from espnet_like.errors import MissingInput, UserError
from espnet_like.models import MODELS
from espnet_like.models.ssast import SSAST
from espnet_like.registry import build
from espnet_like.schema import Experiment, Train
from espnet_like.training.checkpoint import load_weights
from espnet_like.training.pretrained import check_pretrained, load_pretrained


def trained_weights(directory: Path) -> Path:
    """Where training leaves the weights of a run."""
    return directory / "checkpoints" / "final.safetensors"


def start_file(train: Train) -> Path | None:
    """The file of the weights to start from, if there are any."""
    start = train.init or train.pretrained
    if start is None:
        return None
    path = Path(start.weights)
    return trained_weights(path) if path.is_dir() else path


def need_start(train: Train, stage: str) -> None:
    """Say which stage makes the weights to start from, or that a file is not there (exit code 3).

    Raises:
        MissingInput: no such file.
    """
    path = start_file(train)
    if path is None or path.is_file():
        return
    if train.init:
        raise MissingInput(f"stage {stage} needs {path}: run --stage train")
    assert train.pretrained is not None
    if train.pretrained.config:
        raise MissingInput(f"stage {stage} needs {path}: run --stage pretrain")
    raise MissingInput(
        f"stage {stage} needs {path}, the pretrained weights of train.pretrained.weights: put the "
        "checkpoint there, SSAST's authors publish theirs with github.com/YuanGongND/ssast"
    )


def check_given(configs: Iterable[Experiment]) -> None:
    """Look at the checkpoints that somebody had to bring, before anything else is done.

    Raises:
        MissingInput: one is not there.
        UserError: one is not a whole file, or not of the network that is to start from it; or
            there is none, where PEAS asks what only pretraining trains.
    """
    looked: list[tuple[Path, dict[str, object], bool]] = []
    for config in configs:
        path, start = start_file(config.train), config.train.pretrained
        needed = bool(build(AUGMENTATIONS, config.augment, "augment").needs_reconstruction)
        if path is None and needed:
            with torch.device("meta"):
                _check_untrained(build(MODELS, config.model, "model"))
        if path is None or config.train.init or (start and start.config):
            continue  # a run here makes it
        need_start(config.train, "train")
        if (path, config.model, needed) in looked:
            continue
        looked.append((path, config.model, needed))
        with torch.device("meta"):
            model: nn.Module = build(MODELS, config.model, "model")
        check_pretrained(path, _ssast(model, path), needed)


def load_start(train: Train, model: nn.Module, reconstruct: bool) -> str:
    """Put the weights to start from into `model`.

    Args:
        train: says which.
        model: changed only if nothing is raised.
        reconstruct: pretrained ones must have the layer that reconstructs, as PEAS needs it.

    Returns:
        A line for the log; empty without such weights.

    Raises:
        MissingInput: no such file.
        UserError: not the weights of this network; or none, where `reconstruct` needs some.
    """
    path = start_file(train)
    if path is None:
        if reconstruct:
            _check_untrained(model)
        return ""
    if train.init:
        load_weights(path, model)
        return f"starts from {path}"
    return f"starts from {path}: {load_pretrained(path, _ssast(model, path), reconstruct)}"


def _check_untrained(model: nn.Module) -> None:
    """What is to reconstruct learns in this run, as nothing has trained it before."""
    layer = getattr(model, "gpredlayer", None)
    if layer is not None and not any(p.requires_grad for p in layer.parameters()):
        raise UserError(
            "augment peas asks what reconstructs, which nothing has trained: give weights to start "
            "from, --pretrain pretrain or -- --train.pretrained.weights FILE"
        )


def _ssast(model: nn.Module, path: Path) -> SSAST:
    if not isinstance(model, SSAST):
        raise UserError(
            f"train.pretrained: {path}: pretrained weights are SSAST's, the network is a "
            f"{type(model).__name__}: choose --model ssast_..., or train.init for a run's weights"
        )
    return model
