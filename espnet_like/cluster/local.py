"""Jobs as processes of this machine."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from espnet_like.cluster.contract import Job, exit_code, footer, header
from espnet_like.files import lock

GRACE = 30.0  # seconds from SIGTERM to SIGKILL, as Slurm's KillWait: time to save a checkpoint

_CANCEL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Cancelled(Exception):
    """A signal ended the submission; its jobs have been ended too."""

    def __init__(self, number: int) -> None:
        super().__init__(f"cancelled by {signal.Signals(number).name}")
        self.code = 128 + number


class _Running(NamedTuple):
    job: Job
    slot: int
    process: subprocess.Popen[bytes]
    log: BinaryIO
    started: float


def run(
    jobs: Sequence[Job],
    at_once: int,
    environment: Callable[[int], dict[str, str]] = lambda slot: {},
    grace: float = GRACE,
) -> list[int | None]:
    """Run the jobs, at most `at_once` at a time, each in its own process group.

    Args:
        jobs: what to run.
        at_once: number of slots.
        environment: the variables that a job gets beyond this process's, by slot (from 0).
        grace: seconds that a cancelled job has to save and end.

    Returns:
        Each job's exit code as its log's footer says it; None where there is no footer.

    Raises:
        Cancelled: SIGINT, SIGTERM or SIGHUP came. A second one kills without grace.
        OSError: a log cannot be made. UserError: another command's job writes it. The jobs that
            run are ended first.

    Signals are blocked and waited for, never handled, so none falls between a fork and the
    line that notes the child. A signal that is ignored here (nohup) stays ignored.
    """
    watched = {s for s in _CANCEL if signal.getsignal(s) is not signal.SIG_IGN} | {signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    waiting = list(reversed(jobs))
    free = list(reversed(range(at_once)))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and free:
                slot = free.pop()
                running.append(_start(waiting.pop(), slot, environment(slot), before))
            number = _collect(running, free, watched)
            if number:
                raise Cancelled(number)
    finally:
        _end(running, watched, grace)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return [exit_code(job.log) for job in jobs]


def _start(job: Job, slot: int, extra: dict[str, str], mask: set[int]) -> _Running:
    """Open the log and start the job; a command that cannot start ends at once with 126 or 127."""
    os.makedirs(os.path.dirname(job.log) or ".", exist_ok=True)
    # Append mode: the job and the footer write to one file through two descriptors.
    log = open(job.log, "ab", buffering=0)  # noqa: SIM115 - lives as long as the job
    try:
        lock(log, f"{job.log}: another command is at this job")
        os.truncate(log.fileno(), 0)
    except BaseException:
        log.close()
        raise
    log.write(header(job, platform.node()).encode(errors="surrogateescape"))
    command: Sequence[str] = job.command
    try:
        process = _popen(command, log, extra, mask)
    except OSError as error:
        log.write(f"{command[0]}: {error.strerror}\n".encode(errors="surrogateescape"))
        code = "127" if isinstance(error, FileNotFoundError) else "126"
        process = _popen(["/bin/sh", "-c", f"exit {code}"], log, extra, mask)
    return _Running(job, slot, process, log, time.monotonic())


def _popen(
    command: Sequence[str], log: BinaryIO, extra: dict[str, str], mask: set[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # A Python job's lines reach its log when they are printed, not when it ends.
        env={"PYTHONUNBUFFERED": "1", **os.environ, **extra},
        start_new_session=True,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
    )


def _collect(
    running: list[_Running],
    free: list[int],
    watched: set[signal.Signals],
    wait: float | None = None,
) -> int:
    """Wait for a signal, close the logs of the jobs that ended; the signal, 0 if not to cancel."""
    info = signal.sigwaitinfo(watched) if wait is None else signal.sigtimedwait(watched, wait)
    for entry in [entry for entry in running if entry.process.poll() is not None]:
        running.remove(entry)
        free.append(entry.slot)
        _close(entry)
    return 0 if info is None or info.si_signo == signal.SIGCHLD else info.si_signo


def _close(entry: _Running) -> None:
    """Write the footer. On a full disk there is none, which says that the job failed."""
    code = entry.process.returncode
    text = footer(code if code >= 0 else 128 - code, time.monotonic() - entry.started)
    with suppress(OSError), entry.log:
        with open(entry.job.log, "rb") as log:
            log.seek(-1, os.SEEK_END)
            if log.read(1) != b"\n":
                text = "\n" + text
        entry.log.write(text.encode())


def _end(running: list[_Running], watched: set[signal.Signals], grace: float) -> None:
    """SIGTERM to every group, SIGKILL to what is left of it after `grace` or a second signal."""
    groups = {entry.process.pid for entry in running}
    _kill(groups, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while _alive(groups) and time.monotonic() < deadline:
        if _collect(running, [], watched, wait=0.1):
            break
    _kill(groups, signal.SIGKILL)
    for entry in running:
        entry.process.wait()
        _close(entry)


def _kill(groups: Collection[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def _alive(groups: Collection[int]) -> bool:
    """Does a process of the groups live? Its leader may have ended before a child that saves."""
    for pid in filter(str.isdecimal, os.listdir("/proc")) if groups else ():
        with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            # "pid (name) state parent group ...": the name may hold spaces and brackets.
            state, _, group = file.read().rpartition(b")")[2].split()[:3]
            if int(group) in groups and state != b"Z":
                return True
    return False
