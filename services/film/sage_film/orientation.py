"""Which way up a picture is shown."""

import math
import struct
from typing import TYPE_CHECKING, cast

from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MATRIX = struct.Struct("<9i")


def orientation(frame: VideoFrame) -> tuple[bool, int]:
    """Return whether a player mirrors the picture left to right, and the degrees by which it then turns it clockwise.

    The display matrix is nine numbers `a b u c d v x y w`, of which `a` to `d` are 16.16 fixed point: a point (p, q) of
    the picture is displayed at (ap + cq, bp + dq), with q downwards. Its determinant is negative if it mirrors.
    Source: ISO/IEC 14496-12, section 6.2.2; `libavutil/display.h`.
    """
    # PyAV's type hints list only some keys.
    side_data = cast("SideDataContainer", frame.side_data)
    raw = next((bytes(one) for one in side_data if one.type is Type.DISPLAYMATRIX), b"")
    if len(raw) < _MATRIX.size:
        return False, 0
    a, b, _, c, d, *_ = _MATRIX.unpack_from(raw)
    mirrored = a * d - b * c < 0
    if mirrored:
        # Mirroring comes first, so it negates the image of p.
        a, b = -a, -b
    return mirrored, round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360


def displayed(picture: "NDArray[np.uint8]", frame: VideoFrame) -> "NDArray[np.uint8]":
    """Return a picture of shape `(height, width, ...)` that was made from a frame as a player shows it."""
    return turned(picture, *orientation(frame))


def turned(picture: "NDArray[np.uint8]", mirrored: bool, degrees: int) -> "NDArray[np.uint8]":
    """Return a picture of shape `(height, width, ...)`, mirrored, then turned clockwise by quarters."""
    if mirrored:
        picture = picture[:, ::-1]
    # What `numpy.rot90` does, without importing numpy here.
    for _ in range(degrees // 90):
        picture = picture[::-1].swapaxes(0, 1)
    return picture
