"""SubSpectral Normalization against batch normalisations of its bands, one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from espnet_like.models.subspectral import SSN

CHANNELS = 3


def batches(bins: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(bins)
    shape = (4, CHANNELS, bins, 5)
    return [torch.randn(shape, generator=generator) * (k + 1) + k for k in range(count)]


def randomise(norm: nn.BatchNorm2d) -> None:
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", ["shared", "separate"])
def test_one_group_is_batch_norm_bit_for_bit(affine, momentum):
    ssn, bn = SSN(CHANNELS, 1, affine, momentum=momentum), nn.BatchNorm2d(CHANNELS)
    bn.momentum = momentum
    randomise(bn)
    ssn.load_state_dict(bn.state_dict())
    for x in batches(7):
        a, b = (x.clone().requires_grad_() for _ in range(2))
        ours, theirs = ssn(a), bn(b)
        assert torch.equal(ours, theirs)
        ours.square().sum().backward()
        theirs.square().sum().backward()
        assert torch.equal(a.grad, b.grad) and torch.equal(ssn.weight.grad, bn.weight.grad)
    assert ssn.state_dict().keys() == bn.state_dict().keys()
    for name, value in bn.state_dict().items():
        assert torch.equal(ssn.state_dict()[name], value), name
    x = batches(7)[0]
    assert torch.equal(ssn.eval()(x), bn.eval()(x))


@pytest.mark.parametrize(
    ("bins", "bands"), [(8, [4, 4]), (7, [4, 3]), (8, [3, 3, 2]), (3, [1, 1, 1]), (15, [8, 7])]
)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_each_band_has_a_batch_norm_of_its_own(bins, bands, momentum):
    torch.manual_seed(0)
    groups = len(bands)
    ssn = SSN(CHANNELS, groups, momentum=momentum)
    randomise(ssn)
    norms = [nn.BatchNorm2d(CHANNELS, momentum=momentum) for _ in bands]
    for norm in norms:
        norm.weight, norm.bias = ssn.weight, ssn.bias  # one scale and shift for all
    for x in batches(bins):
        a, b = (x.clone().requires_grad_() for _ in range(2))
        ours = ssn(a)
        theirs = torch.cat([n(p) for n, p in zip(norms, b.split(bands, 2), strict=True)], 2)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        (ours**3).sum().backward()
        (theirs**3).sum().backward()
        torch.testing.assert_close(a.grad, b.grad)
    for name in ("running_mean", "running_var"):  # band s of channel c at c * S + s
        stacked = torch.stack([getattr(norm, name) for norm in norms], dim=1)
        assert torch.equal(getattr(ssn, name), stacked.flatten())
    assert int(ssn.num_batches_tracked) == 3
    x = batches(bins)[0]
    kept = copy.deepcopy(ssn.state_dict())
    ours = ssn.eval()(x)
    theirs = torch.cat([n.eval()(p) for n, p in zip(norms, x.split(bands, 2), strict=True)], 2)
    assert torch.equal(ours, theirs)
    assert all(torch.equal(kept[name], value) for name, value in ssn.state_dict().items())


def test_bands_that_divide_evenly_are_more_channels():
    """The published form: a view (B, C * S, F / S, T), normalised without scale and shift."""
    ssn, bn = SSN(CHANNELS, 2), nn.BatchNorm2d(2 * CHANNELS, affine=False)
    randomise(ssn)
    (x,) = batches(8, 1)
    expected = bn(x.view(4, 2 * CHANNELS, 4, 5)).view_as(x)
    expected = expected * ssn.weight[:, None, None] + ssn.bias[:, None, None]
    torch.testing.assert_close(ssn(x), expected)
    torch.testing.assert_close(ssn.running_mean, bn.running_mean)
    torch.testing.assert_close(ssn.running_var, bn.running_var)


def test_separate_scales_are_those_of_their_bands():
    ssn = SSN(CHANNELS, 2, "separate")
    assert [p.numel() for p in ssn.parameters()] == [6, 6]
    assert [p.numel() for p in SSN(CHANNELS, 2).parameters()] == [3, 3]
    randomise(ssn)
    (x,) = batches(7, 1)
    plain = SSN(CHANNELS, 2)(x)
    for channel in range(CHANNELS):
        for s, bins in enumerate((slice(0, 4), slice(4, 7))):
            row = 2 * channel + s
            expected = plain[:, channel, bins] * ssn.weight[row] + ssn.bias[row]
            torch.testing.assert_close(ssn(x)[:, channel, bins], expected)


def test_channels_last_stays_and_changes_nothing():
    ssn = SSN(CHANNELS, 2)
    (x,) = batches(8, 1)
    y = ssn(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, SSN(CHANNELS, 2)(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_keeps_its_statistics(dtype):
    ssn = SSN(CHANNELS, 2)
    for x in batches(8):
        ssn(x)
    x = batches(8)[0]
    expected = ssn.eval()(x)
    half = copy.deepcopy(ssn).to(dtype)
    assert half.num_batches_tracked.dtype == torch.long and half.running_var.dtype == dtype
    torch.testing.assert_close(half(x.to(dtype)).float(), expected, rtol=0.03, atol=0.03)
    with torch.autocast("cpu", torch.bfloat16):  # a bf16 map, statistics in single precision
        found = ssn(x.bfloat16())
    torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03)


def test_fewer_bins_than_bands_and_arguments_out_of_range():
    with pytest.raises(RuntimeError, match="2 frequency bins cannot be cut into 3 bands"):
        SSN(CHANNELS, 3)(torch.zeros(1, CHANNELS, 2, 9))
    for bad in ((0, 2), (3, 0), (3, 2, "both")):
        with pytest.raises(ValueError, match="must be"):
            SSN(*bad)
