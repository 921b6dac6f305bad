"""The rules for what a client declares about a video or a part."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sage_ingest.uploads.model import PartSpec, Upload, check_part, check_video_spec
from sage_ingest.videos.model import VideoSpec
from sage_runtime.errors import Reason, SageError

GOOD = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 10, "sha256": "", "max_video_bytes": 100}


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        ({"content_type": "application/zip"}, Reason.CONTENT_TYPE_NOT_VIDEO, "spec.content_type"),
        ({"content_type": "image/png"}, Reason.CONTENT_TYPE_NOT_VIDEO, "spec.content_type"),
        ({"content_type": "video/"}, Reason.CONTENT_TYPE_NOT_VIDEO, "spec.content_type"),
        ({"content_type": "video/mp4\r\nx: y"}, Reason.CONTENT_TYPE_NOT_VIDEO, "spec.content_type"),
        ({"content_type": "xvideo/mp4"}, Reason.CONTENT_TYPE_NOT_VIDEO, "spec.content_type"),
        ({"size_bytes": None}, Reason.FIELD_INVALID, "spec.size_bytes"),
        ({"size_bytes": 0}, Reason.VIDEO_UNREADABLE, "content"),
        ({"size_bytes": 101}, Reason.VIDEO_TOO_LARGE, "spec.size_bytes"),
    ],
)
def test_a_broken_rule_names_the_field(wrong: dict, reason: Reason, field: str) -> None:
    with pytest.raises(SageError) as raised:
        check_video_spec(**{**GOOD, **wrong})
    assert raised.value.reason is reason
    assert [violation.field for violation in raised.value.violations] == [field]


def test_media_type_and_checksum_are_normalized() -> None:
    spec = check_video_spec(
        filename="a.mp4",
        content_type="Video/MP4; codecs=avc1",
        size_bytes=100,
        sha256="AB" * 32,
        max_video_bytes=100,
    )
    assert spec == VideoSpec("a.mp4", "video/mp4", 100, "ab" * 32)


@pytest.mark.parametrize("said", ["", " ", "application/octet-stream", "Application/X-WWW-Form-Urlencoded; a=b"])
def test_the_extension_decides_if_the_content_type_is_unspecific(said: str) -> None:
    assert (
        check_video_spec(**{**GOOD, "content_type": said, "filename": "../x/A.MKV"}).content_type == "video/x-matroska"
    )


@pytest.mark.parametrize("filename", ["film", "film.final", "a.png", "film.dat"])
def test_name_that_is_not_that_of_a_film_leaves_the_decision_to_the_content(filename: str) -> None:
    spec = check_video_spec(**{**GOOD, "content_type": "", "filename": filename})
    assert spec.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("a.y4m", "video/x-yuv4mpeg"),
        ("a.NUT", "video/x-nut"),
        ("a.rm", "video/vnd.rn-realvideo"),
        ("a.h264", "video/h264"),
    ],
)
def test_every_film_format_has_a_media_type(filename: str, content_type: str) -> None:
    assert check_video_spec(**{**GOOD, "content_type": "", "filename": filename}).content_type == content_type


def test_type_of_a_film_container_that_is_not_called_video_is_accepted() -> None:
    assert check_video_spec(**{**GOOD, "content_type": "application/mxf"}).content_type == "application/mxf"


UPLOAD = Upload(
    id="upload_1",
    video_id="video_1",
    spec=VideoSpec("a.mp4", "video/mp4", 25, ""),
    part_bytes=10,
    multipart_id="m",
    request_id="",
    create_time=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(("number", "size_bytes"), [(1, 10), (2, 10), (3, 5)])
def test_parts_of_the_right_size_are_accepted(number: int, size_bytes: int) -> None:
    assert UPLOAD.part_count == 3
    check_part(UPLOAD, PartSpec("upload_1", number, size_bytes, ""))


@pytest.mark.parametrize(
    ("number", "size_bytes", "field"),
    [
        (0, 10, "part_number"),
        (-1, 10, "part_number"),
        (4, 10, "part_number"),
        (1, 9, "size_bytes"),
        (1, 11, "size_bytes"),
        (3, 10, "size_bytes"),
        (3, 0, "size_bytes"),
    ],
)
def test_a_part_with_a_wrong_number_or_size_is_refused(number: int, size_bytes: int, field: str) -> None:
    with pytest.raises(SageError) as raised:
        check_part(UPLOAD, PartSpec("upload_1", number, size_bytes, ""))
    assert raised.value.reason is Reason.PART_INVALID
    assert [violation.field for violation in raised.value.violations] == [field]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=255))
def test_any_text_without_control_characters_is_kept_as_the_label(filename: str) -> None:
    assert check_video_spec(**{**GOOD, "filename": filename}).filename == filename


@pytest.mark.parametrize("filename", ["../../etc/passwd", "C:\\film.mp4", "a" * 255, "🎬🍿.mp4", "фильм.mp4"])
def test_unusual_labels_are_kept(filename: str) -> None:
    assert check_video_spec(**{**GOOD, "filename": filename}).filename == filename
