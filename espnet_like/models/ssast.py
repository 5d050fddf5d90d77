"""SSAST: a transformer over patches of a spectrogram, pretrained by masking some of them.

Gong, Lai, Chung and Glass, "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022, and
its authors' code, whose names the weights have. PEAS fine-tunes it (see `augment.peas`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_like.errors import UserError
from espnet_like.models.patches import Overlap, Patches, lay_out
from espnet_like.models.staged import Tap, single_precision
from espnet_like.models.transformer import CLASS_TOKENS, Encoder, resample_positions

DEPTH = 12
WIDTHS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # D, heads

Task = Literal["discriminative", "generative"]


class Pretext(NamedTuple):
    """What masked patch modelling gives.

    Args:
        loss: (B,).
        accuracy: (B,) share of the masked patches that were told apart; None if generative.
    """

    loss: Tensor
    accuracy: Tensor | None


class SSAST(nn.Module):
    """Patches, twelve blocks, and a linear classifier of the mean token.

    Inputs need not be `frames` long. A shorter spectrogram has the positions of the first
    columns, and the result is as if it had been padded to `frames` and its padding hidden; for a
    longer one, and for other numbers of bins, positions are interpolated. SSAST pads or cuts
    every clip to one length and looks at the padding: that is the front end `ssast_fbank`.

    Args:
        num_classes: number of logits.
        in_channels: spectrograms side by side; the released networks have 1.
        size: `tiny`, `small` or `base`: D = 192, 384 or 768.
        kind: `patch`: 16 x 16 cells, `frame`: all bins of two frames.
        stride: (F, T) cells from one patch to the next; None for SSAST's own: the size of a patch
            to pretrain (`pretext` is `trained`), and (10, 10), or one frame, to fine-tune.
        bins, frames: of the spectrograms that the positions are for.
        pooling: what is classified: the `mean` of the patches' tokens, as in both of SSAST's
            recipes, or the mean of the two `class` tokens.
        pretext: pretraining's parts: `none`; `frozen`: what reconstructs, without gradients (PEAS
            needs it); `generative`: what reconstructs, trained (for PEAS's `aux_loss`); `trained`:
            all of them, as pretraining needs. (Several processes train together only if all that
            is to be trained gets gradients.)

    Raises:
        ValueError: an argument out of range.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "pretrain_patch": {"frames": 1024, "pretext": "trained"},
        "pretrain_frame": {"kind": "frame", "frames": 1024, "pretext": "trained"},
    }
    #: Tokens are seen as (B, D, f, t); the class tokens are carried beside.
    taps: tuple[str, ...] = ("input", "patches", "blocks1-4", "blocks5-8", "blocks9-12")
    #: Every cell of a map depends on the whole input.
    global_reach = True

    def __init__(
        self,
        num_classes: int = 50,
        in_channels: int = 1,
        size: Literal["tiny", "small", "base"] = "base",
        kind: Literal["patch", "frame"] = "patch",
        stride: tuple[int, int] | None = None,
        bins: int = 128,
        frames: int = 512,
        pooling: Literal["mean", "class"] = "mean",
        pretext: Literal["none", "frozen", "generative", "trained"] = "frozen",
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels) < 1:
            raise ValueError("num_classes and in_channels must be at least 1")
        self.patch = (16, 16) if kind == "patch" else (bins, 2)
        own = self.patch if pretext == "trained" else (10, 10) if kind == "patch" else (bins, 1)
        self.stride = stride or own
        if not all(1 <= n <= most for n, most in zip(self.stride, self.patch, strict=True)):
            raise ValueError(f"stride must be 1 to {self.patch}, not {self.stride}")
        if bins < self.patch[0] or frames < self.patch[1]:
            raise ValueError(f"bins and frames must be at least {self.patch}: {(bins, frames)}")
        self.size, self.kind, self.pooling = size, kind, pooling
        self.bins, self.frames = bins, frames
        self.grid = lay_out((bins, frames), self.patch, self.stride, frames).grid
        width, heads = WIDTHS[size]
        self.v = Encoder(in_channels, width, DEPTH, heads, self.patch, self.grid)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))
        if pretext == "none":
            return
        cells = in_channels * self.patch[0] * self.patch[1]
        self.gpredlayer = _predictor(width, cells)
        self.mask_embed = nn.Parameter(torch.empty(1, 1, width))
        nn.init.xavier_normal_(self.mask_embed)
        if pretext != "trained":
            self.gpredlayer.requires_grad_(pretext == "generative")
            self.mask_embed.requires_grad_(False)
            return
        self.cpredlayer = _predictor(width, cells)
        self.register_buffer("p_input_fdim", torch.tensor(bins))
        self.register_buffer("p_input_tdim", torch.tensor(frames))

    def forward(self, x: Tensor, lengths: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Logits.

        Args:
            x: features, (B, C, F, T).
            lengths: (B,) frames of each sample that are not padding; patches that begin later are
                neither attended to nor averaged. None: every frame counts.
            tap: called as `x = tap(k, x)` at tap k; None in evaluation.

        Returns:
            (B, num_classes), float32 also under autocast.

        Raises:
            UserError: a spectrogram smaller than a patch.
        """
        if tap is not None:
            x = tap(0, x)
        tokens = self.encode(x, lengths, tap)
        exact = torch.promote_types(tokens.dtype, torch.float32)
        if self.pooling == "class":
            pooled = tokens[:, :CLASS_TOKENS].mean(1, dtype=exact)
        elif lengths is None:
            pooled = tokens[:, CLASS_TOKENS:].mean(1, dtype=exact)
        else:
            inside = self._inside(self.layout(x), lengths.to(x.device))[..., None]
            kept = torch.where(inside, tokens[:, CLASS_TOKENS:], 0)
            pooled = kept.sum(1, dtype=exact) / inside.sum(1)
        with single_precision(x.device):
            return self.mlp_head(pooled)

    def encode(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        tap: Tap | None = None,
        masked: Tensor | None = None,
        stride: tuple[int, int] | None = None,
    ) -> Tensor:
        """The tokens after the last normalisation: two class tokens, then the patches.

        Args:
            x, lengths, tap: as in `forward`; the tap of the input is not called.
            masked: (B, f t) bool: patches whose embedding the mask's is put for.
            stride: of the patches, where it is not the network's own; positions are resampled.

        Returns:
            (B, 2 + f t, D), patches frequency-major.

        Raises:
            UserError: a spectrogram smaller than a patch.
        """
        patches = self.layout(x, stride)
        grid = self.v.patch_embed(patches.pad(x), patches.stride)
        if masked is not None:
            hidden = masked.unflatten(1, patches.grid)[:, None]
            grid = torch.where(hidden, self.mask_embed.mT[..., None].to(grid.dtype), grid)
        if tap is not None:
            grid = tap(1, grid)
        tokens = (grid + self._positions(patches)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.v.class_tokens(x.shape[0]).to(tokens.dtype), tokens], 1)
        seen = None
        if lengths is not None:
            inside = self._inside(patches, lengths.to(x.device))
            seen = functional.pad(inside, (CLASS_TOKENS, 0), value=True)
        groups = len(self.taps) - 2
        for k in range(groups):
            for block in self.v.blocks[k * DEPTH // groups : (k + 1) * DEPTH // groups]:
                tokens = block(tokens, seen)
            if tap is not None:
                tokens = _tapped(tap, k + 2, tokens, patches.grid)
        return self.v.norm(tokens)

    def layout(self, x: Tensor, stride: tuple[int, int] | None = None) -> Patches:
        """How patches lie on `x` (B, C, F, T).

        Raises:
            UserError: a spectrogram smaller than a patch, or patches that leave gaps.
        """
        if stride and any(n > most for n, most in zip(stride, self.patch, strict=True)):
            raise UserError(f"patches every {stride} cells leave gaps: at most {self.patch}")
        shape = (x.shape[2], x.shape[3])
        return lay_out(shape, self.patch, stride or self.stride, self.frames)

    def pretext(self, x: Tensor, masked: Tensor, task: Task) -> Pretext:
        """Masked patch modelling (SSAST, section 2.2) with pretraining's parts.

        Masked patches enter as one learned embedding; y_i is the i-th masked patch's content and
        o_i its token after the blocks.

        `generative`: the mean squared error of g(o_i) as a guess of y_i.
        `discriminative`: with scores y_i . c(o_j), the mean of -log softmax_j at j = i, that is, a
        softmax over the guesses, as in the authors' code (their equation 1 has it over the
        patches); the accuracy is the share of guesses j whose largest softmax is that of i = j.
        SSAST adds the discriminative and 10 times the generative loss, with masks of their own.

        Args:
            x: features, (B, C, F, T).
            masked: (B, m) indices of different patches (see `models.patch_masks`).
            task: which of the two.

        Raises:
            RuntimeError: the network was built without these parts.
            UserError: a spectrogram smaller than a patch.
        """
        if not hasattr(self, "cpredlayer"):
            raise RuntimeError("build SSAST with pretext=trained to pretrain it")
        patches = self.layout(x)
        hidden = torch.zeros(len(x), patches.grid[0] * patches.grid[1], device=x.device)
        hidden = hidden.scatter(1, masked, 1).bool()
        tokens = self.encode(x, masked=hidden)[:, CLASS_TOKENS:]
        tokens = tokens.gather(1, masked[..., None].expand(-1, -1, tokens.shape[2]))
        content = patches.cut(x.detach())
        content = content.gather(1, masked[..., None].expand(-1, -1, content.shape[2]))
        guess = (self.gpredlayer if task == "generative" else self.cpredlayer)(tokens).float()
        if task == "generative":
            return Pretext((guess - content).square().mean((1, 2)), None)
        with single_precision(x.device):
            scores = functional.log_softmax(content.float() @ guess.mT, 2)
        right = scores.argmax(1) == torch.arange(masked.shape[1], device=x.device)
        return Pretext(-scores.diagonal(dim1=1, dim2=2).mean(1), right.float().mean(1))

    def guess(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        masked: Tensor | None = None,
        stride: tuple[int, int] | None = None,
    ) -> Tensor:
        """Every patch's content as the reconstructing layer guesses it from the patch's token.

        Args:
            x: features, (B, C, F, T).
            lengths, masked, stride: as in `encode`.

        Returns:
            (B, f t, C h w) float32; `layout(x, stride).join` makes a spectrogram of it.

        Raises:
            RuntimeError: the network was built without the layer.
            UserError: a spectrogram smaller than a patch.
        """
        if not hasattr(self, "gpredlayer"):
            raise RuntimeError("build SSAST with pretext=frozen to reconstruct with it")
        tokens = self.encode(x, lengths, masked=masked, stride=stride)
        return self.gpredlayer(tokens[:, CLASS_TOKENS:]).float()

    def reconstruct(
        self, x: Tensor, stride: tuple[int, int] | None = None, overlap: Overlap = "mean"
    ) -> Tensor:
        """G(E(x)), PEAS's reconstruction: (B, C, F, T) float32, 0 where no patch lies.

        Args, errors: as `guess`; `overlap`: what a cell gets that several patches guess.
        """
        return self.layout(x, stride).join(self.guess(x, stride=stride), overlap)

    def _positions(self, patches: Patches) -> Tensor:
        """(1, D, f, t)."""
        own = self.v.pos_embed[:, CLASS_TOKENS:].transpose(1, 2).unflatten(2, self.grid)
        full = (self.frames - self.patch[1]) // patches.stride[1] + 1
        f, t = patches.grid
        return resample_positions(own, f, max(t, full))[..., :t]

    def _inside(self, patches: Patches, lengths: Tensor) -> Tensor:
        """(B, f t) bool: patches that begin within the clip."""
        column = torch.arange(patches.grid[1], device=lengths.device).repeat(patches.grid[0])
        return column < patches.columns(lengths)[:, None]


def _tapped(tap: Tap, k: int, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """`tokens` (B, 2 + f t, D) after tap k has seen their patches as a map (B, D, f, t)."""
    seen = tap(k, tokens[:, CLASS_TOKENS:].transpose(1, 2).unflatten(2, grid))
    return torch.cat([tokens[:, :CLASS_TOKENS], seen.flatten(2).transpose(1, 2)], 1)


def _predictor(width: int, cells: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, cells))
