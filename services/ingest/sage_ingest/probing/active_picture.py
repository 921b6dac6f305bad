"""Finds the active picture: what is left of a frame without black bars, as in a letterboxed film."""

import contextlib
import io
import itertools
import time
from collections.abc import Iterator, Sequence

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from sage_film.container import SeekableFile, open_film
from sage_film.timeline import picture_packets
from sage_film.tracks import select_track
from sage_runtime.process.confined import BudgetExceededError

from sage_ingest.probing.jumps import can_sample
from sage_ingest.probing.ports import Limits
from sage_ingest.videos.model import Media, PictureArea

# Places in the film at which a keyframe is looked at.
_PLACES = 8
# Fewer frames with a picture say nothing: a night sky or a title may be black above and below.
_MIN_FRAMES = 3
# A film with too few keyframes is decoded from its beginning: so many frames, of which each tenth is looked at.
_DECODED_FRAMES, _EVERY = 250, 10
# Mean luma, of 255, up to which a line is black. Video black is 16, and compression adds noise. FFmpeg's `cropdetect`
# has the same limit.
_BLACK = 24
# Lines are as long as this after scaling.
_LINE_PIXELS = 64
# Opposite bars differ by less than this share of the frame. A dark floor is no bar.
_MAX_UNEVEN = 0.02
# A smaller share of the width or height is a title on black. A vertical film in a wide frame has 0.32 of the width, and
# the widest films, of 2.76:1, have 0.48 of the height of 4:3.
_MIN_WIDTH, _MIN_HEIGHT = 0.3, 0.45
# How much brighter the picture becomes within these lines at its edge.
_EDGE, _EDGE_LINES = 12, 2
# What this may cost, because no film is refused for it. A slow store or a large picture ends it early.
_MAX_BYTES = 64 * 1024**2
_MAX_PACKETS = 600
_MAX_CPU_S = 5.0
_MAX_S = 20.0


def find_active_picture(file: SeekableFile, media: Media, *, size_bytes: int, limits: Limits) -> PictureArea | None:
    """Return the area of the frame inside its black bars, which is the whole frame if there are none.

    A line belongs to a bar if it is black in every frame that is looked at. Entirely black frames say nothing. Bars are
    as wide on both sides, and the picture begins at a sharp edge.

    Args:
        file: The film.
        media: What else is known of it.
        size_bytes: Size of the file.
        limits: The largest picture that is decoded.

    Returns:
        The area in pixels of the coded picture; `None` if too few frames with a picture were found.
    """
    lines, budget = _Lines(media.width, media.height), _Budget()
    try:
        with open_film(_BudgetedFile(file, budget), max_pixels=limits.max_pixels) as container:
            stream = select_track(container, media.video_track)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
            for frame in _keyframes(container, stream, media, size_bytes=size_bytes):
                lines.add(frame)
                budget.check()
            if lines.count < _MIN_FRAMES:
                for number, frame in enumerate(_first_frames(container, stream, media), start=1):
                    if number % _EVERY == 0:
                        lines.add(frame)
                    budget.check()
    except (av.error.FFmpegError, ValueError, BudgetExceededError):
        # What has been seen until then may be enough.
        pass
    return lines.area()


class _Budget:
    """What may still be read and how long it may take."""

    def __init__(self) -> None:
        self._left_bytes = _MAX_BYTES
        self._until, self._cpu_until = time.monotonic() + _MAX_S, time.process_time() + _MAX_CPU_S

    def check(self, *, read_bytes: int = 0) -> None:
        """Count bytes that were read.

        Raises:
            BudgetExceededError: They, or the time, are too much.
        """
        self._left_bytes -= read_bytes
        if self._left_bytes < 0 or time.monotonic() > self._until or time.process_time() > self._cpu_until:
            raise BudgetExceededError


class _BudgetedFile:
    """A file that is read within a budget."""

    def __init__(self, file: SeekableFile, budget: _Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._budget.check(read_bytes=len(data))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _keyframes(
    container: InputContainer, stream: VideoStream, media: Media, *, size_bytes: int
) -> Iterator[VideoFrame]:
    """Yield keyframes from all over the film."""
    seen = set[int | None]()
    for place in range(_PLACES):
        share = (place + 0.5) / _PLACES
        # Damage in one place is none in the others.
        with contextlib.suppress(av.error.FFmpegError):
            if can_sample(container):
                container.seek(int(share * size_bytes), unsupported_byte_offset=True)
            else:
                seconds = media.start_offset_seconds + share * media.duration_seconds
                container.seek(int(seconds * av.time_base))
            packets = itertools.islice(picture_packets(container, stream), _MAX_PACKETS)
            packet = next((packet for packet in packets if packet.is_keyframe and packet.size), None)
            if packet is not None and packet.dts not in seen:
                seen.add(packet.dts)
                yield from [*stream.decode(packet), *stream.decode(None)]


def _first_frames(container: InputContainer, stream: VideoStream, media: Media) -> Iterator[VideoFrame]:
    container.seek(int(media.start_offset_seconds * av.time_base))
    frames = (frame for packet in picture_packets(container, stream) for frame in stream.decode(packet))
    return itertools.islice(frames, _DECODED_FRAMES)


class _Lines:
    """How bright each row and column was at most, over all frames."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._columns, self._rows = [0.0] * width, [0.0] * height
        self.count = 0

    def add(self, frame: VideoFrame) -> None:
        if (frame.width, frame.height) != self._size:
            return
        rows = _brightness(_rows(frame.reformat(width=_LINE_PIXELS, height=frame.height, format="gray")))
        if max(rows) <= _BLACK:
            return
        columns = _brightness(_columns(frame.reformat(width=frame.width, height=_LINE_PIXELS, format="gray")))
        self.count += 1
        self._rows = list(map(max, self._rows, rows))
        self._columns = list(map(max, self._columns, columns))

    def area(self) -> PictureArea | None:
        if self.count < _MIN_FRAMES:
            return None
        left, right = _between_bars(self._columns)
        top, bottom = _between_bars(self._rows)
        area = PictureArea(left=left, top=top, width=right - left, height=bottom - top)
        is_title = area.width < _MIN_WIDTH * self._size[0] or area.height < _MIN_HEIGHT * self._size[1]
        return None if is_title else area


def _between_bars(brightness: Sequence[float]) -> tuple[int, int]:
    """Return the first line between two bars and the one behind the last; all lines if there are no bars.

    What is lit within a bar, such as subtitles, does not end it.
    """
    count = len(brightness)
    start, end = _longest_run([value > _BLACK for value in brightness])
    even = abs(start - (count - end)) < _MAX_UNEVEN * count
    sharp = _is_edge(brightness, outside=start - 1, inside=start) and _is_edge(brightness, outside=end, inside=end - 1)
    return (start, end) if even and sharp else (0, count)


def _longest_run(lit: Sequence[bool]) -> tuple[int, int]:
    """Return where the longest run of lit lines begins and ends."""
    start, longest = 0, (0, 0)
    for index, one in enumerate([*lit, False]):
        if not one:
            longest = max(longest, (start, index), key=lambda run: run[1] - run[0])
            start = index + 1
    return longest


def _is_edge(brightness: Sequence[float], outside: int, inside: int) -> bool:
    """Whether two lines are at the edge of a picture, which becomes bright over a few lines. A vignette does not."""
    step, last = inside - outside, len(brightness) - 1
    near, far = inside + _EDGE_LINES * step, outside - _EDGE_LINES * step
    return brightness[min(max(near, 0), last)] - brightness[min(max(far, 0), last)] >= _EDGE


def _rows(picture: VideoFrame) -> Sequence[memoryview]:
    data, stride = memoryview(picture.planes[0]), picture.planes[0].line_size
    return [data[row * stride : row * stride + picture.width] for row in range(picture.height)]


def _columns(picture: VideoFrame) -> Sequence[memoryview]:
    data, stride = memoryview(picture.planes[0]), picture.planes[0].line_size
    return [data[column : picture.height * stride : stride] for column in range(picture.width)]


def _brightness(lines: Sequence[memoryview]) -> Sequence[float]:
    """Return the mean luma of each line."""
    return [sum(line) / _LINE_PIXELS for line in lines]
