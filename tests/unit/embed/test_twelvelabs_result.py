"""Results of TwelveLabs: sorted, checked, taken apart."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from fakes.marengo import Marengo, request_of
from hypothesis import given
from hypothesis import strategies as st
from sage_embed.adapters.twelvelabs.answers import TaskAnswer, Vector
from sage_embed.adapters.twelvelabs.models import BY_NAME
from sage_embed.adapters.twelvelabs.result import BadResultError, TrackResult, tracks_of
from sage_embed.engine import EngineRequest

MODEL = BY_NAME["marengo3.0"]
OLD_MODEL = BY_NAME["Marengo-retrieval-2.7"]


def clip(
    start: float, end: float, *, option: str = "visual", scope: str = "clip", value: float = 1.0, size: int = 512
) -> Vector:
    """Return a vector of one value."""
    return Vector(scope, option, start, end, np.full(size, value, dtype=np.float32))


def clips(duration: float, **options: str) -> list[Vector]:
    """Return all clips of 2 s that have room, each with its index for a value."""
    return [clip(2.0 * i, 2.0 * i + 2, value=float(i), **options) for i in range(int(duration // 2))]


def check(
    vectors: Sequence[Vector], *, duration: float = 9.0, tracks: tuple[str, ...] = ("visual",), theirs: float = 0.0
) -> dict[str, TrackResult]:
    """Take a result apart."""
    request = request_of(Marengo(duration_seconds=duration), tracks=tracks)
    answer = TaskAnswer("ready", duration_seconds=theirs, vectors=tuple(vectors))
    return tracks_of(answer, model=MODEL, request=request, tracks=tracks)


@given(st.permutations(clips(40.0) + clips(40.0, option="audio") + clips(40.0, scope="asset")), st.floats(40, 41.9))
def test_any_order_gives_the_same_tracks(vectors, duration):
    """Vectors are sorted by time and kept apart by option and scope."""
    result = check(vectors, duration=duration, tracks=("visual", "audio"), theirs=duration)
    for track in result.values():
        assert track.start_seconds == tuple(range(0, 40, 2))
        assert (track.vectors[:, 0] == np.arange(20)).all()


@given(st.integers(1, 30), st.floats(0, 1.9), st.data())
def test_every_missing_clip_is_found(count, rest, data):
    """Whichever clip of the picture is left out, the result is refused and the clip is named."""
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
        ([clip(0, 2, size=511)], "has 511 numbers, not 512"),
        ([clip(0, 2, size=0)], "has 0 numbers, not 512"),
        ([clip(0, 2, value=math.nan)], "not finite"),
        ([clip(0, 2, value=math.inf)], "not finite"),
        ([clip(math.nan, 2)], "has no time"),
        ([clip(0, math.inf)], "has no time"),
        ([clip(2, 2)], "times that cannot be"),
        ([clip(2, 0)], "times that cannot be"),
        ([clip(-2, 0)], "times that cannot be"),
        ([clip(0, 2), clip(0, 2), clip(2, 4)], "overlap at 0.00 s"),
        ([clip(0, 2), clip(1, 3)], "overlap at 1.00 s"),
        ([clip(2, 4), clip(4, 6), clip(6, 8)], "clip 1 .* is missing: nothing from 0.00 to 2.00 s"),
        ([clip(0, 2), clip(6, 8)], "clip 2 .* is missing: nothing from 2.00 to 6.00 s"),
        ([clip(0, 2), clip(2, 4)], "clip 3 .* is missing: nothing from 4.00 to 9.00 s"),
        ([*clips(9.0), clip(30, 32)], "after the video's end"),
    ],
)
def test_what_cannot_be_right_is_refused(vectors, words):
    """Wrong sizes, numbers and times are found, and named for people."""
    with pytest.raises(BadResultError, match=words):
        check(vectors)


def test_a_rest_shorter_than_a_clip_is_known_as_not_covered():
    """Of 9.4 s the last 1.4 s have no clip; a rest that has one is covered."""
    assert check(clips(9.4), duration=9.4)["visual"].end_seconds[-1] == 8
    assert check([*clips(9.4), clip(8, 9.4)], duration=9.4)["visual"].end_seconds[-1] == 9.4


def test_a_clip_that_ends_after_the_video_ends_with_it():
    """The end is the video's by our own measure, and what begins after it is left out."""
    assert check([*clips(9.4), clip(8, 10)], duration=9.4)["visual"].end_seconds == (2, 4, 6, 8, 9.4)
    assert check([*clips(9.4), clip(8, 10), clip(10, 11)], duration=9.4)["visual"].end_seconds[-1] == 9.4


def test_their_length_decides_whether_another_clip_had_room():
    """A video of 10 s by our measure and of 9.98 s by theirs has a rest of 1.98 s that got no clip."""
    assert len(check(clips(8.0), duration=10.0, theirs=9.98)["visual"].vectors) == 4
    with pytest.raises(BadResultError, match="clip 5 of its visual track is missing"):
        check(clips(8.0), duration=10.0, theirs=10.0)
    assert len(check(clips(8.0), duration=10.0)["visual"].vectors) == 4


def test_rounded_times_are_taken():
    """Clips may touch within a thousandth and begin a little before the first frame."""
    vectors = [clip(-0.02, 2.0005), clip(2, 4), clip(4.01, 6), clip(6, 8)]
    result = check(vectors)["visual"]
    assert result.start_seconds == (0, 2, 4.01, 6)


def test_times_on_the_containers_clock_are_put_on_the_timeline():
    """Where the first clip begins at the container's first timestamp, all times count from there."""
    request = request_of(Marengo(duration_seconds=9.0))
    request = EngineRequest(**{**request.__dict__, "start_offset_seconds": 10.0})
    vectors = tuple(clip(one.start_seconds + 10, one.end_seconds + 10) for one in clips(9.0))
    result = tracks_of(TaskAnswer("ready", vectors=vectors), model=MODEL, request=request, tracks=("visual",))
    assert result["visual"].start_seconds == (0, 2, 4, 6)


def test_sound_may_end_early_and_be_missing():
    """An audio track that ends before the picture is whole; with a hole it is not; without any it is empty."""
    vectors = clips(9.0)
    assert len(check([*vectors, clip(0, 2, option="audio")], tracks=("visual", "audio"))["audio"].vectors) == 1
    assert len(check(vectors, tracks=("visual", "audio"))["audio"].vectors) == 0
    with pytest.raises(BadResultError, match="clip 2 of its audio track is missing"):
        check([*vectors, clip(0, 2, option="audio"), clip(4, 6, option="audio")], tracks=("visual", "audio"))


def test_where_nobody_speaks_there_is_no_transcription():
    """Clips without speech have no transcription, at any place."""
    spoken = [clip(4, 6, option="transcription"), clip(0, 2, option="transcription")]
    result = check([*clips(9.0), *spoken], tracks=("visual", "transcription"))["transcription"]
    assert result.start_seconds == (0, 4)


def test_the_whole_video_has_one_vector_the_pictures_first():
    """Of several vectors for the whole video the picture's is taken; without any the result is refused."""
    whole = [clip(0, 9, option="audio", scope="asset", value=7), clip(0, 9, scope="asset", value=3)]
    result = check([*whole, *clips(9.0)], tracks=("video",))["video"]
    assert (result.start_seconds, result.end_seconds, result.vectors[:, 0].tolist()) == ((0,), (9,), [3])
    assert check(whole[:1], tracks=("video",))["video"].vectors[0, 0] == 7
    with pytest.raises(BadResultError, match="no vector for the whole video"):
        check(clips(9.0), tracks=("video",))


def test_of_the_pictures_of_the_old_model_one_is_taken_and_never_a_mixture():
    """2.7 has its picture for texts and for images: the first is taken where it is there, else the other."""
    request = request_of(Marengo(duration_seconds=4.0), model="Marengo-retrieval-2.7")
    images = [clip(0, 2, option="visual-image", size=1024), clip(2, 4, option="visual-image", size=1024)]
    texts = [clip(0, 2, option="visual-text", value=2, size=1024), clip(2, 4, option="visual-text", value=2, size=1024)]

    def take(vectors: list[Vector]) -> float:
        answer = TaskAnswer("ready", duration_seconds=4.0, vectors=tuple(vectors))
        return float(tracks_of(answer, model=OLD_MODEL, request=request, tracks=("visual",))["visual"].vectors.mean())

    assert take([*images, *texts]) == 2
    assert take(images) == 1
    with pytest.raises(BadResultError, match="clip 2"):
        take([*images, texts[0]])
