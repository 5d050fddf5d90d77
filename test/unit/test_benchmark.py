"""tools/benchmark.py runs, and its numbers can be read; how large they are is not for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_like.augment import AUGMENTATIONS
from espnet_like.models import SSAST

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "benchmark.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_section_gives_a_table_and_json(tmp_path: Path) -> None:
    done = benchmark("--quick", "--only", "ark", "augment", "--json", str(tmp_path / "b.json"))
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "b.json").read_text())
    assert {"device", "torch", "threads", "load", "revision"} <= written["machine"].keys()
    assert [row["section"] for row in written["rows"]] == ["ark"] * 2 + ["augment"] * 3
    for row in written["rows"]:
        relation, bound = row["target"]
        assert row["met"] == (row["ratio"] >= bound if relation == ">=" else row["ratio"] <= bound)
        assert row["what"] in done.stdout
        assert row["ratio"] > 0 and row["ours"] > 0 and row["other"] > 0


def test_every_method_is_timed_and_its_traffic_counted(tmp_path: Path) -> None:
    done = benchmark("--quick", "--only", "methods", "--json", str(tmp_path / "b.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    found: dict[str, set[str]] = {}
    for row in rows:
        name, _, against = row["what"].partition(", ")
        found.setdefault(name, set()).add(against)
    modes = {"zero masks", "mixture masks", "cutting masks"}
    combined = {"none", "specaugment_pp", "chain", "one_of", "peas"}  # peas needs its network
    assert found.keys() == AUGMENTATIONS.keys() - combined | modes
    assert all(against >= {"plain loop", "step", "traffic"} for against in found.values())
    assert "torchaudio" in found["specaugment"] and "one weight a batch" in found["mixup"]


def test_ssast_is_timed_with_and_without_peas(tmp_path: Path) -> None:
    done = benchmark("--quick", "--only", "ssast", "--json", str(tmp_path / "b.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["what"].split(",")[0] for row in rows] == [
        "step", "arithmetic of the step", "attention in bf16", "step of PEAS", "step of PEAS",
        "selector",
    ]  # fmt: skip
    assert all(row["ratio"] > 0 for row in rows)
    assert [bool(row["target"]) for row in rows] == [True, False, True, True, True, True]


def test_the_plain_network_is_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks import ssast

    model, other = (SSAST(size="tiny", frames=64).eval() for _ in range(2))
    other.load_state_dict(model.state_dict())
    tokens = torch.randn(2, 34, 192)
    torch.testing.assert_close(
        ssast._fused(model.v.blocks[0].attn, tokens), model.v.blocks[0].attn(tokens)
    )
    for block in other.v.blocks:
        block.attn = ssast.PlainAttention(block.attn)
    x = torch.randn(2, 1, 128, 64)
    torch.testing.assert_close(other(x), model(x))


def test_operations_are_counted_as_the_formula_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSAST forward: 12 (24 N D^2 + 4 N^2 D) + 2 N_p 256 D for a clip, and the head."""
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks import ssast

    model = SSAST(num_classes=10, size="tiny", frames=64, stride=(16, 16)).eval()
    n, patches, width = 34, 32, 192
    blocks = 12 * (24 * n * width**2 + 4 * n**2 * width)
    expected = blocks + 2 * patches * 256 * width + 2 * width * 10
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert ssast._flops(lambda: model(torch.randn(1, 1, 128, 64))) == expected


def test_the_plain_loader_of_tagging_makes_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks.tagging import same

    assert same(tmp_path) < 1e-3


def test_a_step_of_tagging_is_taken_apart(tmp_path: Path) -> None:
    done = benchmark("--quick", "--only", "tagging", "--json", str(tmp_path / "b.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    names = [row["what"].split(",")[0].partition(" on ")[0] for row in rows]
    shares = ["reading and mixing", "features", "bucketing"]
    assert names == [*shares, "batches of one core", "steps", "steps"]
    assert all(row["ours"] >= 0 and row["other"] > 0 for row in rows)


def test_traffic_of_operations_that_one_can_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks.methods import traffic

    x, y = torch.randn(8, 16, 32), torch.randn(32)
    once = 2 * x.nbytes
    assert traffic(lambda x, y: x * 2, x, y) == once
    assert traffic(lambda x, y: x[:, ::2].transpose(1, 2), x, y) == 0
    assert traffic(lambda x, y: x + y.expand(8, 16, 32), x, y) == once + y.nbytes
    assert traffic(lambda x, y: torch.add(x, y, out=torch.empty_like(x)), x, y) == once + y.nbytes
    assert traffic(lambda x, y: x[:4].clone().add_(1), x, y) == once  # half of it, twice
    assert traffic(lambda x, y: torch.cat([x, x]), x, y) == 2 * once


def test_unknown_section() -> None:
    done = benchmark("--only", "speed")
    assert done.returncode == 2
    assert "invalid choice: 'speed' (choose from" in done.stderr


def test_median_of_pairs_and_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    from benchmarks import measuring

    calls: list[str] = []
    values = {"a": iter([99.0, 1.0, 4.0, 9.0]), "b": iter([99.0, 2.0, 2.0, 3.0])}

    def clock(name: str) -> measuring.Clock:
        return lambda: (calls.append(name), next(values[name]))[1]

    ours, other = measuring.in_turns(3, clock("a"), clock("b"))
    assert "".join(calls) == "abababab"
    assert (ours, other) == ([1, 4, 9], [2, 2, 3])  # the first turn does not count
    assert measuring.paired(ours, other) == 2
    for target, met in (((">=", 2), True), (("<=", 1.9), False), (None, None)):
        assert measuring.Row("s", "w", 4, 2, "s", 2, target).met is met
