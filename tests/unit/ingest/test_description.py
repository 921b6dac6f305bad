"""What a file states about picture and sound apart from their length."""

import io
import struct
from fractions import Fraction

import av
import pytest
from sage_ingest.probing.measure import measure
from sage_ingest.videos.model import AudioTrack, Color, ColorRange, FieldOrder, FrameRateMode, Media, Timecode
from support.small_films import small_film, uneven_film

NTSC = Fraction(30000, 1001)


def _measured(data: bytes) -> Media:
    return measure(io.BytesIO(data), size_bytes=len(data))


@pytest.mark.parametrize(
    ("matrix", "mirrored", "degrees"),
    [
        pytest.param((), False, 0, id="none"),
        pytest.param((1, 0, 0, 1), False, 0, id="identity"),
        # A phone held upright writes this.
        pytest.param((0, 1, -1, 0), False, 90, id="quarter turn clockwise"),
        pytest.param((-1, 0, 0, -1), False, 180, id="half turn"),
        pytest.param((0, -1, 1, 0), False, 270, id="quarter turn counter-clockwise"),
        pytest.param((-1, 0, 0, 1), True, 0, id="mirrored left to right"),
        pytest.param((1, 0, 0, -1), True, 180, id="mirrored top to bottom"),
        # (p, q) becomes (-p, q), then (-q, -p).
        pytest.param((0, -1, -1, 0), True, 90, id="mirrored, then a quarter turn clockwise"),
        pytest.param((0, 1, 1, 0), True, 270, id="mirrored, then a quarter turn counter-clockwise"),
    ],
)
@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_the_display_matrix_mirrors_and_turns_clockwise(container, matrix, mirrored, degrees) -> None:
    media = _measured(small_film(container, matrix=matrix))
    assert (media.mirrored, media.rotation_degrees) == (mirrored, degrees)
    assert media.display_size == ((48, 64) if degrees in (90, 270) else (64, 48))


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts"])
def test_the_sample_aspect_ratio_stretches_the_width(container: str) -> None:
    media = _measured(small_film(container, pixel_aspect=Fraction(4, 3)))
    assert (media.sample_aspect_ratio, media.display_size) == (Fraction(4, 3), (85, 48))


@pytest.mark.parametrize("ratio", [(2**31 - 1, 1), (1, 2**31 - 1)])
def test_a_sample_aspect_ratio_that_cannot_be_meant_is_ignored(ratio: tuple[int, int]) -> None:
    film = small_film("mp4", codec="mpeg4", pixel_aspect=Fraction(4, 3))
    at = film.index(b"pasp") + 4
    media = _measured(film[:at] + struct.pack(">II", *ratio) + film[at + 8 :])
    assert (media.sample_aspect_ratio, media.display_size) == (1, (64, 48))


def test_the_picture_is_stretched_before_it_is_turned() -> None:
    assert _measured(small_film(pixel_aspect=Fraction(1, 2), matrix=(0, 1, -1, 0))).display_size == (48, 32)


EVEN = tuple(round(index * 1000 / 24) for index in range(48))
# From 24 to 10 frames per second.
SLOWER = EVEN[:24] + tuple(EVEN[24] + index * 100 for index in range(24))
# One frame is missing.
DROPPED = tuple(round(index * 1000 / 24) for index in range(48) if index != 40)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264"), ("flv", "libx264"),
     ("webm", "libvpx")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("milliseconds", "mode"),
    [
        pytest.param(EVEN, FrameRateMode.CONSTANT, id="even"),
        pytest.param(SLOWER, FrameRateMode.VARIABLE, id="slower"),
        pytest.param(DROPPED, FrameRateMode.VARIABLE, id="dropped"),
    ],
)
def test_uneven_frames_are_a_variable_rate(container, codec, milliseconds, mode) -> None:
    assert _measured(uneven_film(container, codec=codec, milliseconds=milliseconds)).frame_rate_mode is mode


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "flv"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), NTSC, Fraction(60000, 1001), Fraction(120)])
def test_even_frames_are_a_constant_rate_however_the_container_rounds(container: str, rate: Fraction) -> None:
    assert _measured(small_film(container, rate=rate)).frame_rate_mode is FrameRateMode.CONSTANT


def test_the_rate_of_one_frame_is_neither_constant_nor_variable() -> None:
    assert _measured(uneven_film("mpegts", milliseconds=(0,))).frame_rate_mode is FrameRateMode.UNSPECIFIED


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_frames_that_are_all_stated_for_one_moment_are_neither_constant_nor_variable(container: str) -> None:
    film = io.BytesIO()
    with av.open(io.BytesIO(small_film("matroska", frames=8))) as source, av.open(film, "w", format=container) as out:
        picture = source.streams.video[0]
        copy = out.add_stream_from_template(picture)
        for packet in source.demux(picture):
            if packet.dts is not None:
                packet.stream, packet.pts, packet.dts = copy, 0, 0
                out.mux(packet)
    assert _measured(film.getvalue()).frame_rate_mode is FrameRateMode.UNSPECIFIED


@pytest.mark.parametrize(
    ("container", "written", "expected"),
    [
        ("mov", "01:02:03:04", Timecode(1, 2, 3, 4, drop_frame=False)),
        ("mov", "10:59:58;02", Timecode(10, 59, 58, 2, drop_frame=True)),
        ("mp4", "01:00:00:00", Timecode(1, 0, 0, 0, drop_frame=False)),
        ("matroska", "01:02:03;04", Timecode(1, 2, 3, 4, drop_frame=True)),
        ("matroska", "01:02:03.04", Timecode(1, 2, 3, 4, drop_frame=True)),
        ("matroska", "25:00:00:00", None),
        ("matroska", "soon", None),
        ("mov", "", None),
    ],
)
def test_the_timecode_of_the_first_frame_is_read(container: str, written: str, expected: Timecode | None) -> None:
    assert _measured(small_film(container, rate=NTSC, timecode=written)).start_timecode == expected


@pytest.mark.parametrize(
    ("first", "order"), [("tff", FieldOrder.TOP_FIRST), ("bff", FieldOrder.BOTTOM_FIRST), ("", FieldOrder.PROGRESSIVE)]
)
@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_the_order_of_fields_is_read(container: str, first: str, order: FieldOrder) -> None:
    options = (("x264-params", f"{first}=1"),) if first else ()
    assert _measured(small_film(container, codec_options=options)).field_order is order


@pytest.mark.parametrize(
    ("written", "color"),
    [
        ((1, 1, 1, 1), Color("bt709", "bt709", "bt709", ColorRange.LIMITED)),
        ((9, 16, 9, 1), Color("bt2020", "smpte2084", "bt2020nc", ColorRange.LIMITED)),
        ((9, 18, 9, 2), Color("bt2020", "arib-std-b67", "bt2020nc", ColorRange.FULL)),
        ((6, 6, 6, 0), Color("smpte170m", "smpte170m", "smpte170m", ColorRange.LIMITED)),
        (None, None),
    ],
)
def test_colors_have_the_names_of_h273(written, color) -> None:
    assert _measured(small_film(color=written)).color == color


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_every_audio_track_is_listed(container: str) -> None:
    film = small_film(container, audio_codec="aac", layout="5.1", languages=("eng", "", "ger"))
    assert _measured(film).audio_tracks == (
        AudioTrack("aac", 6, 48_000, "5.1", "eng"),
        AudioTrack("aac", 6, 48_000, "5.1", ""),
        AudioTrack("aac", 6, 48_000, "5.1", "ger"),
    )


def test_a_language_that_is_longer_than_any_language_tag_is_ignored() -> None:
    film = small_film("matroska", audio_codec="aac", languages=("zh-cmn-Hans-CN", "x" * 70_000))
    assert [track.language for track in _measured(film).audio_tracks] == ["zh-cmn-Hans-CN", ""]
