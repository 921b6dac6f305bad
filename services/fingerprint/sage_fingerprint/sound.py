"""Measures sound: the loudness of 16 bands, 25 times a second, on the timeline of the picture."""

import contextlib
import functools
import itertools
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from numpy import fft  # numpy loads it late, which a confined process cannot do
from numpy.typing import NDArray

from sage_fingerprint.blocks import BLOCK_SECONDS
from sage_fingerprint.model import SOUND_BANDS, SOUND_RATE, Bytes

# PyAV's class is generic only in its type hints.
if TYPE_CHECKING:
    SoundPacket = Packet[AudioStream]
else:
    SoundPacket = Packet

# Bands of equal width on a logarithmic scale, a little under half an octave each.
_LOWEST_HZ, _HIGHEST_HZ = 50.0, 8000.0
# Long enough for the lowest band, short enough for an edit: one and a half steps.
_WINDOW_SECONDS: Final = 0.064
# A sine of full scale is 192, and what is below this is silence. The noise of 16 bits is, in each band.
_SILENCE_DB: Final = -96.0
_STEPS_PER_DB: Final = 2

# What a decoder is given before and after a block. Of the former, the first second is not used: a decoder that begins
# in the middle may return noise at first, or nothing. A packet of PCM may last a second.
_BEFORE_SECONDS: Final = 3.0
_UNUSED_SECONDS: Final = 1.0
_AFTER_SECONDS: Final = 0.1
# Sound that is stored this far ahead of the block that is measured is left out rather than kept in memory.
_MAX_AHEAD_SECONDS: Final = 60.0
# Containers round times to milliseconds. Up to this, a frame follows the one before it.
_ROUNDING_SECONDS: Final = 0.02
_MAX_RATE: Final = 768_000


class _Track(NamedTuple):
    """What decoding needs of a track. PyAV's stream is not kept: its fields are garbage once the film is closed."""

    decoder: AudioCodecContext
    tick: Fraction | None

    @classmethod
    def of(cls, stream: AudioStream) -> Self:
        return cls(stream.codec_context, stream.time_base)


@dataclass
class _Piece:
    """Decoded sound without a gap."""

    start_seconds: float
    rate: int
    samples: list[NDArray[np.float32]] = field(default_factory=list)
    length: int = 0

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + self.length / self.rate

    def append(self, samples: NDArray[np.float32]) -> None:
        """Add what follows."""
        self.samples.append(samples)
        # Kept, because summing up is slow: a block may have a thousand frames.
        self.length += len(samples)


class SoundMeter:
    """Measures the sound of a film block by block, from its packets.

    Each block is decoded by a new decoder that begins at a place that depends on the block alone. So the result does
    not depend on where a run began. For use by one thread.

    Args:
        start_offset_seconds: The timestamp that is 0 on the timeline.
        first_block: The first one that will be measured.
    """

    def __init__(self, *, start_offset_seconds: float, first_block: int) -> None:
        self._origin = start_offset_seconds
        self._next_seconds = first_block * BLOCK_SECONDS
        self._track: _Track | None = None
        self._packets = deque[tuple[float, SoundPacket]]()
        self._earliest, self._latest = float("inf"), float("-inf")

    @property
    def has_sound(self) -> bool:
        """Whether the film has a track of sound that can be decoded."""
        return self._track is not None

    def begin(self, stream: AudioStream | None) -> None:
        """Start over: the film was opened, and this is the track of its sound."""
        self._track = None if stream is None else _Track.of(stream)
        self._packets.clear()
        self._earliest, self._latest = float("inf"), float("-inf")

    def add(self, packet: SoundPacket) -> None:
        """Keep a packet until its block is measured."""
        ticks = packet.pts if packet.pts is not None else packet.dts
        start = self._latest
        if ticks is not None and packet.time_base is not None:
            start = float(ticks * packet.time_base) - self._origin
        self._earliest, self._latest = min(self._earliest, start), max(self._latest, start)
        if -_BEFORE_SECONDS <= start - self._next_seconds < _MAX_AHEAD_SECONDS:
            self._packets.append((start, packet))

    @property
    def lacks_start(self) -> bool:
        """Whether packets may be missing that the next block needs: none so far is early enough."""
        return self._earliest > self._next_seconds - _BEFORE_SECONDS

    def is_complete(self, index: int) -> bool:
        """Whether all packets of a block have been added, as far as packets are in order."""
        return self._track is None or self._latest >= (index + 1) * BLOCK_SECONDS + _AFTER_SECONDS

    def measure(self, index: int) -> Bytes | None:
        """Return the steps of a block, and forget what later ones do not need; `None` without sound."""
        if self._track is None:
            return None
        start, end = index * BLOCK_SECONDS, (index + 1) * BLOCK_SECONDS
        needed = [one for at, one in self._packets if start - _BEFORE_SECONDS <= at < end + _AFTER_SECONDS]
        pieces = self._decode(needed, first_seconds=start - _BEFORE_SECONDS + _UNUSED_SECONDS)
        self._next_seconds = end
        while self._packets and self._packets[0][0] < end - _BEFORE_SECONDS:
            self._packets.popleft()
        rate = pieces[0].rate if pieces else SOUND_RATE
        before = round(_WINDOW_SECONDS * rate)
        samples = np.zeros(BLOCK_SECONDS * rate + 2 * before, np.float32)
        for piece in pieces:
            _place(samples, piece, rate=rate, start_seconds=start - before / rate)
        return _levels(samples, rate=rate, first=before, steps=BLOCK_SECONDS * SOUND_RATE)

    def _decode(self, packets: list[SoundPacket], *, first_seconds: float) -> list[_Piece]:
        if self._track is None or not packets:
            return []
        decoder = _new_decoder(self._track)
        pieces = list[_Piece]()
        for packet in (*packets, None):
            frames = list[AudioFrame]()
            # What is damaged is silent.
            with contextlib.suppress(av.error.FFmpegError):
                frames = decoder.decode(packet)
            for frame in frames:
                self._append(pieces, frame, first_seconds=first_seconds)
        if decoder is self._track.decoder:
            decoder.flush_buffers()
        return pieces

    def _append(self, pieces: list[_Piece], frame: AudioFrame, *, first_seconds: float) -> None:
        samples, rate = _mono(frame), frame.sample_rate
        if not len(samples) or not 0 < rate <= _MAX_RATE:
            return
        expected = pieces[-1].end_seconds if pieces else None
        if frame.pts is not None and frame.time_base is not None:
            start = float(frame.pts * frame.time_base) - self._origin
        elif expected is not None:
            start = expected
        else:
            return
        if start < first_seconds:
            return
        follows = expected is not None and abs(start - expected) < _ROUNDING_SECONDS
        if not follows or pieces[-1].rate != rate:
            pieces.append(_Piece(start, rate))
        pieces[-1].append(samples)


def _new_decoder(track: _Track) -> AudioCodecContext:
    """Return a decoder that has decoded nothing; the stream's own if its codec needs what PyAV does not tell."""
    known = track.decoder
    decoder = av.CodecContext.create(known.codec, "r")
    if isinstance(decoder, AudioCodecContext) and known.sample_rate:
        decoder.extradata = known.extradata
        decoder.sample_rate = known.sample_rate
        decoder.layout = known.layout
        # With it, the decoder corrects the time of frames of which it drops the beginning.
        decoder.options = {"pkt_timebase": str(track.tick or Fraction(1, known.sample_rate))}
        with contextlib.suppress(av.error.FFmpegError):
            decoder.open()
            return decoder
    return known


def _mono(frame: AudioFrame) -> NDArray[np.float32]:
    """Return the mean of the channels, from -1 to 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, max(1, frame.layout.nb_channels)).T
    mean: NDArray[np.float32] = samples.mean(axis=0, dtype=np.float32)
    if samples.dtype == np.uint8:
        return (mean - 128) / np.float32(128)
    if np.issubdtype(samples.dtype, np.integer):
        return mean / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return np.nan_to_num(mean)


def _place(samples: NDArray[np.float32], piece: _Piece, *, rate: int, start_seconds: float) -> None:
    """Write a piece to where it belongs in samples that begin at a time."""
    sound = np.concatenate(piece.samples)
    if piece.rate != rate:
        count = round(len(sound) * rate / piece.rate)
        sound = np.interp(np.arange(count) * (piece.rate / rate), np.arange(len(sound)), sound).astype(np.float32)
    at = round((piece.start_seconds - start_seconds) * rate)
    sound = sound[max(0, -at) :]
    at = max(0, at)
    sound = sound[: max(0, len(samples) - at)]
    samples[at : at + len(sound)] = sound


def _levels(samples: NDArray[np.float32], *, rate: int, first: int, steps: int) -> Bytes:
    """Return the loudness of each band at the middle of each step.

    Args:
        samples: At least half a window more than the steps on both sides.
        rate: Samples per second.
        first: Where the first step begins.
        steps: Number of steps.
    """
    size = max(2, 2 * round(_WINDOW_SECONDS * rate / 2))
    middles = first + np.rint((np.arange(steps) + 0.5) * (rate / SOUND_RATE)).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)[middles - size // 2]
    weights = np.hanning(size + 1)[:size].astype(np.float32)
    power = np.abs(fft.rfft(windows * weights, axis=1)) ** 2
    # Twice the mean square, so that a sine of full scale is 1.
    power *= 4 / (size * np.sum(weights**2))
    # Band by band and not as one product of matrices, for which numpy would start threads.
    bands = np.stack([(power[:, bins] * share).sum(axis=1) for bins, share in _shares(size, rate)], axis=1)
    decibels = 10 * np.log10(np.maximum(bands, 1e-12))
    levels: NDArray[np.float64] = np.clip(np.rint((decibels - _SILENCE_DB) * _STEPS_PER_DB), 0, 255)
    return levels.astype(np.uint8)


@functools.cache
def _shares(size: int, rate: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """Return for each band which frequencies of a spectrum it has, and how much of each."""
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, SOUND_BANDS + 1)
    width = rate / size
    centres = np.arange(size // 2 + 1) * width
    found = []
    for low, high in itertools.pairwise(edges):
        share = np.clip(np.minimum(centres + width / 2, high) - np.maximum(centres - width / 2, low), 0, None) / width
        bins = np.flatnonzero(share)
        # A rate that is too low has none of them.
        used = slice(bins[0], bins[-1] + 1) if len(bins) else slice(0)
        found.append((used, share[used].astype(np.float32)))
    return found
