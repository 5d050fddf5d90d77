"""SSAST, and PEAS on it, against tensors of the reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from espnet_like.augment import AUGMENTATIONS
from espnet_like.augment.block_selector import choose_windows
from espnet_like.augment.error_maps import error_maps
from espnet_like.features import FRONT_ENDS
from espnet_like.models import SSAST
from espnet_like.models.ssast_checkpoint import load_state
from espnet_like.registry import build

CASES = {
    "esc_s10": {"num_classes": 50, "frames": 512, "stride": (10, 10)},
    "sc_s16": {"num_classes": 35, "frames": 128, "stride": (16, 16)},
}
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, Any]:
    path = shared_dir / "golden" / "ssast_tiny.pt"
    if not path.exists():
        pytest.skip(f"no golden tensors at {path}")
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def pretraining(golden: dict[str, Any]) -> SSAST:
    model = SSAST(size="tiny", frames=1024, stride=(16, 16), pretext="trained").eval()
    report = load_state(golden["state_dict"], model)
    assert report.missing == (
        "mlp_head.0.weight",
        "mlp_head.0.bias",
        "mlp_head.1.weight",
        "mlp_head.1.bias",
    )
    assert not report.unexpected and not report.other_shape
    return model


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, golden: dict[str, Any]) -> tuple[SSAST, Tensor, Any]:
    """A fine-tuned network, its input (B, 1, F, T), and what it gives."""
    expected = golden[request.param]
    return finetuned(golden, request.param), batch(golden["x_" + request.param[:-4]]), expected


def finetuned(golden: dict[str, Any], name: str, **options: Any) -> SSAST:
    model = SSAST(size="tiny", **{**CASES[name], **options}).eval()
    head = {f"module.mlp_head.{k}": v for k, v in golden[name]["mlp_head"].items()}
    report = load_state({**golden["state_dict"], **head}, model, reconstruct=True)
    assert not report.missing and not report.other_shape
    assert {n.partition(".")[0] for n in report.unexpected} == {"cpredlayer"}
    return model


def batch(spectrograms: Tensor) -> Tensor:
    return spectrograms.transpose(1, 2)[:, None]


def test_positions(case: tuple[SSAST, Tensor, Any]) -> None:
    model, _, expected = case
    torch.testing.assert_close(model.v.pos_embed.detach(), expected["pos_embed"], atol=0, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("pooling", "name"), [("mean", "ft_avgtok"), ("class", "ft_cls")])
@pytest.mark.parametrize("which", CASES)
def test_logits(golden: dict[str, Any], which: str, pooling: str, name: str) -> None:
    model = finetuned(golden, which, pooling=pooling)
    found = model(batch(golden["x_" + which[:-4]]))
    torch.testing.assert_close(found, golden[which][name], **CLOSE)


@torch.no_grad()
def test_logits_under_autocast(case: tuple[SSAST, Tensor, Any]) -> None:
    model, x, expected = case
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected["ft_avgtok"], atol=3e-2, rtol=0)


@torch.no_grad()
def test_pretext_losses(golden: dict[str, Any], pretraining: SSAST) -> None:
    x = batch(golden["x_pre"])
    told = pretraining.pretext(x, golden["mask_ids"], "discriminative")
    torch.testing.assert_close(told.loss.mean(), golden["mpc_nce"], **CLOSE)
    assert told.accuracy is not None
    torch.testing.assert_close(told.accuracy.mean(), golden["mpc_acc"], **CLOSE)
    built = pretraining.pretext(x, golden["mask_ids"], "generative")
    torch.testing.assert_close(built.loss.mean(), golden["mpg_mse"], **CLOSE)


@torch.no_grad()
def test_reconstruction_of_pretraining(golden: dict[str, Any], pretraining: SSAST) -> None:
    found = pretraining.reconstruct(batch(golden["x_pre"]))
    torch.testing.assert_close(found[:, 0].mT[:, ::8], golden["pre_recon"], **CLOSE)


@torch.no_grad()
def test_reconstruction(case: tuple[SSAST, Tensor, Any]) -> None:
    model, x, expected = case
    found = model.reconstruct(x)
    torch.testing.assert_close(found[:, 0].mT, expected["recon"], **CLOSE)
    count = model.layout(x).count(x.device)
    torch.testing.assert_close(count.mT, expected["count"])


def test_five_steps_of_adam(golden: dict[str, Any]) -> None:
    model = finetuned(golden, "esc_s10").train()
    x, expected = batch(golden["x_esc"]), golden["esc_s10_adam5"]
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], 1e-4, (0.95, 0.999), 1e-8, 5e-7
    )
    losses = []
    for _ in range(5):
        loss = functional.cross_entropy(model(x), expected["targets"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(
        torch.tensor(losses, dtype=torch.float64), expected["losses"], **CLOSE
    )


@pytest.mark.parametrize(("seconds", "preset"), [(5, "esc50"), (1, "sc_v2")])
def test_features(golden: dict[str, Any], seconds: int, preset: str) -> None:
    front_end = build(FRONT_ENDS, {"name": "ssast_fbank", "preset": preset}, "features")
    found, frames = front_end(golden[f"wav{seconds}"][None])
    expected = golden[f"feat{seconds}"]
    assert frames.tolist() == [len(expected)]
    torch.testing.assert_close(found[0, 0].mT, expected, **CLOSE)


@pytest.fixture(scope="module")
def maps(case: tuple[SSAST, Tensor, Any]) -> Any:
    model, x, _ = case
    return error_maps(model, x)


def test_error_maps(case: tuple[SSAST, Tensor, Any], maps: Any) -> None:
    expected = case[2]
    assert torch.equal(maps.covered[0].mT, expected["count"] > 0)
    for name in ("e_rec", "e_pred"):
        torch.testing.assert_close(getattr(maps, name)[:, 0].mT, expected[name], **CLOSE)
    for axis, name in ((2, "prof_f"), (3, "prof_t")):
        torch.testing.assert_close(maps.profile(axis), expected[name], **CLOSE)


@pytest.mark.parametrize(
    ("choice", "number", "name"),
    [
        ("residual", 1, "top1"),
        ("topk", 1, "top1"),
        ("topk", 3, "topk3"),
        ("residual", 3, "residual3"),
    ],
)
@pytest.mark.parametrize("axis", [2, 3])
def test_chosen_starts(
    case: tuple[SSAST, Tensor, Any], maps: Any, axis: int, choice: str, number: int, name: str
) -> None:
    profile = maps.profile(axis)
    most = {512: 96, 128: 24 if case[0].frames == 512 else 48}[profile.shape[1]]
    size = torch.full((2,), profile.shape[1])
    found = choose_windows(profile, torch.full((2, number), most), size, choice)
    expected = case[2][f"start_{'ft'[axis - 2]}_{name}"].view(2, number)
    assert torch.equal(found, expected)


def test_peas_masks_the_chosen_blocks(golden: dict[str, Any]) -> None:
    model, x = finetuned(golden, "esc_s10"), batch(golden["x_esc"])
    method = build(AUGMENTATIONS, {"name": "peas", "preset": "esc50"}, "augment")
    generator = torch.Generator().manual_seed(0)
    plan = method.draw(x, torch.zeros(2, 50), None, generator, model=model)
    time, freq = plan.ops[0].stripes(x.shape)
    assert torch.equal(time.start[:, 0], golden["esc_s10"]["start_t_top1"])
    assert torch.equal(freq.start[:, 0], golden["esc_s10"]["start_f_top1"])
