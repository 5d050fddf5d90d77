"""Checkpoints: everything that a run needs to go on, and weights alone."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from espnet_like.compress.packed import is_packed, load_packed
from espnet_like.errors import MissingInput, UserError
from espnet_like.files import atomic_path


@dataclass
class State:
    """Where a run stands. `step` counts within `epoch`, `total_steps` over all epochs."""

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_metric: float = float("-inf")


def save(path: Path, fingerprint: str, state: State, parts: Mapping[str, Any]) -> None:
    """Write `state` and the state dicts of `parts` in one piece."""
    content = {
        "fingerprint": fingerprint,
        "state": vars(state),
        "parts": {name: part.state_dict() for name, part in parts.items()},
    }
    buffer = io.BytesIO()  # torch's own writer hides that a disk is full
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load(path: Path, fingerprint: str, parts: Mapping[str, Any]) -> State:
    """Put the saved values into `parts`; return where the run stood.

    Raises:
        UserError: not a checkpoint, or one of another configuration.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        saved = content["fingerprint"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
        raise UserError(f"{path}: not a whole checkpoint: remove it to train anew") from None
    if saved != fingerprint:
        raise UserError(f"{path}: made with other settings: remove it to train anew")
    for name, part in parts.items():
        part.load_state_dict(content["parts"][name])
    return State(**content["state"])


def save_weights(path: Path, weights: Mapping[str, Tensor], **metadata: str) -> None:
    """Write a state dict as safetensors in one piece."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata or None))


def load_weights(path: Path, model: nn.Module) -> Mapping[str, Any]:
    """Put a safetensors or packed file into `model`; return its metadata.

    Raises:
        MissingInput: no such file.
        UserError: not a weights file, or the weights of another model; says which differ.
    """
    if not path.is_file():
        raise MissingInput(f"{path}: no such file: run --stage train")
    weights, metadata = load_packed(path) if is_packed(path) else _load_plain(path)
    own = model.state_dict()
    wrong = [n for n in weights if n in own and weights[n].shape != own[n].shape]
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if wrong or missing or extra:
        what = []
        if wrong:
            name = wrong[0]
            shapes = f"{tuple(weights[name].shape)}, here {tuple(own[name].shape)}"
            what.append(f"{len(wrong)} of another shape ({name}: {shapes})")
        what += [f"{len(missing)} missing ({missing[0]})"] if missing else []
        what += [f"{len(extra)} unknown ({extra[0]})"] if extra else []
        raise UserError(f"{path}: a checkpoint of another model: {', '.join(what)}")
    model.load_state_dict(weights)
    return metadata


def _load_plain(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a whole weights file ({error}): remove it and train again"
        ) from None
