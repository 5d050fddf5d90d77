"""The CRNN against Table 1, against clips put through alone, and against packed sequences."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from espnet_like.errors import UserError
from espnet_like.models import MODELS
from espnet_like.models.crnn import CRNN
from espnet_like.models.summary import describe, macs, parameters, tap_shapes
from espnet_like.registry import build
from espnet_like.training.averaging import renew_batch_norm
from espnet_like.training.batches import Batch

SMALL: dict[str, Any] = {"num_classes": 5, "num_bins": 33, "base_width": 2, "hidden": 8}


def meta(**kwargs: Any) -> CRNN:
    with torch.device("meta"):
        return CRNN(**kwargs)


@pytest.fixture
def model() -> CRNN:
    """Small, in evaluation, its batch normalisation as after some training."""
    torch.manual_seed(0)
    return with_statistics(CRNN(**SMALL)).eval()


def with_statistics(model: CRNN) -> CRNN:
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model


def padded(lengths: list[int], extra: int = 0, bins: int = 33) -> tuple[list[Tensor], Tensor]:
    """Clips (1, F, n), and their batch with what should not matter beyond their ends."""
    clips = [torch.randn(1, bins, n) for n in lengths]
    batch = torch.full((len(clips), 1, bins, max(lengths) + extra), 7.0)
    for row, clip in zip(batch, clips, strict=True):
        row[..., : clip.shape[-1]] = clip
    return clips, batch


def test_published_sizes() -> None:
    model = meta()
    assert parameters(model) == 2_647_680
    assert parameters(meta(conv_bias=False)) == 2_646_176
    assert sum(b.numel() for b in model.buffers()) == 3_020  # of batch normalisation
    parts = {name: parameters(part) for name, part in model.named_children()}
    assert [parameters(b) for b in model.blocks] == [2_544, 14_016, 55_680, 221_952, 295_680]
    assert parts["conv1d"] == 1_181_952 and parts["gru"] == 789_504
    assert parts["classifier"] == 65_792 + 20_560


@pytest.mark.parametrize("frames", [*range(1, 19), 101, 751, 1501])
def test_table_1_and_its_steps(frames: int) -> None:
    n2, n4, n8 = ceil(frames / 2), ceil(frames / 4), ceil(frames / 8)
    assert tap_shapes(meta(), (1, 128, frames)) == {
        "input": [1, 128, frames],
        "block1": [16, 64, n2],
        "block2": [32, 32, n4],
        "block3": [64, 16, n8],
        "block4": [128, 8, n8],
        "block5": [256, 4, n8],
        "conv1d": [256, 1, n8],
    }


def test_macs_by_hand() -> None:
    model, frames, bins, inputs = meta(), 101, 128, 1
    total = 0
    for width, count, halves in ((16, 2, 1), (32, 2, 1), (64, 2, 1), (128, 2, 0), (256, 1, 0)):
        for _ in range(count):
            total += 9 * inputs * width * bins * frames
            inputs = width
        bins, frames = bins // 2, ceil(frames / 2) if halves else frames
    total += 3 * (1024 + 256 + 256) * 256 * frames
    total += 2 * (2 * 3 * 256 * 256) * frames  # two layers, three gates, input and state
    total += 256 * 256 + 256 * 80
    assert macs(model, (1, 128, 101)) == total


def test_facts_can_be_measured() -> None:
    facts = describe(meta(), (1, 128, 751))
    assert facts["receptive_field"] == [128, 751] and facts["bytes"] == 4 * 2_647_680


@torch.no_grad()
def test_a_step_sees_132_frames() -> None:
    """With positive weights, a cell is positive where the one frame that is not zero reaches it."""
    model = CRNN(num_classes=1, num_bins=32, base_width=1, hidden=1).double().eval()
    for conv in [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d))]:
        nn.init.constant_(conv.weight, 1 / conv.weight[0].numel())
    x = torch.eye(240, dtype=torch.float64).view(240, 1, 1, 240).expand(-1, -1, 32, -1)
    maps: list[Tensor] = []

    def keep(_: int, h: Tensor) -> Tensor:
        maps.append(h)
        return h

    model(x, tap=keep)
    assert maps[-1].shape == (240, 1, 1, 30)
    assert int((maps[-1][..., 15] > 0).sum()) == 132


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 20))
@settings(max_examples=30, deadline=None, derandomize=True)
@torch.no_grad()
def test_a_clips_logits_do_not_depend_on_its_batch(lengths: list[int], extra: int) -> None:
    torch.manual_seed(0)
    model = with_statistics(CRNN(**SMALL)).eval()
    clips, batch = padded(lengths, extra)
    found = model(batch, lengths=torch.tensor(lengths))
    for row, clip in zip(found, clips, strict=True):
        torch.testing.assert_close(row, model(clip[None])[0], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_without_masks_padding_is_felt_at_the_edge(model: CRNN) -> None:
    clips, batch = padded([9, 40])
    model.mask_padding = False
    found = model(batch, lengths=torch.tensor([9, 40]))
    torch.testing.assert_close(found[1], model(clips[1][None])[0])
    assert not torch.allclose(found[0], model(clips[0][None])[0], atol=1e-4)


@torch.no_grad()
def test_it_is_the_network_of_packed_sequences(model: CRNN) -> None:
    """Spelled out with functions, clip by clip as far as the GRU, then as the authors pack."""
    lengths = [40, 17, 8, 1]
    clips, batch = padded(lengths)
    sequences = []
    for clip in clips:
        x = clip[None]
        for index, block in enumerate(model.blocks):
            for conv, norm in block.convolutions:
                x = norm(conv(x)).relu()
            after = (x.shape[2] % 2, x.shape[3] % 2 if index < 3 else 0)  # a zero at the end
            x = nn.functional.pad(x, (0, after[1], 0, after[0]))
            x = nn.functional.max_pool2d(x, (2, 2) if index < 3 else (2, 1))
        x = torch.stack([x[0, c, f] for c in range(x.shape[1]) for f in range(x.shape[2])])[None]
        for conv, norm in model.conv1d.convolutions:
            x = norm(conv(x)).relu()
        sequences.append(x[0].T)
    packed = pack_padded_sequence(
        nn.utils.rnn.pad_sequence(sequences, batch_first=True),
        torch.tensor([len(s) for s in sequences]),
        batch_first=True,
    )
    _, states = model.gru(packed)  # the last layer's state at each sequence's own end
    expected = model.classifier(states[-1])
    torch.testing.assert_close(model(batch, torch.tensor(lengths)), expected, atol=1e-6, rtol=0)


class Elsewhere(CRNN):
    """Padding is marked as on a GPU, by booleans."""

    def _padding(self, x: Tensor, steps: Tensor | None) -> tuple[Tensor, ...] | None:
        positions = super()._padding(x, steps)
        assert positions is not None
        beyond = torch.zeros(x.shape[0], x.shape[-1], dtype=torch.bool)
        beyond[positions] = True
        return (beyond,)


@pytest.mark.parametrize("network", [CRNN, Elsewhere])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_masks_spelled_out(
    layout: torch.memory_format, network: type[CRNN]
) -> None:
    """In training, batch normalisation and all: products with zeros and ones, and no shortcut."""
    torch.manual_seed(1)
    model = network(**SMALL).double().to(memory_format=layout)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter)  # so that a convolution makes something of padding
    lengths = torch.tensor([61, 60, 33, 17, 9, 1])
    x = torch.randn(6, 1, 33, 61, dtype=torch.float64, requires_grad=True)

    def spelled_out() -> Tensor:
        h, steps = x * inside(x, lengths), lengths
        for block, halves in zip(model.blocks, (1, 1, 1, 0, 0), strict=True):
            for conv, norm in block.convolutions:
                h = norm(conv(h)).relu() * inside(h, steps)
            h = nn.functional.max_pool2d(h, (2, 2) if halves else (2, 1), ceil_mode=True)
            steps = (steps + 1) // 2 if halves else steps
        h = h.flatten(1, 2)
        for conv, norm in model.conv1d.convolutions:
            h = norm(conv(h)).relu() * inside(h[:, None], steps)[:, 0]
        outputs, _ = model.gru(h.transpose(1, 2))
        return model.classifier(outputs[torch.arange(6), steps - 1])

    found, expected = (
        torch.autograd.grad(logits.square().sum(), [x, *model.parameters()])
        for logits in (model(x.contiguous(memory_format=layout), lengths), spelled_out())
    )
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, atol=1e-9, rtol=1e-9)
    assert bool((found[0] * (1 - inside(x, lengths)) == 0).all())


def inside(x: Tensor, steps: Tensor) -> Tensor:
    """Ones for the first `steps` of each clip, (B, 1, 1, T)."""
    return (torch.arange(x.shape[-1]) < steps[:, None])[:, None, None].double()


def test_taps_see_the_maps_and_their_changes_count(model: CRNN) -> None:
    x = torch.randn(2, 1, 33, 30)
    plain = model(x)
    for layer in range(7):
        seen: list[int] = []
        changed = model(x, tap=half(layer, seen))
        assert seen == list(range(7)) and not torch.allclose(changed, plain, atol=1e-5)


def half(layer: int, seen: list[int]) -> Callable[[int, Tensor], Tensor]:
    def tap(k: int, x: Tensor) -> Tensor:
        assert x.dim() == 4
        seen.append(k)
        return x * 0.5 if k == layer else x

    return tap


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_at_every_tap(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model = CRNN(**SMALL)
    kept: list[Tensor] = []

    def keep(k: int, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_() if k == 0 else x * 1.0
        x.retain_grad()
        kept.append(x)
        return x

    _, batch = padded([30, 9, 1])
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        logits = model(batch, lengths=torch.tensor([30, 9, 1]), tap=keep)
    assert logits.shape == (3, 5) and logits.dtype == torch.float32
    nn.functional.binary_cross_entropy_with_logits(logits, torch.rand(3, 5)).backward()
    grads = [x.grad for x in kept] + [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)
    assert all(x.grad.any() for x in kept)  # type: ignore[union-attr]
    assert not kept[0].grad[1, ..., 9:].any()  # type: ignore[index]  # masked


@pytest.mark.parametrize("frames", [1, 8])
@pytest.mark.parametrize("given", [True, False])
def test_a_batch_of_one_short_clip_can_be_trained_on(frames: int, given: bool) -> None:
    """One step: a single value in each channel, of which batch normalisation has no variance."""
    torch.manual_seed(0)
    model = CRNN(**SMALL).train()
    lengths = torch.tensor([frames]) if given else None
    logits = model(torch.randn(1, 1, 33, frames), lengths=lengths)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_compiled_it_is_the_same(model: CRNN) -> None:
    _, batch = padded([30, 9, 17])
    lengths = torch.tensor([30, 9, 17])
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(batch, lengths=lengths), model(batch, lengths=lengths))


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = CRNN()
    for conv in [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d))]:
        assert conv.bias is not None and not conv.bias.any()
        area = conv.weight[0, 0].numel()
        bound = (6 / (area * (conv.in_channels + conv.out_channels))) ** 0.5
        assert conv.weight.abs().max() <= bound
        assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize(
    "bad", [{"num_classes": 0}, {"num_bins": 0}, {"base_width": 0}, {"hidden": -1}]
)
def test_arguments_out_of_range(bad: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be at least 1"):
        build(MODELS, {"name": "crnn", **bad}, "model")


def test_logits_start_at_the_prior() -> None:
    model = CRNN(num_classes=7, base_width=2, hidden=8, prior=0.2)
    torch.nn.init.zeros_(model.classifier[-1].weight)
    scores = model.eval()(torch.randn(2, 1, 128, 9)).sigmoid()
    torch.testing.assert_close(scores, torch.full((2, 7), 0.2))
    with pytest.raises(ValueError, match="prior"):
        CRNN(prior=1.0)


def test_another_number_of_bins_is_refused(model: CRNN) -> None:
    with pytest.raises(RuntimeError, match=r"made for 33 bins: set --model\.num_bins 40"):
        model(torch.randn(1, 1, 40, 30))


def test_statistics_are_renewed_with_lengths(model: CRNN) -> None:
    """The mean over batches of what clips make of themselves, whatever stands in the padding."""
    lengths = torch.tensor([40, 9, 23])
    clean = [torch.randn(3, 1, 33, 40) * inside(torch.empty(40), lengths) for _ in range(2)]
    noisy = [x + 100 * (1 - inside(x, lengths)).float() for x in clean]
    found = []
    for batches in (clean, noisy):
        renew_batch_norm(model, [Batch(x.float(), torch.zeros(3, 5), lengths) for x in batches])
        found.append({n: b.clone() for n, b in model.named_buffers() if b.is_floating_point()})
    for name, own in found[0].items():
        torch.testing.assert_close(found[1][name], own)
    conv, norm = model.blocks[0].convolutions[0]
    means = torch.stack([conv(x.float()).mean((0, 2, 3)) for x in clean]).mean(0)
    torch.testing.assert_close(norm.running_mean, means.detach(), atol=1e-6, rtol=1e-5)
