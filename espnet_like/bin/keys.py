"""Every key of a configuration, with its default and what it takes.

python -m espnet_like.bin.keys                all keys, and the names of components
python -m espnet_like.bin.keys train.pool     those that begin so
python -m espnet_like.bin.keys augment specmix    the keys of a component
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, signature
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from espnet_like.bin import Parser
from espnet_like.config import components
from espnet_like.errors import UserError, run
from espnet_like.layers import plain
from espnet_like.registry import lookup
from espnet_like.schema import Experiment


def main(argv: list[str] | None = None) -> None:
    usage = argparse.RawDescriptionHelpFormatter
    parser = Parser("keys", description=__doc__, formatter_class=usage)
    parser.add_argument("prefix", nargs="?", default="", help="of the keys")
    parser.add_argument("component", nargs="?", help="with features, model, augment, ...: a name")
    args = parser.parse_args(argv)
    if args.component:
        found = list(keys_of_component(args.prefix, args.component))
    else:
        found = [line for line in keys() if f"{line[0]}.".startswith(args.prefix)]
    if not found and not args.component:
        raise UserError(f"no key begins with {args.prefix}: leave it out to see all")
    widths = [max((len(line[column]) for line in found), default=0) for column in range(2)]
    for key, default, values in found:
        print(f"{key:{widths[0]}}  {default:{widths[1]}}  {values}")


def keys(schema: type[Any] = Experiment, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, default and what it takes; of a component, the names."""
    types = get_type_hints(schema)
    for own in fields(schema):
        key, kind = prefix + own.name, types[own.name]
        inner = next((t for t in (kind, *get_args(kind)) if is_dataclass(t)), None)
        if key in components():
            default = plain(_default(own)).get("name", "")
            yield f"{key}.name", default, " | ".join(sorted(components()[key]))
        elif inner is None:
            yield key, shown(_default(own)), takes(kind)
        else:
            if inner is not kind:
                yield key, shown(_default(own)), "the keys below | null"
            yield from keys(inner, f"{key}.")  # type: ignore[arg-type]


def keys_of_component(kind: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Those of `keys` for one component.

    Raises:
        UserError: no such kind or name; says which there are.
    """
    cls = lookup(lookup(components(), kind, "kind"), name, f"{kind}.name")
    if presets := getattr(cls, "presets", {}):
        yield f"{kind}.preset", "", " | ".join(sorted(presets))
    types = get_type_hints(cls.__init__)
    for own in signature(cls).parameters.values():
        if own.kind != Parameter.VAR_KEYWORD:
            needed = own.default is own.empty
            yield f"{kind}.{own.name}", "" if needed else shown(own.default), takes(types[own.name])


def takes(kind: Any) -> str:
    """A type as YAML sees it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " | ".join(map(takes, inner))
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (list, tuple):
        return f"[{', '.join('...' if t is Ellipsis else takes(t) for t in inner)}]"
    if kind is NoneType:
        return "null"
    return "{...}" if origin is dict else getattr(kind, "__name__", str(kind))


def shown(value: Any) -> str:
    """A default as YAML has it."""
    return json.dumps(plain(value)) if not isinstance(value, str) else value


def _default(own: Field[Any]) -> Any:
    return own.default if own.default_factory is MISSING else own.default_factory()


if __name__ == "__main__":
    run(main)
