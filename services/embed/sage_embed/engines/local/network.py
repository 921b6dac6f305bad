"""The network of the local engine: from pictures to vectors."""

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import onnxruntime

from sage_embed.engines.engine import Vectors
from sage_embed.engines.local.pictures import Pictures

onnxruntime.disable_telemetry_events()

MODEL = Path(__file__).parent / "model" / "efficientnet_lite0_112.onnx"
DIMENSIONS = 112


class Network:
    """EfficientNet-Lite0 up to its last block of 112 channels, averaged over the picture.

    The file is read when the first pictures arrive, so that a process that only lists models does not load it. Several
    threads may share one network.

    Args:
        threads: Threads that compute.
    """

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()

    def vectors(self, pictures: Pictures) -> Vectors:
        """Return a vector for each picture.

        Args:
            pictures: Shape ``(n, 224, 224, 3)``.

        Returns:
            Shape ``(n, 112)``. A picture's vector is bit-identical only within a batch of the same pictures.
        """
        with self._lock:
            session = self._session
        vectors: Vectors = session.run(["vector"], {"frames": pictures})[0]
        return vectors

    @cached_property
    def _session(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait for work would slow down the decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
