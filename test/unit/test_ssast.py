"""SSAST against torch's own transformer layers, loops over patches and its published sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from espnet_like.augment import build_augmentation, one_hot
from espnet_like.errors import UserError
from espnet_like.models import MODELS, SSAST
from espnet_like.models.patches import lay_out
from espnet_like.models.summary import describe, macs, parameters, tap_shapes
from espnet_like.models.transformer import Attention, resample_positions
from espnet_like.registry import build


def tiny(**options) -> SSAST:
    """A network whose weights all matter: those that start at zero or one are moved."""
    torch.manual_seed(0)
    fine = (40, 1) if options.get("kind") == "frame" else (10, 10)  # as if it were fine-tuned
    defaults = {
        "num_classes": 3, "bins": 40, "frames": 60, "pretext": "trained", "stride": fine,
    }  # fmt: skip
    model = SSAST(size="tiny", **{**defaults, **options}).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model


@pytest.fixture(scope="module")
def model() -> SSAST:
    return tiny()


def features(*shape: int) -> torch.Tensor:
    return 0.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def oracle(model: SSAST, x: torch.Tensor, masked=()) -> torch.Tensor:
    """Tokens of one clip by a loop over its patches and torch's encoder layers."""
    (h, w), (down, right), weight = model.patch, model.stride, model.v.patch_embed.proj.weight
    tokens = [model.v.cls_token[0, 0], model.v.dist_token[0, 0]]
    for f in range(0, x.shape[1] - h + 1, down):
        for t in range(0, x.shape[2] - w + 1, right):
            product = weight.flatten(1) @ x[:, f : f + h, t : t + w].flatten()
            tokens.append(product + model.v.patch_embed.proj.bias)
    for i in masked:
        tokens[2 + i] = model.mask_embed[0, 0]
    state = (torch.stack(tokens) + model.v.pos_embed[0])[None]
    width = state.shape[-1]
    for block in model.v.blocks:
        layer = nn.TransformerEncoderLayer(
            width, block.attn.heads, 4 * width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
        )
        copies = {
            "self_attn.in_proj_weight": block.attn.qkv.weight,
            "self_attn.in_proj_bias": block.attn.qkv.bias,
        }
        for theirs, ours in (
            ("self_attn.out_proj", block.attn.proj), ("linear1", block.mlp.fc1),
            ("linear2", block.mlp.fc2), ("norm1", block.norm1), ("norm2", block.norm2),
        ):  # fmt: skip
            copies |= {f"{theirs}.{n}": p for n, p in ours.named_parameters()}
        layer.load_state_dict(copies)
        state = layer(state)
    return functional.layer_norm(state[0], (width,), model.v.norm.weight, model.v.norm.bias, 1e-6)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"kind": "frame", "in_channels": 2}])
@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_logits_equal_those_of_torch_s_layers(options, pooling):
    model = tiny(pooling=pooling, **options)
    x = features(1, options.get("in_channels", 1), 40, 60)
    tokens = oracle(model, x[0])
    tokens = tokens[:2] if pooling == "class" else tokens[2:]
    norm, head = model.mlp_head
    pooled = functional.layer_norm(tokens.mean(0), norm.normalized_shape, norm.weight, norm.bias)
    expected = head.weight @ pooled + head.bias
    torch.testing.assert_close(model(x)[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pretext_losses_equal_the_loop(model):
    x, masked = features(2, 1, 40, 60), torch.tensor([[1, 4, 7], [0, 13, 14]])
    told = model.pretext(x, masked, "discriminative")
    built = model.pretext(x, masked, "generative")
    for clip in range(2):
        tokens = oracle(model, x[clip], masked[clip].tolist())
        content, guesses, drawn = [], [], []
        for i in masked[clip].tolist():
            f, t = divmod(i, model.grid[1])
            content.append(x[clip, 0, 10 * f : 10 * f + 16, 10 * t : 10 * t + 16].flatten())
            guesses.append(model.cpredlayer(tokens[2 + i]))
            drawn.append(model.gpredlayer(tokens[2 + i]))
        loss, table = 0.0, []
        for i in range(3):
            scores = [math.exp(float(content[i] @ guesses[j])) for j in range(3)]
            loss -= math.log(scores[i] / sum(scores)) / 3
            table.append([score / sum(scores) for score in scores])
        right = sum(max(range(3), key=lambda i: table[i][j]) == j for j in range(3)) / 3
        assert float(told.loss[clip]) == pytest.approx(loss, abs=1e-4)
        assert float(told.accuracy[clip]) == pytest.approx(right)
        error = sum(float((a - b).square().mean()) for a, b in zip(content, drawn, strict=True)) / 3
        assert float(built.loss[clip]) == pytest.approx(error, abs=1e-4)
    assert built.accuracy is None


@torch.no_grad()
@pytest.mark.parametrize("overlap", ["mean", "sum"])
def test_reconstruction_equals_the_loop(model, overlap):
    x = features(1, 1, 40, 60)
    guess = model.gpredlayer(oracle(model, x[0])[2:]).unflatten(1, (16, 16))
    total, count = torch.zeros(40, 60), torch.zeros(40, 60)
    for i, patch in enumerate(guess):
        f, t = (10 * n for n in divmod(i, model.grid[1]))
        total[f : f + 16, t : t + 16] += patch
        count[f : f + 16, t : t + 16] += 1
    expected = total / count.clamp(min=1) if overlap == "mean" else total
    torch.testing.assert_close(model.reconstruct(x, overlap=overlap)[0, 0], expected)
    assert torch.equal(model.layout(x).count(x.device), count)
    assert int((count == 0).sum()) == 40 * 60 - 36 * 56


def test_cutting_and_joining_patches_gives_the_spectrogram_back():
    x = features(2, 3, 20, 31)
    for size, stride in (((4, 5), (4, 5)), ((6, 7), (2, 3))):
        patches = lay_out((20, 31), size, stride, 31)
        covered = patches.count(x.device) > 0
        torch.testing.assert_close(patches.join(patches.cut(x)), torch.where(covered, x, 0))


@torch.no_grad()
def test_another_stride_reconstructs_with_the_same_weights(model):
    """A patch of size 16 x 16 every 16 cells; positions of the centre columns."""
    x = features(1, 1, 40, 60)
    own = model.v.pos_embed[:, 2:].mT.unflatten(2, (3, 5))  # 40 x 60 at stride 10
    coarse = tiny(stride=(16, 16))  # 2 x 3 patches
    coarse.load_state_dict({**model.state_dict(), "v.pos_embed": coarse.v.pos_embed})
    rows = functional.interpolate(own[..., 1:4], (2, 3), mode="bilinear")
    coarse.v.pos_embed[:, :2] = model.v.pos_embed[:, :2]
    coarse.v.pos_embed[:, 2:] = rows.flatten(2).mT
    torch.testing.assert_close(model.reconstruct(x, stride=(16, 16)), coarse.reconstruct(x))


def test_positions_are_cut_along_time_and_interpolated_along_frequency():
    wide = torch.arange(64.0).expand(1, 2, 8, 64)
    assert torch.equal(resample_positions(wide, 8, 50), wide[..., 7:57])
    assert torch.equal(resample_positions(wide, 8, 12), wide[..., 26:38])
    assert resample_positions(wide, 8, 64) is wide
    tall = torch.arange(8.0)[None, None, :, None].expand(1, 1, 8, 4)
    rows = resample_positions(tall, 12, 4)[0, 0, :, 0]
    centres = ((torch.arange(12) + 0.5) * 8 / 12 - 0.5).clamp(0, 7)  # align_corners=False
    torch.testing.assert_close(rows, centres)
    columns = resample_positions(torch.arange(4.0).expand(1, 1, 3, 4), 3, 8)[0, 0, 0]
    torch.testing.assert_close(columns, ((torch.arange(8) + 0.5) / 2 - 0.5).clamp(0, 3))


@torch.no_grad()
def test_a_clip_s_logits_do_not_depend_on_its_batch(model):
    x = features(3, 1, 40, 60)
    lengths = torch.tensor([60, 37, 16])
    for i, n in enumerate(lengths.tolist()):
        x[i, :, :, n:] = 0
    batch = model(x, lengths=lengths)
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(model(x[i : i + 1, :, :, :n])[0], batch[i])
    torch.testing.assert_close(model(x, lengths=torch.full((3,), 60)), model(x))
    assert not torch.allclose(model(x)[1], batch[1], atol=1e-3)  # without lengths zeros count


@torch.no_grad()
def test_inputs_of_other_sizes_are_taken(model):
    for shape in ((64, 60), (40, 200), (128, 17), (16, 16)):
        assert model(features(2, 1, *shape)).shape == (2, 3)
        assert model.reconstruct(features(2, 1, *shape)).shape == (2, 1, *shape)


@pytest.mark.parametrize(
    ("options", "shape", "says"),
    [
        ({}, (40, 15), "40 mel bins and 15 frames.*patch of 16 x 16.*at least 16 frames"),
        ({}, (15, 60), "at least 16 mel bins"),
        ({"kind": "frame"}, (39, 60), "patch of 40 x 2.*at least 40 mel bins"),
    ],
)
def test_a_spectrogram_smaller_than_a_patch(options, shape, says):
    with pytest.raises(UserError, match=says):
        tiny(**options)(features(1, 1, *shape))


def test_taps_see_tokens_as_maps_and_their_changes_count(model):
    x, seen = features(2, 1, 40, 60), []
    plain = model(x)
    kept = model(x, tap=lambda k, h: (seen.append((k, tuple(h.shape[1:]))), h)[1])
    torch.testing.assert_close(kept, plain)
    assert seen == [(0, (1, 40, 60))] + [(k, (192, 3, 5)) for k in range(1, 5)]
    assert len(model.taps) == 5
    for layer in range(5):
        changed = model(x, tap=lambda k, h, at=layer: h.square() if k == at else h)
        assert not torch.allclose(changed, plain, atol=1e-3)


@torch.no_grad()
def test_a_token_lies_where_its_patch_does(model):
    """What changes in one patch's cells alone changes the map of tap 1 there alone."""
    x = features(1, 1, 40, 60)
    y, maps = x.clone(), []
    y[0, 0, 36, 56] += 1  # nothing but the last patch (2, 4): cells 20 .. 35, 40 .. 55
    y[0, 0, 35, 55] += 1
    for z in (x, y):
        model(z, tap=lambda k, h: (maps.append(h) if k == 1 else None, h)[1])
    differs = (maps[0] != maps[1]).any(1)[0]
    assert differs.nonzero().tolist() == [[2, 4]]


@pytest.mark.parametrize("name", ["specaugment_pp", "mixup", "specmix", "freqmix", "time_roll"])
def test_hidden_space_methods_train_it(name):
    model = tiny(frames=40, pretext="frozen").train()
    x, y = features(3, 1, 40, 40), one_hot(torch.tensor([0, 1, 2]), 3)
    for layer in (2, 4):
        method = build_augmentation({"name": name, "layers": [layer]})
        plan = method.draw(x, y, generator=torch.Generator().manual_seed(3), model=model)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x, tap=plan)
        model.zero_grad()
        functional.cross_entropy(logits, plan.targets).backward()
        for weight, p in model.named_parameters():
            assert (p.grad is not None) == (not weight.startswith(("gpred", "mask_embed")))
            assert p.grad is None or p.grad.isfinite().all()


@torch.no_grad()
def test_logits_and_reconstruction_are_single_precision_under_autocast(model):
    x = features(2, 1, 40, 60)
    with torch.autocast("cpu", torch.bfloat16):
        logits, guess = model(x), model.reconstruct(x)
        loss = model.pretext(x, torch.tensor([[1, 2], [3, 4]]), "discriminative").loss
    assert {logits.dtype, guess.dtype, loss.dtype} == {torch.float32}
    torch.testing.assert_close(logits, model(x), atol=5e-2, rtol=0)
    torch.testing.assert_close(guess, model.reconstruct(x), atol=5e-2, rtol=0)


def count(**options) -> int:
    with torch.device("meta"):
        return parameters(SSAST(**options))


def test_parameters_are_the_published_ones():
    """All but ImageNet's two heads (1538000 in base), which the released files hold unused."""
    assert count(pretext="none") == 85_757_234  # ESC-50, stride 10
    assert count(pretext="none", num_classes=35, frames=128) == 85_395_491
    assert count(pretext="none", stride=(16, 16)) == 85_493_042
    assert count(pretext="none", num_classes=35, frames=128, stride=(16, 16)) == 85_334_051
    assert count() - count(pretext="none") == 787_456 + 768
    with torch.device("meta"):
        model = SSAST(size="base", frames=1024, stride=(16, 16))
        assert parameters(model) - parameters(model, trainable=True) == 787_456 + 768
    for size, total, width in (
        ("base", 88_763_346, 768), ("small", 22_854_354, 384), ("tiny", 6_046_290, 192),
    ):  # fmt: skip
        head = 2 * width + 50 * width + 50
        unused = 2 * (1000 * width + 1000) + 2  # and two numbers, the sides of the input
        for kind in ("patch", "frame"):
            spec = {"name": "ssast", "preset": f"pretrain_{kind}", "size": size}
            with torch.device("meta"):
                model = build(MODELS, spec, "model")
            assert parameters(model) - head + unused == total


def test_multiply_accumulates_follow_the_closed_form():
    """12 (24 N d^2 + 4 N^2 d) + 2 N_p 256 d operations, two to a MAC; the classifier beside."""
    with torch.device("meta"):
        model = SSAST(size="tiny", num_classes=1, frames=128)
    patches, d = 12 * 12, 192
    tokens = patches + 2
    operations = 12 * (24 * tokens * d * d + 4 * tokens**2 * d) + 2 * patches * 256 * d
    assert macs(model, (1, 128, 128)) == operations // 2 + d


def test_tap_shapes_of_esc_50():
    with torch.device("meta"):
        model = SSAST(size="tiny")
    shapes = tap_shapes(model, (1, 128, 512))
    assert list(shapes) == ["input", "patches", "blocks1-4", "blocks5-8", "blocks9-12"]
    assert shapes["blocks5-8"] == [192, 12, 50]
    assert tap_shapes(model, (1, 128, 498))["patches"] == [192, 12, 50]


def test_a_description_takes_the_whole_input_for_the_receptive_field():
    with torch.device("meta"):
        facts = describe(SSAST(size="tiny", frames=128), (1, 128, 128))
    assert facts["receptive_field"] == [128, 128]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stride": (17, 10)}, "stride must be"),
        ({"stride": (10, 0)}, "stride must be"),
        ({"kind": "frame", "stride": (128, 3)}, "stride must be"),
        ({"bins": 15}, "must be at least"),
        ({"frames": 15}, "must be at least"),
        ({"num_classes": 0}, "at least 1"),
    ],
)
def test_arguments_out_of_range(options, says):
    with pytest.raises(ValueError, match=says):
        SSAST(size="tiny", **options)


def test_parts_that_were_not_asked_for():
    model = tiny(pretext="none")
    with pytest.raises(RuntimeError, match="pretext=frozen"):
        model.reconstruct(features(1, 1, 40, 60))
    with pytest.raises(RuntimeError, match="pretext=trained"):
        model.pretext(features(1, 1, 40, 60), torch.tensor([[1]]), "generative")


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_is_that_of_the_fused_kernel(masked):
    """Values and gradients, with tokens that may not be looked at and without."""
    torch.manual_seed(0)
    attention = Attention(48, 3)
    x = torch.randn(2, 9, 48)
    seen = torch.arange(9) < torch.tensor([[9], [4]]) if masked else None
    found, expected = [], []
    for results, autocast in ((found, True), (expected, False)):
        own = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if autocast:
                y = attention(own, seen)
            else:
                q, k, v = attention.qkv(own).unflatten(-1, (3, 3, 16)).permute(2, 0, 3, 1, 4)
                mask = None if seen is None else seen[:, None, None]
                with sdpa_kernel(SDPBackend.MATH):
                    y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
                y = attention.proj(y.transpose(1, 2).flatten(2))
        y.float().square().sum().backward()
        results += [y.detach().float(), own.grad]
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm() / b.norm()) < 0.02
    assert not torch.equal(found[0], expected[0])
