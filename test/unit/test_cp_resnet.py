"""CP-ResNet against the counts, fields and sizes that its papers and code lead to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from espnet_like.models import MODELS, CPResNet
from espnet_like.models.summary import parameters, receptive_field, tap_shapes
from espnet_like.registry import build

MONO_128 = {
    0: 2_908_052, 1: 3_039_124, 2: 3_170_196, 3: 3_301_268, 4: 3_432_340, 5: 3_563_412,
    6: 3_694_484, 7: 3_956_628, 8: 4_480_916, 9: 5_005_204, 11: 6_053_780,
}  # fmt: skip
MONO_64 = {
    0: 733_140, 1: 765_908, 2: 798_676, 3: 831_444, 4: 864_212, 5: 896_980,
    6: 929_748, 7: 995_284, 8: 1_126_356, 9: 1_257_428, 11: 1_519_572,
}  # fmt: skip
FIELDS = [23, 31, 39, 55, 71, 87, 103, 135, 167, 199, 231, 263]


def count(**kwargs) -> int:
    with torch.device("meta"):
        return parameters(CPResNet(**kwargs))


@pytest.mark.parametrize(("width", "table"), [(128, MONO_128), (64, MONO_64)])
def test_parameters_follow_rho(width, table):
    for rho, mono in table.items():
        assert count(base_width=width, rho=rho) == mono
        assert count(base_width=width, rho=rho, in_channels=2) == mono + 25 * width


def test_published_parameter_counts():
    assert count(rho=11) == 6_053_780  # SpecAugment++
    assert count(rho=5, base_width=64, in_channels=2) == 898_580  # FreqMix report, "899K"
    assert count(rho=5, base_width=64, in_channels=2, num_classes=3) == 896_774  # "887K"
    # Table 1 with its printed 64-channel stem fits neither
    assert count(rho=7, stem_width=64) == 3_889_620
    assert count(rho=7, stem_width=64, in_channels=2) == 3_891_220


def test_presets_are_the_three_networks_of_the_paper():
    found = {}
    for preset in ("paper_table1", "paper_rf87", "paper_params", "ch64"):
        with torch.device("meta"):
            model = build(MODELS, {"name": "cp_resnet", "preset": preset}, "model")
        found[preset] = (parameters(model), receptive_field(model)[0])
    assert found == {
        "paper_table1": (3_956_628, 135),
        "paper_rf87": (3_563_412, 87),
        "paper_params": (6_053_780, 263),
        "ch64": (896_980, 87),
    }


def test_table_1_kernels():
    with torch.device("meta"):
        model = CPResNet(rho=7)
    kernels = [m.kernel_size[0] for n, m in model.named_modules() if n.endswith(("conv1", "conv2"))]
    assert kernels == [3, 1, 3, 3, 3, 3, 3, 3, 3, 1] + [1] * 14


@pytest.mark.parametrize("rho", range(12))
def test_receptive_field_by_gradient(rho):
    with torch.device("meta"):
        model = CPResNet(base_width=2, rho=rho)
    assert receptive_field(model) == [FIELDS[rho], FIELDS[rho]]


def test_receptive_field_of_the_deepest_network_follows_the_closed_form():
    reach, jump = 5, 2
    for block in range(1, 13):
        reach += 2 * jump * (1 if block == 1 else 2)
        if block in (1, 2, 4):
            reach, jump = reach + jump, 2 * jump
    with torch.device("meta"):
        model = CPResNet(base_width=1, rho=22)
    assert receptive_field(model) == [reach, reach]


def test_receptive_field_of_a_plain_network():
    class Plain(nn.Module):
        taps = ("input", "map")

        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 4, (3, 5), dilation=(2, 1)), nn.ReLU(), nn.MaxPool2d((1, 3)),
                nn.Conv2d(4, 4, (1, 3)),
            )  # fmt: skip

        def forward(self, x, lengths=None, tap=None):
            return tap(1, self.net(tap(0, x))).mean((2, 3))

    assert receptive_field(Plain()) == [5, 5 + 2 + 2 * 3]


@pytest.mark.parametrize(
    ("padding", "sizes"),
    [
        (1, [(127, 215), (15, 26), (15, 26), (15, 26)]),
        (2, [(128, 216), (16, 27), (16, 27), (16, 27)]),
    ],
)
def test_map_sizes(padding, sizes):
    with torch.device("meta"):
        model = CPResNet(in_channels=2, stem_padding=padding)
    shapes = tap_shapes(model, (2, 256, 431))
    assert list(shapes) == ["input", "stem", "stage1", "stage2", "stage3"]
    assert shapes["input"] == [2, 256, 431]
    widths = (128, 128, 256, 512)
    assert list(shapes.values())[1:] == [[c, f, t] for c, (f, t) in zip(widths, sizes, strict=True)]


def test_taps_see_the_maps_and_their_changes_count():
    torch.manual_seed(0)
    model = CPResNet(base_width=4, rho=2, init="default").eval()
    x = torch.randn(2, 1, 40, 50)
    seen = []
    plain = model(x)
    assert torch.equal(model(x, tap=lambda k, h: (seen.append((k, h.shape[1])), h)[1]), plain)
    assert seen == [(0, 1), (1, 4), (2, 4), (3, 8), (4, 16)]
    for layer in range(5):
        changed = model(x, tap=lambda k, h, at=layer: h * 0.5 + 0.1 if k == at else h)
        assert not torch.allclose(changed, plain)


@torch.no_grad()
def test_fixup_starts_at_zero_logits_and_counts_its_own_blocks():
    torch.manual_seed(0)
    CPResNet(base_width=8)  # an earlier model must not change the next one's scale
    model = CPResNet(base_width=32, rho=11)
    assert torch.equal(model(torch.randn(2, 1, 64, 64)), torch.zeros(2, 10))
    for block in [m for m in model.modules() if hasattr(m, "shortcut")]:
        k, out = block.conv1.kernel_size[0], block.conv1.out_channels
        expected = 12**-0.5 * (2 / (k * k * out)) ** 0.5
        assert block.conv1.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert not block.conv2.weight.any()
        if isinstance(block.shortcut, nn.Sequential):
            std = block.shortcut[0].weight.std().item()
            assert std == pytest.approx((2 / out) ** 0.5, rel=0.1)


@torch.no_grad()
def test_head_averages_valid_frames_only():
    torch.manual_seed(0)
    model = CPResNet(base_width=4, rho=1, init="default").eval()
    x = torch.randn(3, 1, 40, 100)
    lengths = torch.tensor([100, 61, 7])
    maps = []
    model(x, tap=lambda k, h: (maps.append(h), h)[1])
    last = model.head(maps[-1])  # (3, 10, F, T)
    frames = last.shape[-1]
    expected = [
        last[i, :, :, : -(-int(n) * frames // 100)].mean((1, 2)) for i, n in enumerate(lengths)
    ]
    torch.testing.assert_close(model(x, lengths=lengths), torch.stack(expected))
    torch.testing.assert_close(model(x, lengths=torch.full((3,), 100)), model(x))
    noisy = x.clone()  # what lies far behind a clip's end cannot matter: field 31 frames
    noisy[2, :, :, 60:] = 1e3
    torch.testing.assert_close(model(noisy, lengths=lengths)[2], model(x, lengths=lengths)[2])


def test_padding_that_is_not_finite_does_not_reach_the_average():
    model = CPResNet(base_width=4, rho=0, init="default").eval()
    x = torch.randn(1, 1, 40, 200)
    x[..., 150:] = torch.nan
    assert model(x, lengths=torch.tensor([100])).isfinite().all()


def test_logits_are_single_precision_under_autocast():
    model = CPResNet(base_width=4, rho=0, init="default")
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(2, 1, 40, 50)).dtype == torch.float32


@pytest.mark.parametrize(
    "bad", [{"rho": 23}, {"rho": -1}, {"base_width": 0}, {"stem_padding": 3}, {"num_classes": 0}]
)
def test_arguments_out_of_range(bad):
    with pytest.raises(ValueError, match="must be"):
        CPResNet(**bad)
