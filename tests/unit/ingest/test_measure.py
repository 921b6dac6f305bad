"""What a container holds, and what is not a complete video."""

import io
from fractions import Fraction

import pytest
from sage_ingest.probing.measure import measure
from sage_ingest.probing.ports import UnreadableError
from sage_ingest.videos.model import AudioTrack, FieldOrder, FrameRateMode, Media, PictureArea, VideoTrack
from support.small_films import png, small_film, sound_with_cover

FASTSTART = (("movflags", "faststart"),)
FRAGMENTED = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)


def _measured(data: bytes) -> Media:
    return measure(io.BytesIO(data), size_bytes=len(data))


def test_every_field_is_measured() -> None:
    assert _measured(small_film(rate=Fraction(30000, 1001), frames=60, audio_codec="aac")) == Media(
        duration_seconds=float(60 * Fraction(1001, 30000)),
        start_offset_seconds=0.0,
        container="mov,mp4,m4a,3gp,3g2,mj2",
        video_codec="h264",
        width=64,
        height=48,
        rotation_degrees=0,
        frame_rate=Fraction(30000, 1001),
        frame_count=60,
        frame_rate_mode=FrameRateMode.CONSTANT,
        field_order=FieldOrder.PROGRESSIVE,
        audio_tracks=(AudioTrack("aac", 2, 48000, "stereo"),),
        video_track=0,
        video_tracks=(VideoTrack("h264", 64, 48, is_default=True, is_cover=False, duration_seconds=2.002),),
        active_picture=PictureArea(0, 0, 64, 48),
    )


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264"), ("flv", "libx264"),
     ("webm", "libvpx"), ("avi", "mpeg4")],
)  # fmt: skip
def test_common_containers_are_videos(container: str, codec: str) -> None:
    media = _measured(small_film(container, codec=codec))
    assert media.duration_seconds == pytest.approx(2.0, abs=0.002)
    assert media.frame_rate == 24
    assert (media.width, media.height, media.audio_tracks) == (64, 48, ())


@pytest.mark.parametrize(("container", "options"), [("mp4", ()), ("mov", ()), ("mpegts", ())])
def test_the_timeline_begins_with_the_first_frame(container: str, options: tuple) -> None:
    media = _measured(small_film(container, start_seconds=3.0, options=options))
    assert (media.start_offset_seconds, media.duration_seconds) == (pytest.approx(3.0), pytest.approx(2.0))


def test_one_frame_is_a_video() -> None:
    media = _measured(small_film(frames=1))
    assert media.duration_seconds == pytest.approx(1 / 24)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"just text\n" * 1000, id="text"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n", id="playlist"),
        pytest.param(b"ffconcat version 1.0\nfile /etc/passwd\n", id="concat"),
    ],
)
def test_text_zeros_and_playlists_are_not_videos(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="not in a video format"):
        _measured(data)


def test_a_png_is_not_a_video() -> None:
    with pytest.raises(UnreadableError, match="not in a video format"):
        _measured(png())


def test_cover_art_is_not_a_video() -> None:
    with pytest.raises(UnreadableError, match="no picture track"):
        _measured(sound_with_cover())


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [("mp4", "libx264", ()), ("mp4", "libx264", FASTSTART), ("matroska", "libx264", ()), ("webm", "libvpx", ()),
     ("avi", "mpeg4", ())],
)  # fmt: skip
@pytest.mark.parametrize("percent", [5, 35, 65, 95, 99])
def test_a_truncated_film_is_refused(container: str, codec: str, options: tuple, percent: int) -> None:
    film = small_film(container, codec=codec, options=options)
    with pytest.raises(UnreadableError):
        _measured(film[: len(film) * percent // 100])


@pytest.mark.parametrize("percent", [20, 50, 90])
def test_a_truncated_fragmented_film_is_refused(percent: int) -> None:
    film = small_film(options=FRAGMENTED)
    with pytest.raises(UnreadableError, match="incomplete"):
        _measured(film[: len(film) * percent // 100])


def test_junk_at_the_end_is_ignored() -> None:
    assert _measured(small_film() + b"\xff" * 100).frame_count == 48


def test_frames_of_noise_are_refused() -> None:
    film = bytearray(small_film(options=FASTSTART))
    start = film.index(b"mdat") + 4
    film[start:] = b"\xa5" * (len(film) - start)
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        _measured(bytes(film))
