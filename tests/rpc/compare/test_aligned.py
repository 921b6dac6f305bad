"""CompareEmbeddings in mode ALIGNED, through a real server and a real channel to embed."""

import asyncio
from dataclasses import replace

import grpc
import numpy as np
import pytest
from fakes.compare import FakeFingerprint, StoredEmbedding, fingerprint_of, stored
from google.rpc import error_details_pb2, status_pb2
from sage.compare.v1 import compare_pb2

MATCHED, INSERTED, DELETED = (
    compare_pb2.EDIT_KIND_MATCHED,
    compare_pb2.EDIT_KIND_INSERTED,
    compare_pb2.EDIT_KIND_DELETED,
)
OLD = fingerprint_of([1, 2, 3])
NEW = fingerprint_of([1, 9, 2, 3])


def embedding_of(film, **fields: object) -> StoredEmbedding:
    """Return an embedding of a film: one clip of 2 s for each shot, each with another vector."""
    count = len(film) // 48
    return stored(np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32), **fields)


def put(stack, *films: FakeFingerprint, **fields: object) -> list[StoredEmbedding]:
    """Store films and return their embeddings."""
    embeddings = [embedding_of(film.fingerprint, **fields) for film in films]
    stack.embed.put(*embeddings)
    stack.fingerprints.stored |= {embedding.video_id: film for embedding, film in zip(embeddings, films, strict=True)}
    return embeddings


async def compare(stack, a: StoredEmbedding, b: StoredEmbedding, **fields: object):
    """Compare two embeddings in the mode of a request that names none."""
    request = compare_pb2.CompareEmbeddingsRequest(embedding_id_a=a.id, embedding_id_b=b.id, **fields)
    return await stack.compare.CompareEmbeddings(request, timeout=60)


async def refusal(stack, a: StoredEmbedding, b: StoredEmbedding, **fields: object) -> tuple[str, str]:
    """Return the reason and the text of the error that comparing them raises."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await compare(stack, a, b, **fields)
    raw = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(raw).details:
        detail.Unpack(info)
    return info.reason, refused.value.details()


def spans(edits) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Return kind, frames of a and frames of b of each edit."""
    return [
        (edit.kind, (edit.a.first_frame, edit.a.end_frame), (edit.b.first_frame, edit.b.end_frame)) for edit in edits
    ]


async def test_a_request_without_a_mode_gets_the_edit_script(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    response = await compare(stack, a, b)
    assert response.mode == compare_pb2.COMPARE_MODE_ALIGNED
    (track,) = response.tracks
    assert (track.name, track.WhichOneof("result")) == ("visual", "script")
    assert spans(track.script.edits) == [
        (MATCHED, (0, 48), (0, 48)),
        (INSERTED, (0, 0), (48, 96)),
        (MATCHED, (48, 144), (96, 192)),
    ]
    inserted = track.script.edits[1]
    assert (inserted.b.start_seconds, inserted.b.end_seconds) == (2.0, 4.0)
    assert not inserted.HasField("a")
    assert track.similarity_percent == pytest.approx(100 * 12 / 14)
    whole = compare_pb2.FrameRange(end_frame=192, end_seconds=8.0)
    assert track.b_covered == whole
    assert list(track.script.residuals)[48] == -1
    levels = track.script.levels
    assert levels.low > levels.normal == track.script.min_strength > levels.high > 0


async def test_swapped_films_swap_inserted_and_deleted(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    (track,) = (await compare(stack, b, a)).tracks
    assert [edit.kind for edit in track.script.edits] == [MATCHED, DELETED, MATCHED]


async def test_a_film_is_the_same_as_itself(stack):
    (a,) = put(stack, FakeFingerprint(OLD))
    response = await compare(stack, a, a, tracks=[compare_pb2.TrackSpec(name=name) for name in ("audio", "visual")])
    assert [track.name for track in response.tracks] == ["audio", "visual"]
    for track in response.tracks:
        assert spans(track.script.edits) == [(MATCHED, (0, 144), (0, 144))]
        assert track.similarity_percent == 100


async def test_same_request_gets_the_same_bytes(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    responses = [await compare(stack, a, b) for _ in range(2)]
    assert len({response.SerializeToString(deterministic=True) for response in responses}) == 1


async def test_models_may_differ(stack):
    (a,) = put(stack, FakeFingerprint(OLD))
    (b,) = put(stack, FakeFingerprint(NEW), model="marengo3.0")
    (track,) = (await compare(stack, a, b)).tracks
    assert len(track.script.edits) == 3


async def test_changed_range_has_the_distance_of_the_embeddings(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(fingerprint_of([1, 9, 3])))
    (track,) = (await compare(stack, a, b)).tracks
    changed = [edit for edit in track.script.edits if edit.kind == compare_pb2.EDIT_KIND_CHANGED]
    assert spans(changed) == [(compare_pb2.EDIT_KIND_CHANGED, (48, 96), (48, 96))]
    # The vectors of both embeddings are the same there.
    assert changed[0].HasField("semantic_distance")
    assert changed[0].semantic_distance == pytest.approx(0, abs=1e-6)


async def test_fingerprints_are_read_once(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    await asyncio.gather(*(compare(stack, a, b) for _ in range(4)))
    assert stack.fingerprints.calls["ReadFingerprint"] == 2


async def test_fingerprint_that_was_made_again_is_read_again(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    await compare(stack, a, b)
    stack.fingerprints.stored[b.video_id] = FakeFingerprint(OLD, revision=4)
    (track,) = (await compare(stack, a, b)).tracks
    assert [edit.kind for edit in track.script.edits] == [MATCHED]


async def test_missing_fingerprint_says_how_to_make_one(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    del stack.fingerprints.stored[b.video_id]
    reason, text = await refusal(stack, a, b)
    assert reason == "FINGERPRINT_NOT_FOUND"
    assert b.video_id in text
    assert "CreateFingerprint" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "PROCESSING"}, "Wait until it is COMPLETED"),
        ({"state": "FAILED"}, "Request it again"),
        ({"version": 9}, "of version 9"),
    ],
)
async def test_unusable_fingerprint_says_what_to_do(stack, fields, said):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW, **fields))
    reason, text = await refusal(stack, a, b)
    assert reason == "FINGERPRINT_NOT_COMPLETED"
    assert said in text


async def test_damaged_bytes_are_named(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    stack.fingerprints.tamper = lambda data: data[:-3]
    reason, text = await refusal(stack, a, b)
    assert reason == "FINGERPRINT_NOT_COMPLETED"
    assert "damaged" in text
    stack.fingerprints.tamper = lambda data: data
    assert (await compare(stack, a, b)).tracks


@pytest.mark.parametrize("stated", [2000, 144], ids=["stated", "found while reading"])
async def test_film_with_too_many_frames_is_refused(stack, stated):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(fingerprint_of([1] * 30), frame_count=stated))
    reason, text = await refusal(stack, a, b)
    assert reason == "LIMIT_EXCEEDED"
    assert "1000" in text


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (compare_pb2.TrackSpec(name="transcription"), "Use mode TIME"),
        (compare_pb2.TrackSpec(name="visual", threshold=0.5), "min_strength"),
    ],
)
async def test_track_that_only_time_compares_is_refused(stack, spec, said):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    reason, text = await refusal(stack, a, b, tracks=[spec])
    assert reason == "FIELD_INVALID"
    assert said in text


async def test_region_outside_the_picture_is_refused(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    region = compare_pb2.Region(x=0.5, y=0, width=0.6, height=0.1)
    reason, text = await refusal(stack, a, b, ignored_regions_b=[region])
    assert reason == "FIELD_INVALID"
    assert "must lie within the picture" in text


async def test_deleted_fingerprint_is_not_served_from_the_cache(stack):
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(NEW))
    await compare(stack, a, b)
    del stack.fingerprints.stored[b.video_id]
    reason, _ = await refusal(stack, a, b)
    assert reason == "FINGERPRINT_NOT_FOUND"


async def test_sound_of_another_film_is_a_difference_of_the_audio_alone(stack):
    dub = replace(OLD, sound=fingerprint_of([7, 8, 9]).sound)
    a, b = put(stack, FakeFingerprint(OLD), FakeFingerprint(dub))
    visual, audio = (
        await compare(stack, a, b, tracks=[compare_pb2.TrackSpec(name=name) for name in ("visual", "audio")])
    ).tracks
    assert visual.similarity_percent == 100
    assert audio.similarity_percent < 20
    kinds = {change.kind for edit in audio.script.edits for change in edit.changes}
    assert kinds == {compare_pb2.CHANGE_KIND_SOUND_REPLACED}
