"""Sizes against counts done by hand, and against the published ones."""

from __future__ import annotations

import torch
from torch import nn

from espnet_like.compress.packed import pack, rounded
from espnet_like.compress.pruning import conv_weights, prune
from espnet_like.compress.size import size_report, size_table
from espnet_like.models import CPResNet, SharedResNet


def file_of(tmp_path, count: int):
    path = tmp_path / "weights"
    path.write_bytes(bytes(count))
    return path


class Baseline(nn.Module):
    """The layers of DCASE 2020 Task 1B's official baseline, whose size is printed as 450 KB."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 7), nn.BatchNorm2d(32), nn.Conv2d(32, 64, 7), nn.BatchNorm2d(64),
            nn.Linear(128, 100), nn.Linear(100, 3),
        )  # fmt: skip


def test_the_official_baseline_by_its_own_rule(tmp_path):
    model = Baseline()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    report = size_report(model, file_of(tmp_path, 1))
    assert report["dcase"]["values"] == 1600 + 100416 + 12900 + 303 == 115219
    assert round(report["dcase"]["float32"]["KiB"]) == 450
    assert report["nonzero"]["values"] == 115219 + 2 * (32 + 64)
    assert report["nonzero_and_statistics"]["values"] == 115219 + 4 * (32 + 64)


def test_zeros_shared_parameters_and_units_by_hand(tmp_path):
    conv = nn.Conv2d(2, 3, 1, bias=False)
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(conv, norm, conv)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0, 2, 0, 0, 3]).reshape(3, 2, 1, 1))
        norm.weight.fill_(1)
        norm.bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
    report = size_report(model, file_of(tmp_path, 1500))
    values = {key: row["values"] for key, row in report.items() if key != "file"}
    assert values == {
        "dcase": 3,
        "nonzero": 3 + 4,
        "nonzero_and_statistics": 7 + 6,
        "parameters": 6 + 6,
        "parameters_and_statistics": 12 + 6,
    }
    assert report["nonzero"]["float16"] == {"bytes": 14, "KB": 0.0, "KiB": 0.0}
    assert report["file"] == {"bytes": 1500, "KB": 1.5, "KiB": 1.5}
    lines = size_table(report).splitlines()
    assert len(lines) == 1 + 5 + 1
    assert "1,500 bytes, 1.5 KB" in lines[-1]


def test_the_published_size_of_the_pruned_shared_resnet(tmp_path):
    """FreqMix report, Table 4: 246K parameters, 491 KB. And the file is smaller than that."""
    torch.manual_seed(0)
    model = SharedResNet(num_classes=3, in_channels=2, ssn=2)
    convs = conv_weights(model)
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if name in convs else 10
        nn.init.normal_(parameter, float(name not in convs), fan_in**-0.5)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            nn.init.normal_(buffer)
    prune(model, 0.6)
    path = tmp_path / "final.packed"
    path.write_bytes(pack(rounded(model.state_dict()), {}))
    report = size_report(model, path)
    assert sum(w.numel() for w in convs.values()) == 593_792
    assert report["dcase"]["values"] == 237_517
    assert report["nonzero"]["values"] == 245_587
    assert report["nonzero"]["float16"]["bytes"] == 491_174
    assert report["nonzero_and_statistics"]["values"] == 245_587 + 9_350
    assert report["file"]["bytes"] < 480_000


def test_a_pruned_network_keeps_the_share_of_its_convolutions(tmp_path):
    torch.manual_seed(0)
    model = CPResNet(num_classes=3, in_channels=2, base_width=16, rho=5, init="default")
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    convs = sum(w.numel() for w in conv_weights(model).values())
    norms = sum(p.numel() for p in model.parameters()) - convs
    prune(model, 0.6)
    report = size_report(model, file_of(tmp_path, 1))
    left = convs - round(0.6 * convs)
    assert report["dcase"]["values"] == left
    assert report["nonzero"]["values"] == left + norms
    assert report["nonzero"]["float16"]["bytes"] == 2 * (left + norms)
