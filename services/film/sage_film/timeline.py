"""The timeline of a film: when each frame is shown, in ticks of the picture track's time base.

Recordings that were joined, cut by a broadcaster or made with a recorder that was reset have clocks that start again or
jump. `SteadyPackets` joins the parts, so that packets, and the frames decoded from them, have times on one timeline.
"""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# PyAV's class is generic only in its type hints.
if TYPE_CHECKING:
    from av.stream import Stream

    PicturePacket = Packet[VideoStream]
    SoundPacket = Packet[AudioStream]
else:
    PicturePacket = SoundPacket = Packet

# The flag AVFMT_TS_DISCONT of containers whose clock may jump (`libavformat/avformat.h`).
_TS_DISCONT = 0x200
_DECODING_TIMES = {"avi", "asf", "gxf", "mxf", "rm"}
_NO_LENGTHS = {"avi", "asf", "flv", "gxf", "mpeg", "mpegts", "rm"}
# FFmpeg's own limits (`-dts_delta_threshold`, and the tenth of a second by which its clock may go back): more, and the
# clock jumped. Up to then, time passed, or the container rounded.
JUMP_AHEAD_SECONDS = 10
_BACK_SECONDS = Fraction(1, 10)
_INDEX_ENTRY_BYTES = 16
# Frames that may be decoded before others that are displayed earlier: the most that H.264 and H.265 allow.
MAX_REORDERED = 16


class SteadyPackets:
    """Iterates over the packets of the picture in the order of the file, with times on one timeline.

    Each part after a jump of the clock follows the one before it by one frame's length. The timeline is that of the
    first part.

    Args:
        container: An open film.
        stream: Its picture track. All other tracks should be discarded.
        sound: A track of sound that is not discarded, if packets of it are read on the way.
        on_sound: Is called with each of those, with times as in the file.

    Attributes:
        jumps: How often the clock has jumped so far.
        shift: Ticks by which the current part is moved.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        sound: AudioStream | None = None,
        on_sound: Callable[[SoundPacket], None] | None = None,
    ) -> None:
        # MP4 and MOV state a duration for each frame, so their clock cannot jump; frames that an edit list hides may
        # have times of others.
        self._may_jump = not container.format.name.startswith("mov")
        self._may_jump_ahead = bool(container.format.flags & _TS_DISCONT)
        tick = stream.time_base or Fraction(1)
        self._usual_length = usual_length(stream)
        # FFmpeg guesses lengths from what may be damaged. A frame may be shown for up to two fields more.
        self._longest = None if states_lengths(container) else 2 * self._usual_length
        self._far_ticks = int(JUMP_AHEAD_SECONDS / tick)
        self._back_ticks = int(_BACK_SECONDS / tick) + self._usual_length
        # The longest that a frame may wait for others after it is decoded.
        self._reordered_ticks = (MAX_REORDERED + 1) * self._usual_length
        self._longest_wait = max(self._far_ticks, self._reordered_ticks)
        self._reorders = bool(stream.codec_context.has_b_frames)
        self._source = picture_packets(container, stream, sound=sound, on_sound=on_sound)
        # Read ahead after a jump.
        self._ahead: deque[PicturePacket] = deque()
        # The last packet in decoding order, and the end of the film so far in presentation order, as in the file.
        self._last_dts: int | None = None
        self._end: int | None = None
        self.jumps = 0
        self.shift = 0

    def __iter__(self) -> Iterator[PicturePacket]:
        while (packet := self._next()) is not None:
            if self._may_jump:
                self._check(packet)
            length = self._length(packet)
            if packet.dts is not None:
                self._last_dts = packet.dts + length
            if packet.pts is not None and not packet.is_discard:
                end = packet.pts + length
                self._end = end if self._end is None else max(self._end, end)
            if self.shift:
                packet.pts = None if packet.pts is None else packet.pts + self.shift
                packet.dts = None if packet.dts is None else packet.dts + self.shift
            yield packet

    def _check(self, packet: PicturePacket) -> None:
        if self._may_jump_ahead and packet.pts is not None and packet.dts is not None:
            # Next to damage, FFmpeg combines a time from before it with one from behind it.
            packet.pts = packet.pts if abs(packet.pts - packet.dts) <= self._longest_wait else packet.dts
        if self._is_stray(packet):
            self._put_in_place(packet)
        elif self._jumps_at(packet):
            self._join(packet)

    def _next(self) -> PicturePacket | None:
        return self._ahead.popleft() if self._ahead else next(self._source, None)

    def _length(self, packet: PicturePacket) -> int:
        length = packet.duration or self._usual_length
        return length if self._longest is None else min(length, self._longest)

    def _is_stray(self, packet: PicturePacket) -> bool:
        """Whether a packet has a time off those around it, which is damage and no jump."""
        if packet.dts is None or self._last_dts is None:
            return False
        late = packet.dts - self._last_dts
        if -self._may_go_back(packet) <= late <= self._reordered_ticks:
            return False
        if not self._ahead and (following := next(self._source, None)) is not None:
            self._ahead.append(following)
        if not self._ahead or (following_dts := self._ahead[0].dts) is None:
            return False
        continues = -self._usual_length <= following_dts - self._last_dts <= self._far_ticks
        return continues and (late < 0 or following_dts < packet.dts)

    def _may_go_back(self, packet: PicturePacket) -> int:
        """Return how far decoding times go back without a jump."""
        # FFmpeg does not know the decoding times in joined Matroska files and takes the presentation times.
        unknown = self._reorders and packet.dts == packet.pts
        return max(self._back_ticks, self._reordered_ticks) if unknown else self._back_ticks

    def _put_in_place(self, packet: PicturePacket) -> None:
        if packet.dts is not None and self._last_dts is not None:
            reordered = packet.pts - packet.dts if packet.pts is not None else 0
            packet.pts, packet.dts = self._last_dts + reordered, self._last_dts

    def _jumps_at(self, packet: PicturePacket) -> bool:
        if packet.dts is not None and self._last_dts is not None:
            delta, allowed = packet.dts - self._last_dts, self._may_go_back(packet)
        elif packet.pts is not None and self._end is not None and packet.dts is None:
            delta, allowed = packet.pts - self._end, self._longest_wait
        else:
            return False
        return delta < -allowed or (self._may_jump_ahead and delta > self._far_ticks)

    def _join(self, packet: PicturePacket) -> None:
        """Let the part that begins with a packet follow the one before it."""
        while len(self._ahead) < MAX_REORDERED and (following := next(self._source, None)) is not None:
            self._ahead.append(following)
        reference = packet.dts if packet.dts is not None else packet.pts
        times = [
            one.pts
            for one in (packet, *self._ahead)
            if one.pts is not None and reference is not None and abs(one.pts - reference) <= self._longest_wait
        ]
        first = min(times, default=reference)
        if first is not None and self._end is not None:
            self.shift += self._end - first
            self.jumps += 1
        self._last_dts = self._end = None


def picture_packets(
    container: InputContainer,
    stream: VideoStream,
    *,
    sound: AudioStream | None = None,
    on_sound: Callable[[SoundPacket], None] | None = None,
) -> Iterator[PicturePacket]:
    """Yield the packets of a picture track as the file has them, and hand over those of the sound between them."""
    tracks: tuple[Stream, ...] = (stream,) if sound is None else (stream, sound)
    packets: Iterator[Packet[Any]] = container.demux(tracks)
    is_noise = _NOISE.get(container.format.name, _is_flush)
    while True:
        try:
            packet = next(packets, None)
        except IndexError:
            # After the last packet PyAV flushes all tracks, and does not know those that appeared in the middle, as in
            # joined recordings.
            return
        if packet is None:
            return
        if _is_flush(packet):
            continue
        if packet.stream.index != stream.index:
            if on_sound is not None:
                on_sound(packet)
        elif not is_noise(packet):
            yield packet


def usual_length(stream: VideoStream) -> int:
    """Return the length of a frame in ticks at the rate that the file states, at least 1."""
    rate = stream.guessed_rate or stream.average_rate
    return max(1, round(1 / (rate * stream.time_base))) if rate and stream.time_base else 1


def has_only_decoding_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether packets tell when they are decoded, and FFmpeg guesses when they are shown, which is wrong.

    A frame is then shown when the packet is decoded that makes the decoder return it: the order and the distances are
    right. Containers that may have both are treated alike, because that is right for them, too.
    """
    return container.format.name in _DECODING_TIMES


def states_lengths(container: InputContainer) -> bool:
    """Whether packets have a length that the container states.

    In others FFmpeg guesses it, and the last frame is shown as long as the one before it.
    """
    return container.format.name not in _NO_LENGTHS


def packet_ticks(packet: PicturePacket, *, only_decoding_times: bool) -> int | None:
    """Return when a packet's frame is shown; `None` if its container does not say."""
    if only_decoding_times:
        return packet.dts
    return packet.pts if packet.pts is not None else packet.dts


def frame_ticks(frame: VideoFrame, *, only_decoding_times: bool) -> int | None:
    """Return when a frame is shown; `None` for the last ones of a file that has only decoding times."""
    if only_decoding_times:
        return frame.dts
    return frame.pts if frame.pts is not None else frame.dts


def _is_index_entry(packet: PicturePacket) -> bool:
    """Whether a packet is two entries of the index, which FFmpeg reads as chunks if other bytes moved it.

    An entry is the chunk's identifier, flags (16 for a keyframe), offset and size, of four bytes each. Read as a chunk,
    the flags are its size, and its content ends with the beginning of the next entry.
    Source: Microsoft, AVI RIFF file reference, AVIOLDINDEX.
    """
    return packet.size == _INDEX_ENTRY_BYTES and bytes(packet)[10:12] in (b"dc", b"db")


def _is_ogg_header(packet: PicturePacket) -> bool:
    """Whether a packet is a header of a film that was appended. FFmpeg knows those of the first film only.

    Sources: Theora specification, section 6.1; `libavformat/oggparsevp8.c`.
    """
    first = bytes(memoryview(packet)[:5])
    return first == b"OVP80" or (packet.stream.codec_context.name == "theora" and first[:1] >= b"\x80")


# What FFmpeg returns of a container as packets of the picture and what is none.
_NOISE = {"avi": _is_index_entry, "ogg": _is_ogg_header}


def _is_flush(packet: PicturePacket) -> bool:
    # PyAV ends with an empty packet that flushes the decoder.
    return packet.size == 0 and packet.pts is None and packet.dts is None
