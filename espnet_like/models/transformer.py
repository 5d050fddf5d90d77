"""A vision transformer's encoder with the names of DeiT's weights.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Touvron et al., "Training
data-efficient image transformers & distillation through attention" (DeiT), ICML 2021: pre-norm
blocks, two class tokens (the second one was DeiT's for distillation), exact GELU, no dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASS_TOKENS = 2
NORM_EPS = 1e-6


class Encoder(nn.Module):
    """Patch embedding, class tokens, positions, blocks and the last normalisation.

    It holds the layers; `SSAST` says how a spectrogram passes through them.

    Args:
        inputs: channels of the spectrogram.
        width: D, numbers in a token.
        depth: blocks.
        heads: of the attention; they divide D.
        patch: (F, T) cells of a patch.
        grid: (f, t) patches that have a position.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        heads: int,
        patch: tuple[int, int],
        grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, CLASS_TOKENS + grid[0] * grid[1], width))
        self.patch_embed = PatchEmbedding(inputs, width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        for weight in (self.cls_token, self.dist_token, self.pos_embed):
            nn.init.trunc_normal_(weight, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def class_tokens(self, size: int) -> Tensor:
        """(size, 2, D), with their positions."""
        tokens = torch.cat([self.cls_token, self.dist_token], 1)
        return (tokens + self.pos_embed[:, :CLASS_TOKENS]).expand(size, -1, -1)


class PatchEmbedding(nn.Module):
    """Patches of x (B, C, F, T), one every `stride` cells, as tokens (B, D, f, t)."""

    def __init__(self, inputs: int, width: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, patch, stride=patch)

    def forward(self, x: Tensor, stride: tuple[int, int]) -> Tensor:
        return functional.conv2d(x, self.proj.weight, self.proj.bias, stride)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), seen)
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head self-attention; `seen` (B, N) bool: tokens that may be looked at (None: all)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads) each
        mask = None if seen is None else seen[:, None, None]
        if x.device.type == "cpu" and query.dtype == torch.bfloat16:
            x = _product_by_product(query, key, value, mask)
        else:
            x = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.proj(x.transpose(1, 2).flatten(2))


def _product_by_product(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention as two products, which use a CPU's bf16 instructions; the fused kernel does not.

    About half of its time (`tools/benchmark.py --only ssast`), for the memory of the weights,
    (B, heads, N, N). The weights are rounded to bf16, as the fused kernel rounds them.
    """
    with torch.autocast("cpu", enabled=False):
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1) @ value


class Mlp(nn.Module):
    """Two linear layers around a GELU, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


def resample_positions(positions: Tensor, frequency: int, time: int) -> Tensor:
    """Positions of another grid: (1, D, f, t) to (1, D, `frequency`, `time`).

    As SSAST's authors adapt a pretrained network: the centre columns where there are fewer now,
    else bilinear along time; then bilinear along frequency. (Fewer rows than before happen only
    at another stride or with fewer mel bins, where their code does not run.)
    """
    columns = positions.shape[3]
    if time < columns:
        first = columns // 2 - time // 2
        positions = positions[..., first : first + time]
    for size in ((positions.shape[2], time), (frequency, time)):
        if positions.shape[2:] != size:
            positions = functional.interpolate(positions, size, mode="bilinear")
    return positions
