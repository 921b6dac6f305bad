"""Measures a video file with FFmpeg through PyAV: whether it is complete, and its media."""

import contextlib
from collections.abc import Iterator
from dataclasses import astuple, replace
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from sage_film.container import RAW_FORMATS, SeekableFile, open_film
from sage_film.orientation import orientation
from sage_film.programs import OneProgramFile, one_program
from sage_film.tracks import UNKNOWN_CODEC, NoSuchTrackError, choose_track, picture_tracks, select_track
from sage_runtime.process.confined import BudgetExceededError

from sage_ingest.probing import description
from sage_ingest.probing.active_picture import find_active_picture
from sage_ingest.probing.completeness import missing_bytes
from sage_ingest.probing.encryption import SAMPLE_AES, is_file_encrypted, is_pid_encrypted, is_track_encrypted
from sage_ingest.probing.frame_times import BROKEN, CUT_OFF, FrameTimesReader, NoPictureError
from sage_ingest.probing.limits import check_length, check_picture
from sage_ingest.probing.ports import Limits, UnreadableError
from sage_ingest.probing.structure import has_boxes
from sage_ingest.probing.timing import FrameTimes, timing
from sage_ingest.probing.views import PartialFile, hide_middle, sample_ranges
from sage_ingest.videos.model import Media, VideoTrack

_ENCRYPTED = "it is encrypted; only films without copy protection can be read"
_DIFFERENT_PARTS = "it joins recordings whose picture tracks differ; convert them to the same format first"
# With more pictures in a row in other tracks, a part of the film is missing in the chosen one.
_MAX_OTHER_PICTURES = 25
_DEFAULT_LIMITS = Limits()


def measure(
    file: SeekableFile, *, size_bytes: int, video_track: int | None = None, limits: Limits = _DEFAULT_LIMITS
) -> Media:
    """Return the media of a file, after decoding a few frames and finding its end.

    Args:
        file: The file. It may raise `BudgetExceededError`.
        size_bytes: Its size.
        video_track: The picture track that is the film; `None`: `sage_film.tracks.choose_track` decides.
        limits: What is too large to be accepted.

    Raises:
        UnreadableError: It is not a complete video that can be decoded.
    """
    view = PartialFile(file, size_bytes=size_bytes)
    try:
        missing = missing_bytes(view.read_at, size_bytes=size_bytes)
        if missing:
            raise UnreadableError(f"{CUT_OFF}: at least {missing} bytes are missing")
        try:
            film = one_program(view)
            # There may be thousands of fragments, of which only the first and the last ones matter.
            skips_fragments = size_bytes > limits.whole_bytes and has_boxes(view.read_at(0, 16))
            empty = set[int]()
            while True:
                with _open(film, limits, finds_fragments=not skips_fragments) as container:
                    measurement = _Measurement(container, view, film, size_bytes=size_bytes, limits=limits)
                    media = measurement.media(video_track, empty=empty)
                if media is not None:
                    break
        except UnreadableError as error:
            if is_file_encrypted(view.read_at, size_bytes=size_bytes):
                raise UnreadableError(_ENCRYPTED, detail=error.detail) from error
            raise
    except BudgetExceededError as error:
        raise UnreadableError("too much of it would have to be read to determine its contents") from error
    area = find_active_picture(file, media, size_bytes=size_bytes, limits=limits)
    return replace(media, active_picture=area)


@contextlib.contextmanager
def _open(file: SeekableFile, limits: Limits, *, finds_fragments: bool = True) -> Iterator[InputContainer]:
    try:
        container = open_film(file, max_pixels=limits.max_pixels, finds_fragments=finds_fragments)
    except (av.error.FFmpegError, ValueError) as error:
        raise UnreadableError(_unsupported(file), detail=str(error)) from error
    with container:
        yield container


def _unsupported(file: SeekableFile) -> str:
    try:
        with open_film(file, formats=RAW_FORMATS) as container:
            name = container.format.long_name.removeprefix("raw ")
    except (av.error.FFmpegError, ValueError):
        return "it is not in a video format that this server supports"
    return f"it is {name} without a container, which does not say when frames are shown; put it into MP4 or Matroska"


class _Measurement:
    """The measurement of one open file."""

    def __init__(
        self, container: InputContainer, view: PartialFile, film: SeekableFile, *, size_bytes: int, limits: Limits
    ) -> None:
        self._container = container
        self._view = view
        self._film = film
        self._size_bytes = size_bytes
        self._limits = limits
        self._name = container.format.name

    def media(self, requested: int | None, *, empty: set[int]) -> Media | None:
        """Return the media; `None`, and one more empty track, if the chosen one is empty and there may be another."""
        container = self._container
        tracks = picture_tracks(container)
        others = [
            replace(track, codec=UNKNOWN_CODEC) if index in empty else track for index, track in enumerate(tracks)
        ]
        try:
            chosen = choose_track(others, requested)
        except NoSuchTrackError as error:
            raise UnreadableError(str(error)) from error
        stream = select_track(container, chosen)
        is_sample_aes = isinstance(self._film, OneProgramFile) and self._film.stream_type(stream.id) == SAMPLE_AES
        if is_sample_aes or is_track_encrypted(container, stream, self._view.read_at, size_bytes=self._size_bytes):
            raise UnreadableError(_ENCRYPTED)
        context = stream.codec_context
        check_picture(context.width, context.height, self._limits)
        # One frame is decoded: threads would cost memory and save no time.
        context.thread_count = 1
        context.options = {"max_pixels": str(self._limits.max_pixels)}
        try:
            first, start, times, jumps = self._read(stream)
        except NoPictureError:
            empty.add(chosen)
            if requested is None and any(
                track.codec != UNKNOWN_CODEC and not track.is_cover and index not in empty
                for index, track in enumerate(tracks)
            ):
                return None
            raise
        except av.error.FFmpegError as error:
            raise UnreadableError(BROKEN, detail=str(error)) from error
        self._check_parts(stream)
        timed = timing(stream, times)
        duration = timed.end - start
        if duration <= 0:
            raise UnreadableError("it has no length")
        check_length(first, duration_s=duration, rate=timed.rate, frames=len(times.ticks), limits=self._limits)
        mirrored, rotation_degrees = orientation(first)
        return Media(
            duration_seconds=float(duration),
            start_offset_seconds=float(start),
            container=self._name,
            video_codec=context.name,
            width=context.width,
            height=context.height,
            rotation_degrees=rotation_degrees,
            frame_rate=timed.rate,
            frame_count=len(times.ticks) if times.is_whole else None,
            frame_rate_mode=timed.mode,
            sample_aspect_ratio=description.sample_aspect_ratio(stream),
            mirrored=mirrored,
            start_timecode=description.start_timecode(container, stream),
            field_order=description.field_order(context),
            color=description.color(first),
            audio_tracks=description.audio_tracks(container),
            video_track=chosen,
            video_tracks=tuple(VideoTrack(*astuple(track)[:6]) for track in tracks),
            timestamps_jump=jumps,
        )

    def _check_parts(self, stream: VideoStream) -> None:
        """Check the parts of a transport stream whose tables change on the way."""
        if not isinstance(self._film, OneProgramFile):
            return
        if self._film.longest_run_of_others(stream.id) > _MAX_OTHER_PICTURES:
            raise UnreadableError(_DIFFERENT_PARTS)
        for pid in self._film.pids_in_file(stream.id) - {stream.id}:
            if is_pid_encrypted(self._view.read_at, pid=pid, size_bytes=self._size_bytes):
                raise UnreadableError(_ENCRYPTED)

    def _read(self, stream: VideoStream) -> tuple[VideoFrame, Fraction, FrameTimes, bool]:
        """Return the first frame, its time, the times of all frames or of those at the end, and whether they jump."""
        samples = sample_ranges(self._view.read_at, size_bytes=self._size_bytes)
        reader = FrameTimesReader(self._container, stream, limits=self._limits, size_bytes=self._size_bytes)
        first = reader.first_frame()
        if samples is not None:
            last = stream.index_entries[-1] if len(stream.index_entries) else None
            if last is not None and last.pos + last.size > self._size_bytes:
                raise UnreadableError(CUT_OFF)
            # The index has told FFmpeg everything else.
            self._view.blank(samples)
        if samples is not None or self._size_bytes <= self._limits.whole_bytes:
            times = reader.all_times()
        elif self._lacks_index() and hide_middle(self._view, size_bytes=self._size_bytes):
            with _open(self._view, self._limits) as container:
                ending = select_track(container, self._container.streams.video.index(stream))
                times = FrameTimesReader(
                    container, ending, limits=self._limits, size_bytes=self._size_bytes
                ).times_after(reader.start)
        else:
            times = reader.times_at_end()
        return first, reader.start * times.tick, times, reader.jumps

    def _lacks_index(self) -> bool:
        """Whether the end cannot be found but by reading: fragments, and Matroska as recorders write it."""
        return self._name.startswith("mov") or (self._name.startswith("matroska") and not self._container.duration)
