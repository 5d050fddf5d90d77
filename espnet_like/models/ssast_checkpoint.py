"""Weights of SSAST's authors, or of our own runs, brought into a network.

A pretraining checkpoint has the reconstructing and the discriminating layer, a fine-tuned one has
a classifier instead; both may carry DataParallel's prefix, and ImageNet's two heads, which SSAST
never used. Positions are adapted to the network's stride and number of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from espnet_like.errors import UserError
from espnet_like.models.ssast import SSAST, WIDTHS
from espnet_like.models.transformer import CLASS_TOKENS, resample_positions

PREFIX = "module."
POSITIONS = "v.pos_embed"
PROJECTION = "v.patch_embed.proj.weight"
UNUSED = ("v.head.", "v.head_dist.")
GRID = ("p_input_fdim", "p_input_tdim")
PRETEXT = ("gpredlayer.", "cpredlayer.", "mask_embed")


class Report(NamedTuple):
    """What a checkpoint gave.

    Args:
        loaded: names of the weights that were taken.
        missing: of the network, not in the checkpoint: they are as they were.
        unexpected: of the checkpoint, not in the network.
        other_shape: in both, of other shapes (the classifier of another number of classes).
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]

    def __str__(self) -> str:
        """One line."""
        parts = [f"{len(self.loaded)} weights loaded"]
        for what in ("missing", "unexpected", "other_shape"):
            if names := getattr(self, what):
                parts.append(f"{what.replace('_', ' ')}: {', '.join(names)}")
        return "; ".join(parts)


def load_state(
    weights: Mapping[str, Tensor],
    model: SSAST,
    where: str = "checkpoint",
    reconstruct: bool = False,
) -> Report:
    """Put `weights` into `model`, which is changed only if nothing is raised.

    Args, errors: as `match_state`.
    """
    loaded, report = match_state(weights, model, where, reconstruct)
    model.load_state_dict(loaded, strict=False)
    return report


def match_state(
    weights: Mapping[str, Tensor],
    model: SSAST,
    where: str = "checkpoint",
    reconstruct: bool = False,
) -> tuple[dict[str, Tensor], Report]:
    """Those of `weights` that `model` can have, positions adapted, and a report.

    Only the classifier and pretraining's own parts may be missing.

    Args:
        weights: a state dict with the released names, with or without `module.`.
        model: the network; on the device `meta` too.
        where: the file, for messages.
        reconstruct: the reconstructing layer must be there, as PEAS needs it.

    Raises:
        UserError: not a checkpoint of SSAST, or of another size or kind than the network, or one
            whose positions cannot be adapted, or without what `reconstruct` asks for.
    """
    weights = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    _check_family(weights, model, where)
    sides = [int(weights.pop(name)) for name in GRID if name in weights]
    own = {name: value for name, value in model.state_dict().items() if name not in GRID}
    weights = {n: v for n, v in weights.items() if not n.startswith(UNUSED)}
    weights[POSITIONS] = _positions(weights[POSITIONS], sides, model, where)
    loaded = {n: v for n, v in weights.items() if n in own and v.shape == own[n].shape}
    report = Report(
        tuple(loaded),
        tuple(n for n in own if n not in weights),
        tuple(n for n in weights if n not in own),
        tuple(n for n in own if n in weights and n not in loaded),
    )
    wrong = [n for names in report[1:] for n in names if n.startswith("v.")]
    wrong += [n for n in report.other_shape if n.startswith(PRETEXT)]
    if wrong:
        raise UserError(
            f"{where}: not the weights of this network: {len(wrong)} are missing, unexpected or of "
            f"another shape, among them {', '.join(wrong[:3])}"
        )
    if reconstruct and not any(n.startswith("gpredlayer.") for n in own):
        raise UserError(f"{where}: the network has no layer that reconstructs: set model.pretext")
    if reconstruct and not any(n.startswith("gpredlayer.") for n in loaded):
        raise UserError(
            f"{where}: no gpredlayer, the layer that reconstructs: give a pretraining checkpoint "
            "(those that SSAST's code fine-tuned or that were converted for transformers lack it)"
        )
    return loaded, report


def _check_family(weights: Mapping[str, Tensor], model: SSAST, where: str) -> None:
    """The checkpoint is of SSAST, and of the network's size and kind of patches."""
    for name in (POSITIONS, PROJECTION):
        if name not in weights or weights[name].dim() != model.state_dict()[name].dim():
            found = f"it begins with {next(iter(weights))}" if weights else "it is empty"
            raise UserError(f"{where}: not a checkpoint of SSAST: no {name} ({found})")
    width, channels, *patch = weights[PROJECTION].shape
    own_width, own_channels, *own_patch = model.v.patch_embed.proj.weight.shape
    if width != own_width:
        sizes = {d: size for size, (d, _) in WIDTHS.items()}
        raise UserError(
            f"{where}: of size {sizes.get(width, 'unknown')} (width {width}), the network is "
            f"{model.size} (width {own_width}): set model.size"
        )
    if patch != own_patch and (model.kind == "frame") == (patch[1] == 2):
        raise UserError(f"{where}: of {patch[0]} mel bins, the network has {own_patch[0]}")
    if patch != own_patch:
        raise UserError(
            f"{where}: patches of {patch[0]} x {patch[1]} cells, the network's kind {model.kind} "
            f"has {own_patch[0]} x {own_patch[1]}: set model.kind"
        )
    if channels != own_channels:
        raise UserError(
            f"{where}: {channels} input channels, the network has {own_channels}: "
            "set model.in_channels"
        )


def _positions(found: Tensor, sides: list[int], model: SSAST, where: str) -> Tensor:
    """The checkpoint's positions for the network's grid; `sides`: bins, frames of pretraining."""
    tokens, own = found.shape[1], model.v.pos_embed.shape[1]
    grid = [cells // size for cells, size in zip(sides, model.patch, strict=False)]
    if tokens == own and grid in ([], list(model.grid)):
        return found
    if len(grid) < 2 or grid[0] * grid[1] != tokens - CLASS_TOKENS:
        raise UserError(
            f"{where}: positions of {tokens} tokens, the network has {own}; only those of a "
            "pretraining checkpoint can be adapted: set model.stride and model.frames to its own"
        )
    first, rest = found[:, :CLASS_TOKENS], found[:, CLASS_TOKENS:]
    positions = rest.transpose(1, 2).unflatten(2, grid)
    positions = resample_positions(positions, *model.grid).flatten(2).transpose(1, 2)
    return torch.cat([first, positions], 1)
