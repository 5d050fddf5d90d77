"""Front ends by name: waveforms to features."""

from espnet_like.features.base import FrontEnd
from espnet_like.features.cpjku import CpJku
from espnet_like.features.kaldi_fbank import KaldiFbank
from espnet_like.features.logmel import LogMel
from espnet_like.features.logmel_deltas import LogMelDeltas
from espnet_like.features.ssast_fbank import SSASTFbank
from espnet_like.features.upb import Upb

FRONT_ENDS: dict[str, type[FrontEnd]] = {
    "cpjku": CpJku,
    "logmel": LogMel,
    "logmel_deltas": LogMelDeltas,
    "kaldi_fbank": KaldiFbank,
    "ssast_fbank": SSASTFbank,
    "upb": Upb,
}

__all__ = [
    "FRONT_ENDS",
    "CpJku",
    "FrontEnd",
    "KaldiFbank",
    "LogMel",
    "LogMelDeltas",
    "SSASTFbank",
    "Upb",
]
