"""The local model: frames in, one vector each out, through onnxruntime."""

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sage_embed.engine import Vectors

MODEL = Path(__file__).parent / "model" / "efficientnet_lite0_112.onnx"
# Width and height of a frame.
INPUT_SIZE = 224
DIMENSIONS = 112

Frames = NDArray[np.uint8]


class Network:
    """EfficientNet-Lite0 up to its last block of 112 channels, averaged over the picture.

    The file is read when the first frames come, so that a process which only lists models does not hold it. Several
    threads may use one network.

    Args:
        threads: Threads that compute.
    """

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()

    def vectors(self, frames: Frames) -> Vectors:
        """Return a vector for each frame.

        Args:
            frames: RGB, shape ``(n, 224, 224, 3)``.

        Returns:
            Shape ``(n, 112)``. A frame's vector is the same to the bit only within a batch of the same frames.
        """
        with self._lock:
            session = self._session
        vectors: Vectors = session.run(["vector"], {"frames": frames})[0]
        return vectors

    @cached_property
    def _session(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait for work would take the processor from the decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
