"""YAML as layers: files read with their lines, one mapping laid over another."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from espnet_like.errors import UserError


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping; duplicate keys are refused, `1e-4` is a number."""
    try:
        value = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration: {_siblings(Path(path))}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: {getattr(error, 'problem', 'not UTF-8 text')}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path}:1: expected keys and values, found {type(value).__name__}")
    return value


def read_part(path: str | Path, key: str) -> dict[str, Any]:
    """A YAML mapping that has `key`: an empty file does not pass for a component's default."""
    value = read_yaml(path)
    if not value.get(key):
        raise UserError(f"{path}: no {key} in it: write {key}: {{name: ...}}")
    return value


def read_value(text: str, where: str) -> Any:
    """One YAML value of a command line; `where` is the option, for messages."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", "not text")
        raise UserError(f"{where} {text}: not a YAML value: {problem}") from None


def write_yaml(value: Mapping[str, Any]) -> str:
    """YAML text that `read_yaml` reads back to the same value."""
    return yaml.safe_dump(plain(value), sort_keys=False, default_flow_style=None)


def find_conf(conf: Path, kind: str, name: str) -> Path:
    """conf/<kind>/<name>.yaml of a recipe, or the one in egs/common/conf that all recipes share.

    `kind` is model or augment; empty for training, whose files lie in conf itself.
    """
    own = conf / kind / f"{name}.yaml"
    shared = shared_conf(conf) / kind / f"{name}.yaml"
    if own.is_file() or not shared.is_file():
        return own
    return shared


def shared_conf(conf: Path) -> Path:
    """The configuration that all recipes share, seen from a recipe's own."""
    return Path(os.path.relpath(conf.resolve().parent.parent / "common" / "conf"))


def merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `layer` laid over it; neither is changed.

    Components in a list, as a chain has them, are reached by their names:
    `{methods: {peas: {score: e_rec}}}`.

    Raises:
        UserError: a list has no such component, or several.
    """
    merged = dict(base)
    for key, value in layer.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            renamed = "name" in old and value.get("name", old["name"]) != old["name"]
            merged[key] = dict(value) if renamed else merge(old, value)
        elif isinstance(old, list) and isinstance(value, Mapping):
            merged[key] = _merge_named(old, value, key)
        else:
            merged[key] = value
    return merged


def _merge_named(base: list[Any], layer: Mapping[str, Any], where: str) -> list[Any]:
    merged = list(base)
    names = [item.get("name") if isinstance(item, Mapping) else item for item in base]
    for name, value in layer.items():
        if names.count(name) != 1 or not isinstance(value, Mapping):
            listed = ", ".join(map(str, names))
            raise UserError(f"{where}.{name}: one of the list's components by name: {listed}")
        place = names.index(name)
        old = base[place] if isinstance(base[place], Mapping) else {"name": name}
        merged[place] = merge({"layer": old}, {"layer": value})["layer"]
    return merged


def plain(value: Any) -> Any:
    """The same with tuples as lists, as YAML and JSON give them back."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def _siblings(path: Path) -> str:
    own = path.parent
    in_conf = own.name == "conf"  # training; else conf/model or conf/augment
    shared = shared_conf(own) if in_conf else shared_conf(own.parent) / own.name
    names = sorted({p.name for place in (own, shared) for p in place.glob("*.yaml")})
    return f"{own} has {', '.join(names)}" if names else f"nothing in {own}"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers (`1e-4`), no duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem=f"{key!r} is no key", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)
