#!/usr/bin/env python3
"""Speed and memory, as ratios: ours beside a plain way of doing the same.

    python tools/benchmark.py                      every section, some minutes
    python tools/benchmark.py --only dump ark      these sections
    python tools/benchmark.py --json bench.json    the numbers to keep

Everything runs on one thread, as a job of a recipe does, and makes its own data in a temporary
directory. Both sides of a ratio are timed in turns, A B A B, and the ratio is the median of the
ratios of such pairs, so that a machine that is busy with other things slows both. Times are CPU
time of the process, but for `wait`, which is about the clock on the wall, and for `ssast` and
`tagging` on a GPU, which they use where there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read when the libraries are loaded, hence above the imports
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from benchmarks import data, methods, ssast, tagging, training  # noqa: F401  (they register)
from benchmarks.measuring import SECTIONS, Row

from espnet_like.errors import run
from espnet_like.files import write_json
from espnet_like.training.allocator import keep_freed_memory
from espnet_like.training.runs import environment


def main(argv: Sequence[str] | None = None) -> None:
    sections = "".join(f"\n  {name:8} {function.__doc__}" for name, function in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="benchmark",
        description=f"{__doc__}\nsections:{sections}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a target is missed")
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it runs, no more")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    machine = {**environment(), "load": os.getloadavg()[0], "quick": args.quick}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="benchmark") as temporary:
        for name in args.only:
            work = Path(temporary) / name
            work.mkdir()
            for row in SECTIONS[name](work, args.quick):
                print(f"{name}: {row.what}: {row.ratio:.3g}", file=sys.stderr, flush=True)
                rows.append(row)
    print(render(machine, rows))
    if args.json:
        write_json(
            args.json, {"machine": machine, "rows": [asdict(r) | {"met": r.met} for r in rows]}
        )
    if args.check and any(row.met is False for row in rows):
        raise SystemExit(1)


def render(machine: dict[str, object], rows: Sequence[Row]) -> str:
    """The machine and the table, as text for people."""
    head = ("section", "what", "ours", "other", "", "ratio", "target", "met")
    cells = [head, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    right = {2, 3, 5}
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    about = (
        f"{machine['device']}; load {machine['load']:.1f} at the start; "
        f"torch {machine['torch']}, {machine['threads']} thread; revision {machine['revision']}"
    )
    return "\n".join([about, "", *lines])


if __name__ == "__main__":
    run(main)
