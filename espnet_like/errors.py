"""Errors that a user can mend, and how a command line reports them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Something a user can mend; the message names the file, the line and the fix.

    Args:
        message: one line of text.
        code: exit code of the command that meets it.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(" ".join(str(message).split()))
        self.code = code


class MissingInput(UserError):
    """An earlier stage's output is not there; exit code 3."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=3)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and exit: 0, its own code, or an error's code with one line on stderr."""
    try:
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.code
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        code = 130
    except OSError as error:  # a full disk, a read-only directory, a missing permission
        name = f"{error.filename}: " if error.filename else ""
        print(f"error: {name}{error.strerror or error}", file=sys.stderr)
        code = 1
    sys.exit(code)
