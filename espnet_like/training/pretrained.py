"""Pretrained weights from a file, the released ones of SSAST among them."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from espnet_like.errors import MissingInput, UserError
from espnet_like.models.ssast import SSAST
from espnet_like.models.ssast_checkpoint import Report, load_state, match_state


def load_pretrained(path: str | Path, model: SSAST, reconstruct: bool = False) -> Report:
    """Put the weights of a `.pth` or `.safetensors` file into `model`, which learns from there on.

    Args:
        path: a checkpoint of SSAST's authors (`SSAST-Base-Patch-400.pth` or a fine-tuned one), or
            weights that a run of ours has left.
        model: changed only if nothing is raised.
        reconstruct: the reconstructing layer must be in it, as PEAS needs it.

    Returns:
        What was loaded, missing and unexpected; `str()` of it is one line for the log.

    Raises:
        MissingInput: no such file.
        UserError: not a file of weights, or not this network's (see `models.ssast_checkpoint`).
    """
    return load_state(_read(Path(path)), model, str(path), reconstruct)


def check_pretrained(path: str | Path, model: SSAST, reconstruct: bool = False) -> None:
    """Refuse what `load_pretrained` would refuse; `model` may be on the device `meta`."""
    match_state(_read(Path(path)), model, str(path), reconstruct)


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file."""
    if not path.is_file():
        raise MissingInput(f"{path}: no such file: give the checkpoint to start from")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}: not a whole file of weights ({reason}): fetch it anew") from None
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise UserError(f"{path}: not a file of weights: a state dict is expected")
    return weights
