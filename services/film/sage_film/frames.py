"""The frames of a film, decoded in the order in which they are shown, on the timeline that ingest measured."""

import errno
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, NamedTuple

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sage_film.container import SeekableFile, open_film
from sage_film.sound import SoundListener, SteadySound
from sage_film.timeline import (
    PicturePacket,
    SteadyPackets,
    frame_ticks,
    has_only_decoding_times,
    packet_ticks,
    states_lengths,
)
from sage_film.tracks import NoSuchTrackError, choose_track, picture_tracks, select_track, sound_track

_BUFFER_BYTES = 256 * 1024
# Containers round timestamps, to a millisecond at worst. A frame that starts less than this after a time counts as
# shown at that time, so that the same film in two containers yields the same frames.
ROUNDING_SECONDS = 0.002
# Length of picture that may be lost to decoding errors. With more, what is left would describe something else.
_MAX_LOST_SECONDS = 1.0
# How far before the first frame to seek, until two keyframes up to it are found: indexes may use decoding time, which
# runs ahead, and in formats without an index FFmpeg seeks by guessing. None: start at the beginning.
_SEEK_BACK_SECONDS: Final = (5.0, 15.0, 60.0, None)
_NO_SEEK: Final = (None,)
# Sound may be stored before the picture of the same moment. If it does not begin early enough, the next longer one is
# tried. After the longest, there is none: films may have sound only in parts, so the start is not tried.
_SEEK_BACK_FOR_SOUND: Final = _SEEK_BACK_SECONDS[:2]


class UndecodableError(Exception):
    """The picture of a film cannot be decoded.

    Attributes:
        why: A clause for people.
        detail: What FFmpeg says, for the log.
    """

    def __init__(self, why: str, *, detail: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.detail = detail


class ShownFrame(NamedTuple):
    """A frame, and when it is shown.

    Attributes:
        start: When it is shown first, in seconds on the timeline.
        length: For how long, in seconds.
        frame: The picture. The same object again if the film repeats the frame before it.
    """

    start: float
    length: float
    frame: VideoFrame


class FrameDecoder:
    """Decodes the frames of one film.

    Args:
        source: The file.
        start_offset_seconds: The timestamp that is 0 on the timeline.
        threads: Threads that decode.
        video_track: The picture track that is the film; `None`: chosen as ingest does.
        timestamps_jump: Whether the timestamps jump. Where a frame belongs is then known only from the start.
        max_pixels: Pixels of a frame; `None`: any number.
        sound: Receives the packets of the sound.
    """

    def __init__(
        self,
        source: SeekableFile,
        *,
        start_offset_seconds: float,
        threads: int,
        video_track: int | None = None,
        timestamps_jump: bool = False,
        max_pixels: int | None = None,
        sound: SoundListener | None = None,
    ) -> None:
        self._source = source
        self._origin = start_offset_seconds
        self._threads = threads
        self._video_track = video_track
        self._timestamps_jump = timestamps_jump
        self._max_pixels = max_pixels
        self._sound = sound

    def frames(self, *, first_seconds: float = 0.0, end_seconds: float = float("inf")) -> Iterator[ShownFrame]:
        """Yield all frames, or those from the one that is shown at a time, and maybe earlier ones.

        Args:
            first_seconds: The time from which frames are needed. 0: from the beginning.
            end_seconds: Length of the timeline. Frames that start there or later are left out.

        Raises:
            UndecodableError: A part of the picture cannot be decoded.
        """
        try:
            yield from self._frames(first_seconds, end_seconds)
        except av.error.FFmpegError as error:
            raise UndecodableError("the video cannot be read", detail=str(error)) from error

    def _frames(self, first_seconds: float, end_seconds: float) -> Iterator[ShownFrame]:
        for back in _SEEK_BACK_SECONDS if first_seconds > 0 and not self._timestamps_jump else _NO_SEEK:
            if back is not None and back > first_seconds:
                # Not by seeking, which leaves out the sound that is stored before the first picture.
                back = None
            # Reopened for every attempt, because a demuxer may not recover from a failed seek.
            with open_film(self._source, max_pixels=self._max_pixels, buffer_bytes=_BUFFER_BYTES) as container:
                sound = sound_track(container) if self._sound is not None else None
                stream = self._picture(container, sound)
                if self._sound is not None:
                    self._sound.begin(sound)
                stream.codec_context.thread_type = "AUTO"
                stream.codec_context.thread_count = self._threads
                if back is not None and not _seek(container, stream, self._origin + first_seconds - back):
                    continue
                packets: Iterable[PicturePacket] = SteadyPackets(container, stream)
                if sound is not None and self._sound is not None:
                    packets = _with_sound(container, stream, sound, self._sound)
                frames = self._decode(packets, container, stream, duration=end_seconds, sought=back is not None)
                if back is not None:
                    frames = _from_second_keyframe(frames)
                first = next(frames, None)
                if back is not None and (first is None or first.start > first_seconds + ROUNDING_SECONDS):
                    continue
                if back in _SEEK_BACK_FOR_SOUND and sound is not None and self._sound and self._sound.lacks_start:
                    continue
                if first is not None:
                    yield first
                    yield from frames
                return

    def _decode(
        self,
        packets: Iterable[PicturePacket],
        container: InputContainer,
        stream: VideoStream,
        *,
        duration: float,
        sought: bool,
    ) -> Iterator[ShownFrame]:
        rate = stream.average_rate or stream.guessed_rate
        usual_length = float(1 / rate) if rate else 0.0
        last_start = float("-inf")
        end: float | None = None
        shown: VideoFrame | None = None
        lost: list[_Lost] = []
        only_decoding_times = has_only_decoding_times(container, stream)
        for result in _decoded(packets, stream, only_decoding_times=only_decoding_times):
            start = end or 0.0 if result.ticks is None else float(result.ticks * (stream.time_base or 0)) - self._origin
            if isinstance(result, _Lost):
                lost.append(replace(result, start_seconds=start))
                continue
            if start <= last_start:
                # Timestamps go back, or two frames have the same one: only one of them is counted as shown.
                continue
            # Losses before the first frame are normal: packets may refer to frames before the seek or the recording.
            if end is not None:
                _check_loss(lost, end, min(start, duration))
                # Decoder threads report losses a few frames late.
                lost = [loss for loss in lost if loss.start_seconds > start]
            if start >= duration:
                return
            shown = result.frame or shown
            if shown is None:
                continue
            if states_lengths(container):
                length = float(result.length * (stream.time_base or 0)) or usual_length
            else:
                length = start - last_start if end is not None else usual_length
            last_start, end = start, start + length
            yield ShownFrame(start, length, shown)
        if end is not None:
            _check_loss(lost, end, duration)
        elif not sought and not stream.codec_context.width and self._max_pixels is not None:
            # What FFmpeg says of a picture that is too large for it to look at.
            raise UndecodableError(f"its picture cannot be decoded, or has more than {self._max_pixels:,} pixels")
        elif not sought:
            raise UndecodableError("no frame could be decoded")

    def _picture(self, container: InputContainer, sound: AudioStream | None) -> VideoStream:
        try:
            chosen = choose_track(picture_tracks(container), self._video_track)
        except NoSuchTrackError as error:
            why = "the video has no picture track that can be decoded"
            raise UndecodableError(why, detail=str(error)) from error
        stream = select_track(container, chosen, sound=sound)
        context = stream.codec_context
        if self._max_pixels is not None:
            check_size(context.width, context.height, self._max_pixels)
            # Also if the size changes later.
            context.options = {"max_pixels": str(self._max_pixels)}
        return stream


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check the size of a picture.

    Raises:
        UndecodableError: It is too large.
    """
    if width * height > max_pixels:
        raise UndecodableError(f"its picture has {width}x{height} pixels, and at most {max_pixels:,} are decoded")


def _with_sound(
    container: InputContainer, stream: VideoStream, sound: AudioStream, listener: SoundListener
) -> Iterator[PicturePacket]:
    """Yield the packets of the picture. Those of the sound are handed over on the way."""
    tick, steady = stream.time_base or Fraction(1), SteadySound(listener)
    packets = SteadyPackets(
        container, stream, sound=sound, on_sound=lambda packet: steady.add(packet, packets.shift * tick)
    )
    yield from packets
    steady.end()


def _from_second_keyframe(frames: Iterator[ShownFrame]) -> Iterator[ShownFrame]:
    """Leave out the frames up to the second keyframe, some of which may refer to frames before the first one."""
    keyframes, last = 0, None
    for shown in frames:
        if shown.frame is not last and keyframes < 2:
            keyframes += shown.frame.key_frame
            last = shown.frame
        if keyframes > 1:
            yield shown


def _leaves_out_frames(container: InputContainer, stream: VideoStream) -> bool:
    """Whether an AVI file repeats frames by empty chunks, of which FFmpeg loses count when it seeks."""
    entries = stream.index_entries
    return container.format.name == "avi" and len(entries) > 0 and entries[-1].timestamp >= len(entries)


def _seek(container: InputContainer, stream: VideoStream, timestamp: float) -> bool:
    """Seek to the last keyframe up to a timestamp. Return whether that succeeded, and times will be exact."""
    if not stream.time_base or _leaves_out_frames(container, stream):
        return False
    try:
        container.seek(int(timestamp / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


@dataclass(frozen=True)
class _Shown:
    """A frame, or the repetition of the one before it.

    Attributes:
        frame: The frame; `None`: the one before is shown again.
        ticks: When it is shown, in the stream's time base; `None` if unknown.
        length: For how many ticks; 0 if unknown.
    """

    frame: VideoFrame | None
    ticks: int | None
    length: int


@dataclass(frozen=True)
class _Lost:
    """A frame that could not be decoded.

    Attributes:
        error: Why.
        ticks: When it would have been shown, in the stream's time base; `None` if unknown.
        start_seconds: The same on the timeline.
    """

    error: Exception
    ticks: int | None
    start_seconds: float = 0.0


def _decoded(
    packets: Iterable[PicturePacket], stream: VideoStream, *, only_decoding_times: bool
) -> Iterator[_Shown | _Lost]:
    """Yield frames in the order in which they are shown, and a `_Lost` for each that cannot be decoded."""
    source = iter(packets)
    # Empty packets, each of which repeats the frame before it. Decoder threads return frames a few packets late.
    repeats = deque[_Shown]()
    while True:
        try:
            packet = next(source, None)
        except av.error.InvalidDataError as error:
            # The container is corrupt here, but the frames that the decoder still holds are good.
            yield _Lost(error, None)
            packet = None
        ticks = packet_ticks(packet, only_decoding_times=only_decoding_times) if packet is not None else None
        if packet is not None and not packet.size:
            # To the decoder this would be the end.
            if ticks is not None:
                repeats.append(_Shown(None, ticks, packet.duration or 0))
            continue
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            yield _Lost(error, ticks)
            frames = []
        for frame in frames:
            shown_at = frame_ticks(frame, only_decoding_times=only_decoding_times)
            while repeats and shown_at is not None and (repeats[0].ticks or 0) < shown_at:
                yield repeats.popleft()
            yield _Shown(frame, shown_at, frame.duration or 0)
        if packet is None:
            yield from repeats
            return


def _check_loss(lost: list[_Lost], last_end: float, next_start: float) -> None:
    """Raise if too much is missing between two frames because it could not be decoded."""
    if next_start - last_end > _MAX_LOST_SECONDS:
        for loss in lost:
            if loss.start_seconds <= next_start:
                why = f"the picture cannot be decoded after {last_end:.1f} s"
                raise UndecodableError(why, detail=str(loss.error)) from loss.error
