"""Transport streams whose tables change on the way: recordings of different channels or recorders that were joined.

A transport stream says in tables which of its packets are the picture: the program association table (PAT) names the
PID of each program's map (PMT), which lists the type and PID of each track. FFmpeg makes new tracks if these change.

Sources: ISO/IEC 13818-1, sections 2.4.3.2 (packets), 2.4.3.6 (PES), 2.4.4 (tables), and annex A (checksum).
"""

import functools
import io
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sage_film.container import SeekableFile

_SYNC = 0x47
_PACKET_BYTES = 188
# With the timestamp of Blu-ray discs, or with error correction.
_PACKET_SIZES = (_PACKET_BYTES, 192, 204)
_PADDING_PID = 0x1FFF
# Where further tracks are shown. No film has anything there.
_FURTHER_PID = 0x1F00
_PICTURE_IDS = range(0xE0, 0xF0)
# More than any film has. The tables are small and repeated ten times a second.
_MAX_MAPS = 256


@dataclass(frozen=True)
class _Track:
    """A track in a map: its stream type, the PID of its packets, and the bytes that describe it."""

    kind: int
    pid: int
    entry: bytes

    def on(self, pid: int) -> bytes:
        """Return the entry with another PID."""
        return self.entry[:1] + (0xE000 | pid).to_bytes(2, "big") + self.entry[3:]


@dataclass(frozen=True)
class _Map:
    """What is shown while a map is in force.

    Attributes:
        table: The map that is shown.
        pids: The PID on which each track is shown, by the one that it has in the file.
        kinds: The type of each track, by the PID on which it is shown.
    """

    table: bytes = b""
    pids: dict[int, int] = field(default_factory=dict)
    kinds: dict[int, int] = field(default_factory=dict)

    @functools.cached_property
    def changes(self) -> bool:
        """Whether any track is shown on another PID."""
        return any(pid != shown for pid, shown in self.pids.items())


def find_packets(data: bytes) -> tuple[int, int] | None:
    """Return the size of a transport stream's packets and where the first one begins; `None` if it is none."""
    for size in _PACKET_SIZES:
        for start in range(min(size, len(data))):
            # Three packets in a row are no coincidence.
            if len(data) > start + 2 * size and all(data[start + n * size] == _SYNC for n in range(3)):
                return size, start
    return None


def one_program(file: "SeekableFile") -> "SeekableFile":
    """Return a film; if it is a transport stream, as one of which each program continues the one before it."""
    if isinstance(file, OneProgramFile):
        return file
    file.seek(0)
    head = b""
    while len(head) < 3 * max(_PACKET_SIZES) and (more := file.read(3 * max(_PACKET_SIZES) - len(head))):
        head += more
    found = find_packets(head)
    return file if found is None else OneProgramFile(file, packet_bytes=found[0])


def packet_payload(packet: bytes) -> bytes:
    """Return what a packet holds behind its header."""
    if not packet[3] & 0x10:
        return b""
    return packet[4 + (1 + packet[4] if packet[3] & 0x20 else 0) : _PACKET_BYTES]


class OneProgramFile:
    """A transport stream of which all maps are shown as the first one.

    A track of the same type as one that has ended continues it. Others are further tracks. Only tables of one program
    that fit into one packet are changed.

    Args:
        file: The film.
        packet_bytes: Size of a packet.
    """

    def __init__(self, file: "SeekableFile", *, packet_bytes: int) -> None:
        self._file = file
        self._packet_bytes = packet_bytes
        # The first table of programs, the PID of the map that it names, and the first map.
        self._association = b""
        self._first_map_pid: int | None = None
        self._first: tuple[bytes, list[_Track]] | None = None
        # What is in force where the file is read. Not known after seeking, up to the next table.
        self._map_pid: int | None = None
        self._map = _Map()
        self._maps = dict[bytes, _Map]()
        self._end: int | None = None
        # PIDs of pictures in the order in which they are read, and how many have it in a row.
        self._run_pids, self._run_lengths = array("H"), array("I")

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; fewer, so that they end with a packet."""
        start = self._file.tell()
        if start != self._end:
            self._map = self._common_map()
        data = bytearray(self._file.read(size))
        while 0 < len(data) < min(size, self._packet_bytes) and (more := self._file.read(size - len(data))):
            data += more
        at = end = 0
        while (at := self._next_packet(data, at)) >= 0:
            end = at
            if len(data) < at + _PACKET_BYTES:
                break
            # Most packets neither begin anything nor change.
            if self._map.changes or data[at + 1] & 0x40:
                self._show(data, at)
            at += self._packet_bytes
        if end > 0 and len(data) < end + _PACKET_BYTES:
            # The rest is read again, with the whole packet.
            del data[end:]
            self._file.seek(start + end)
        self._end = start + len(data)
        return bytes(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset, and return it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the offset."""
        return self._file.tell()

    def pids_in_file(self, pid: int) -> set[int]:
        """Return the PIDs that a track has in the parts of the file that were read.

        Args:
            pid: The PID on which it is shown.
        """
        return {pid}.union(own for one in self._maps.values() for own, shown in one.pids.items() if shown == pid)

    def stream_type(self, pid: int) -> int | None:
        """Return the type of a track; `None` if it is not known.

        Args:
            pid: The PID on which the track is shown.
        """
        return next((one.kinds[pid] for one in self._maps.values() if pid in one.kinds), None)

    def longest_run_of_others(self, pid: int) -> int:
        """Return how many pictures in a row, of those read, belong to other tracks.

        Args:
            pid: The PID on which the track is shown.
        """
        if pid not in self._run_pids:
            # Its pictures cannot be told from sound, as those of VC-1.
            return 0
        longest = run = 0
        for other, count in zip(self._run_pids, self._run_lengths, strict=True):
            run = 0 if other == pid else run + count
            longest = max(longest, run)
        return longest

    def _next_packet(self, data: bytearray, at: int) -> int:
        """Return where the next packet begins, at a place or behind it; -1 if nowhere."""
        size, length = self._packet_bytes, len(data)
        while at < length and (data[at] != _SYNC or (at + size < length and data[at + size] != _SYNC)):
            at = data.find(_SYNC, at + 1)
            if at < 0:
                return -1
        return at if at < length else -1

    def _show(self, data: bytearray, at: int) -> None:
        """Change a packet to what is shown of it."""
        pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
        shown = self._map.pids.get(pid, pid)
        if shown != pid:
            data[at + 1 : at + 3] = ((data[at + 1] & 0xE0) << 8 | shown).to_bytes(2, "big")
        # Whether a table or picture begins, without an error in transmission.
        if data[at + 1] & 0xC0 != 0x40:
            return
        payload = packet_payload(bytes(data[at : at + _PACKET_BYTES]))
        if pid == 0:
            section = _section(payload, kind=0)
            self._read_association(section)
            shown, table = 0, self._association
        elif pid == self._map_pid and self._first_map_pid is not None:
            section = _section(payload, kind=2)
            self._map = self._map_of(section) or self._map
            shown, table = self._first_map_pid, self._map.table
        else:
            if payload[:3] == b"\0\0\1" and payload[3] in _PICTURE_IDS:
                self._count(shown)
            return
        # A table that does not fit is left as it is.
        if section and table and self._first_map_pid is not None and (pid, section) != (shown, table):
            header = (0x4000 | shown).to_bytes(2, "big") + bytes([0x10 | data[at + 3] & 0x0F])
            data[at + 1 : at + _PACKET_BYTES] = (header + b"\0" + table).ljust(_PACKET_BYTES - 1, b"\xff")

    def _count(self, pid: int) -> None:
        if self._run_pids and self._run_pids[-1] == pid:
            self._run_lengths[-1] += 1
        else:
            self._run_pids.append(pid)
            self._run_lengths.append(1)

    def _read_association(self, section: bytes) -> None:
        entries = [section[at : at + 4] for at in range(8, len(section) - 4, 4)]
        pids = [int.from_bytes(one[2:], "big") & 0x1FFF for one in entries if one[:2] != b"\0\0"]
        if section:
            self._map_pid = pids[0] if len(pids) == 1 else None
        if section and not self._association:
            self._association, self._first_map_pid = section, self._map_pid

    def _map_of(self, section: bytes) -> _Map | None:
        if section and section not in self._maps and len(self._maps) < _MAX_MAPS:
            head, tracks = _parsed(section)
            self._first = self._first or (head, tracks)
            self._maps[section] = _shown_map(tracks, *self._first)
        return self._maps.get(section)

    def _common_map(self) -> _Map:
        """Return what is shown if the map is not known: no packets with a PID that has several meanings."""
        if len(self._maps) < 2:
            return self._map
        meanings = dict[int, set[int]]()
        for one in self._maps.values():
            for pid, shown in one.pids.items():
                meanings.setdefault(pid, set()).add(shown)
        pids = {pid: shown.pop() if len(shown) == 1 else _PADDING_PID for pid, shown in meanings.items()}
        return _Map(pids=pids)


def _shown_map(tracks: list[_Track], head: bytes, first: list[_Track]) -> _Map:
    """Return what is shown of a map.

    Args:
        tracks: Its tracks.
        head: What precedes the tracks in the first map.
        first: The tracks of the first map.
    """
    left = list(tracks)
    pids = dict[int, int]()
    # Tracks that remain come before those that continue another.
    for continues in (False, True):
        for one in first:
            found = next((new for new in left if new.kind == one.kind and (continues or new.pid == one.pid)), None)
            if found is not None and one.pid not in pids.values():
                pids[found.pid] = one.pid
                left.remove(found)
    taken = {one.pid for one in first}
    for number, new in enumerate(left):
        pids[new.pid] = _FURTHER_PID + number if new.pid in taken else new.pid
    entries = [one.entry for one in first] + [new.on(pids[new.pid]) for new in left]
    kinds = {pids[track.pid]: track.kind for track in tracks}
    return _Map(_with_checksum(head + b"".join(entries)), pids, kinds)


@functools.lru_cache(maxsize=64)
def _section(payload: bytes, *, kind: int) -> bytes:
    """Return the table that begins in a packet; empty if it is of another kind, not whole, or not valid."""
    section = payload[1 + payload[0] :] if payload else b""
    section = section[: 3 + (int.from_bytes(section[1:3], "big") & 0x0FFF)]
    # A table may be announced before it applies.
    applies = len(section) > 12 and section[0] == kind and section[5] & 1 == 1
    return section if applies and _checksum(section) == 0 else b""


def _parsed(section: bytes) -> tuple[bytes, list[_Track]]:
    """Return what precedes the tracks of a map, and the tracks."""
    start = at = 12 + (int.from_bytes(section[10:12], "big") & 0x0FFF)
    tracks = []
    while at + 5 <= len(section) - 4:
        end = at + 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0x0FFF)
        tracks.append(_Track(section[at], int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF, section[at:end]))
        at = end
    return section[:start], tracks


def _with_checksum(section: bytes) -> bytes:
    """Return a table with its length and checksum; empty if it does not fit into one packet."""
    if len(section) + 4 > _PACKET_BYTES - 5:
        return b""
    length = int.from_bytes(section[1:3], "big") & 0xF000 | len(section) + 4 - 3
    section = section[:1] + length.to_bytes(2, "big") + section[3:]
    return section + _checksum(section).to_bytes(4, "big")


def _checksum(data: bytes) -> int:
    """Return the CRC of the tables of transport streams; 0 of a table with its own."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value
