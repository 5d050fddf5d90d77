"""Checkpoints with the released names: both forms, adapted, reported and refused."""

from __future__ import annotations

import pytest
import torch

from espnet_like.errors import MissingInput, UserError
from espnet_like.models import SSAST, CPResNet
from espnet_like.models.ssast_checkpoint import load_state, match_state
from espnet_like.training.checkpoint import save_weights
from espnet_like.training.pretrained import load_pretrained

LAYERS = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
BLOCK = [f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
SHAPES = {
    "norm1": 1, "norm2": 1, "attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1),
    "mlp.fc2": (1, 4),
}  # fmt: skip


def released(kind="patch", width=192, depth=12) -> dict[str, torch.Tensor]:
    """A pretraining checkpoint's names and shapes, as the authors' code writes them."""
    patch = (16, 16) if kind == "patch" else (128, 2)
    shapes: dict[str, tuple[int, ...]] = {
        "mask_embed": (1, 1, width),
        "v.cls_token": (1, 1, width),
        "v.pos_embed": (1, 514, width),
        "v.dist_token": (1, 1, width),
        "v.patch_embed.proj.weight": (width, 1, *patch),
        "v.patch_embed.proj.bias": (width,),
    }
    for n in range(depth):
        for name in BLOCK:
            layer, _, part = name.rpartition(".")
            times = SHAPES[layer]
            if times == 1:
                shape: tuple[int, ...] = (width,)
            else:
                shape = (times[0] * width, times[1] * width)[: 2 if part == "weight" else 1]
            shapes[f"v.blocks.{n}.{name}"] = shape
    shapes |= {"v.norm.weight": (width,), "v.norm.bias": (width,)}
    for head in ("v.head", "v.head_dist"):
        shapes |= {f"{head}.weight": (1000, width), f"{head}.bias": (1000,)}
    for head in ("cpredlayer", "gpredlayer"):
        shapes |= {f"{head}.0.weight": (width, width), f"{head}.0.bias": (width,)}
        shapes |= {f"{head}.2.weight": (256, width), f"{head}.2.bias": (256,)}
    g = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}
    sides = {"p_input_fdim": torch.tensor(128), "p_input_tdim": torch.tensor(1024)}
    return {f"module.{name}": value for name, value in {**sides, **weights}.items()}


def finetuned(tokens=602, classes=50) -> dict[str, torch.Tensor]:
    """The form that SSAST's fine-tuning writes."""
    gone = ("p_input", "mask_embed", "cpredlayer", "gpredlayer")
    weights = {
        n: v for n, v in released().items() if not n.startswith(tuple(f"module.{g}" for g in gone))
    }
    weights["module.v.pos_embed"] = torch.randn(1, tokens, 192)
    for name, shape in {
        "0.weight": (192,),
        "0.bias": (192,),
        "1.weight": (classes, 192),
        "1.bias": (classes,),
    }.items():
        weights[f"module.mlp_head.{name}"] = torch.randn(shape)
    return weights


def tiny(**options) -> SSAST:
    return SSAST(size="tiny", **options)


def test_a_pretraining_checkpoint_has_the_published_number_of_elements():
    assert len(released()) == 166
    assert sum(value.numel() for value in released().values()) == 6_046_290


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("kind", ["patch", "frame"])
def test_a_pretraining_checkpoint_becomes_a_network_to_fine_tune(kind, prefix):
    weights = {prefix + n.removeprefix("module."): v for n, v in released(kind).items()}
    model = tiny(kind=kind)
    report = load_state(weights, model, reconstruct=True)
    assert report.missing == tuple(
        f"mlp_head.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias")
    )
    assert {n.partition(".")[0] for n in report.unexpected} == {"cpredlayer"}
    assert not report.other_shape
    for name, value in model.state_dict().items():
        if name != "v.pos_embed" and name in report.loaded:
            assert torch.equal(value, weights[prefix + name])
    old, new = weights[prefix + "v.pos_embed"], model.v.pos_embed.detach()
    assert torch.equal(new[:, :2], old[:, :2])
    if kind == "patch":  # 8 x 64 to 12 x 50: the lowest row is that of before, columns 7 .. 56
        assert torch.equal(new[0, 2:52], old[0, 2 + 7 : 2 + 57])
    else:  # 512 to 511 columns: the centre is cut
        assert torch.equal(new[0, 2:], old[0, 3:514])


def test_pretraining_goes_on_from_a_pretraining_checkpoint():
    model = tiny(frames=1024, stride=(16, 16), pretext="trained")
    report = load_state(released(), model)
    assert all(name.startswith("mlp_head.") for name in report.missing)
    assert not report.unexpected
    assert torch.equal(model.v.pos_embed, released()["module.v.pos_embed"])


def test_a_fine_tuned_checkpoint_gives_its_classifier():
    model, weights = tiny(), finetuned()
    report = load_state(weights, model)
    assert {n.partition(".")[0] for n in report.missing} == {"gpredlayer", "mask_embed"}
    assert torch.equal(model.mlp_head[1].weight, weights["module.mlp_head.1.weight"])
    assert torch.equal(model.v.pos_embed, weights["module.v.pos_embed"])


def test_a_classifier_of_other_classes_is_left_out_and_said():
    model = tiny(num_classes=35)
    before = model.mlp_head[1].weight.clone()
    report = load_state(finetuned(), model)
    assert report.other_shape == ("mlp_head.1.weight", "mlp_head.1.bias")
    assert torch.equal(model.mlp_head[1].weight, before)
    assert "other shape: mlp_head.1.weight, mlp_head.1.bias" in str(report)
    assert "\n" not in str(report)


def test_positions_of_another_grid_are_adapted_where_there_are_as_many():
    """8 x 64 of the checkpoint are 512, as are 4 x 128 of the network."""
    model = tiny(bins=64, frames=2048, stride=(16, 16))
    assert model.grid == (4, 128)
    weights = released()
    loaded, _ = match_state(weights, model, "file")
    found = weights["module.v.pos_embed"][:, 2:].transpose(1, 2).unflatten(2, (8, 64))
    wider = torch.nn.functional.interpolate(found, (8, 128), mode="bilinear")
    expected = torch.nn.functional.interpolate(wider, (4, 128), mode="bilinear")
    torch.testing.assert_close(loaded["v.pos_embed"][:, 2:], expected.flatten(2).transpose(1, 2))


def test_a_network_that_cannot_reconstruct_is_not_the_file_s_fault():
    with pytest.raises(UserError, match="the network has no layer that reconstructs"):
        match_state(released(), tiny(pretext="none"), "file", reconstruct=True)


def test_our_own_weights_come_back(tmp_path):
    torch.manual_seed(1)
    pretrained = tiny(bins=64, frames=96, stride=(16, 16), pretext="trained")
    save_weights(tmp_path / "final.safetensors", pretrained.state_dict())
    again = tiny(bins=64, frames=96, stride=(16, 16), pretext="trained")
    report = load_pretrained(tmp_path / "final.safetensors", again)
    assert not report.missing and not report.unexpected
    model = tiny(bins=64, frames=48)
    load_pretrained(tmp_path / "final.safetensors", model, reconstruct=True)
    assert model.v.pos_embed.shape[1] == 2 + 5 * 4
    assert torch.equal(model.gpredlayer[0].weight, pretrained.gpredlayer[0].weight)


def test_a_file_of_torch_is_read(tmp_path):
    torch.save(released(), tmp_path / "SSAST-Tiny-Patch-400.pth")
    report = load_pretrained(tmp_path / "SSAST-Tiny-Patch-400.pth", tiny())
    assert str(report).startswith("156 weights loaded; missing: mlp_head.0.weight")


def without(*names: str) -> dict[str, torch.Tensor]:
    return {
        n: v for n, v in released().items() if not n.startswith(tuple(f"module.{m}" for m in names))
    }


@pytest.mark.parametrize(
    ("weights", "options", "says"),
    [
        (released(width=384), {}, "size small .width 384.*tiny .width 192.*set model.size"),
        (released(width=100), {}, "size unknown .width 100"),
        (released("frame"), {}, "patches of 128 x 2 cells.*kind patch.*16 x 16.*set model.kind"),
        (released(), {"in_channels": 2}, "1 input channels, the network has 2"),
        (CPResNet(base_width=2).state_dict(), {}, "no v.pos_embed .it begins with stem"),
        ({}, {}, "no v.pos_embed .it is empty"),
        (without("v.blocks.11"), {}, "12 are missing, unexpected.*v.blocks.11.norm1.weight"),
        (released(depth=13), {}, "12 are missing, unexpected.*v.blocks.12"),
        (finetuned(146), {}, "positions of 146 tokens, the network has 602.*set model.stride"),
        (finetuned(), {"reconstruct": True}, "no gpredlayer.*give a pretraining checkpoint"),
    ],
)
def test_what_is_refused(weights, options, says):
    reconstruct = options.pop("reconstruct", False)
    model = tiny(**options)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    with pytest.raises(UserError, match=f"mine.pth: .*{says}"):
        load_state(weights, model, "mine.pth", reconstruct)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingInput, match="no such file"):
        load_pretrained(tmp_path / "none.pth", tiny())
    for name, content in (("a.pth", b"half"), ("a.safetensors", b"{}"), ("b.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="not a whole file of weights"):
            load_pretrained(tmp_path / name, tiny())
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="a state dict is expected"):
        load_pretrained(tmp_path / "list.pth", tiny())
