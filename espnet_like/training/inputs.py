"""What a run reads: from its configuration to clips that batches are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from espnet_like.augment import AUGMENTATIONS, Augmentation
from espnet_like.augment.chain import Chain
from espnet_like.augment.superposition import Superposition
from espnet_like.data.directory import DataDir
from espnet_like.errors import MissingInput, UserError
from espnet_like.features import FRONT_ENDS
from espnet_like.features.dump import FeatureDump, check_dump
from espnet_like.features.excerpts import ExcerptDump, is_cut_from
from espnet_like.features.normalize import Normalize, Stats
from espnet_like.features.stats import fingerprint
from espnet_like.registry import build
from espnet_like.schema import Experiment
from espnet_like.training.batches import ClipSet
from espnet_like.training.losses import LOSSES
from espnet_like.training.pooled import PooledSet
from espnet_like.training.waves import WaveSet


class Inputs:
    """The data of one configuration."""

    def __init__(self, config: Experiment) -> None:
        self.config = config

    def need(self, stage: str) -> None:
        """Say which earlier stage is missing, of those that `stage` needs (exit code 3)."""
        data = self.config.data
        needs = [(f"{data.dump}/feats.scp", "feats"), (data.stats, "stats")]
        if stage == "train" and self.needs_wave():
            needs.append((f"{self._waves_dump()}/feats.scp", "feats"))
        needs += [(f"{d}/utt2labels", "data") for d in (data.train, data.valid, data.test) if d]
        for path, maker in needs:
            if not Path(path).is_file():
                raise MissingInput(f"stage {stage} needs {path}: run --stage {maker}")
        if data.test and not Path(data.test, "utt2labels").stat().st_size:
            raise UserError(
                f"{data.test}/utt2labels: a fold without test clips: give it some in stage "
                "data, or leave it out of --folds"
            )

    def needs_wave(self) -> bool:
        """Whether training reads waveforms."""
        return self.config.train.pool is not None or self.augmentation().needs_wave

    def augmentation(self) -> Augmentation:
        """The augmentation of the configuration."""
        augmentation: Augmentation = build(AUGMENTATIONS, self.config.augment, "augment")
        return augmentation

    def contents(self, sets: list[Path]) -> list[Any]:
        """What is read, apart from where it lies and in how many parts.

        Args:
            sets: files that list the clips.
        """
        dump, stats = FeatureDump(self.config.data.dump), Stats.load(self.config.data.stats)
        numbers = [stats.count, stats.mean.tolist(), stats.std.tolist()]
        if self._per_set:
            numbers.append({name: own.numbers() for name, own in stats.sets.items()})
        features = [dump.features, dump.channels, dump.kind, sorted(dump.bad)]
        return [features, numbers, *(path.read_bytes() for path in sets)]

    def check_stats(self) -> None:
        """The statistics are those of these features and of the clips that they should be of."""
        data = self.config.data
        source = data.norm or data.train
        expected = fingerprint(FeatureDump(data.dump), DataDir.load(source))
        if Stats.load(data.stats).made.get("fingerprint") != expected:
            raise MissingInput(
                f"{data.stats}: of other features or clips than {data.dump} and {source} have: "
                "run --stage stats"
            )

    def training(self, device: torch.device) -> tuple[ClipSet, Augmentation]:
        """The training part, and what is left for the augmentation to do with its batches."""
        augmentation = self.augmentation()
        if self.config.train.pool is not None:
            mixer, rest = _without_mixer(augmentation)
            return self.pool(self.config.data.train, mixer, device), rest
        read = self.waves if augmentation.needs_wave else self.clips
        return read(self.config.data.train, device), augmentation

    def clips(self, directory: str, device: torch.device) -> ClipSet:
        """The clips of a data directory, normalised by the training part's statistics.

        Parts of recordings that the dump of features has as a whole come from waveforms, from
        archives: they are read once, and there are many.
        """
        config, whole = self.config, DataDir.load(directory)
        dump = FeatureDump(config.data.dump)
        if is_cut_from(dump, whole):
            return self.waves(directory, device, in_memory=False)
        check_dump(dump, config.features, config.audio)
        clips = ClipSet(
            whole,
            dump,
            Normalize.load(config.data.stats, config.normalize),
            device,
            config.data.in_memory,
            config.train.workers,
        )
        self._check_model(directory, clips, dump)
        return clips

    def waves(self, directory: str, device: torch.device, in_memory: bool | None = None) -> WaveSet:
        """The clips of a data directory as waveforms, with the front end of its features."""
        whole, dump = self._audible(directory)
        data, train = self.config.data, self.config.train
        common = self._from_waves(device)
        where = data.in_memory if in_memory is None else in_memory
        clips = WaveSet(whole, dump, *common, where, train.workers)
        self._check_model(directory, clips, dump)
        return clips

    def pool(self, directory: str, mixer: Superposition | None, device: torch.device) -> PooledSet:
        """The clips of a data directory in the batches of `train.pool`."""
        whole, dump = self._audible(directory)
        train = self.config.train
        assert train.pool is not None
        common = self._from_waves(device)
        norms = None
        if self._per_set:
            sets = Stats.load(self.config.data.stats).sets
            norms = {k: Normalize.of(own, self.config.normalize) for k, own in sets.items()}
        clips = PooledSet(whole, dump, *common, train.workers, train.pool, mixer, norms)
        self._check_model(directory, clips, dump)
        return clips

    @property
    def _per_set(self) -> bool:
        pool = self.config.train.pool
        return pool is not None and pool.norm == "per_set"

    def _audible(self, directory: str) -> tuple[DataDir, FeatureDump | ExcerptDump]:
        """The set without clips that have no features, and the dump of its waveforms."""
        whole, dump = DataDir.load(directory), FeatureDump(self._waves_dump())
        bad = FeatureDump(self.config.data.dump).bad  # also what is too short for one frame
        kept = [
            utt
            for utt in whole.utterances
            if utt not in bad and (utt not in whole.segments or whole.segments[utt][0] not in bad)
        ]
        whole = whole.subset(kept)
        return whole, ExcerptDump(dump, whole) if is_cut_from(dump, whole) else dump

    def _from_waves(self, device: torch.device) -> tuple[Any, Normalize, torch.device]:
        config = self.config
        front = build(FRONT_ENDS, config.features, "features")
        return front, Normalize.load(config.data.stats, config.normalize), device

    def _waves_dump(self) -> str:
        if self.config.data.waves is None:
            method = self.config.augment["name"]
            what = "train.pool reads" if self.config.train.pool else f"augment {method} changes"
            raise UserError(f"{what} waveforms, but data.waves names no dump of them")
        return self.config.data.waves

    def _check_model(self, directory: str, clips: ClipSet, dump: FeatureDump | ExcerptDump) -> None:
        model = self.config.model
        there = {"in_channels": clips.shape[0]}
        if LOSSES[self.config.loss["name"]].supervised:
            there["num_classes"] = len(clips.labels)
        for key, found in there.items():
            if model.get(key, found) != found:
                raise UserError(
                    f"model.{key} is {model[key]}, but {directory} with {dump.path} has {found}: "
                    f"set --model.{key} {found}"
                )


def _without_mixer(augmentation: Augmentation) -> tuple[Superposition | None, Augmentation]:
    """The method that mixes examples of a pool, and the others."""
    methods = augmentation.methods if isinstance(augmentation, Chain) else [augmentation]
    mixers = [method for method in methods if isinstance(method, Superposition)]
    if len(mixers) + sum(map(_superposes, set(methods) - set(mixers))) > len(mixers[:1]):
        raise UserError(
            "augment: train.pool mixes by one superposition, at the top or in a chain there"
        )
    rest = Chain([method for method in methods if method not in mixers])
    return (mixers[0] if mixers else None), rest


def _superposes(method: Augmentation) -> bool:
    inside = getattr(method, "methods", [])
    return isinstance(method, Superposition) or any(map(_superposes, inside))
