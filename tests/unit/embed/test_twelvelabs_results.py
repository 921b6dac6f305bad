"""Results of TwelveLabs: sorted, checked and split into tracks."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from fakes.marengo import Marengo, request_of
from hypothesis import given
from hypothesis import strategies as st
from sage_embed.engines.engine import EngineRequest
from sage_embed.engines.twelvelabs.models import BY_NAME
from sage_embed.engines.twelvelabs.responses import TaskResponse, Vector
from sage_embed.engines.twelvelabs.results import BadResultError, TrackResult, tracks_of

MODEL = BY_NAME["marengo3.0"]
OLD_MODEL = BY_NAME["Marengo-retrieval-2.7"]


def clip(
    start: float, end: float, *, option: str = "visual", scope: str = "clip", value: float = 1.0, size: int = 512
) -> Vector:
    """Return a vector of one value."""
    return Vector(scope, option, start, end, np.full(size, value, dtype=np.float32))


def clips(duration: float, **options: str) -> list[Vector]:
    """Return all full clips of 2 s, each with its number as its value."""
    return [clip(2.0 * i, 2.0 * i + 2, value=i + 1.0, **options) for i in range(int(duration // 2))]


def check(
    vectors: Sequence[Vector], *, duration: float = 9.0, tracks: tuple[str, ...] = ("visual",), theirs: float = 0.0
) -> dict[str, TrackResult]:
    """Split a result into tracks."""
    request = request_of(Marengo(duration_seconds=duration), tracks=tracks)
    answer = TaskResponse("ready", duration_seconds=theirs, vectors=tuple(vectors))
    return tracks_of(answer, model=MODEL, request=request, tracks=tracks)


@given(st.permutations(clips(40.0) + clips(40.0, option="audio") + clips(40.0, scope="asset")), st.floats(40, 41.9))
def test_any_order_gives_the_same_tracks(vectors, duration):
    result = check(vectors, duration=duration, tracks=("visual", "audio"), theirs=duration)
    for track in result.values():
        assert track.start_seconds == tuple(range(0, 40, 2))
        assert (track.vectors[:, 0] == np.arange(1, 21)).all()


@given(st.integers(1, 30), st.floats(0, 1.9), st.data())
def test_every_missing_clip_is_found(count, rest, data):
    duration = 2.0 * count + rest
    index = data.draw(st.integers(0, count - 1))
    vectors = clips(duration)
    assert len(check(vectors, duration=duration, theirs=duration)["visual"].vectors) == count
    del vectors[index]
    expected = f"clip {index + 1} of its visual track is missing" if vectors else "it has no visual vectors"
    with pytest.raises(BadResultError, match=expected):
        check(vectors, duration=duration, theirs=duration)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([], "no visual vectors"),
        ([clip(0, 2, option="audio")], "no visual vectors"),
        ([clip(0, 2, scope="video"), clip(0, 8, scope="asset")], "no visual vectors"),
        ([clip(0, 2, size=511)], "has 511 numbers instead of 512"),
        ([clip(0, 2, size=0)], "has 0 numbers instead of 512"),
        ([clip(0, 2, value=math.nan)], "the vector from 0.00 to 2.00 s of its visual track is not finite"),
        ([clip(0, 2, value=math.inf)], "not finite"),
        ([clip(0, 2), clip(2, 4, value=0)], "the vector from 2.00 to 4.00 s of its visual track has only zeros"),
        ([clip(0, 6), clip(6, 9)], "clips of 6.00 s instead of 2 s"),
        ([clip(0, 9)], "clips of 9.00 s instead of 2 s"),
        ([clip(0, 1), clip(1, 2), clip(2, 4)], "clips of 1.00 s instead of 2 s"),
        ([clip(math.nan, 2)], "has no time"),
        ([clip(0, math.inf)], "has no time"),
        ([clip(2, 2)], "impossible times"),
        ([clip(2, 0)], "impossible times"),
        ([clip(-2, 0)], "impossible times"),
        ([clip(0, 2), clip(0, 2), clip(2, 4)], "overlap at 0.00 s"),
        ([clip(0, 2), clip(1, 3)], "overlap at 1.00 s"),
        ([clip(2, 4), clip(4, 6), clip(6, 8)], "clip 1 .* is missing: nothing from 0.00 to 2.00 s"),
        ([clip(0, 2), clip(6, 8)], "clip 2 .* is missing: nothing from 2.00 to 6.00 s"),
        ([clip(0, 2), clip(2, 4)], "clip 3 .* is missing: nothing from 4.00 to 9.00 s"),
        ([*clips(9.0), clip(30, 32)], "after the end of the video"),
    ],
)
def test_wrong_sizes_numbers_and_times_are_refused(vectors, words):
    with pytest.raises(BadResultError, match=words):
        check(vectors)


def test_a_rest_shorter_than_a_clip_may_be_uncovered():
    assert check(clips(9.4), duration=9.4)["visual"].end_seconds[-1] == 8
    assert check([*clips(9.4), clip(8, 9.4)], duration=9.4)["visual"].end_seconds[-1] == 9.4


def test_clips_are_cut_at_the_end_of_the_video():
    assert check([*clips(9.4), clip(8, 10)], duration=9.4)["visual"].end_seconds == (2, 4, 6, 8, 9.4)
    assert check([*clips(9.4), clip(8, 10), clip(10, 11)], duration=9.4)["visual"].end_seconds[-1] == 9.4


def test_the_length_measured_by_twelvelabs_decides_whether_a_clip_is_missing():
    assert len(check(clips(8.0), duration=10.0, theirs=9.98)["visual"].vectors) == 4
    with pytest.raises(BadResultError, match="clip 5 of its visual track is missing"):
        check(clips(8.0), duration=10.0, theirs=10.0)
    assert len(check(clips(8.0), duration=10.0)["visual"].vectors) == 4


@pytest.mark.parametrize("track", ["visual", "audio", "transcription", "video"])
def test_zeros_are_refused_in_every_track(track):
    option, scope = ("visual", "asset") if track == "video" else (track, "clip")
    vectors = [one for one in clips(9.0) if (one.option, one.scope) != (option, scope) or one.start_seconds]
    zeros = clip(0, 9 if scope == "asset" else 2, option=option, scope=scope, value=0)
    with pytest.raises(BadResultError, match=f"of its {track} track has only zeros"):
        check([zeros, *vectors], tracks=("visual", track))


def test_a_stated_clip_length_must_be_the_requested_one():
    request = request_of(Marengo(duration_seconds=9.0))
    answer = TaskResponse("ready", vectors=tuple(clips(9.0)), clip_seconds=6.0)
    with pytest.raises(BadResultError, match=r"clips of 6\.00 s instead of 2 s"):
        tracks_of(answer, model=MODEL, request=request, tracks=("visual",))


def test_speech_may_be_shorter_than_its_clip_but_not_longer():
    spoken = [clip(0.5, 1.2, option="transcription"), clip(4, 6, option="transcription")]
    assert len(check([*clips(9.0), *spoken], tracks=("visual", "transcription"))["transcription"].vectors) == 2
    with pytest.raises(BadResultError, match=r"clips of 5\.00 s instead of 2 s"):
        check([*clips(9.0), clip(0, 5, option="transcription")], tracks=("visual", "transcription"))


def test_a_result_for_less_of_the_video_covers_only_that():
    """The vector of the whole video, too."""
    vectors = [*clips(4.0), clip(4, 5, value=9), clip(0, 5, scope="asset")]
    result = check(vectors, duration=9.5, theirs=5.0, tracks=("visual", "video"))
    assert result["visual"].end_seconds == (2, 4, 5)
    assert result["video"].end_seconds == (5,)
    with pytest.raises(BadResultError, match="clip 3 of its visual track is missing"):
        check(clips(4.0), duration=9.5, theirs=9.5)


def test_rounded_times_are_accepted():
    vectors = [clip(-0.02, 2.0005), clip(2, 4), clip(4.01, 6), clip(6, 8)]
    result = check(vectors)["visual"]
    assert result.start_seconds == (0, 2, 4.01, 6)


def test_times_on_the_containers_clock_are_moved_to_the_timeline():
    request = request_of(Marengo(duration_seconds=9.0))
    request = EngineRequest(**{**request.__dict__, "start_offset_seconds": 10.0})
    vectors = tuple(clip(one.start_seconds + 10, one.end_seconds + 10) for one in clips(9.0))
    result = tracks_of(TaskResponse("ready", vectors=vectors), model=MODEL, request=request, tracks=("visual",))
    assert result["visual"].start_seconds == (0, 2, 4, 6)


def test_sound_may_end_early_or_be_missing_but_has_no_gaps():
    vectors = clips(9.0)
    assert len(check([*vectors, clip(0, 2, option="audio")], tracks=("visual", "audio"))["audio"].vectors) == 1
    assert len(check(vectors, tracks=("visual", "audio"))["audio"].vectors) == 0
    with pytest.raises(BadResultError, match="clip 2 of its audio track is missing"):
        check([*vectors, clip(0, 2, option="audio"), clip(4, 6, option="audio")], tracks=("visual", "audio"))


def test_a_transcription_may_have_gaps():
    spoken = [clip(4, 6, option="transcription"), clip(0, 2, option="transcription")]
    result = check([*clips(9.0), *spoken], tracks=("visual", "transcription"))["transcription"]
    assert result.start_seconds == (0, 4)


def test_the_whole_video_prefers_the_vector_of_the_picture():
    whole = [clip(0, 9, option="audio", scope="asset", value=7), clip(0, 9, scope="asset", value=3)]
    result = check([*whole, *clips(9.0)], tracks=("video",))["video"]
    assert (result.start_seconds, result.end_seconds, result.vectors[:, 0].tolist()) == ((0,), (9,), [3])
    assert check(whole[:1], tracks=("video",))["video"].vectors[0, 0] == 7
    with pytest.raises(BadResultError, match="no vector for the whole video"):
        check(clips(9.0), tracks=("video",))


def test_the_two_picture_vectors_of_the_old_model_are_never_mixed():
    request = request_of(Marengo(duration_seconds=4.0), model="Marengo-retrieval-2.7")
    images = [clip(0, 2, option="visual-image", size=1024), clip(2, 4, option="visual-image", size=1024)]
    texts = [clip(0, 2, option="visual-text", value=2, size=1024), clip(2, 4, option="visual-text", value=2, size=1024)]

    def take(vectors: list[Vector]) -> float:
        answer = TaskResponse("ready", duration_seconds=4.0, vectors=tuple(vectors))
        return float(tracks_of(answer, model=OLD_MODEL, request=request, tracks=("visual",))["visual"].vectors.mean())

    assert take([*images, *texts]) == 2
    assert take(images) == 1
    with pytest.raises(BadResultError, match="clip 2"):
        take([*images, texts[0]])
