"""What is measured of sound, and when."""

import io
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from corpus.maker import Track, make_film
from numpy.typing import NDArray
from sage_fingerprint.film import fingerprint_file
from sage_fingerprint.model import SOUND_BANDS, SOUND_RATE
from sage_fingerprint.sound import SoundMeter
from support.sounding_films import sounding_film, tone

PICTURE = Track("mpeg4", frames=100, size=(64, 48))
H264 = Track(frames=100, size=(64, 48), options=(("bf", "0"),))
EDGES = np.geomspace(50, 8000, SOUND_BANDS + 1)


def _band(hertz: float) -> int:
    return int(np.searchsorted(EDGES, hertz)) - 1


def _sound(tmp_path: Path, film: bytes) -> NDArray[np.int64]:
    path = tmp_path / "film"
    path.write_bytes(film)
    sound = fingerprint_file(path).sound
    assert sound is not None
    return sound.astype(int)


def _burst(at: float, seconds: float = 4.0, rate: int = 48_000) -> NDArray[np.float32]:
    """Return silence with a quarter of a second of sound at a time."""
    sound = np.zeros(round(seconds * rate), np.float32)
    burst = tone(0.25, hertz=1000, rate=rate)
    sound[round(at * rate) :][: len(burst)] = burst
    return sound


def _loud_steps(sound: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(sound[:, _band(1000)] > 120)


@pytest.mark.parametrize("hertz", [60, 200, 1000, 3000, 7000])
@pytest.mark.parametrize("rate", [44_100, 48_000, 16_000])
def test_a_tone_is_loud_in_its_band(tmp_path: Path, hertz: int, rate: int) -> None:
    film = sounding_film("matroska", PICTURE, tone(4, hertz=hertz, rate=rate), codec="pcm_s16le", rate=rate)
    steps = _sound(tmp_path, film)[5:-5]
    assert np.all(steps.argmax(axis=1) == _band(hertz))
    # Half of full scale is 6 dB less than 192 stands for. Some of a low tone leaks into the next band.
    assert np.all(np.abs(steps.max(axis=1) - (192 - 12)) <= 4)


def test_one_step_more_is_half_a_decibel(tmp_path: Path) -> None:
    loud, soft = (
        _sound(tmp_path, sounding_film("matroska", PICTURE, tone(4, hertz=1000, gain=gain), codec="pcm_f32le"))
        for gain in (0.5, 0.5 * 10 ** (-10 / 20))
    )
    band = _band(1000)
    assert np.all(loud[5:-5, band] - soft[5:-5, band] == 20)


def test_silence_is_zero(tmp_path: Path) -> None:
    film = sounding_film("mp4", PICTURE, np.zeros(4 * 48_000, np.float32))
    sound = _sound(tmp_path, film)
    assert sound.shape == (4 * SOUND_RATE, SOUND_BANDS)
    assert np.all(sound == 0)


def test_a_film_without_sound_has_none(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(make_film("mp4", PICTURE))
    assert fingerprint_file(path).sound is None


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("mp4", "aac", 48_000),
        ("mp4", "aac", 44_100),
        ("matroska", "libopus", 48_000),
        ("matroska", "flac", 44_100),
        ("mpegts", "mp2", 48_000),
        ("mpegts", "aac", 44_100),
        ("avi", "pcm_s16le", 44_100),
        ("mov", "pcm_s24le", 48_000),
        ("matroska", "ac3", 48_000),
        ("asf", "wmav2", 44_100),
        ("avi", "libmp3lame", 44_100),
    ],
)
def test_sound_is_where_it_is_heard(tmp_path: Path, container: str, codec: str, rate: int) -> None:
    film = sounding_film(
        container, H264 if container == "mpegts" else PICTURE, _burst(2.0, rate=rate), codec=codec, rate=rate
    )
    steps = _loud_steps(_sound(tmp_path, film))
    # Encoders delay by some milliseconds, of which AVI, ASF and MPEG-TS do not tell.
    assert abs(steps[0] - 2.0 * SOUND_RATE) <= 2
    assert 5 <= len(steps) <= 9


def test_stereo_measures_like_mono(tmp_path: Path) -> None:
    mono, stereo = (
        _sound(tmp_path, sounding_film("matroska", PICTURE, _burst(2.0), codec="pcm_s16le", layout=layout))
        for layout in ("mono", "stereo")
    )
    assert np.array_equal(mono, stereo)


@pytest.mark.parametrize("picture_start", [0.0, 1.5])
@pytest.mark.parametrize("sound_start", [0.0, 0.7, 2.2])
def test_sound_that_starts_before_or_after_the_picture_is_placed(
    tmp_path: Path, picture_start: float, sound_start: float
) -> None:
    film = sounding_film(
        "mpegts", H264, _burst(1.5), codec="mp2", starts=((sound_start, 4.0),), picture_start=picture_start
    )
    steps = _loud_steps(_sound(tmp_path, film))
    expected = (sound_start + 1.5 - picture_start) * SOUND_RATE
    assert abs(steps[0] - max(0, expected)) <= 2


def test_a_gap_in_the_sound_is_silent_and_does_not_move_what_follows(tmp_path: Path) -> None:
    sound = tone(2.0, hertz=1000)
    film = sounding_film("matroska", PICTURE, sound, codec="pcm_s16le", starts=((0.0, 1.0), (3.0, 1.0)))
    measured = _sound(tmp_path, film)
    assert np.all(measured[2 * SOUND_RATE - 20 : 3 * SOUND_RATE - 2] == 0)
    steps = _loud_steps(measured)
    assert steps[0] == 0
    assert abs(steps[steps > 40][0] - 3 * SOUND_RATE) <= 1


def test_sound_after_the_picture_is_cut_off(tmp_path: Path) -> None:
    film = sounding_film("matroska", Track(frames=20, size=(64, 48)), tone(4, hertz=1000), codec="pcm_s16le")
    assert _sound(tmp_path, film).shape == (20, SOUND_BANDS)


class _Stream:
    """A track. When its film is closed, FFmpeg frees what the fields are read from."""

    def __init__(self, stream: AudioStream) -> None:
        self._stream: AudioStream | None = stream

    def close(self) -> None:
        self._stream = None

    def __getattr__(self, name: str) -> Any:
        assert self._stream is not None, f"{name} is read after the film was closed"
        return getattr(self._stream, name)


def test_the_last_block_is_measured_after_the_film_is_closed(tmp_path: Path) -> None:
    film = sounding_film("mp4", PICTURE, tone(4, hertz=1000), rate=44_100)
    meter = SoundMeter(start_offset_seconds=0.0, first_block=0)
    with av.open(io.BytesIO(film)) as opened:
        stream = _Stream(opened.streams.audio[0])
        meter.begin(cast("AudioStream", stream))
        for packet in opened.demux(audio=0):
            if packet.size:
                meter.add(packet)
    stream.close()
    steps = meter.measure(0)
    assert steps is not None
    assert np.array_equal(steps[: 4 * SOUND_RATE], _sound(tmp_path, film))


def test_damaged_sound_does_not_stop_the_picture(tmp_path: Path) -> None:
    film = bytearray(sounding_film("mp4", PICTURE, tone(4, hertz=1000), codec="aac"))
    good = _sound(tmp_path, bytes(film))
    with av.open(io.BytesIO(bytes(film))) as opened:
        packets = [packet for packet in opened.demux(audio=0) if packet.size]
        for packet in packets[60:100]:
            film[packet.pos : packet.pos + packet.size] = bytes(255 for _ in range(packet.size))
    path = tmp_path / "film"
    path.write_bytes(film)
    fingerprint = fingerprint_file(path)
    assert len(fingerprint) == 100
    assert fingerprint.sound is not None
    assert np.array_equal(fingerprint.sound[:20], good[:20])
