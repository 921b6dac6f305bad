"""The sound of a film, on the timeline of its picture."""

from collections import deque
from fractions import Fraction
from typing import Protocol

from av.audio.stream import AudioStream

from sage_film.timeline import JUMP_AHEAD_SECONDS, SoundPacket

# Sound and picture of one moment are stored up to this far apart: a packet of sound beyond a jump of the clock may come
# long before the first picture there. After so many packets, the sound has a gap, not the picture.
_MAX_HELD = 1000
# Packets of sound may overlap, but hardly.
_BACK_SECONDS = Fraction(1, 2)


class SoundListener(Protocol):
    """Receives the sound that lies between the pictures in the file."""

    def begin(self, stream: AudioStream | None, /) -> None:
        """Start over: the film was opened, and this is the track of its sound, if it has any."""
        ...

    def add(self, packet: SoundPacket, /) -> None:
        """Receive the next packet, with times that continue where the clock jumps."""
        ...

    @property
    def lacks_start(self) -> bool:
        """Whether sound may be missing that lies before what was received since the film was opened."""
        ...


class SteadySound:
    """Moves packets of the sound where the clock jumps, as `SteadyPackets` moves those of the picture.

    Args:
        listener: Receives the packets.
    """

    def __init__(self, listener: SoundListener) -> None:
        self._listener = listener
        self._shifts = [Fraction(0)]
        self._end: Fraction | None = None
        self._held = deque[SoundPacket]()

    def add(self, packet: SoundPacket, shift_seconds: Fraction) -> None:
        """Hand over a packet, or hold it until it is known where it belongs.

        Args:
            packet: With times as in the file.
            shift_seconds: By how much the picture is moved that was read last.
        """
        if shift_seconds != self._shifts[-1]:
            self._shifts.append(shift_seconds)
        self._held.append(packet)
        self._release(patient=len(self._held) < _MAX_HELD)

    def end(self) -> None:
        """Hand over what is held."""
        self._release(patient=False)

    def _release(self, *, patient: bool) -> None:
        while self._held:
            packet = self._held[0]
            ticks, tick = packet.pts if packet.pts is not None else packet.dts, packet.time_base
            if ticks is not None and tick is not None:
                # Next to a jump, the sound may still be of the part before it.
                places = [ticks * tick + shift for shift in self._shifts[-2:]]
                end = self._end if self._end is not None else places[-1]
                place = min(places, key=lambda one: abs(one - end))
                if not -_BACK_SECONDS <= place - end <= JUMP_AHEAD_SECONDS:
                    if patient:
                        return
                    place = places[-1]
                packet.pts = packet.dts = round(place / tick)
                self._end = place + (packet.duration or 0) * tick
            self._listener.add(self._held.popleft())
