"""The reader of the weights that the local model is built from: `tools/torch_pickle.py`."""

import importlib.util
import io
import os
import pickle
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

_MAGIC = 0x1950A86A20F9469CFC6C


@pytest.fixture(scope="module")
def torch_pickle() -> ModuleType:
    """The module, which is in no package."""
    path = Path(__file__).parents[3] / "tools" / "torch_pickle.py"
    spec = importlib.util.spec_from_file_location("torch_pickle", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_a_pickle_that_runs_code_is_refused(torch_pickle: ModuleType) -> None:
    """Weights can contain only tensors: a call hidden among them is rejected before it is made."""
    file = io.BytesIO()
    for part in (_MAGIC, 1001, {}, {"weight": _Runs()}, []):
        pickle.dump(part, file, protocol=2)
    with pytest.raises(pickle.UnpicklingError, match="system is not part of a tensor"):
        torch_pickle.read_state(file.getvalue())


def test_a_tensor_is_read_in_the_order_of_its_strides(torch_pickle: ModuleType) -> None:
    """A tensor that was saved as a transposed view is read with the correct rows and columns."""
    # Protocol 0 as text: a call of torch's constructor for a storage of six numbers, seen as 2 by 3, column by column.
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nVkey\nVcpu\nI6\nNtQI0\n"
    tensor += b"(I2\nI3\nt(I1\nI2\ntI00\nNtR"
    state = b"(dVweight\n" + tensor + b"s."
    head = b"".join(pickle.dumps(part, protocol=2) for part in (_MAGIC, 1001, {}))
    numbers = np.arange(6, dtype="<f4")
    content = head + state + pickle.dumps(["key"], protocol=2) + struct.pack("<q", 6) + numbers.tobytes()
    assert torch_pickle.read_state(content)["weight"].tolist() == [[0, 2, 4], [1, 3, 5]]


def test_something_else_is_refused(torch_pickle: ModuleType) -> None:
    """A file of another format is named as such."""
    with pytest.raises(ValueError, match="not a legacy PyTorch file"):
        torch_pickle.read_state(b"".join(pickle.dumps(part) for part in (1, 2, 3, {}, [])))
