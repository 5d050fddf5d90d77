"""What holds for every network: taps, gradients, lengths, precision, memory layout, compiling."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_like.models import MODELS
from espnet_like.models.staged import mean_of_clips
from espnet_like.models.summary import describe, receptive_field, tap_shapes
from espnet_like.registry import build

SMALL = {
    "cp_resnet": {"base_width": 4, "rho": 1, "init": "default"},
    "shared_resnet": {"base_width": 4, "init": "default"},
    "resnet": {"blocks": [1, 1, 1, 1], "width": 4},
    "two_path_resnet": {"width": 2},
}
BINS, FRAMES = 40, 100


@pytest.fixture(params=SMALL)
def model(request) -> nn.Module:
    """Three channels in, four classes out, with statistics that are not the initial ones."""
    torch.manual_seed(0)
    spec = {"name": request.param, "num_classes": 4, "in_channels": 3, **SMALL[request.param]}
    model = build(MODELS, spec, "model")
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(6, 3, BINS, FRAMES))
    return model.eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 3, BINS, FRAMES, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_taps_see_the_maps_and_their_changes_count(model, x):
    seen = {}

    def look(k, h):
        seen[k] = h
        return h

    plain = model(x)
    assert plain.shape == (3, 4)
    torch.testing.assert_close(model(x, tap=look), plain)
    assert list(seen) == list(range(len(model.taps))) and model.taps[0] == "input"
    assert seen[0] is x
    shapes = {name: [*seen[k].shape[1:]] for k, name in enumerate(model.taps)}
    assert tap_shapes(model, (3, BINS, FRAMES)) == shapes
    for layer in seen:
        changed = model(x, tap=lambda k, h, at=layer: h * 0.5 + 0.1 if k == at else h)
        assert not torch.allclose(changed, plain, atol=1e-4)


def test_gradients_are_finite_at_every_tap(model, x):
    model.train()
    maps = {}

    def keep(k, h):
        maps[k] = h.requires_grad_() if h.is_leaf else h
        maps[k].retain_grad()
        return maps[k]

    nn.functional.cross_entropy(model(x, tap=keep), torch.tensor([0, 1, 3])).backward()
    assert len(maps) == len(model.taps)
    for k, h in maps.items():
        assert h.grad.isfinite().all() and h.grad.any(), model.taps[k]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


class Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_without_a_tap_nothing_is_computed_for_it(model, x):
    with Operations() as without:
        model(x)
    joined = {"two_path_resnet": 7, "shared_resnet": 6}  # shortcuts and head; bands of each SSN
    name = next(n for n, kind in MODELS.items() if type(model) is kind)
    assert without.counts["cat"] == joined.get(name, 0)


@torch.no_grad()
def test_padding_behind_the_field_of_the_last_frame_does_not_matter(model):
    reach = receptive_field(model)[1]
    x = torch.randn(2, 3, BINS, 100 + 2 * reach)
    lengths = torch.tensor([x.shape[-1], 90])
    expected = model(x, lengths=lengths)
    x[1, :, :, 100 + reach :] = torch.nan
    torch.testing.assert_close(model(x, lengths=lengths), expected)


@torch.no_grad()
def test_padding_moves_logits_by_its_edge_alone(model):
    """A clip in a longer batch: its share of frames that meet padding falls with its length."""
    differences = []
    for frames in (200, 3200):
        x = torch.randn(4, 3, BINS, frames, generator=torch.Generator().manual_seed(0))
        padded = nn.functional.pad(x, (0, 300))
        together = model(padded, lengths=torch.full((4,), frames))
        differences.append((together - model(x)).abs().mean().item())
    assert differences[1] < differences[0] / 4


@torch.no_grad()
def test_full_lengths_are_no_lengths(model, x):
    torch.testing.assert_close(model(x, lengths=torch.full((3,), FRAMES)), model(x))


@torch.no_grad()
def test_logits_are_single_precision_under_autocast(model, x):
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model(x), rtol=0.1, atol=0.1)


@torch.no_grad()
def test_memory_layout_changes_nothing(model, x):
    expected = model(x)
    other = model.to(memory_format=torch.channels_last)
    found = other(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_it_compiles_in_one_piece(model, x):
    compiled = torch.compile(model.train(), backend="eager", fullgraph=True)
    lengths = torch.tensor([100, 50, 7])
    expected = model(x, lengths=lengths)
    torch.testing.assert_close(compiled(x, lengths=lengths), expected)


def test_facts_can_be_measured(model):
    facts = describe(model, (3, BINS, FRAMES))
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["macs"] > 0 and min(facts["receptive_field"]) > 1


@pytest.mark.parametrize("shape", [(1, 3, 1, 50), (1, 3, 40, 0)])
def test_an_input_that_is_too_small_is_refused(model, shape):
    if isinstance(model, MODELS["resnet"]) and shape[2] == 1:
        assert model(torch.zeros(shape)).isfinite().all()  # every convolution pads enough
        return
    with pytest.raises(RuntimeError):
        model(torch.zeros(shape))


def test_mean_of_clips_is_that_of_the_frames_that_begin_within():
    x = torch.randn(4, 2, 3, 11)
    lengths = torch.tensor([43, 40, 5, 1])  # frames of the input are four apart
    found = mean_of_clips(x, lengths, 43)
    for row, n in enumerate((11, 11, 2, 1)):
        torch.testing.assert_close(found[row], x[row, :, :, :n].mean((1, 2)))
    torch.testing.assert_close(mean_of_clips(x, None, 43), x.mean((2, 3)))
    assert mean_of_clips(x, torch.zeros(4, dtype=torch.long), 43).tolist() == [[0, 0]] * 4
