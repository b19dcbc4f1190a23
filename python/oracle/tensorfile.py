"""Safetensors files: 8 bytes header length, a JSON header, the tensors without holes."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

_TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4"}
_NAMES = {np.dtype(v): k for k, v in _TYPES.items()}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read every tensor of a file, checked against its header."""
    try:
        raw = Path(path).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        if len(raw) < 8 or length > len(raw) - 8:
            raise ValueError("the header is longer than the file")
        header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
        return {name: _tensor(name, entry, data) for name, entry in header.items() if name != "__metadata__"}
    except OSError as err:
        raise InputError(str(path), None, f"cannot be read ({err.strerror})", "give the path of a safetensors file") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputError(str(path), None, f"is not a usable safetensors file ({err})", "write it again") from err


def _tensor(name: str, entry: dict[str, Any], data: bytes) -> np.ndarray:
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), [int(n) for n in entry["shape"]]
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(data) or end - begin != dtype.itemsize * math.prod(shape):
        raise ValueError(f"tensor {name} of shape {shape} does not fit its {end - begin} bytes")
    return np.frombuffer(data[begin:end], dtype).reshape(shape)


def write(path: str | os.PathLike[str], tensors: dict[str, np.ndarray]) -> None:
    """Write tensors in the order given; the file appears whole or not at all."""
    header, chunks, offset = {}, [], 0
    for name, tensor in tensors.items():
        chunk = np.ascontiguousarray(tensor).tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = Path(f"{path}.part")
    try:
        part.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *chunks]))
        part.replace(path)
    except OSError as err:
        raise InputError(str(path), None, f"cannot be written ({err.strerror})", "give a path in a folder that exists") from err
