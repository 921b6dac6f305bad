"""A remote file for FFmpeg, read with HTTP range requests.

FFmpeg's own HTTP client is not used: it cannot be interrupted while it waits, does not use the certificates of this
machine, and cannot request a new URL when the old one has expired.
"""

import contextlib
import http.client
import io
import socket
import ssl
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray
from sage_runtime.errors import Reason, SageError

from sage_embed.engines.engine import Vectors

_TIMEOUT_S = 10.0
# Delays after consecutive failures with no bytes read in between.
_RETRY_WAITS_S = (0.2, 1.0, 3.0)
# A forward seek up to this distance reads and discards, which is faster than a new request.
_READ_ON_BYTES = 1024 * 1024
_ACCEPTED = (http.client.PARTIAL_CONTENT, http.client.OK)


class AbortedError(Exception):
    """The source was aborted."""


class _RefusedError(Exception):
    """The server did not respond with the requested bytes."""


class HttpSource:
    """Reads a remote file that does not change.

    After a broken connection, reading continues at the same offset with a fresh URL. One thread reads; any thread may
    abort.

    Args:
        url: Makes a valid URL. Called in the reading thread.

    Attributes:
        error: The error that ended reading, if any. FFmpeg may mistake it for the end of the file.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._position = 0
        self._size: int | None = None
        self._response: http.client.HTTPResponse | None = None
        self._response_at = 0
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._aborted = threading.Event()
        self.error: Exception | None = None

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, or none at the end of the file.

        Raises:
            AbortedError: `abort` was called.
            SageError: STORE_UNAVAILABLE if the server cannot be reached or refuses the request.
        """
        try:
            return self._read(size)
        except Exception as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset. The request is made by the next read."""
        if whence == io.SEEK_END and self._size is None:
            # The response to a request states the size.
            self.read(1)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size or 0}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def abort(self) -> None:
        """Interrupt a waiting read, and fail all later ones."""
        self._aborted.set()
        with self._lock:
            if self._socket is not None:
                # Wakes a thread that waits for bytes. Closing the socket would not.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. Must not be called during a read."""
        with self._lock:
            if self._response is not None:
                self._response.close()
            if self._socket is not None:
                self._socket.close()
            self._response = self._socket = None

    def _read(self, size: int) -> bytes:
        failures = 0
        while True:
            try:
                self._go_to_position()
                if self._response is None:
                    return b""
                data = _receive(self._response, size, at_end=self._position >= (self._size or 0))
            except (OSError, http.client.HTTPException, _RefusedError) as error:
                self.close()
                if failures == len(_RETRY_WAITS_S):
                    detail = f"reading the video at byte {self._position}: {error!r}"
                    raise SageError(Reason.STORE_UNAVAILABLE, detail=detail, store="video store") from error
                # An abort also breaks the connection, and is detected here.
                if self._aborted.wait(_RETRY_WAITS_S[failures]):
                    raise AbortedError from error
                failures += 1
            else:
                self._position += len(data)
                self._response_at = self._position
                return data

    def _go_to_position(self) -> None:
        """Make the next byte of the response the one at the position. At the end of the file, leave no response."""
        if self._aborted.is_set():
            raise AbortedError
        ahead = self._position - self._response_at
        if self._response is not None and 0 <= ahead <= _READ_ON_BYTES:
            while ahead:
                ahead -= len(_receive(self._response, ahead, at_end=False))
            self._response_at = self._position
            return
        self.close()
        if self._size is None or self._position < self._size:
            self._request()

    def _request(self) -> None:
        url = urlsplit(self._url())
        if url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                url.netloc, timeout=_TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(url.netloc, timeout=_TIMEOUT_S)
        connection.connect()
        with self._lock:
            self._socket = connection.sock
        if self._aborted.is_set():
            raise AbortedError
        target = f"{url.path}?{url.query}" if url.query else url.path
        connection.request("GET", target, headers={"Range": f"bytes={self._position}-", "Accept-Encoding": "identity"})
        response = connection.getresponse()
        if response.status not in _ACCEPTED or (response.status == http.client.OK and self._position):
            response.close()
            raise _RefusedError(f"HTTP {response.status}")
        self._response, self._response_at = response, self._position
        self._size = self._position + (response.length or 0)


def _receive(response: http.client.HTTPResponse, size: int, *, at_end: bool) -> bytes:
    """Return up to `size` bytes. None is an error unless the file has ended."""
    data = response.read(size)
    if not data and size and not at_end:
        raise _RefusedError("the connection ended early")
    return data


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
