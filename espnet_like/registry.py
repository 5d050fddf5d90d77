"""Components by name: a registry is a plain dict from a name to a class."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from espnet_like.errors import UserError

T = TypeVar("T")


def arguments(
    registry: Mapping[str, type[T]], spec: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """The complete, type-checked keyword arguments that `spec` asks for.

    Args:
        registry: name -> class.
        spec: `{"name": ..., "preset": ..., **keyword arguments}`; `preset` is optional and names
            an entry of the class's `presets`, which the other keywords override.
        where: the configuration key, for messages.

    Raises:
        UserError: unknown name, preset or key, or a value of a wrong type; says what is allowed.
    """
    kwargs = dict(spec)
    cls = lookup(registry, kwargs.pop("name", None), f"{where}.name")
    presets: Mapping[str, Mapping[str, Any]] = getattr(cls, "presets", {})
    if (preset := kwargs.pop("preset", None)) is not None:
        kwargs = {**lookup(presets, preset, f"{where}.preset"), **kwargs}
    allowed = [n for n, p in inspect.signature(cls).parameters.items() if p.kind != p.VAR_KEYWORD]
    for key in kwargs:
        if key not in allowed:
            names = ", ".join(sorted([*allowed, *(["preset"] if presets else [])])) or "no keys"
            raise UserError(f"{where}.{key}: unknown key; {spec['name']} takes {names}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    try:
        return dict(parser.parse_object(kwargs).as_dict())
    except (ArgumentError, TypeError, KeyError) as error:
        raise UserError(f"{where}: {error}") from None


def build(registry: Mapping[str, type[T]], spec: Mapping[str, Any], where: str) -> T:
    """Make the component that `spec` describes (see `arguments`).

    Raises:
        UserError: as `arguments`, and for a value that the constructor refuses.
    """
    kwargs = arguments(registry, spec, where)
    try:
        return registry[spec["name"]](**kwargs)
    except ValueError as error:
        raise UserError(f"{where} ({spec['name']}): {error}") from None


def lookup(table: Mapping[str, T], name: Any, where: str) -> T:
    """`table[name]`, or a UserError that lists the names there are."""
    if not isinstance(name, str) or name not in table:
        raise UserError(f"{where}: {name!r} is unknown; choose from {', '.join(sorted(table))}")
    return table[name]
