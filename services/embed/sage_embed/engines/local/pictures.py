"""Frames as the network receives them: upright, square and small."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray
from sage_film.interlacing import as_one_picture
from sage_film.orientation import displayed

# Width and height of a picture.
INPUT_SIZE = 224
PICTURE_BYTES = INPUT_SIZE * INPUT_SIZE * 3

# RGB, shape (224, 224, 3) for one picture and (n, 224, 224, 3) for several.
Pictures = NDArray[np.uint8]


class PictureConverter:
    """Converts frames to pictures for the network: upright, square, RGB. For use by one thread."""

    def __init__(self) -> None:
        # Kept because it caches the scaler's tables: recomputing them costs as much as scaling.
        self._reformatter = VideoReformatter()

    def convert(self, frame: VideoFrame) -> Pictures:
        """Return a frame as RGB, shape ``(224, 224, 3)``, mirrored and rotated according to its display matrix.

        Width and height are scaled independently: the entire picture is used, and the pixel aspect ratio and size
        make no difference.
        """
        scaled = self._reformatter.reformat(
            as_one_picture(frame),
            width=INPUT_SIZE,
            height=INPUT_SIZE,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        # Rotating the small square equals rotating the frame, and is nearly free.
        return displayed(scaled.to_ndarray().astype(np.uint8, copy=False), frame)
