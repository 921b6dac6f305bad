"""Reads the times of frames: all of them, or those at the end of a file that is too large."""

import contextlib
import itertools
from array import array
from collections.abc import Sequence
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from sage_film.timeline import (
    MAX_REORDERED,
    PicturePacket,
    SteadyPackets,
    frame_ticks,
    has_only_decoding_times,
    packet_ticks,
    states_lengths,
    usual_length,
)
from sage_runtime.process.confined import BudgetExceededError

from sage_ingest.probing.jumps import ClockSamples, can_sample
from sage_ingest.probing.limits import check_frames
from sage_ingest.probing.ports import Limits, UnreadableError
from sage_ingest.probing.timing import FrameTimes, stated_rate

BROKEN = "its picture cannot be decoded"
CUT_OFF = "it is incomplete"
# Packets without a decodable frame after which the picture counts as broken.
_MAX_PACKETS = 500
# Without all frames, those at the end of the file are read, over this length.
_EVIDENCE_SECONDS = Fraction(2)
# Containers of which a last packet that FFmpeg marks as corrupt is cut off. In others it may be damaged.
_CUT_PACKETS = ("mov", "avi", "mxf", "ivf", "nut")
# More than this between the end that a file states and a place that cannot be read, and the film is damaged.
_MAX_LOST_SECONDS = 1
# The bit of a VP8 frame's first byte that says whether it is shown (RFC 6386, section 9.1).
_VP8_SHOWN = 0x10
_CHECKED_FRAMES = 10_000


class NoPictureError(UnreadableError):
    """None of the first packets of the picture can be decoded."""


class FrameTimesReader:
    """Reads a file from its beginning: decodes the first frame, and notes when each frame is shown.

    Args:
        container: The file.
        stream: Its picture track. All other tracks should be discarded.
        limits: How many frames are accepted.
        size_bytes: Size of the file.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, limits: Limits, size_bytes: int) -> None:
        self._container = container
        self._stream = stream
        self._limits = limits
        self._size_bytes = size_bytes
        self._tick = stream.time_base or Fraction(1)
        self._only_decoding_times = has_only_decoding_times(container, stream)
        self._states_lengths = states_lengths(container)
        self._hides_frames = stream.codec_context.name == "vp8"
        self._steady = SteadyPackets(container, stream)
        self._packets = iter(self._steady)
        self._start: int | None = None
        # Of all packets so far, in the order of the file; the time and length of the one that is shown last.
        self._noted = array("q")
        self._last_shown, self._last_length = 0, 0
        # How far the last part is moved if the clock jumps somewhere that is not read.
        self._shift_of_end = 0
        self._last: PicturePacket | None = None

    @property
    def start(self) -> int:
        """When the first frame is shown, in ticks of the container's clock."""
        return self._start or 0

    @property
    def jumps(self) -> bool:
        """Whether the clock has jumped so far."""
        return self._steady.jumps > 0 or self._shift_of_end != 0

    def first_frame(self) -> VideoFrame:
        """Decode the first frame.

        Raises:
            NoPictureError: None of the first packets can be decoded.
        """
        for packet in itertools.islice(self._packets, _MAX_PACKETS):
            self._note(packet)
            # An empty packet repeats the frame before it. To the decoder it would be the end.
            frame = self._decode(packet) if packet.size else None
            if frame is not None:
                return frame
        frame = self._decode(None)
        if frame is not None:
            return frame
        if not self._stream.codec_context.width:
            # What FFmpeg says of a picture that is too large for it to look at.
            raise NoPictureError(f"{BROKEN}, or has more than {self._limits.max_pixels:,} pixels")
        raise NoPictureError(BROKEN)

    def all_times(self) -> FrameTimes:
        """Read the rest of the file, and return when all frames are shown.

        Raises:
            UnreadableError: The file is cut off or damaged, or has too many frames.
        """
        error = self._read_rest()
        self._check_end()
        times = FrameTimes(self._tick, self._shown() or [self.start], self._last_length, is_whole=True)
        end = (times.ticks[-1] + times.last_length) * self._tick
        stated = self._stated_end()
        if error is not None and stated is not None and stated - end > _MAX_LOST_SECONDS:
            after = float(end - self.start * self._tick)
            raise UnreadableError(f"it is damaged after {after:.1f} s", detail=str(error)) from error
        return times

    def times_at_end(self) -> FrameTimes:
        """Seek to the end, and return when the frames there are shown, or those of an index that lists all frames.

        Raises:
            UnreadableError: The file has too many frames.
            BudgetExceededError: The end cannot be found without reading too much.
        """
        if can_sample(self._container):
            samples = ClockSamples(self._container, self._stream, size_bytes=self._size_bytes)
            self._shift_of_end = samples.shift()
            if self._shift_of_end:
                return self._times_of_joined(samples)
        indexed = self._indexed()
        check_frames(len(indexed), self._limits)
        stated = self._stated_end()
        shift = self._shift()
        self._noted = array("q")
        try:
            unknown = self._seek_to_end(stated, has_index=bool(indexed)) if stated else 0
            self._read_rest()
        except BudgetExceededError:
            if stated is None:
                raise
            self._noted = array("q")
        end = stated / self._tick if stated else None
        read = self._shown(shift)
        if not read:
            return FrameTimes(self._tick, indexed or [self.start], 0, bool(indexed), end)
        end = Fraction(read[-1] + (self._last_length or usual_length(self._stream)))
        return FrameTimes(self._tick, indexed or read[unknown:] or read, self._last_length, bool(indexed), end)

    def _times_of_joined(self, samples: ClockSamples) -> FrameTimes:
        self._noted = array("q")
        self._packets = iter(samples.end())
        unknown = self._note_first()
        self._read_rest()
        read = self._shown(self._shift_of_end)
        if not read:
            raise UnreadableError("its end cannot be found")
        return FrameTimes(self._tick, read[unknown:] or read, self._last_length, is_whole=False)

    def times_after(self, start: int) -> FrameTimes:
        """Return when the frames of the rest of the file are shown, without decoding any.

        Args:
            start: When the first frame of the film is shown.

        Raises:
            UnreadableError: The file has too many frames.
        """
        self._start = start
        unknown = self._note_first()
        self._read_rest()
        read = self._shown(0)
        return FrameTimes(self._tick, read[unknown:] or read or [start], self._last_length, is_whole=False)

    def _decode(self, packet: PicturePacket | None) -> VideoFrame | None:
        # Streams that begin between two keyframes have packets that cannot be decoded.
        with contextlib.suppress(av.error.FFmpegError):
            for frame in self._stream.decode(packet):
                if isinstance(frame, VideoFrame) and frame.width and frame.height:
                    ticks = frame_ticks(frame, only_decoding_times=self._only_decoding_times)
                    self._start = ticks if ticks is not None else min(self._noted, default=0)
                    return frame
        return None

    def _note(self, packet: PicturePacket) -> None:
        self._last = packet
        ticks = packet_ticks(packet, only_decoding_times=self._only_decoding_times)
        if ticks is None or packet.is_discard:
            return
        if self._hides_frames and packet.size and not memoryview(packet)[0] & _VP8_SHOWN:
            return
        if not self._noted or ticks > self._last_shown:
            self._last_shown, self._last_length = ticks, (packet.duration or 0) if self._states_lengths else 0
        self._noted.append(ticks)

    def _read_rest(self) -> Exception | None:
        """Note all further packets. Return the error that ends the file early, if any."""
        try:
            for count, packet in enumerate(self._packets):
                self._note(packet)
                if count % _CHECKED_FRAMES == 0:
                    check_frames(len(self._noted), self._limits)
        except av.error.FFmpegError as error:
            return error
        check_frames(len(self._noted), self._limits)
        return None

    def _check_end(self) -> None:
        name, last = self._container.format.name, self._last
        if last is not None and last.is_corrupt and name.startswith(_CUT_PACKETS):
            raise UnreadableError(CUT_OFF)
        if name == "ivf" and len(self._noted) < self._stream.frames:
            raise UnreadableError(CUT_OFF)
        # All frames are equally large. FFmpeg skips what remains of a last one (y4m), or treats it as whole (DV).
        if name == "yuv4mpegpipe" and last is not None and last.pos is not None:
            cut_off = 0 < self._size_bytes - last.pos - last.size < last.size
        else:
            cut_off = name == "dv" and last is not None and self._size_bytes % last.size > 0
        if cut_off:
            raise UnreadableError(CUT_OFF)

    def _shift(self) -> int:
        """Return how much later frames are shown than the packets' times say: more than 0 for decoding times."""
        return self.start - self._noted[0] if self._only_decoding_times and self._noted else 0

    def _shown(self, shift: int | None = None) -> Sequence[int]:
        shift, start = self._shift() if shift is None else shift, self.start
        ordered = sorted(ticks + shift for ticks in self._noted)
        return [ticks for ticks, _ in itertools.groupby(ordered) if ticks >= start]

    def _seek_to_end(self, stated: Fraction, *, has_index: bool) -> int:
        """Seek, and return how many of the first frames there may be out of order."""
        rate = stated_rate(self._stream)
        frame_length = 1 / rate if rate else Fraction(1)
        before_end = frame_length if has_index else max(frame_length, _EVIDENCE_SECONDS)
        self._seek(max(self.start * self._tick, stated - before_end), otherwise=stated - frame_length)
        self._packets = iter(SteadyPackets(self._container, self._stream))
        return self._note_first()

    def _note_first(self) -> int:
        """Note the first packet after seeking, and return how many of the first frames may be out of order."""
        first = next(self._packets, None)
        if first is None:
            return 0
        self._note(first)
        # Frames that are displayed among the first ones here may be stored earlier in the file.
        return 0 if first.is_keyframe else MAX_REORDERED

    def _seek(self, seconds: Fraction, *, otherwise: Fraction) -> None:
        """Seek to the last keyframe before a time; formats without an index search for it, or for any packet."""
        # FFmpeg refuses to seek before the first keyframe that it knows.
        with contextlib.suppress(av.error.FFmpegError):
            self._container.seek(int(seconds / self._tick), stream=self._stream, backward=True)
            return
        self._container.seek(int(otherwise / self._tick), stream=self._stream, backward=True)

    def _indexed(self) -> Sequence[int]:
        """Return the times of all frames if the file has an index of them. Many indexes list keyframes only."""
        entries, stream = self._stream.index_entries, self._stream
        is_complete = 0 < stream.frames <= len(entries)
        if self._container.format.name == "avi" and len(entries) and stream.duration:
            # It may have empty slots, which its header counts and its index leaves out.
            is_complete = entries[-1].timestamp + 1 / self._tick >= stream.duration
        if not is_complete:
            return []
        shift = self._shift()
        return [entry.timestamp + shift for entry in itertools.islice(entries, self._limits.max_frames + 1)]

    def _stated_end(self) -> Fraction | None:
        if self._stream.duration:
            return self.start * self._tick + self._stream.duration * self._tick
        if self._container.duration:
            return self.start * self._tick + Fraction(self._container.duration, av.time_base)
        return None
