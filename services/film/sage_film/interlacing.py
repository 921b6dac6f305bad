"""Interlaced frames, of which the two fields show different moments."""

from av.video.frame import VideoFrame


def as_one_picture(frame: VideoFrame) -> VideoFrame:
    """Return a frame, or a copy of an interlaced one that FFmpeg scales as one picture.

    The scaler would scale each field separately and weave the results, which produces combing that no progressive
    encode of the same film has. Scaled as one picture, the fields blend. Pixel formats without a numpy view are
    left unchanged.
    """
    if not frame.interlaced_frame:
        return frame
    try:
        copy = VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
    except ValueError:
        return frame
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy
