"""What a comparison says beyond its tracks: the media of the two files, and what was not compared."""

from dataclasses import replace
from fractions import Fraction

import pytest
from fakes.compare import MODEL_TRACKS
from hypothesis import given
from hypothesis import strategies as st
from sage.ingest.v1 import media_pb2
from sage_compare.beyond_tracks import (
    MediaDifferenceKind,
    NotCompared,
    NotComparedReason,
    find_media_differences,
    find_not_compared,
)
from sage_compare.inputs.client import to_media
from sage_compare.inputs.media import Area, AudioTrack, DynamicRange, Media

STEREO = AudioTrack(2, "stereo", "eng")


def area(width: Fraction = Fraction(1), height: Fraction = Fraction(1)) -> Area:
    """Return a picture in the middle of the frame."""
    return Area((1 - width) / 2, (1 - height) / 2, width, height)


WHOLE = area()
FILM = Media((STEREO,), 1, DynamicRange.SDR, Fraction(16, 9), WHOLE, interlaced=False)
KINDS = MediaDifferenceKind

AUDIO_TRACKS = st.builds(
    AudioTrack,
    st.sampled_from([0, 1, 2, 6]),
    st.sampled_from(["", "stereo", "5.1", "5.1(side)", "6 channels"]),
    st.sampled_from(["", "und", "eng", "en", "ger", "deu"]),
)
MEDIA = st.builds(
    Media,
    st.lists(AUDIO_TRACKS, max_size=3).map(tuple),
    st.integers(0, 2),
    st.sampled_from(DynamicRange),
    st.sampled_from([None, Fraction(16, 9), Fraction(4, 3), Fraction(239, 100)]),
    st.sampled_from([None, WHOLE, area(height=Fraction(3, 4)), area(Fraction(1, 2), Fraction(3, 4))]),
    st.sampled_from([None, True, False]),
    st.booleans(),
)


def differences(a: Media, b: Media) -> list[tuple[MediaDifferenceKind, str, str]]:
    return [(one.kind, one.a, one.b) for one in find_media_differences(a, b)]


def with_audio(*tracks: AudioTrack) -> Media:
    return replace(FILM, audio_tracks=tracks)


def test_lost_audio_is_a_difference():
    (lost,) = find_media_differences(FILM, with_audio())
    assert (lost.kind, lost.a, lost.b, lost.audio_track) == (KINDS.AUDIO_TRACK_COUNT, "1", "0", None)
    assert lost.counts_as_difference


def test_fewer_channels_are_a_difference_of_their_track():
    a, b = with_audio(STEREO, AudioTrack(6, "5.1", "fra")), with_audio(STEREO, AudioTrack(2, "stereo", "fra"))
    (found,) = find_media_differences(a, b)
    assert (found.kind, found.a, found.b, found.audio_track) == (KINDS.AUDIO_LAYOUT, "5.1", "stereo", 1)
    assert found.counts_as_difference


def test_other_language_is_a_difference():
    a, b = with_audio(STEREO), with_audio(replace(STEREO, language="fra"))
    assert differences(a, b) == [(KINDS.AUDIO_LANGUAGE, "eng", "fra")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (AudioTrack(6, "5.1"), AudioTrack(6, "5.1(side)")),
        (AudioTrack(6, "5.1"), AudioTrack(6, "")),
        (AudioTrack(6, "5.1"), AudioTrack(6, "6 channels")),
        (AudioTrack(0, ""), AudioTrack(2, "stereo")),
        (AudioTrack(2, "stereo", "und"), AudioTrack(2, "stereo", "eng")),
        (AudioTrack(2, "stereo", ""), AudioTrack(2, "stereo", "eng")),
        (AudioTrack(2, "stereo", "ger"), AudioTrack(2, "stereo", "deu")),
        (AudioTrack(2, "stereo", "en"), AudioTrack(2, "stereo", "eng")),
        (AudioTrack(2, "stereo", "eng"), AudioTrack(2, "stereo", "ENG-gb")),
    ],
)
def test_what_a_file_does_not_state_or_writes_in_another_way_is_no_difference(one, other):
    assert differences(with_audio(one), with_audio(other)) == []


def test_layout_without_a_name_is_its_number_of_channels():
    a, b = with_audio(AudioTrack(6)), with_audio(AudioTrack(2, "stereo"))
    assert differences(a, b) == [(KINDS.AUDIO_LAYOUT, "6 channels", "stereo")]
    assert differences(with_audio(AudioTrack(1)), b) == [(KINDS.AUDIO_LAYOUT, "1 channel", "stereo")]


def test_layouts_with_the_same_number_of_channels_can_differ():
    a, b = with_audio(AudioTrack(3, "2.1")), with_audio(AudioTrack(3, "3.0"))
    assert differences(a, b) == [(KINDS.AUDIO_LAYOUT, "2.1", "3.0")]


@pytest.mark.parametrize(
    ("change", "kind", "value", "other"),
    [
        ({"dynamic_range": DynamicRange.PQ}, KINDS.DYNAMIC_RANGE, "SDR", "PQ"),
        ({"dynamic_range": DynamicRange.HLG}, KINDS.DYNAMIC_RANGE, "SDR", "HLG"),
        ({"aspect_ratio": Fraction(239, 100)}, KINDS.ASPECT_RATIO, "1.78:1", "2.39:1"),
        ({"aspect_ratio": Fraction(185, 100)}, KINDS.ASPECT_RATIO, "1.78:1", "1.85:1"),
        ({"interlaced": True}, KINDS.SCAN, "progressive", "interlaced"),
        ({"mirrored": True}, KINDS.MIRRORING, "not mirrored", "mirrored"),
        ({"active": area(height=Fraction(3, 4))}, KINDS.BLACK_BARS, "none", "letterbox 2.37:1"),
        ({"active": area(Fraction(3, 4))}, KINDS.BLACK_BARS, "none", "pillarbox 1.33:1"),
        ({"active": area(Fraction(4, 5), Fraction(4, 5))}, KINDS.BLACK_BARS, "none", "windowbox 1.78:1"),
    ],
)
def test_presentation_is_told_and_does_not_count(change, kind, value, other):
    (found,) = find_media_differences(FILM, replace(FILM, **change))
    assert (found.kind, found.a, found.b) == (kind, value, other)
    assert not found.counts_as_difference


@pytest.mark.parametrize(
    "change",
    [
        {"aspect_ratio": Fraction(640, 358)},
        {"aspect_ratio": None},
        {"interlaced": None},
        {"active": None},
        {"active": area(Fraction(98, 100), Fraction(97, 100))},
        {"picture_count": 2},
    ],
)
def test_rounded_or_unknown_presentation_is_no_difference(change):
    assert differences(FILM, replace(FILM, **change)) == []


def test_two_conventions_for_the_pixels_of_standard_definition_are_the_same_aspect_ratio():
    a, b = (replace(FILM, aspect_ratio=Fraction(width, 576)) for width in (768, 786))
    assert differences(a, b) == []


def test_bars_of_one_kind_differ_by_the_picture_between_them():
    a, b = (replace(FILM, active=area(height=Fraction(height, 100))) for height in (75, 96))
    assert differences(a, b) == [(KINDS.BLACK_BARS, "letterbox 2.37:1", "letterbox 1.85:1")]
    assert differences(a, replace(a, active=area(height=Fraction(74, 100)))) == []
    unknown = replace(a, aspect_ratio=None)
    assert differences(FILM, unknown) == [(KINDS.BLACK_BARS, "none", "letterbox")]


@given(MEDIA, MEDIA)
def test_both_sides_are_treated_alike(a, b):
    there, back = find_media_differences(a, b), find_media_differences(b, a)
    assert [replace(one, a=one.b, b=one.a) for one in there] == list(back)
    for compared in ((), ("visual",), ("visual", "audio")):
        assert find_not_compared(a, b, compared=compared, model_tracks=()) == find_not_compared(
            b, a, compared=compared, model_tracks=()
        )


@given(MEDIA)
def test_a_file_does_not_differ_from_itself(media):
    assert find_media_differences(media, media) == ()


def not_compared(a: Media, b: Media, *compared: str, model: str = "marengo3.0") -> tuple[NotCompared, ...]:
    return find_not_compared(a, b, compared=compared, model_tracks=MODEL_TRACKS[model])


def test_sound_that_the_model_cannot_compare_is_named():
    assert not_compared(FILM, FILM, "visual", model="local") == (
        NotCompared("audio", NotComparedReason.MODEL_LACKS_TRACK),
    )


def test_sound_and_picture_that_were_not_requested_are_named():
    not_requested = NotComparedReason.NOT_REQUESTED
    assert not_compared(FILM, FILM, "visual") == (NotCompared("audio", not_requested),)
    assert not_compared(FILM, FILM, "audio") == (NotCompared("visual", not_requested),)
    assert not_compared(FILM, FILM, "transcription") == (
        NotCompared("visual", not_requested),
        NotCompared("audio", not_requested),
    )
    assert not_compared(FILM, FILM, "visual", "audio") == ()


def test_sound_that_a_film_does_not_have_cannot_be_compared():
    for a, b in ((FILM, with_audio()), (with_audio(), FILM), (with_audio(), with_audio())):
        assert not_compared(a, b, "visual", model="local") == ()
        assert not_compared(a, b, "visual", "audio") == ()


def test_other_tracks_than_the_one_that_is_embedded_are_named():
    angles = replace(FILM, picture_count=2, audio_tracks=(STEREO, STEREO))
    others = NotComparedReason.OTHER_TRACKS
    assert not_compared(FILM, angles, "visual", "audio") == (
        NotCompared("visual", others),
        NotCompared("audio", others),
    )


def test_media_are_read_from_the_message():
    message = media_pb2.Media(
        width=720,
        height=576,
        active_picture=media_pb2.PictureArea(top=72, width=720, height=432),
        audio_tracks=[media_pb2.AudioTrack(codec="ac3", channels=6, layout="5.1(side)", language="fre")],
        video_tracks=[media_pb2.VideoTrack(), media_pb2.VideoTrack(is_cover=True)],
        color=media_pb2.Color(transfer="arib-std-b67"),
        display_width=1024,
        display_height=576,
        field_order=media_pb2.FIELD_ORDER_BOTTOM_FIRST,
        mirrored=True,
    )
    letterbox = area(height=Fraction(3, 4))
    expected = Media(
        (AudioTrack(6, "5.1(side)", "fre"),),
        1,
        DynamicRange.HLG,
        Fraction(16, 9),
        letterbox,
        interlaced=True,
        mirrored=True,
    )
    assert to_media(message) == expected
    message.rotation_degrees = 90
    assert to_media(message).active == area(Fraction(3, 4))
    assert to_media(media_pb2.Media()) == Media()


@pytest.mark.parametrize(
    ("mirrored", "degrees", "expected"),
    [
        (False, 0, (1, 2, 4, 6)),
        (True, 0, (5, 2, 4, 6)),
        (False, 90, (2, 1, 6, 4)),
        (False, 180, (5, 2, 4, 6)),
        (False, 270, (2, 5, 6, 4)),
        (True, 90, (2, 5, 6, 4)),
    ],
)
def test_active_picture_is_that_of_the_displayed_frame(mirrored, degrees, expected):
    media = media_pb2.Media(
        width=10,
        height=10,
        mirrored=mirrored,
        rotation_degrees=degrees,
        active_picture=media_pb2.PictureArea(left=1, top=2, width=4, height=6),
    )
    assert to_media(media).active == Area(*(Fraction(one, 10) for one in expected))
