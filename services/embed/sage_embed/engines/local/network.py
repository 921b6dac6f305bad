"""The network of the local engine: frames are converted to pictures, and pictures to vectors."""

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from sage_embed.engines.engine import Vectors

MODEL = Path(__file__).parent / "model" / "efficientnet_lite0_112.onnx"
# Width and height of a picture.
INPUT_SIZE = 224
DIMENSIONS = 112

# RGB, shape (224, 224, 3) for one picture and (n, 224, 224, 3) for several.
Pictures = NDArray[np.uint8]


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


class PictureConverter:
    """Converts frames to pictures for the network: upright, square, RGB. For use by one thread."""

    def __init__(self) -> None:
        # Kept because it caches the scaler's tables: recomputing them costs as much as scaling.
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> Pictures:
        """Return a frame as RGB, shape ``(224, 224, 3)``, rotated according to its display matrix.

        Width and height are scaled independently: the entire picture is used, and the pixel aspect ratio and size
        make no difference.
        """
        rotation = frame.rotation
        if frame.interlaced_frame:
            frame = _without_interlace_flag(frame)
        scaled = self._reformatter.reformat(
            frame,
            width=INPUT_SIZE,
            height=INPUT_SIZE,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        # Rotating the small square equals rotating the frame, and is nearly free. Both angles are counter-clockwise.
        return np.rot90(scaled.to_ndarray(), round(rotation / 90)).astype(np.uint8, copy=False)


def _without_interlace_flag(frame: VideoFrame) -> VideoFrame:
    """Return a copy that is scaled as one picture.

    The scaler would scale each field separately and weave the results, which produces combing that no progressive
    encode of the same film has. Scaled as one picture, the fields blend. Pixel formats without a numpy view are
    left unchanged.
    """
    try:
        copy = VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
    except ValueError:
        return frame
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy
