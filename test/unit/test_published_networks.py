"""Counts, fields, maps and names of the networks of FreqMix and SpecMix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from espnet_like.models import MODELS, CPResNet, ResNet, SharedResNet, TwoPathResNet
from espnet_like.models.residual import ResidualBlock, SharedBlock
from espnet_like.models.subspectral import SSN
from espnet_like.models.summary import macs, parameters, receptive_field, tap_shapes
from espnet_like.registry import build


def meta(kind: type[nn.Module], **kwargs) -> nn.Module:
    with torch.device("meta"):
        return kind(**kwargs)


def test_cp_resnet_of_the_freqmix_report():
    for classes, count in ((10, 898_580), (3, 896_774)):
        spec = {"preset": "ch64", "in_channels": 2, "num_classes": classes}
        with torch.device("meta"):
            model = build(MODELS, {"name": "cp_resnet", **spec}, "model")
        assert parameters(model) == count


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 603_668),  # "604K"
        ({"num_classes": 3}, 601_862),  # "601K"
        ({"ssn": 1}, 603_668),  # shared scales: as many as batch normalisation
        ({"ssn": 4}, 603_668),
        ({"ssn_affine": "separate"}, 604_948),
        ({"in_channels": 1}, 602_068),
        ({"stem_padding": 1}, 603_668),
    ],
)
def test_shared_resnet_parameters(options, count):
    assert parameters(meta(SharedResNet, **options)) == count


def test_shared_resnet_parameters_by_hand():
    """Part by part, from the report's Table 1; weights of convolutions are what is pruned."""
    c = 64
    convolutions = 25 * 2 * c + (9 + 1 + 6 * 9) * c * c
    convolutions += (c * 2 * c + 4 * c * c + c * 2 * c) + 2 * 4 * c * c
    convolutions += (2 * c * 4 * c + 16 * c * c + 2 * c * 4 * c) + 2 * 16 * c * c + 4 * c * 3
    norms = 2 * (c + 4 * 2 * c + 3 * 2 * c + 6 * 2 * c + 3 * 4 * c + 6 * 4 * c + 3)
    assert (convolutions, norms) == (593_792, 8_070)
    model = meta(SharedResNet, num_classes=3)
    kinds = {nn.Conv2d: 0, nn.BatchNorm2d: 0}
    for module in model.modules():
        for kind in kinds:
            if isinstance(module, kind):
                kinds[kind] += sum(p.numel() for p in module.parameters())
    assert list(kinds.values()) == [convolutions, norms]


def test_shared_resnet_maps_halve_evenly():
    model = meta(SharedResNet)
    assert receptive_field(model) == [103, 103]
    assert tap_shapes(model, (2, 256, 431)) == {
        "input": [2, 256, 431],
        "stem": [64, 128, 216],
        "stage1": [64, 16, 27],
        "stage2": [128, 16, 27],
        "stage3": [256, 16, 27],
    }
    assert round(macs(model, (2, 256, 431)) / 1e9, 2) == 2.27
    odd = tap_shapes(meta(SharedResNet, stem_padding=1), (2, 256, 431))  # SSN takes odd maps
    assert odd["stem"] == [64, 127, 215]


def test_shared_resnet_has_ssn_in_its_residual_blocks_alone():
    model = meta(SharedResNet)
    found = {name for name, module in model.named_modules() if isinstance(module, SSN)}
    blocks = {f"{n}.bn2" for n, m in model.named_modules() if isinstance(m, ResidualBlock)}
    assert found == blocks and len(blocks) == 6
    assert all(model.get_submodule(name).groups == 2 for name in found)


@torch.no_grad()
def test_a_shared_block_is_its_formula():
    torch.manual_seed(0)
    block = SharedBlock(4, 3)
    for bn in (*block.bn1, *block.bn2):
        bn.running_mean.uniform_(-1, 1), bn.running_var.uniform_(0.5, 2)
        bn.weight.uniform_(-2, 2), bn.bias.uniform_(-1, 1)
    x = torch.randn(2, 4, 5, 6)

    def norm(h, bn):
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return h * scale[:, None, None] + (bn.bias - bn.running_mean * scale)[:, None, None]

    w1, w2 = (conv.weight[:, :, 0, 0] for conv in (block.conv1, block.conv2))
    expected = x
    for i in range(3):
        y = torch.einsum("oc,bcft->boft", w1, expected)
        y = torch.einsum("oc,bcft->boft", w2, norm(y, block.bn1[i]).clamp(min=0))
        expected = (expected + norm(y, block.bn2[i])).clamp(min=0)
    torch.testing.assert_close(block.eval()(x), expected)


@torch.no_grad()
def test_shared_resnet_starts_at_zero_logits_with_twelve_blocks():
    torch.manual_seed(0)
    model = SharedResNet()
    assert torch.equal(model(torch.randn(2, 2, 32, 32)), torch.zeros(2, 10))
    for block in model.modules():
        if isinstance(block, (ResidualBlock, SharedBlock)):
            k, out = block.conv1.kernel_size[0], block.conv1.out_channels
            expected = 12**-0.5 * (2 / (k * k * out)) ** 0.5
            assert block.conv1.weight.std().item() == pytest.approx(expected, rel=0.1)
            assert not block.conv2.weight.any()


@pytest.mark.parametrize("kind", [SharedResNet, CPResNet])
def test_logits_start_at_the_odds_of_one_class_in_three(kind):
    model = kind(num_classes=3, in_channels=2, base_width=4, prior=1 / 3)
    logits = model(torch.randn(2, 2, 64, 64))
    torch.testing.assert_close(logits, torch.full((2, 3), -math.log(2)))


def resnet_layout(blocks, width, channels, classes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNets with bottlenecks, written down as a rule."""
    layout: dict[str, tuple[int, ...]] = {}

    def conv(name, out, inputs, kernel):
        layout[f"{name}.weight"] = (out, inputs, kernel, kernel)

    def norm(name, size):
        for part in ("weight", "bias", "running_mean", "running_var"):
            layout[f"{name}.{part}"] = (size,)
        layout[f"{name}.num_batches_tracked"] = ()

    conv("conv1", width, channels, 7)
    norm("bn1", width)
    inputs = width
    for layer, count in enumerate(blocks, start=1):
        inner = width * 2 ** (layer - 1)
        for block in range(count):
            name = f"layer{layer}.{block}"
            sizes = ((inner, inputs, 1), (inner, inner, 3), (4 * inner, inner, 1))
            for i, (out, into, kernel) in enumerate(sizes, start=1):
                conv(f"{name}.conv{i}", out, into, kernel)
                norm(f"{name}.bn{i}", out)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * inner, inputs, 1)
                norm(f"{name}.downsample.1", 4 * inner)
            inputs = 4 * inner
    layout["fc.weight"], layout["fc.bias"] = (classes, inputs), (classes,)
    return layout


@pytest.mark.parametrize("blocks", [(3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)])
def test_resnet_has_torchvisions_names_and_shapes(blocks):
    found = meta(ResNet, num_classes=1000, blocks=blocks).state_dict()
    expected = resnet_layout(blocks, 64, 3, 1000)
    assert {name: tuple(value.shape) for name, value in found.items()} == expected
    assert list(found) == list(expected)


def test_resnet_parameters():
    assert parameters(meta(ResNet)) == 42_520_650
    assert parameters(meta(ResNet, num_classes=11)) == 42_522_699
    # torchvision's documentation, for 1000 classes of images
    assert parameters(meta(ResNet, num_classes=1000)) == 44_549_160
    assert parameters(meta(ResNet, num_classes=1000, blocks=(3, 4, 6, 3))) == 25_557_032
    assert parameters(meta(ResNet, num_classes=1000, blocks=(3, 8, 36, 3))) == 60_192_808


def test_resnet_maps_and_field():
    model = meta(ResNet)
    shapes = tap_shapes(model, (3, 128, 400))
    assert list(shapes.values())[1:] == [
        [64, 32, 100], [256, 32, 100], [512, 16, 50], [1024, 8, 25], [2048, 4, 13],
    ]  # fmt: skip
    assert round(macs(model, (3, 224, 224)) / 1e9, 1) == 7.8  # as torchvision documents
    small = meta(ResNet, blocks=(1, 2, 1, 2), width=2)
    reach, jump = 7, 2
    reach, jump = reach + 2 * jump, 2 * jump  # max pooling
    for layer, blocks in enumerate((1, 2, 1, 2)):
        for block in range(blocks):
            reach += 2 * jump
            if layer > 0 and block == 0:
                jump *= 2
    assert receptive_field(small) == [reach, reach]


def test_two_path_parameters_and_maps():
    assert parameters(meta(TwoPathResNet)) == 4_263_882
    biases = 2 * (28 + 4 * (28 + 56 + 112 + 224)) + 224 + 10
    assert parameters(meta(TwoPathResNet, conv_bias=False)) == 4_263_882 - biases
    assert list(tap_shapes(meta(TwoPathResNet), (3, 128, 400)).values()) == [
        [3, 128, 400], [28, 128, 200], [28, 128, 200], [56, 128, 100], [112, 128, 50],
        [224, 128, 25],
    ]  # fmt: skip


def test_two_path_field_is_that_of_one_path():
    reach, jump = 3, 2  # stem, in time
    for stack in range(4):
        for conv in range(4):
            reach += 2 * jump
            if stack > 0 and conv == 0:
                jump *= 2
    assert receptive_field(meta(TwoPathResNet, width=1)) == [1 + 2 * 17, reach]


@pytest.mark.parametrize("bins", [12, 13, 2])
@torch.no_grad()
def test_two_path_halves_do_not_meet_before_the_head(bins):
    torch.manual_seed(0)
    model = TwoPathResNet(4, in_channels=1, width=2).eval()
    x = torch.randn(2, 1, bins, 40)
    changed = x.clone()
    cut = -(-bins // 2)
    changed[:, :, cut:] += 1
    maps = []
    for h in (x, changed):
        seen = []
        model(h, tap=lambda k, m, seen=seen: (seen.append(m), m)[1])
        maps.append(seen)
    for before, after in zip(*maps, strict=True):
        assert before.shape[2] == bins
        assert torch.equal(before[:, :, :cut], after[:, :, :cut])
        assert not torch.equal(before[:, :, cut:], after[:, :, cut:])
    assert not torch.equal(*(model(h) for h in (x, changed)))


@torch.no_grad()
def test_two_path_block_is_its_formula():
    """The shortcut: averages over 3 x 3 of every second frame, zeros in the new channels."""
    torch.manual_seed(0)
    block = meta(TwoPathResNet, width=3).paths[0][2][0].to_empty(device="cpu").eval()
    for name, value in block.state_dict().items():
        if "num_batches" not in name:
            value.copy_(torch.rand_like(value) + ("var" in name))
    x = torch.randn(1, 3, 6, 9)
    y = x
    for bn, conv in ((block.bn1, block.conv1), (block.bn2, block.conv2)):
        y = (y - bn.running_mean[:, None, None]) / (bn.running_var + bn.eps)[:, None, None].sqrt()
        stride = (1, 2) if conv is block.conv1 else (1, 1)
        y = nn.functional.conv2d(y.clamp(min=0), conv.weight, conv.bias, stride, 1)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    shortcut = torch.zeros_like(y)
    for f in range(6):
        for t in range(5):
            window = padded[:, :, f : f + 3, 2 * t : 2 * t + 3]
            shortcut[:, :3, f, t] = window.sum((2, 3)) / 9
    torch.testing.assert_close(block(x), y + shortcut)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (SharedResNet, {"repeats": 0}),
        (SharedResNet, {"ssn": 0}),
        (SharedResNet, {"stem_padding": 3}),
        (SharedResNet, {"ssn_affine": "both"}),
        (ResNet, {"blocks": (3, 4, 6)}),
        (ResNet, {"blocks": (3, 0, 6, 3)}),
        (ResNet, {"width": 0}),
        (TwoPathResNet, {"num_classes": 0}),
        (TwoPathResNet, {"width": 0}),
        (CPResNet, {"base_width": 0}),
    ],
)
def test_arguments_out_of_range(kind, bad):
    with pytest.raises(ValueError, match="must be"):
        kind(**bad)
