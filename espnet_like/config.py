"""Configurations: layered files and dotted overrides, checked into the dataclasses of `schema`.

Later layers win, key by key; a layer that gives a component another `name` replaces it whole.
Components (`features`, `model`, `augment`, `loss`, `train.schedule`) are looked up by name; their
keys are the keyword arguments of the class behind the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from espnet_like.errors import UserError
from espnet_like.layers import merge, plain, read_value, read_yaml
from espnet_like.registry import arguments, build
from espnet_like.schema import Experiment


def load_layers(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Merge YAML files in order, then `--dotted.key value` tokens.

    Raises:
        UserError: a missing or malformed file (with its line), a token that is no override.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge(merged, read_yaml(path))
    return merge(merged, parse_overrides(overrides))


def experiment(layers: Mapping[str, Any]) -> Experiment:
    """Check merged layers against the schema and the components' own keys; fill in defaults.

    Raises:
        UserError: an unknown key, a wrong type or a value out of range; names what is allowed.
    """
    parsed = check(layers, Experiment)
    complete = {
        key: {"name": spec.get("name"), **arguments(registry, spec, key)}
        for key, registry in components().items()
        if (spec := _component(parsed, key))
    }
    model = complete.get("model", {})
    if parsed.input_shape and "num_bins" in model and "num_bins" not in parsed.model:
        model["num_bins"] = parsed.input_shape[1]
    train = replace(parsed.train, schedule=complete.pop("train.schedule"))
    return replace(parsed, train=train, **complete)


def try_out(config: Experiment) -> None:
    """Build every component, the model without memory: they know which values they take.

    Raises:
        UserError: a value out of range; names its component. An augmentation that asks the network
            what it does not know. What does not fit features of `input_shape`.
    """
    import torch

    built = {}
    for key, registry in components().items():
        if spec := _component(config, key):
            with torch.device("meta" if key == "model" else "cpu"):
                built[key] = build(registry, spec, key)
    augmentation, model = built.get("augment"), built.get("model")
    if augmentation is not None and model is not None:
        try_together(config, model, augmentation)
    if config.input_shape:
        *maps, frames = config.input_shape
        shape = (*maps, min(frames, config.train.crop_frames or frames))
        if model is not None:
            check_fit(config, model, shape)
        if augmentation is not None:
            augmentation.check(shape)


def try_together(config: Experiment, model: Any, augmentation: Any) -> None:
    """What the network and the augmentation want of each other.

    Raises:
        UserError: a layer that is not there, or somebody is asked who does not know or is not
            there to be asked.
    """
    taps = model.taps
    if (last := max(augmentation.layers, default=0)) >= len(taps):
        names = ", ".join(f"{k} {name}" for k, name in enumerate(taps))
        raise UserError(f"augment.layers: there is no layer {last}; the model has {names}")
    asks = augmentation.needs_reconstruction
    if asks and not hasattr(model, "gpredlayer"):
        raise UserError(
            f"augment: peas asks a network that reconstructs, {config.model['name']} does not: "
            "choose --model ssast_..., with pretext frozen"
        )
    if config.train.teacher and not asks:
        name = config.augment.get("name")
        raise UserError(f"train.teacher: augment {name} asks no network: take it out")


def check_fit(config: Experiment, model: Any, shape: tuple[int, ...]) -> None:
    """Whether the network takes features of this (C, F, T).

    Raises:
        UserError: it does not.
    """
    from espnet_like.models.summary import tap_shapes

    try:
        tap_shapes(model, shape)
    except RuntimeError as error:
        text = f"{shape[0]} channels, {shape[1]} bins and {shape[2]} frames"
        raise UserError(
            f"model: features of {text} do not fit {config.model['name']} ({error})"
        ) from None


#: Keys that only take time and memory: with other values, a run is the same one.
ONLY_TIME = (
    "train.workers", "train.checkpoint_steps", "train.checkpoint_seconds", "data.in_memory",
)  # fmt: skip


def identity(config: Experiment) -> dict[str, Any]:
    """What `config` sets apart from the defaults, without seed, data and what only takes time.

    A key that the program learns later, at its default, leaves the identity of old runs alone.
    """
    chosen, defaults = config.resolved(), Experiment().resolved()
    for key in ONLY_TIME:
        part, name = key.split(".")
        del chosen[part][name]
    for key in ("seed", "data", "input_shape"):
        del chosen[key]
    for key in ("init", "pretrained"):
        if (chosen["train"][key] or {}).get("config"):
            del chosen["train"][key]["weights"]
    for key, registry in components().items():
        if spec := _component(config, key):
            parameters = signature(registry[spec["name"]]).parameters.values()
            own = {p.name: plain(p.default) for p in parameters if p.default is not p.empty}
            part, _, rest = key.partition(".")
            (defaults[part] if rest else defaults)[rest or part] = own
    return _apart(chosen, defaults)


def components() -> dict[str, Mapping[str, type[Any]]]:
    """The components, by their key."""
    from espnet_like.augment import AUGMENTATIONS
    from espnet_like.features import FRONT_ENDS
    from espnet_like.features.dump import Raw
    from espnet_like.models import MODELS
    from espnet_like.training.losses import LOSSES
    from espnet_like.training.schedules import SCHEDULES

    return {
        "features": {**FRONT_ENDS, "raw": Raw},
        "model": MODELS,
        "augment": AUGMENTATIONS,
        "loss": LOSSES,
        "train.schedule": SCHEDULES,
    }


def _component(config: Experiment, key: str) -> dict[str, Any]:
    """The keys of a component, with the default's name where they have none."""
    part, _, rest = key.partition(".")
    spec, default = (getattr(c, part) for c in (config, Experiment()))
    spec, default = (getattr(s, rest) if rest else s for s in (spec, default))
    named = "name" in spec or not spec or "name" not in default
    return dict(spec) if named else {"name": default["name"], **spec}


def _apart(value: Any, default: Any) -> Any:
    """`value` without the keys that equal those of `default`."""
    if not (isinstance(value, Mapping) and isinstance(default, Mapping)):
        return value
    return {
        key: _apart(item, default.get(key))
        for key, item in value.items()
        if key not in default or item != default[key]
    }


def check(layers: Mapping[str, Any], schema: type[Any]) -> Any:
    """An instance of the dataclass `schema` from plain data."""
    _check_keys(layers, schema, "")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(schema)
    try:
        return schema(**vars(parser.instantiate(parser.parse_object(dict(layers)))))
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(_plainly(str(error))) from None


def _plainly(text: str) -> str:
    """What jsonargparse says; of an optional part what is wrong with it, not that it is no None."""
    text = " ".join(text.replace("Parser key ", "").split())
    both = re.fullmatch(
        r"(.*?)Does not validate .*? Errors: - ((?!Expected a).*) - Expected a .*", text
    )
    if both is None:
        return text
    return re.sub(r"Problem with given class_path '[^']*': ", "", "".join(both.groups()))


def parse_overrides(tokens: Sequence[str]) -> dict[str, Any]:
    """`--model.rho 5 --train.optimizer.lr=3e-4` as nested data; values are YAML."""
    result: dict[str, Any] = {}
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        option, equals, text = token.partition("=")
        known = [f.name for f in fields(Experiment)]
        if not option.startswith("--") or option[2:].split(".")[0] not in known:
            near = get_close_matches(option[2:].split(".")[0], known, 1, 0.6)
            hint = f"did you mean --{near[0]}?" if near else f"keys start with {', '.join(known)}"
            raise UserError(f"{token}: unknown option; {hint}")
        if not equals:
            if not rest:
                raise UserError(f"{option}: needs a value")
            text = rest.pop(0)
        value = read_value(text, option)
        for part in reversed(option[2:].split(".")):
            value = {part: value}
        result = merge(result, value)
    return result


def _check_keys(value: Mapping[str, Any], schema: type[Any], where: str) -> None:
    """Refuse keys that the dataclass lacks, with the nearest name."""
    hints = get_type_hints(schema)
    for key, item in value.items():
        if key not in hints:
            near = get_close_matches(str(key), list(hints), 1, 0.6)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"{where}{key}: unknown key; {hint}allowed: {', '.join(hints)}")
        kinds = (hints[key], *get_args(hints[key]))
        inner: Any = next((kind for kind in kinds if is_dataclass(kind)), None)
        keyed = inner or any(get_origin(kind) is dict for kind in kinds)
        several = get_origin(hints[key]) is tuple and isinstance(item, (list, tuple))
        for part in item if several else [item]:
            if isinstance(part, Mapping):
                if inner:
                    _check_keys(part, inner, f"{where}{key}.")
            elif keyed and type(part) not in kinds:
                raise UserError(f"{where}{key}: expected keys and values, not {part!r}")
