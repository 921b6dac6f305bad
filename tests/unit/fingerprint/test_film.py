"""Films are measured frame by frame, and in parts to the same bytes."""

import functools
import io
import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from corpus.films import PLAYABLE, Film
from corpus.maker import Track, make_film
from hypothesis import given, settings
from hypothesis import strategies as st
from sage_film.frames import ShownFrame, UndecodableError
from sage_fingerprint.codec import decode, encode
from sage_fingerprint.film import EncodedBlock, FilmSource, fingerprint_file, read_blocks, read_film
from sage_fingerprint.model import SOUND_RATE, Fingerprint
from sage_ingest.probing.measure import measure
from support.sounding_films import sounding_film, tone

# Makes about a hundred films.
pytestmark = pytest.mark.slow

SECONDS, RATE = 33, Fraction(12)
SOUND = np.concatenate(
    [tone(1.1, hertz=200 + 170 * step, gain=0.05 + 0.02 * step) for step in range(30)]
) + np.random.default_rng(1).normal(0, 0.01, 33 * 48_000).astype(np.float32)


def _track(codec: str = "libx264", **how) -> Track:
    return Track(codec, frames=SECONDS * 12, rate=RATE, size=(64, 48), **how)


OPEN_GOPS = (("x264-params", "open-gop=1:bframes=3:b-adapt=0:scenecut=0"), ("g", "24"))
HEVC = (("x265-params", "log-level=error:open-gop=1:keyint=24:bframes=3:pools=none:frame-threads=1"),)
UNEVEN = tuple(time for time in np.cumsum(np.tile([0.04, 0.2, 0.08, 0.13], 80)).tolist() if time < SECONDS)
LONG = {
    "H.264 in MP4": lambda: sounding_film("mp4", _track(), SOUND),
    "H.264 with open GOPs in Matroska": lambda: sounding_film(
        "matroska", _track(options=OPEN_GOPS), SOUND, codec="libmp3lame"
    ),
    "H.264 with one keyframe": lambda: sounding_film(
        "mp4", _track(options=(("g", "9999"), ("x264-params", "scenecut=0"))), SOUND
    ),
    "MPEG-2 transport stream": lambda: sounding_film(
        "mpegts",
        Track("mpeg2video", frames=SECONDS * 25, size=(64, 48), options=(("g", "15"), ("bf", "2"))),
        SOUND,
        codec="mp2",
    ),
    "HEVC with open GOPs": lambda: sounding_film("mp4", _track("libx265", options=HEVC), SOUND),
    "uneven frames": lambda: sounding_film(
        "matroska", _track(times=UNEVEN, options=(("bf", "2"),)), SOUND, codec="libopus"
    ),
    "MPEG-4 in AVI": lambda: sounding_film(
        "avi", _track("mpeg4", options=(("g", "30"),)), SOUND, codec="pcm_s16le", layout="stereo"
    ),
    "Matroska with the sound stored early": lambda: sounding_film(
        "matroska", _track(), SOUND, codec="libmp3lame", stored_ahead=6.0
    ),
    "MPEG-2 transport stream with the sound stored early": lambda: sounding_film(
        "mpegts", _track(), SOUND, codec="mp2", stored_ahead=12.0
    ),
    "Motion JPEG in MOV": lambda: sounding_film("mov", _track("mjpeg", pix_fmt="yuvj420p"), SOUND, codec="pcm_s16le"),
}


def _source(film: bytes) -> FilmSource:
    media = measure(io.BytesIO(film), size_bytes=len(film))
    return FilmSource(
        io.BytesIO(film),
        media.start_offset_seconds,
        media.duration_seconds,
        media.video_track,
        media.timestamps_jump,
    )


def _blocks(film: bytes, *, first: int = 0, end: int | None = None, threads: int = 2) -> list[bytes]:
    blocks = list(read_blocks(_source(film), threads=threads, first_block=first, end_block=end))
    assert [block.index for block in blocks] == list(range(first, first + len(blocks)))
    return [block.data for block in blocks]


@pytest.mark.parametrize("name", LONG)
def test_a_block_does_not_depend_on_where_a_run_begins_or_on_threads(name: str) -> None:
    film = LONG[name]()
    whole = _blocks(film)
    assert len(whole) == 4
    fingerprint = decode(whole)
    assert fingerprint.sound is not None
    assert fingerprint.sound.max() > 100
    for first, threads in ((1, 1), (2, 3), (3, 2)):
        assert _blocks(film, first=first, threads=threads) == whole[first:]
    assert _blocks(film, end=2) == whole[:2]
    assert _blocks(film, first=1, end=2) == whole[1:2]
    assert _blocks(film, first=4) == []


@functools.cache
def _long_film() -> tuple[FilmSource, list[bytes]]:
    """Return a film of six blocks, and its fingerprint as one worker makes it."""
    sound = np.tile(SOUND, 2)[: 55 * 48_000]
    film = sounding_film("mp4", Track(frames=55 * 12, rate=RATE, size=(64, 48), options=OPEN_GOPS), sound)
    return _source(film), _blocks(film)


@settings(max_examples=10, deadline=None)
@given(borders=st.sets(st.integers(1, 5)), threads=st.integers(1, 3))
def test_any_split_over_workers_has_the_same_bytes(borders: set[int], threads: int) -> None:
    source, whole = _long_film()
    parts = itertools.pairwise([0, *sorted(borders), 6])
    found = [
        block.data
        for first, end in parts
        for block in read_blocks(source, threads=threads, first_block=first, end_block=end)
    ]
    assert found == whole


PART = """
import sys
from sage_fingerprint.film import FilmSource, read_blocks
path, first, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "rb") as file:
    source = FilmSource(file, float(sys.argv[4]), float(sys.argv[5]))
    for block in read_blocks(source, threads=1, first_block=first, end_block=end):
        sys.stdout.buffer.write(block.data)
"""


def test_two_processes_make_the_same_bytes(tmp_path: Path) -> None:
    film = LONG["H.264 in MP4"]()
    path, source = tmp_path / "film.mp4", _source(film)
    path.write_bytes(film)
    times = (str(source.start_offset_seconds), str(source.duration_seconds))
    processes = [
        subprocess.Popen([sys.executable, "-c", PART, path, *part, *times], stdout=subprocess.PIPE)
        for part in (("0", "2"), ("2", "4"))
    ]
    assert b"".join(process.communicate()[0] for process in processes) == b"".join(_blocks(film))


@pytest.mark.parametrize("film", PLAYABLE, ids=lambda film: film.name)
def test_the_frames_are_those_that_ingest_counts(film: Film) -> None:
    media = measure(io.BytesIO(film.content), size_bytes=len(film.content))
    fingerprint = decode(_blocks(film.content))
    assert media.frame_count is not None
    assert media.frame_count - film.lost <= len(fingerprint) <= media.frame_count
    assert fingerprint.frame_seconds[0] == pytest.approx(0, abs=1e-6)
    assert fingerprint.duration_seconds == pytest.approx(media.duration_seconds, abs=1e-9)
    if film.even and not film.lost:
        exact = np.arange(len(fingerprint)) / float(media.frame_rate)
        assert np.abs(fingerprint.frame_seconds - exact).max() < 0.6 / float(media.frame_rate)


def test_frames_with_one_time_are_one() -> None:
    def change(number: int, packet: av.Packet) -> av.Packet:
        if number == 5:
            packet.pts = packet.dts = packet.pts - packet.duration
        return packet

    film = make_film("matroska", Track(frames=10, options=(("bf", "0"),)), change=change)
    media = measure(io.BytesIO(film), size_bytes=len(film))
    assert media.frame_count == 9
    assert len(decode(_blocks(film))) == 9


def test_what_is_shown_in_a_frame_is_measured_of_it() -> None:
    fingerprint = decode(_blocks(make_film("mp4", Track(frames=40, size=(128, 72), options=(("crf", "4"),)))))
    # The ground brightens by three, and the bar moves.
    ground = np.median(fingerprint.luma.reshape(40, -1), axis=1)
    assert np.abs(ground - 3 * np.arange(40)).max() <= 2
    bars = fingerprint.luma.mean(axis=1).argmax(axis=1)
    assert np.abs(bars - (np.arange(40) * 7 % 128 + 3.5) / 4).max() <= 1.5


def test_one_pass_yields_each_frame_of_the_blocks_once() -> None:
    film = LONG["H.264 in MP4"]()
    whole = decode(_blocks(film))
    items = list(read_film(_source(film), threads=2, first_block=1, end_block=3))
    seen = [item for item in items if isinstance(item, ShownFrame) and item.start >= 10]
    expected = [start for start in whole.frame_seconds if 10 <= start < 30]
    assert [shown.start for shown in seen] == pytest.approx(expected, abs=1e-9)
    assert all(shown.frame.width == 64 for shown in seen)
    # A block follows all frames that it describes.
    for at, block in enumerate(items):
        if isinstance(block, EncodedBlock):
            later = [item.start for item in items[at:] if isinstance(item, ShownFrame)]
            assert all(start >= block.done_seconds for start in later)


def test_progress_ends_with_the_film() -> None:
    film = LONG["H.264 in MP4"]()
    blocks = list(read_blocks(_source(film), threads=2))
    assert [block.done_seconds for block in blocks] == pytest.approx([10, 20, 30, 33])
    assert sum(block.frames for block in blocks) == SECONDS * RATE


def test_a_long_still_has_blocks_without_frames() -> None:
    film = make_film("matroska", Track(frames=4, times=(0.0, 1.0, 31.0, 32.0), options=(("bf", "0"),)))
    fingerprint = decode(_blocks(film))
    assert fingerprint.frame_seconds.tolist() == [0.0, 1.0, 31.0, 32.0]


def test_a_file_is_measured_like_its_blocks(tmp_path: Path) -> None:
    film = LONG["H.264 in MP4"]()
    path = tmp_path / "film.mp4"
    path.write_bytes(film)
    fingerprint = fingerprint_file(path)
    assert isinstance(fingerprint, Fingerprint)
    assert list(encode(fingerprint)) == _blocks(film)


def test_the_sound_of_joined_recordings_follows_the_picture() -> None:
    def part(hertz: float) -> bytes:
        track = Track(frames=100, size=(64, 48), options=(("bf", "0"),))
        return sounding_film("mpegts", track, tone(4.0, hertz=hertz), codec="mp2")

    film = part(300) + part(3000)
    source = _source(film)
    assert source.timestamps_jump
    fingerprint = decode(_blocks(film))
    assert fingerprint.sound is not None
    loudest = fingerprint.sound.argmax(axis=1)
    before, after = loudest[10 : 4 * SOUND_RATE - 5], loudest[4 * SOUND_RATE + 5 : -15]
    assert len(set(before)) == len(set(after)) == 1
    assert before[0] < after[0]


def test_a_film_without_a_picture_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "film.wav"
    with av.open(path, "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    with pytest.raises(UndecodableError, match="no picture track"):
        fingerprint_file(path)
