"""What the sections share: rows, pairs of times, a child's peak memory, audio to work on."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from espnet_like.data.directory import DataDir


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        section: where it belongs.
        what: in words.
        ours, other: medians, in `unit`.
        ratio: median of the pairs' ratios.
        target: the ratio wanted, as (">=" or "<=", bound); None for a row that informs only.
    """

    section: str
    what: str
    ours: float
    other: float
    unit: str
    ratio: float
    target: tuple[str, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        if self.target is None:
            return None
        relation, bound = self.target
        return self.ratio >= bound if relation == ">=" else self.ratio <= bound

    def cells(self) -> tuple[str, ...]:
        """The row as text, a string for each column of the table."""
        target = "" if self.target is None else f"{self.target[0]} {self.target[1]:g}"
        met = {True: "yes", False: "NO", None: ""}[self.met]
        numbers = (f"{self.ours:.3g}", f"{self.other:.3g}", self.unit, f"{self.ratio:.3g}")
        return (self.section, self.what, *numbers, target, met)


Section = Callable[[Path, bool], Iterator[Row]]
SECTIONS: dict[str, Section] = {}


def section(function: Section) -> Section:
    """Register a section: called with an empty directory and `quick`, it yields its rows.

    Its name is the function's, its help the docstring.
    """
    SECTIONS[function.__name__] = function
    return function


Clock = Callable[[], float]  # does something once and says how many seconds it took


def in_turns(repeats: int, *clocks: Clock) -> list[list[float]]:
    """Seconds of each at each repeat, A B A B, after one turn that does not count."""
    turns = [[clock() for clock in clocks] for _ in range(repeats + 1)]
    return [list(own) for own in zip(*turns[1:], strict=True)]


def here(function: Callable[[], object]) -> Clock:
    """Times a call in this process."""
    return lambda: _seconds(function)


def on(device: torch.device, function: Callable[[], object]) -> Clock:
    """As `here`; on a GPU by the clock on the wall, until the GPU is done."""
    if device.type == "cpu":
        return here(function)

    def clock() -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    return clock


@contextmanager
def apart(function: Callable[..., object], *arguments: object) -> Iterator[Clock]:
    """Times a call in a process of its own, whose memory nobody else has used."""
    with _process() as pool:
        yield lambda: pool.submit(_seconds, function, *arguments).result()


@contextmanager
def plain_program(
    device: torch.device, make: Callable[..., Callable[[], object]], *arguments: Hashable
) -> Iterator[Clock]:
    """Times what `make(*arguments)` returns, as a script of its own would run it.

    On a CPU, that is in another process, with the memory allocator as it comes; the first call
    includes the making.
    """
    if device.type != "cpu":
        yield on(device, make(*arguments))
        return
    with _process() as pool:
        yield lambda: pool.submit(_seconds, _call_made, make, *arguments).result()


def peak_memory(function: Callable[..., object], *arguments: object) -> float:
    """Peak resident megabytes of a process of its own that calls `function`."""
    with _process() as pool:
        return pool.submit(_peak, function, *arguments).result()


def _process() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, torch.set_num_threads, (1,))


def _call_made(make: Callable[..., Callable[[], object]], *arguments: Hashable) -> None:
    _made(make, *arguments)()


@cache
def _made(make: Callable[..., Callable[[], object]], *arguments: Hashable) -> Callable[[], object]:
    return make(*arguments)


def _seconds(function: Callable[..., object], *arguments: object) -> float:
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def _peak(function: Callable[..., object], *arguments: object) -> float:
    function(*arguments)
    # Not getrusage: its maximum outlives exec, and would be that of the process that spawned.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM")


def paired(ours: list[float], other: list[float]) -> float:
    """Median of ours / other, pair by pair."""
    return statistics.median(a / b for a, b in zip(ours, other, strict=True))


def write_corpus(
    root: Path, clips: int, files: int, seconds: float, rate: int, channels: int, subtype: str
) -> DataDir:
    """`clips` utterances that share `files` wav files of coloured noise; also on disk in `root`.

    Classes c0 to c9 in turns.
    """
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    paths = [root / f"{i:02d}.wav" for i in range(files)]
    for path in paths:
        noise = rng.normal(size=(int(seconds * rate), channels))
        noise[1:] += 0.9 * noise[:-1]  # stronger low bands, as in recordings
        soundfile.write(path, 0.1 * noise, rate, subtype)
    ids = [f"u{i:05d}" for i in range(clips)]
    data = DataDir(
        root,
        {utt: str(paths[i % files]) for i, utt in enumerate(ids)},
        {utt: utt for utt in ids},
        {utt: (f"c{i % 10}",) for i, utt in enumerate(ids)},
        tuple(f"c{i}" for i in range(10)),
        dict.fromkeys(ids, seconds),
    )
    data.save(root)
    return data


def quiet(_: str) -> None:
    """Takes lines of progress."""
