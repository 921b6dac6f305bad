"""Measures pictures: luma, texture and chroma of the cells of the displayed picture."""

import functools
from typing import Any, Final

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from sage_film.interlacing import as_one_picture
from sage_film.orientation import orientation, turned

from sage_fingerprint.model import CHROMA_COLUMNS, CHROMA_ROWS, COLUMNS, ROWS, Bytes

# Samples along each side of a cell, of luma and of chroma: the picture is first scaled to 128x72 and 64x36.
_SIDE: Final = 4
_WIDTH, _HEIGHT = COLUMNS * _SIDE, ROWS * _SIDE
_SAMPLES: Final = _SIDE * _SIDE
# Pairs of neighbours inside a cell in one direction.
_PAIRS: Final = _SIDE * (_SIDE - 1)
# Byte per unit of the gradient's root mean square. It saturates at 127.5, half of the steepest edge.
TEXTURE_SCALE: Final = 2
# Pictures that are measured at once, so that numpy's overhead per call is small.
_BATCH: Final = 32


def _luma_table(*, full: bool) -> Bytes:
    """Return the byte for each sum of the samples of a cell. Limited range is expanded: 16 is black, 235 is white."""
    mean = np.arange(255 * _SAMPLES + 1) / _SAMPLES
    return _byte(mean if full else (mean - 16) * 255 / 219)


def _chroma_table(*, full: bool) -> Bytes:
    mean = np.arange(255 * _SAMPLES + 1) / _SAMPLES
    return _byte(mean if full else (mean - 128) * 255 / 224 + 128)


def _byte(values: NDArray[np.float64]) -> Bytes:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


_LUMA = {full: _luma_table(full=full) for full in (False, True)}
_CHROMA = {full: _chroma_table(full=full) for full in (False, True)}


class PictureMeter:
    """Measures the pictures of frames, several at once. For use by one thread."""

    def __init__(self) -> None:
        # Kept because it caches the scaler's tables.
        self._scaler = VideoReformatter()
        self._luma = np.empty((_BATCH, _HEIGHT, _WIDTH), np.uint8)
        self._chroma = np.empty((_BATCH, 2, _HEIGHT // 2, _WIDTH // 2), np.uint8)
        self._count = 0
        self._full = False
        self._measured: list[tuple[Bytes, Bytes, Bytes]] = []

    def add(self, frame: VideoFrame) -> None:
        """Add a frame's picture."""
        full = _is_full_range(frame)
        if self._count == _BATCH or full != self._full:
            self._flush()
        self._full = full
        mirrored, degrees = orientation(frame)
        across = degrees % 180 != 0
        small = self._scaler.reformat(
            as_one_picture(frame),
            width=_HEIGHT if across else _WIDTH,
            height=_WIDTH if across else _HEIGHT,
            format="yuv420p",
            # Each sample is the mean of the pixels under it, so that encodes of different sizes measure the same.
            interpolation=Interpolation.AREA,
            # The same range for both: code values stay as they are. What is RGB becomes the full range.
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            dst_colorspace=None if _is_yuv(frame.format.name) else Colorspace.ITU709,
            threads=1,
        )
        self._luma[self._count] = turned(_plane(small, 0), mirrored, degrees)
        for index in (0, 1):
            self._chroma[self._count, index] = turned(_plane(small, 1 + index), mirrored, degrees)
        self._count += 1

    def take(self) -> tuple[Bytes, Bytes, Bytes]:
        """Return luma, texture and chroma of all pictures since the last call, shaped as in `Fingerprint`."""
        self._flush()
        measured, self._measured = self._measured, []
        if not measured:
            return (
                np.empty((0, ROWS, COLUMNS), np.uint8),
                np.empty((0, ROWS, COLUMNS), np.uint8),
                np.empty((0, 2, CHROMA_ROWS, CHROMA_COLUMNS), np.uint8),
            )
        luma, texture, chroma = zip(*measured, strict=True)
        return np.concatenate(luma), np.concatenate(texture), np.concatenate(chroma)

    def _flush(self) -> None:
        if self._count:
            luma, chroma = self._luma[: self._count], self._chroma[: self._count]
            self._measured.append(measure(luma, chroma, full=self._full))
        self._count = 0


def measure(luma: Bytes, chroma: Bytes, *, full: bool) -> tuple[Bytes, Bytes, Bytes]:
    """Return luma, texture and chroma of the cells of pictures.

    Args:
        luma: Shape ``(n, 72, 128)``.
        chroma: Shape ``(n, 2, 36, 64)``.
        full: Whether the values use the full range of a byte, rather than 16 to 235 (luma) or 240 (chroma).
    """
    luma = luma.reshape(-1, ROWS, _SIDE, _WIDTH)
    chroma = chroma.reshape(-1, 2, CHROMA_ROWS, _SIDE, _WIDTH // 2)
    return (
        _LUMA[full].take(_columns(_rows(luma, np.uint16))),
        _texture(luma.astype(np.int16), full=full),
        _CHROMA[full].take(_columns(_rows(chroma, np.uint16))),
    )


def _texture(rows: NDArray[np.int16], *, full: bool) -> Bytes:
    """Return the root mean square of the differences between neighbours inside a cell, across and down."""
    # A square is at most 65,025: what wraps in 16 bits is right as an unsigned number.
    across = rows[..., 1:] - rows[..., :-1]
    across *= across
    down = rows[:, :, 1:] - rows[:, :, :-1]
    down *= down
    total = _columns(_rows(across.view(np.uint16), np.uint32), _SIDE - 1)
    total += _columns(_rows(down.view(np.uint16), np.uint32))
    scale = TEXTURE_SCALE if full else TEXTURE_SCALE * 255 / 219
    root: NDArray[np.float32] = np.sqrt(total.astype(np.float32) * np.float32(scale**2 / _PAIRS))
    saturated: NDArray[np.float32] = np.minimum(root + np.float32(0.5), np.float32(255))
    return saturated.astype(np.uint8)


def _rows(values: NDArray[Any], kind: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """Return the sums of the rows of each cell, which are the last but one axis."""
    total = values[..., 0, :].astype(kind)
    for row in range(1, values.shape[-2]):
        total += values[..., row, :]
    return total


def _columns(values: NDArray[Any], used: int = _SIDE) -> NDArray[Any]:
    """Return the sums of the first columns of each cell."""
    total = values[..., 0::_SIDE].copy()
    for column in range(1, used):
        total += values[..., column::_SIDE]
    return total


def _plane(picture: VideoFrame, index: int) -> Bytes:
    plane = picture.planes[index]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


@functools.cache
def _is_yuv(name: str) -> bool:
    pixel_format = VideoFormat(name)
    return len(pixel_format.components) >= 3 and not pixel_format.is_rgb and not name.startswith("xyz")


def _is_full_range(frame: VideoFrame) -> bool:
    if frame.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return frame.color_range == ColorRange.JPEG
    name = frame.format.name
    return name.startswith("yuvj") or not _is_yuv(name)
