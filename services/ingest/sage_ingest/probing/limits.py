"""Refuses films that are too large: a small file may hold one that takes a worker days, or all of its memory."""

from fractions import Fraction

from av.video.frame import VideoFrame

from sage_ingest.probing.ports import Limits, UnreadableError


def check_picture(width: int, height: int, limits: Limits) -> None:
    """Check the size of a picture.

    Raises:
        UnreadableError: It is too large.
    """
    if width * height > limits.max_pixels:
        why = f"its picture has {width} x {height} pixels, and at most {limits.max_pixels:,} pixels are accepted"
        raise UnreadableError(why)


def check_length(frame: VideoFrame, *, duration_s: Fraction, rate: Fraction, frames: int, limits: Limits) -> None:
    """Check the length of a film.

    Args:
        frame: Its first frame.
        duration_s: Its length.
        rate: Frames per second.
        frames: Number of frames that are known.
        limits: The limits.

    Raises:
        UnreadableError: It is too long.
    """
    if duration_s > limits.max_duration_s:
        why = f"it is {float(duration_s):,.0f} s long, and at most {limits.max_duration_s:,.0f} s are accepted"
        raise UnreadableError(why)
    frames = max(frames, int(duration_s * rate))
    check_frames(frames, limits)
    # What FFmpeg keeps of a frame in memory, with the padding of its rows.
    decoded = frames * sum(plane.buffer_size for plane in frame.planes)
    if decoded > limits.max_decoded_bytes:
        why = f"decoding it makes {decoded:,} bytes, and at most {limits.max_decoded_bytes:,} are accepted"
        raise UnreadableError(why)


def check_frames(count: int, limits: Limits) -> None:
    """Check the number of frames.

    Raises:
        UnreadableError: It has too many.
    """
    if count > limits.max_frames:
        raise UnreadableError(f"it has more than {limits.max_frames:,} frames, which is the most that is accepted")
