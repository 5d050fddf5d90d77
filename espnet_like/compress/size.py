"""How large a model is, by every way of counting that is in use.

Published sizes are hard to compare: some count what is zero and some do not, batch normalisation
and its running statistics are in or out, and a KB is 1000 bytes or 1024. Here all of it stands side
by side, with the file that is really on the disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

#: What is counted: key -> a line for people.
COUNTED = {
    "dcase": "nonzero, without norms (the rule of DCASE 2020 Task 1B)",
    "nonzero": "nonzero",
    "nonzero_and_statistics": "nonzero, with running statistics",
    "parameters": "all",
    "parameters_and_statistics": "all, with running statistics",
}
WIDTHS = {"float32": 4, "float16": 2}
LAYERS = (_ConvNd, nn.Linear, nn.RNNBase, nn.MultiheadAttention, nn.Embedding)


def size_report(model: nn.Module, file: Path) -> dict[str, Any]:
    """Sizes of a model and of the file of its weights.

    DCASE's rule counts the weights and biases of convolutions, dense, recurrent and attention
    layers that are not zero. (The 450 KB of its own baseline are 115,219 such values of 4 bytes, in
    units of 1024; batch normalisation is left out.) Running statistics are the floating-point
    buffers. A parameter that several layers share counts once.

    Returns:
        Each key of `COUNTED` -> `values`, and `bytes`, `KB` (1000) and `KiB` (1024) of
        `float32` and `float16`; `file` -> the same of the file.
    """
    parameters = list(model.parameters())
    layers = {id(p) for m in model.modules() if isinstance(m, LAYERS) for p in m.parameters()}
    statistics = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    nonzero = sum(_nonzero(p) for p in parameters)
    every = sum(p.numel() for p in parameters)
    counts = {
        "dcase": sum(_nonzero(p) for p in parameters if id(p) in layers),
        "nonzero": nonzero,
        "nonzero_and_statistics": nonzero + statistics,
        "parameters": every,
        "parameters_and_statistics": every + statistics,
    }
    report: dict[str, Any] = {
        key: {"values": n, **{name: units(n * width) for name, width in WIDTHS.items()}}
        for key, n in counts.items()
    }
    return {**report, "file": units(file.stat().st_size)}


def units(count: int) -> dict[str, float]:
    """So many bytes, in units of 1000 and of 1024."""
    return {"bytes": count, "KB": round(count / 1000, 1), "KiB": round(count / 1024, 1)}


def size_table(report: dict[str, Any]) -> str:
    """The report as lines of text."""
    width = max(map(len, COUNTED.values()))
    lines = [f"{'counted':{width}}    values  fp32 KB   (KiB)  fp16 KB   (KiB)"]
    for key, told in COUNTED.items():
        row = report[key]
        cells = [f"{told:{width}} {row['values']:9,}"]
        cells += [f"{row[n]['KB']:8,.1f} {row[n]['KiB']:7,.1f}" for n in WIDTHS]
        lines.append(" ".join(cells))
    on_disk = report["file"]
    lines.append(
        f"file on disk: {on_disk['bytes']:,} bytes, {on_disk['KB']:,.1f} KB, "
        f"{on_disk['KiB']:,.1f} KiB"
    )
    return "\n".join(lines)


def _nonzero(value: Tensor) -> int:
    return int(value.count_nonzero())
