"""Reads tensors from PyTorch's legacy file format, without PyTorch and without running code that a pickle may contain.

Source: `torch.serialization._legacy_save`. Five pickles follow one another: a magic number, the protocol, the system,
the state (a dict of name to tensor) and the keys of the storages. After them, for each storage in the order of the
keys, come its element count as a little-endian int64 and its elements.
"""

import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGE_TYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Allows the four names that a state of plain tensors needs; any other could run code."""

    def find_class(self, module: str, name: str) -> Callable[..., object] | str:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_TYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a tensor")

    def persistent_load(self, pid: tuple[str, str, str, str, int, None]) -> _Storage:
        _, storage_type, key, _, _, _ = pid
        return _Storage(key, _STORAGE_TYPES[storage_type])


def read_state(content: bytes) -> dict[str, NDArray[np.float32]]:
    """Return the float tensors of a saved state by name; counters and other integers are omitted.

    Raises:
        ValueError: The content is not in the legacy format.
        pickle.UnpicklingError: It contains something other than tensors.
    """
    file = io.BytesIO(content)
    magic, _, _, state, keys = (_Unpickler(file).load() for _ in range(5))
    if magic != _MAGIC:
        raise ValueError("This is not a legacy PyTorch file.")
    types = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = np.frombuffer(file.read(count * types[key].itemsize), types[key])
    return {
        name: _view(storages[tensor.storage.key], tensor)
        for name, tensor in state.items()
        if tensor.storage.dtype == np.dtype("<f4")
    }


def _view(storage: NDArray[Any], tensor: _Tensor) -> NDArray[np.float32]:
    # The convolutions were saved as transposed views, so shape alone would read them in the wrong order.
    strides = tuple(stride * storage.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
