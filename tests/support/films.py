"""Films for tests, made from the samples."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SAMPLES = Path(__file__).parents[2] / "samples"
# Fine enough for every frame rate, and coarse enough for MPEG-4, which has 16 bits for it.
TIME_BASE = Fraction(1, 24_000)


def re_encode(
    source: Path,
    target: Path,
    *,
    crf: int,
    codec: str = "libx264",
    width: int | None = None,
    height: int | None = None,
    start_seconds: float = 0.0,
    times: int = 1,
    keep_sound: bool = False,
    bar: int = 0,
) -> Path:
    """Encode a film's pictures again and return its path.

    Args:
        source: The film.
        target: Where to; its ending chooses the container.
        crf: Quality of H.264, 0 (lossless) to 51.
        codec: Encoder of the picture.
        width: Pixels. None: as it is.
        height: Pixels. None: as it is.
        start_seconds: Timestamp of the first frame.
        times: How often it is repeated.
        keep_sound: Whether its sound is copied; otherwise it has none. Not for repeated films.
        bar: Height in pixels of the black bars above and below, between which the picture is squeezed; a multiple of 4.
    """
    with av.open(target, "w") as out:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(source) as film:
                picture = film.streams.video[0]
                rate = picture.average_rate or Fraction(24)
                if stream is None:
                    stream = out.add_stream(codec, rate=rate)
                    stream.width, stream.height = width or picture.width, height or picture.height
                    stream.pix_fmt = "yuv420p"
                    stream.time_base = TIME_BASE
                    stream.codec_context.time_base = TIME_BASE
                    if codec == "libx264":
                        stream.options = {"crf": str(crf), "preset": "veryfast"}
                    else:
                        stream.bit_rate = 1_500_000
                    if keep_sound:
                        _copy_sound(source, out, start_seconds)
                for frame in film.decode(picture):
                    small = frame.reformat(width=stream.width, height=stream.height - 2 * bar, format="yuv420p")
                    small = _between_bars(small, bar) if bar else small
                    small.time_base = TIME_BASE
                    small.pts = round((Fraction(start_seconds) + offset / rate) / TIME_BASE)
                    small.pict_type = av.video.frame.PictureType.NONE
                    out.mux(stream.encode(small))
                    offset += 1
        assert stream is not None
        out.mux(stream.encode(None))
    return target


# What `films_at_equal_times` puts into the old sample: frames of it, and the first of the frames of the new sample.
TIME_EDITS = (((62, 130), 62), ((216, 264), 252), ((366, 408), 366), ((480, 540), 516))


def films_at_equal_times(folder: Path) -> tuple[Path, Path]:
    """Return two films, the edits of which do not shift time, so that second n of one belongs to second n of the other.

    The old one is the old sample. In the new one a shot is replaced, a card and black cover the picture, and the end is
    longer: each from a 2 s clip into another, with a clip without an edit between any two. The sound is not edited.
    """
    new = folder / "at-equal-times.mp4"
    old = SAMPLES / "old.mp4"
    pictures: list[list[av.VideoFrame]] = []
    for film in (old, SAMPLES / "new.mp4"):
        with av.open(film) as container:
            pictures.append(list(container.decode(video=0)))
    shown = list(pictures[0])
    for (first, end), source in TIME_EDITS:
        shown[first:end] = pictures[1][source : source + end - first]
    with av.open(new, "w") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = shown[0].width, shown[0].height, "yuv420p"
        stream.options = {"crf": "27", "preset": "veryfast"}
        _copy_sound(old, out, 0.0)
        for number, picture in enumerate(shown):
            picture.pts, picture.time_base = number, Fraction(1, 24)
            picture.pict_type = av.video.frame.PictureType.NONE
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return old, new


def _between_bars(frame: av.VideoFrame, height: int) -> av.VideoFrame:
    # Of yuv420p: the rows of luma, then those of both chroma planes, half as long.
    rows = frame.to_ndarray()
    luma, chroma = np.split(rows, [frame.height])
    bar = np.full((height, frame.width), 16, np.uint8)
    grey = np.full((height // 4, frame.width), 128, np.uint8)
    u, v = np.split(chroma, 2)
    return av.VideoFrame.from_ndarray(np.vstack([bar, luma, bar, grey, u, grey, grey, v, grey]), format="yuv420p")


def _copy_sound(source: Path, out: av.container.OutputContainer, start_seconds: float) -> None:
    with av.open(source) as film:
        sound = film.streams.audio[0]
        copied = out.add_stream_from_template(sound)
        for packet in film.demux(sound):
            if packet.dts is not None:
                packet.pts += round(start_seconds / packet.time_base)
                packet.dts += round(start_seconds / packet.time_base)
                packet.stream = copied
                out.mux(packet)
