"""The stored form: a weights file as small as fp16 values and their zeros allow, without loss.

A dense file of pruned weights is no smaller than before. Here a tensor whose values fp16 can hold
is kept as a bitmap of what is not zero, where that pays, and the two bytes of each value apart:
the high byte (sign, exponent, two bits of the significand) takes few values and is entropy-coded,
the low byte is close to noise. Any other tensor is kept as it is. What is read back equals what was
written bit for bit, data type and all; the same weights always make the same file.

    MAGIC, SHA-256 of the rest (32 bytes), length of the header (4 bytes, little endian),
    header (JSON: `metadata`, `tensors`, `streams`), the streams one after another

Header and streams are raw DEFLATE; `streams` says how long each is here.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espnet_like.errors import MissingInput, UserError

MAGIC = b"espnet_like packed 1\n"
STREAMS = ("zeros", "high", "low", "other")
_START = len(MAGIC) + 32

Bytes = NDArray[np.uint8]


def load_packed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and the metadata of a packed file.

    Raises:
        MissingInput: no such file. UserError: not a packed file, or one that was cut or changed.
    """
    header, streams = _read(path)
    try:
        return _tensors(header, streams), header["metadata"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: {_BROKEN} ({error}): {_REMEDY}") from None


def is_packed(path: Path) -> bool:
    """Whether a file begins as packed ones do."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def rounded(weights: Mapping[str, Tensor], significand: int = 11) -> dict[str, Tensor]:
    """Each fp32 tensor rounded to values that fp16 holds, to nearest, ties to even; still fp32.

    A tensor with a value beyond fp16's 65,504 stays as it is, and so do other data types.

    Args:
        weights: a state dict.
        significand: bits of precision; 11 is all of fp16, fewer make a smaller file.
    """
    return {name: _rounded(value, significand) for name, value in weights.items()}


def _rounded(value: Tensor, significand: int) -> Tensor:
    if value.dtype != torch.float32:
        return value
    if significand < 11:
        fraction, exponent = torch.frexp(value)
        value = torch.ldexp((fraction * 2**significand).round() / 2**significand, exponent)
    half = value.half().float()
    return half if half.isfinite().all() else value


def pack(weights: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """The packed form of a state dict.

    Args:
        weights: tensors by name, in any data type.
        metadata: what JSON can hold.
    """
    parts: dict[str, list[bytes]] = {name: [] for name in STREAMS}
    tensors = []
    for name, value in weights.items():
        value = value.detach().cpu().contiguous().reshape(value.shape)
        kind = _add(value, parts)
        tensors.append([name, str(value.dtype).removeprefix("torch."), list(value.shape), kind])
    streams = [_deflate(b"".join(parts[name])) for name in STREAMS]
    header = {"metadata": metadata, "tensors": tensors, "streams": [len(s) for s in streams]}
    text = _deflate(json.dumps(header, separators=(",", ":"), sort_keys=True).encode())
    rest = b"".join([len(text).to_bytes(4, "little"), text, *streams])
    return MAGIC + hashlib.sha256(rest).digest() + rest


def _add(value: Tensor, parts: dict[str, list[bytes]]) -> str:
    """Put a tensor into the streams; says how: `sparse` or `dense` fp16, or `other`."""
    flat = value.reshape(-1)
    half = flat.half()
    if not (value.is_floating_point() and _same(half.to(flat.dtype), flat)):
        parts["other"].append(_bytes(flat).tobytes())
        return "other"
    bits = half.numpy().view(np.uint16)
    nonzero = bits != 0  # -0.0 is a value
    sparse = 16 * int((~nonzero).sum()) > len(bits)
    if sparse:
        parts["zeros"].append(np.packbits(nonzero).tobytes())
        bits = bits[nonzero]
    parts["high"].append((bits >> 8).astype(np.uint8).tobytes())
    parts["low"].append((bits & 255).astype(np.uint8).tobytes())
    return "sparse" if sparse else "dense"


def _tensors(header: Mapping[str, Any], streams: Mapping[str, Bytes]) -> dict[str, Tensor]:
    """The tensors back from the streams, in order."""
    at = dict.fromkeys(STREAMS, 0)

    def take(name: str, count: int) -> Bytes:
        start = at[name]
        at[name] += count
        if at[name] > len(streams[name]):
            raise ValueError(f"stream {name} is too short")
        return streams[name][start : at[name]]

    weights = {}
    for name, dtype_name, shape, kind in header["tensors"]:
        dtype, count = getattr(torch, dtype_name), math.prod(shape)
        if kind == "other":
            flat = torch.from_numpy(take("other", count * dtype.itemsize).copy()).view(dtype)
        else:
            there = np.ones(count, dtype=bool)
            if kind == "sparse":
                there = np.unpackbits(take("zeros", -(-count // 8)), count=count).astype(bool)
            bits = np.zeros(count, dtype=np.uint16)
            stored = int(there.sum())
            high = take("high", stored).astype(np.uint16) << 8
            bits[there] = high | take("low", stored)
            flat = torch.from_numpy(bits.view(np.float16)).to(dtype)
        weights[name] = flat.reshape(shape)
    if any(at[name] != len(streams[name]) for name in STREAMS):
        raise ValueError("bytes are left over")
    return weights


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Bytes]]:
    """Header and streams, after the checksum has been compared."""
    if not path.is_file():
        raise MissingInput(f"{path}: no such file: {_REMEDY}")
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise UserError(f"{path}: not a packed model of this version: {_REMEDY}")
    rest = data[_START:]
    if hashlib.sha256(rest).digest() != data[len(MAGIC) : _START]:
        raise UserError(f"{path}: {_BROKEN} (its checksum differs): {_REMEDY}")
    try:
        at = 4 + int.from_bytes(rest[:4], "little")
        header = json.loads(_inflate(rest[4:at]))
        streams = {}
        for name, length in zip(STREAMS, header["streams"], strict=True):
            streams[name] = np.frombuffer(_inflate(rest[at : at + length]), np.uint8)
            at += length
        return header, streams
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise UserError(f"{path}: {_BROKEN} ({error}): {_REMEDY}") from None


_BROKEN, _REMEDY = "cut or changed", "run --stage compress"


def _deflate(data: bytes) -> bytes:
    """The shortest of plain DEFLATE and of Huffman codes alone, which suit noise-like bytes."""
    found = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
        found.append(coder.compress(data) + coder.flush())
    return min(found, key=len)


def _inflate(data: bytes) -> bytes:
    return zlib.decompress(data, -15)


def _bytes(flat: Tensor) -> Bytes:
    return flat.view(torch.uint8).numpy()


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit: -0.0 is not 0.0."""
    return bool(np.array_equal(_bytes(a), _bytes(b)))
