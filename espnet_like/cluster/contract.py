"""The job contract, Kaldi's: `$cmd [options] [JOB=1:N] log.JOB.txt command argument...`.

A back end parses its command line with `parse`, writes each job's log with `header` and `footer`,
and believes nothing but that footer (`exit_code`) about what became of a job. The arguments stay a
list from the submission to the process: no shell reads them again.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from espnet_like.errors import UserError

PREEMPTED = 75  # EX_TEMPFAIL: the job has saved its state and wants to be run again
TAIL_LINES = 20

_FOOTER = re.compile(rb"^# Ended \(code (\d+)\) at ")
_RANGE = re.compile(r"([A-Za-z_]\w*)=([^/:]*):?([^/]*)")
_WORD = re.compile(r"\{JOB\}|(?<![A-Za-z0-9])JOB(?![A-Za-z0-9])")


class Job(NamedTuple):
    """One process to run: its number (None outside an array), argument list and log."""

    number: int | None
    command: tuple[str, ...]
    log: str


class Request(NamedTuple):
    """A parsed command line."""

    options: dict[str, str]
    jobs: tuple[Job, ...]


def parse(arguments: Sequence[str], options: Mapping[str, str], flags: Sequence[str]) -> Request:
    """Read `[options] [JOB=1:N] log command argument...`.

    Args:
        arguments: the command line without the program's name.
        options: the options that take a value, without dashes, and their defaults.
        flags: the options that take none; a given one is "true" in the result, else "".

    Raises:
        UserError: unknown option, missing value, bad range, no command, jobs that share a log.
    """
    values = {**options, **dict.fromkeys(flags, "")}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).partition("=")
        key = name.removeprefix("--")
        if key not in values or not name.startswith("--"):
            known = ", ".join(f"--{k}" for k in sorted(values))
            raise UserError(f"unknown option {name}; choose from {known}")
        if key in flags:
            if equals:
                raise UserError(f"{name} takes no value")
            value = "true"
        elif not equals:
            if not rest:
                raise UserError(f"{name} needs a value")
            value = rest.pop(0)
        values[key] = value
    numbers = _range(rest.pop(0)) if rest and _RANGE.fullmatch(rest[0]) else None
    if len(rest) < 2:
        raise UserError("give a log and a command: [options] [JOB=1:N] log.JOB.txt command...")
    return Request(values, _expand(numbers, rest[0], rest[1:]))


def positive(values: Mapping[str, str], key: str, default: int) -> int:
    """The option `key` as a whole number from 1, or `default` where it was not given."""
    text = values[key]
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--{key} is a whole number from 1, not '{text}'")
    return int(text)


def pick(jobs: Sequence[Job], which: str) -> tuple[Job, ...]:
    """The jobs to run: `all`, or those whose log does not close with exit code 0 (`failed`)."""
    if which not in ("all", "failed"):
        raise UserError(f"--pick is all or failed, not '{which}'")
    return tuple(job for job in jobs if which == "all" or exit_code(job.log) != 0)


def header(job: Job, host: str) -> str:
    """What a log opens with; a command of several lines stays a comment on each of them."""
    command = shlex.join(job.command).replace("\n", "\n# ")
    return f"# {command}\n# Running on {host}\n# Started at {_now()}\n#\n"


def footer(code: int, seconds: float) -> str:
    """What a log closes with."""
    return f"# Ended (code {code}) at {_now()}, elapsed time {seconds:.1f} seconds\n"


def exit_code(log: str) -> int | None:
    """The exit code in a log's footer; None where the log or its footer is missing."""
    lines = _last_lines(log, 1)
    match = _FOOTER.match(lines[-1]) if lines else None
    return int(match[1]) if match else None


def report(jobs: Sequence[Job], codes: Sequence[int | None]) -> int:
    """Say on standard error what failed and why, and give the submission's exit code.

    Args:
        jobs: what was run.
        codes: the exit code of each; None for a job that did not end.

    Returns:
        0 when all did well, `PREEMPTED` when every job that did not was pre-empted, else 1.
    """
    failed = [(job, code) for job, code in zip(jobs, codes, strict=True) if code != 0]
    if not failed:
        return 0
    program = os.path.basename(sys.argv[0])
    which = ", ".join(str(job.number) for job, _ in failed if job.number is not None)
    text = f"{len(failed)} of {len(jobs)} jobs" + (f" (JOB {which})" if which else "")
    broken = [(job, code) for job, code in failed if code != PREEMPTED]
    if not broken:
        say = f"{text} pre-empted, state saved: resume with --pick failed; log {failed[0][0].log}"
        print(f"{program}: {say}", file=sys.stderr)
        return PREEMPTED
    job, code = broken[0]
    ended = "did not end" if code is None else f"ended with code {code}"
    tail = b"\n".join(_last_lines(job.log, TAIL_LINES)).decode(errors="replace")
    print(f"{program}: {text} failed. {job.log} {ended}; its last lines:", file=sys.stderr)
    print(tail, file=sys.stderr)
    return 1


def _range(text: str) -> range:
    """`JOB=2` or `JOB=1:8` as the numbers it stands for."""
    match = _RANGE.fullmatch(text)
    assert match is not None
    name, first, last = match[1], match[2], match[3] if ":" in text else match[2]
    if name != "JOB":
        raise UserError(f"{text}: the array's name is JOB, as in JOB=1:8")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UserError(f"{text}: a range is JOB=first:last with 1 <= first <= last")
    return range(int(first), int(last) + 1)


def _expand(numbers: range | None, log: str, command: Sequence[str]) -> tuple[Job, ...]:
    """One job per number, which replaces `JOB` and `{JOB}` in the arguments and the log's name."""
    if numbers is None:
        return (Job(None, tuple(command), log),)
    for argument in command:
        if argument != "JOB" and "{JOB}" not in argument and _WORD.search(argument):
            mended = _WORD.sub("{JOB}", argument)
            note = f"note: {argument!r} is passed on as it is; the job's number is {mended!r}"
            print(note, file=sys.stderr)
    jobs = []
    for number in numbers:
        digits = str(number)
        arguments = [digits if a == "JOB" else a.replace("{JOB}", digits) for a in command]
        jobs.append(Job(number, tuple(arguments), _WORD.sub(digits, log)))
    if len({job.log for job in jobs}) < len(jobs):
        raise UserError(f"{log}: {len(jobs)} jobs cannot share a log; put JOB into its name")
    return tuple(jobs)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z")


def _last_lines(path: str, count: int) -> list[bytes]:
    """The last lines of a file, read from its last 64 KiB; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            return file.read().splitlines()[-count:]
    except OSError:
        return []
