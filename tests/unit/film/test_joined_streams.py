"""Transport streams that were joined from recordings with other tables: other PIDs, other programs."""

import functools
import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from corpus import encrypted
from corpus.maker import Track, make_film
from fakes.ingest import BytesSource
from numpy.typing import NDArray
from sage_embed.engines.local.frames import ClipGrid, Sample, read_samples
from sage_film.frames import FrameDecoder
from sage_film.programs import one_program
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import Limits, UnreadableError
from sage_ingest.probing.prober import PyAVProber
from sage_ingest.videos.model import Media
from support.uploads_in_memory import settings

# Makes films of megabytes.
pytestmark = pytest.mark.slow

# Larger than what FFmpeg reads to find tracks.
LARGE = Track(
    frames=200, size=(192, 128), options=(("qp", "4"), ("preset", "ultrafast")), noise=True, start=Fraction(5)
)
SMALL = Track(start=Fraction(5))
OTHER_PIDS = (("mpegts_start_pid", "600"),)
OTHER_MAP = (("mpegts_pmt_start_pid", "5000"),)
OTHER_PROGRAM = (*OTHER_MAP, ("mpegts_service_id", "7"))
# The picture of the second part has the PID of the first part's map.
CROSSED = (("mpegts_start_pid", "4096"), *OTHER_MAP)


@functools.cache
def _part(track: Track, *options: tuple[str, str]) -> bytes:
    return make_film("mpegts", track, options=options)


def _measured(film: bytes, limits: Limits = Limits()) -> Media:  # noqa: B008 - frozen
    return measure(io.BytesIO(film), size_bytes=len(film), limits=limits)


def _pictures(film: bytes, media: Media) -> list[NDArray[np.uint8]]:
    reader = FrameDecoder(
        io.BytesIO(film),
        start_offset_seconds=media.start_offset_seconds,
        threads=2,
        video_track=media.video_track,
        timestamps_jump=media.timestamps_jump,
    )
    samples = read_samples(reader, ClipGrid(media.duration_seconds, 1.0), first_clip=0)
    return [sample.frame.to_ndarray() for sample in samples if isinstance(sample, Sample)]


@pytest.mark.parametrize("track", [SMALL, LARGE], ids=["short", "long"])
@pytest.mark.parametrize(
    "options",
    [(), OTHER_PIDS, OTHER_MAP, OTHER_PROGRAM, (*OTHER_PIDS, *OTHER_PROGRAM), CROSSED],
    ids=["same", "pids", "map", "program", "all", "crossed"],
)
def test_parts_with_other_tables_are_one_film(track: Track, options: tuple[tuple[str, str], ...]) -> None:
    other = replace(track, shade=90)
    first, second = _part(track), _part(other, *options)
    film = first + second
    whole, partly = _measured(film), _measured(film, Limits(whole_bytes=0))
    seconds = 2 * track.frames / 25
    assert (whole.duration_seconds, whole.frame_count) == (seconds, 2 * track.frames)
    assert len(whole.video_tracks) == 1
    assert whole.timestamps_jump
    if track is LARGE:
        assert (partly.duration_seconds, partly.timestamps_jump) == (seconds, True)
    expected = _pictures(first, _measured(first)) + _pictures(second, _measured(second))
    shown = _pictures(film, whole)
    assert len(shown) == len(expected)
    assert all(np.array_equal(one, another) for one, another in zip(shown, expected, strict=True))


def test_a_part_that_begins_within_a_packet_is_found() -> None:
    film = _part(SMALL)[:-100] + _part(SMALL, *OTHER_PIDS)
    assert _measured(film).duration_seconds == pytest.approx(4.0, abs=0.05)


def test_a_film_continues_after_a_part_of_another_program() -> None:
    film = _part(SMALL) + _part(SMALL, *OTHER_PIDS, *OTHER_PROGRAM) + _part(SMALL)
    assert (_measured(film).duration_seconds, _measured(film).frame_count) == (6.0, 150)


@pytest.mark.parametrize("start_pid", ["256", "255"], ids=["behind", "in front"])
def test_a_parallel_track_that_begins_later_is_another_track(start_pid: str) -> None:
    """The film is the track that continues, wherever the map lists the other."""
    tracks = (SMALL, replace(SMALL, size=(64, 48), shade=90))
    tracks = tracks if start_pid == "256" else tracks[::-1]
    film = _part(SMALL) + make_film("mpegts", *tracks, options=[("mpegts_start_pid", start_pid)])
    media = _measured(film)
    assert (media.duration_seconds, media.frame_count, media.width) == (4.0, 100, 96)
    assert {picture.shape for picture in _pictures(film, media)} == {(96, 96)}


@pytest.mark.parametrize("track", [SMALL, LARGE], ids=["short", "long"])
@pytest.mark.parametrize("whole_bytes", [0, 2**30], ids=["partly", "whole"])
def test_parts_in_different_codecs_are_refused(track: Track, whole_bytes: int) -> None:
    other = Track("mpeg2video", frames=track.frames, start=Fraction(5))
    for parts in ([track, other], [other, track]):
        film = b"".join(_part(part, *OTHER_PIDS) if part is other else _part(part) for part in parts)
        with pytest.raises(UnreadableError, match="joins recordings whose picture tracks differ"):
            _measured(film, Limits(whole_bytes=whole_bytes))


def test_an_encrypted_second_part_is_refused() -> None:
    film = _part(SMALL)[: 20 * 188] + encrypted.transport(_part(SMALL, *OTHER_PIDS), in_packets=True, pid=600)
    with pytest.raises(UnreadableError, match="encrypted"):
        _measured(film)


def test_no_packet_is_shown_for_another_track_after_seeking() -> None:
    """The second part has its tracks on each other's PIDs, and after seeking it is unknown which part this is."""
    tracks = (SMALL, Track("mpeg2video", start=Fraction(5)))
    first, second = make_film("mpegts", *tracks), make_film("mpegts", *reversed(tracks))
    file = one_program(io.BytesIO(first + second))
    file.seek(0)
    while file.read(10_000):
        pass
    for start, part in ((0, first), (len(first), second)):
        at = next(at for at in range(0, len(part), 188) if at > 10_000 and part[at + 1] & 0x40 == 0)
        file.seek(start + at)
        assert _pid(file.read(188)) == 0x1FFF
    file.seek(len(first))
    shown = file.read(len(second))
    types = {(_pid(shown[at:]), _pid(second[at:])) for at in range(0, len(shown), 188)}
    assert {(256, 257), (257, 256)} <= types
    assert not {(256, 256), (257, 257)} & types


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


async def test_the_confined_prober_follows_the_tables() -> None:
    """It receives the file in blocks that end within packets."""
    film = _part(LARGE) + _part(LARGE, *OTHER_PIDS, *OTHER_PROGRAM)
    assert (await PyAVProber(settings()).probe(BytesSource(film))).frame_count == 400
