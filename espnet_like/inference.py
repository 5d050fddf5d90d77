"""From a waveform to scores: a trained run or a packed one, with its own front end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_like.compress.packed import pack
from espnet_like.config import check
from espnet_like.data import audio
from espnet_like.errors import MissingInput, UserError
from espnet_like.features import FRONT_ENDS
from espnet_like.features.normalize import Normalize
from espnet_like.files import read_json
from espnet_like.models import MODELS
from espnet_like.models.summary import tap_shapes
from espnet_like.registry import build
from espnet_like.schema import Audio
from espnet_like.training.checkpoint import load_weights, save_weights
from espnet_like.training.evaluation import autocast
from espnet_like.training.losses import LOSSES, scores


class Classifier(nn.Module):
    """Front end, normalisation and network in one module.

    Args:
        settings: `features`, `audio`, `model`, `loss`, `labels`, `precision` as in a pack's
            settings.json.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.labels: tuple[str, ...] = tuple(settings["labels"])
        self.audio: Audio = check(settings["audio"], Audio)
        self.front_end = build(FRONT_ENDS, settings["features"], "features")
        bins = self.front_end.num_bins
        self.normalize = Normalize(torch.zeros(bins), torch.ones(bins))
        self.model = build(MODELS, settings["model"], "model")
        self.multi_label = LOSSES[settings["loss"]["name"]].multi_label
        self.eval()

    @classmethod
    def load(cls, directory: str | Path) -> Classifier:
        """A pack, as stage `pack` makes it.

        Raises:
            MissingInput: not a pack. UserError: a broken one, or weights of another model.
        """
        settings = Path(directory) / "settings.json"
        if not settings.is_file():
            raise MissingInput(f"{settings}: not there: run --stage pack, or name a pack directory")
        try:
            classifier = cls(read_json(settings))
        except KeyError as error:
            raise UserError(f"{settings}: no {error} in it: run --stage pack") from None
        load_weights(classifier.weights(directory), classifier)
        return classifier

    def weights(self, directory: str | Path) -> Path:
        """The file of the weights in a pack: the stored form where the run has one."""
        name = "model.packed" if self.settings.get("store") else "model.safetensors"
        return Path(directory) / name

    def save_weights(self, directory: str | Path) -> None:
        """Write model.safetensors or model.packed: the network and the normalisation."""
        path = self.weights(directory)
        if self.settings.get("store"):
            path.write_bytes(pack(self.state_dict(), {}))
        else:
            save_weights(path, self.state_dict())

    @torch.no_grad()
    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores of waveforms.

        Args:
            wave: (B, C, L) in [-1, 1] at the front end's rate.
            lengths: (B,) samples of each, or None when all are L long.

        Returns:
            (B, K) posteriors in the order of `labels`.
        """
        features, frames = self.front_end(wave, lengths)
        with autocast(wave.device, self.settings["precision"]):
            logits = self.model(
                self.normalize(features), lengths=None if lengths is None else frames
            )
        return scores(logits, self.multi_label)

    def classify(self, path: str | Path) -> dict[str, float]:
        """Scores of one audio file by label, highest first.

        Raises:
            UserError: a file that cannot be read, or is too short for the network.
        """
        rate, channels = self.front_end.sample_rate, self.audio.channels
        wave = audio.load(str(path), rate, channels, expect_rate=self.audio.expect_rate)
        frames = self.front_end.num_frames(wave.shape[1])
        shape = (channels * self.front_end.maps, self.front_end.num_bins, frames)
        try:
            tap_shapes(self.model, shape)
        except RuntimeError:
            seconds, name = wave.shape[1] / rate, self.settings["model"]["name"]
            raise UserError(
                f"{path}: {seconds:.3f} s is too short for {name}: leave it out or pad it"
            ) from None
        device = next(self.parameters()).device
        found = self(torch.as_tensor(wave)[None].to(device))[0].tolist()
        pairs = zip(self.labels, found, strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))
