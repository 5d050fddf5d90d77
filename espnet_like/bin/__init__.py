"""The commands: what is wrong with their arguments is said in one line, and so is Ctrl-C."""

import argparse
import sys
from types import TracebackType
from typing import NoReturn

from espnet_like.errors import UserError


class Parser(argparse.ArgumentParser):
    """Reports what is wrong with its arguments as any other error: in one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} (--help)")


def _interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _interrupted  # while a command is still importing
