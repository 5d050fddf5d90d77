"""`espnet_like <stage> [arguments]`, the same as `python -m espnet_like.bin.<stage>`."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import NoReturn

import espnet_like.bin
from espnet_like.errors import UserError, run


def main(argv: list[str] | None = None) -> int | None:
    """Call the `main` of the stage that the first argument names.

    Raises:
        UserError: no such stage; says which there are.
    """
    arguments = sys.argv[1:] if argv is None else argv
    stages = {module.name: _summary(module.name) for module in pkgutil.iter_modules(_folders())}
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: espnet_like <stage> [arguments]; espnet_like <stage> --help\n")
        width = max(map(len, stages), default=0)
        for name, summary in stages.items():
            print(f"  {name:{width}}  {summary}")
        return 0 if arguments else 2
    stage = arguments[0].replace("-", "_")
    if stage not in stages:
        raise UserError(f"unknown stage '{arguments[0]}'; choose from {', '.join(stages)}")
    sys.argv[0] = f"espnet_like {stage}"  # what the stage's own --help calls itself
    result: int | None = importlib.import_module(f"espnet_like.bin.{stage}").main(arguments[1:])
    return result


def command() -> NoReturn:
    """Entry point of the installed command."""
    run(main)


def _folders() -> list[str]:
    return list(espnet_like.bin.__path__)


def _summary(stage: str) -> str:
    """First line of a stage's docstring, without importing it (that would import torch)."""
    path = Path(_folders()[0]) / f"{stage}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0]


if __name__ == "__main__":
    command()
