"""Frames as the network takes them: upright, square, RGB."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from sage_embed.adapters.local_network import INPUT_SIZE, Frames


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
        scaled = self._reformatter.reformat(
            frame,
            width=INPUT_SIZE,
            height=INPUT_SIZE,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        # Turning the small square is the same as turning the frame, and nearly free. Both count counter-clockwise.
        return np.rot90(scaled.to_ndarray(), round(frame.rotation / 90)).astype(np.uint8, copy=False)
