"""Frames as the network takes them: upright, square, RGB."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from sage_embed.adapters.local.network import INPUT_SIZE, Frames


class Pictures:
    """Turns frames into pictures. For one thread."""

    def __init__(self) -> None:
        # Kept, as it holds the scaler's tables: making them anew costs as much as scaling.
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> Frames:
        """Return a frame as RGB, shape ``(224, 224, 3)``, turned as its display matrix says.

        Width and height are scaled each on its own: the whole picture is seen, and a different pixel aspect or size
        of the same picture makes no difference.
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
        # Turning the small square is the same as turning the frame, and nearly free. Both count counter-clockwise.
        return np.rot90(scaled.to_ndarray(), round(rotation / 90)).astype(np.uint8, copy=False)


def _without_interlace_flag(frame: VideoFrame) -> VideoFrame:
    """Return a copy that is scaled as one picture.

    The scaler would scale each field on its own and weave the results: combs that no progressive encode of the same
    film has. Scaled as one, the fields blend. A pixel format that numpy has no view of is left as it is.
    """
    try:
        copy = VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
    except ValueError:
        return frame
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy
