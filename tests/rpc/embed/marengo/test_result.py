"""The tracks of an embedding by Marengo."""

from collections.abc import Callable

import numpy as np
import pytest
from fakes.twelvelabs import misbehaviour
from fakes.twelvelabs.faults import Step
from fakes.twelvelabs.studio import FastStudio
from sage.embed.v1 import embed_pb2
from sage.errors.v1 import error_reason_pb2
from sage_runtime.api import new_id

COMPLETED = embed_pb2.EMBEDDING_STATE_COMPLETED
FAILED = embed_pb2.EMBEDDING_STATE_FAILED

STARTS = [0, 2, 4, 6, 8]
ENDS = [2, 4, 6, 8, 9.5]

pytestmark = pytest.mark.usefixtures("worker")


def pieces(twelvelabs, option: str, scope: str = "clip") -> np.ndarray:
    """Return the vectors that the stand-in made, ordered by time."""
    (task,) = twelvelabs.tasks
    found = [piece for piece in task.pieces if (piece.option, piece.scope) == (option, scope)]
    return np.array([piece.vector for piece in found], dtype=np.float32)


async def test_the_default_model_is_marengo_if_there_is_a_key(create, finish, read, twelvelabs):
    asked = await create()
    assert (asked.model, asked.provider, asked.dimensions) == ("marengo3.0", "twelvelabs", 512)
    done = await finish(asked.id)
    assert done.state == COMPLETED
    starts, ends, vectors = await read(done, "visual")
    assert (starts, ends) == (STARTS, ENDS)
    assert np.array_equal(vectors, pieces(twelvelabs, "visual"))
    assert done.provider_task_id == twelvelabs.tasks[0].id
    assert twelvelabs.creates_received == len(twelvelabs.tasks) == 1
    assert twelvelabs.count(Step.FETCH) == 1


@pytest.mark.parametrize(
    ("model", "dimensions", "covered"),
    [("marengo3.0", 512, 9.5), ("marengo3.5", 512, 9.5), ("Marengo-retrieval-2.7", 1024, 8)],
)
async def test_each_track_has_its_own_vectors(create, finish, read, twelvelabs, model, dimensions, covered):
    done = await finish((await create(model=model, tracks=["visual", "audio", "video"])).id)
    assert done.state == COMPLETED, done.failure
    assert {(track.name, track.segment_count, track.covered_end_seconds) for track in done.tracks} == {
        ("visual", len(STARTS) - (covered < 9.5), covered),
        ("audio", len(STARTS) - (covered < 9.5), covered),
        ("video", 1, 9.5),
    }
    picture, whole = ("visual-text", "video") if model.endswith("2.7") else ("visual", "asset")
    for track, option, scope in (("visual", picture, "clip"), ("audio", "audio", "clip"), ("video", picture, whole)):
        *_, vectors = await read(done, track)
        assert vectors.shape[1] == dimensions
        assert np.array_equal(vectors, pieces(twelvelabs, option, scope))


async def test_only_the_requested_tracks_are_submitted(create, finish, twelvelabs):
    await finish((await create(tracks=["visual", "transcription"], clip_seconds=5)).id)
    (task,) = twelvelabs.tasks
    assert task.order.options == ("transcription", "visual")
    assert task.order.scopes == ("clip",)
    assert task.order.clip_seconds == 5


@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_a_video_without_sound_has_no_audio_track(create, finish, ingest, twelvelabs, monkeypatch, model):
    monkeypatch.setattr(twelvelabs, "studio", FastStudio(duration_seconds=9.5, sound=False))
    silent = ingest.add(new_id("video"), duration_seconds=9.5, sound=False)
    done = await finish((await create(video_id=silent, model=model, tracks=["visual", "audio"])).id)
    assert done.state == COMPLETED, done.failure
    assert [track.name for track in done.tracks] == ["visual"]
    assert list(done.requested_tracks) == ["audio", "visual"]


async def test_a_video_without_speech_has_no_transcription(create, finish, twelvelabs, ingest):
    asked = {"tracks": ["visual", "transcription"]}
    assert [track.name for track in (await finish((await create(**asked)).id)).tracks] == ["visual"]
    twelvelabs.speech = True
    another = ingest.add(new_id("video"), duration_seconds=9.5, sound=True)
    done = await finish((await create(video_id=another, **asked)).id)
    assert [track.name for track in done.tracks] == ["transcription", "visual"]


@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_vectors_out_of_order_are_sorted(create, finish, read, twelvelabs, model):
    twelvelabs.misbehave(misbehaviour.reversed_order(), Step.FETCH)
    done = await finish((await create(model=model)).id)
    starts, _, vectors = await read(done, "visual")
    assert starts == STARTS[: len(starts)]
    assert np.array_equal(vectors, pieces(twelvelabs, "visual-text" if model.endswith("2.7") else "visual"))


CORRUPT = {
    "a clip is missing": misbehaviour.without_clip(2),
    "nothing is there": misbehaviour.without_vectors(),
    "wrong dimensions": misbehaviour.with_dimensions(7),
    "NaN": misbehaviour.with_nan(),
    "null": misbehaviour.with_number(None),
    "zeros": misbehaviour.with_zeros("audio"),
    "clips of another length": misbehaviour.with_clips_of(1.5),
    "an early end of the clips only": misbehaviour.without_clip(3),
}


async def test_an_unusable_result_is_not_stored_and_not_paid_twice(embed_all, twelvelabs, subtests):
    cases = [(model, name) for name in CORRUPT for model in ("marengo3.0", "Marengo-retrieval-2.7")]

    def meeting(name: str) -> Callable[[str], None]:
        return lambda video: twelvelabs.misbehave(CORRUPT[name], Step.FETCH, of=video)

    requests = [{"meet": meeting(name), "model": model, "tracks": ["audio", "visual"]} for model, name in cases]
    embeddings = await embed_all(requests)
    for (model, name), failed in zip(cases, embeddings, strict=True):
        with subtests.test(name, model=model):
            assert failed.state == FAILED
            assert failed.failure.reason == error_reason_pb2.ERROR_REASON_PROVIDER_FAILED
            assert failed.failure.message.startswith("TwelveLabs failed: ")
            assert all(track.segment_count == 0 for track in failed.tracks)
            assert twelvelabs.count(Step.CREATE, of=failed.video_id) == 1


@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_half_a_film_is_not_passed_off_as_the_whole(create, finish, twelvelabs, model):
    """It is paid for, so it is kept, and the message says how much of the film it covers."""
    twelvelabs.misbehave(misbehaviour.ends_at(5.0), Step.FETCH)
    done = await finish((await create(model=model, tracks=["visual", "video"])).id)
    assert done.state == COMPLETED
    assert done.progress.message.startswith("Embedded 5 of 9.5 s of video. TwelveLabs returned nothing after 5 s")
    assert {track.name: track.covered_end_seconds for track in done.tracks} == {"visual": 5, "video": 5}


async def test_the_message_counts_what_is_covered(create, finish, twelvelabs):
    """The old model drops a short last clip."""
    assert (await finish((await create()).id)).progress.message == "Embedded 9.5 s of video."
    done = await finish((await create(model="Marengo-retrieval-2.7")).id)
    assert done.progress.message == "Embedded 8 of 9.5 s of video."


@pytest.mark.parametrize(
    ("duration_seconds", "words"), [(3.0, "3"), (5 * 3600.0, "18000")], ids=["too short", "too long"]
)
async def test_limits_are_checked_before_the_submission(create, ingest, twelvelabs, duration_seconds, words):
    video = ingest.add(new_id("video"), duration_seconds=duration_seconds)
    with pytest.raises(Exception, match=words):
        await create(video_id=video, model="marengo3.0")
    assert twelvelabs.creates_received == 0
