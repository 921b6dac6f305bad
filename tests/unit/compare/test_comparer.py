"""The use case: two embeddings in, a comparison or a clear error out."""

from dataclasses import replace

import numpy as np
import pytest
from fakes.compare import (
    InMemoryEmbeddingReader,
    InMemoryFingerprintReader,
    StoredEmbedding,
    StoredTrack,
    stored,
    stored_track,
)
from sage_compare.alignment import Aligner
from sage_compare.comparer import Comparer, Comparison, Mode, Request, TrackComparison, TrackSpec
from sage_compare.inputs.fingerprints import FingerprintCache
from sage_compare.inputs.segments import SegmentCache
from sage_compare.time_mode.compare import default_threshold
from sage_compare.time_mode.differences import DifferenceKind
from sage_compare.time_mode.distance import Metric
from sage_runtime.api import new_id
from sage_runtime.errors import Reason, SageError

OLD = np.eye(6, dtype=np.float32)
NEW = OLD.copy()
NEW[2:4] = -OLD[2:4]

VISUAL, AUDIO = TrackSpec("visual"), TrackSpec("audio")


def comparer(*embeddings: StoredEmbedding, max_segments: int = 1000) -> tuple[Comparer, InMemoryEmbeddingReader]:
    """Return a comparer of these embeddings, and its reader."""
    reader = InMemoryEmbeddingReader(*embeddings)
    cache = SegmentCache(reader, max_bytes=1 << 20, max_reads=2)
    fingerprints = InMemoryFingerprintReader()
    aligner = Aligner(
        fingerprints,
        FingerprintCache(fingerprints, max_bytes=0, max_reads=1),
        cache,
        max_frames=1000,
        max_at_once=1,
    )
    return Comparer(reader, cache, aligner, max_segments=max_segments), reader


def request(a: StoredEmbedding, b: StoredEmbedding, *tracks: TrackSpec, **changes: object) -> Request:
    """Return a request for two embeddings; the tracks default to `visual`."""
    plain = Request(a.id, b.id, mode=Mode.TIME, metric=Metric.COSINE, tracks=tracks or (VISUAL,))
    return replace(plain, **changes)


async def compare(a: StoredEmbedding, b: StoredEmbedding, *tracks: TrackSpec, **changes: object) -> Comparison:
    """Compare two embeddings."""
    ours, _ = comparer(a, b)
    return await ours.compare(request(a, b, *tracks, **changes))


async def compare_track(
    a: StoredEmbedding, b: StoredEmbedding, track: TrackSpec = VISUAL, **changes: object
) -> TrackComparison:
    """Compare one track and return its comparison."""
    (found,) = (await compare(a, b, track, **changes)).tracks
    return found


async def refusal(a: StoredEmbedding, b: StoredEmbedding, *tracks: TrackSpec, **changes: object) -> SageError:
    """Return the error that comparing them raises."""
    with pytest.raises(SageError) as refused:
        await compare(a, b, *tracks, **changes)
    return refused.value


async def test_changed_segments_in_a_row_are_one_difference():
    found = await compare_track(stored(OLD), stored(NEW))
    (difference,) = found.result.differences
    assert (difference.kind, difference.a.start, difference.a.end) == (DifferenceKind.CHANGED, 4.0, 8.0)
    assert difference.a == difference.b
    assert difference.max_distance == difference.mean_distance == 2.0
    assert found.result.similarity_percent == pytest.approx(100 * 4 / 6)
    assert found.result.differing_count == 2
    assert found.result.series.distances.tolist() == [0, 0, 2, 2, 0, 0]


async def test_embedding_compared_with_itself_has_no_differences_even_at_threshold_0_and_is_read_once():
    one = stored(np.random.default_rng(0).standard_normal((50, 33)))
    ours, reader = comparer(one)
    (found,) = (await ours.compare(request(one, one, TrackSpec("visual", 0.0)))).tracks
    assert found.result.differences == ()
    assert found.result.similarity_percent == 100.0
    assert reader.reads == {(one.id, "visual"): 1}


async def test_what_no_segment_covers_is_the_same_within_one_video():
    one = stored(OLD, duration=13.5)
    for other in (one, one.but()):
        found = await compare_track(one, other)
        assert (found.result.differences, found.result.similarity_percent) == ((), 100.0)


async def test_default_thresholds_of_both_metrics_mark_the_same_intervals():
    random = np.random.default_rng(2)
    old = random.standard_normal((400, 16))
    a, b = stored(old), stored(old + random.standard_normal((400, 16)) * 0.45)
    cosine, euclidean = await compare_track(a, b), await compare_track(a, b, metric=Metric.EUCLIDEAN)
    assert 0 < cosine.result.differing_count < 400
    assert [d.a for d in cosine.result.differences] == [d.a for d in euclidean.result.differences]
    assert (cosine.result.threshold, euclidean.result.threshold) == (
        default_threshold(Metric.COSINE, model="local", track="visual"),
        default_threshold(Metric.EUCLIDEAN, model="local", track="visual"),
    )


async def test_duration_is_that_of_the_video_and_not_of_the_last_segment():
    a, b = stored(OLD, duration=13.5), stored(OLD, duration=15.0)
    found = await compare_track(a, b)
    assert [(d.kind, d.start) for d in found.result.differences] == [
        (DifferenceKind.NOT_COMPARED, 12.0),
        (DifferenceKind.ONLY_IN_B, 13.5),
    ]
    assert found.result.similarity_percent == pytest.approx(100 * 12 / 15)


async def test_track_without_segments_is_not_compared():
    empty = StoredTrack(np.zeros(0), np.zeros(0), np.zeros((0, 6), np.float32))
    a = StoredEmbedding(tracks={"visual": empty}, duration=3.0, dimensions=6)
    found = await compare_track(a, stored(OLD))
    assert [d.kind for d in found.result.differences] == [DifferenceKind.NOT_COMPARED, DifferenceKind.ONLY_IN_B]
    assert found.result.similarity_percent == 0.0


async def test_only_requested_tracks_are_compared():
    tracks = {"visual": stored_track(OLD), "video": stored_track(-OLD[:1], clip_seconds=12), "audio": stored_track(OLD)}
    a = stored(OLD).but(tracks=tracks)
    b = stored(OLD).but(tracks={**tracks, "audio": stored_track(NEW)})
    assert (await compare_track(a, b)).result.similarity_percent == 100.0
    assert (await compare_track(a, b, AUDIO)).result.differing_count == 2


def with_sound(**changes: object) -> StoredEmbedding:
    """Return an embedding of picture and sound."""
    return stored(OLD).but(**{"tracks": {"visual": stored_track(OLD), "audio": stored_track(OLD)}, **changes})


async def test_changed_dub_under_the_same_picture_differs_in_audio_alone():
    a, b = with_sound(), with_sound(tracks={"visual": stored_track(OLD), "audio": stored_track(NEW)})
    visual, audio = (await compare(a, b, VISUAL, AUDIO)).tracks
    assert (visual.name, visual.result.similarity_percent) == ("visual", 100.0)
    (difference,) = audio.result.differences
    assert (audio.name, difference.kind) == ("audio", DifferenceKind.CHANGED)
    assert (difference.a.start, difference.a.end) == (4.0, 8.0)
    assert audio.result.similarity_percent == pytest.approx(100 * 4 / 6)
    assert audio.result.series.distances.tolist() == [0, 0, 2, 2, 0, 0]


async def test_tracks_are_in_the_order_of_the_request():
    a, b = with_sound(), with_sound()
    for tracks in ((VISUAL, AUDIO), (AUDIO, VISUAL)):
        assert [track.name for track in (await compare(a, b, *tracks)).tracks] == [spec.name for spec in tracks]


async def test_each_track_has_its_own_threshold():
    a, b = with_sound(tracks={"visual": stored_track(NEW), "audio": stored_track(OLD)}), with_sound()
    visual, audio = (await compare(a, b, TrackSpec("visual", 2.0), AUDIO)).tracks
    assert (visual.result.threshold, visual.result.differing_count) == (2.0, 0)
    assert audio.result.threshold == default_threshold(Metric.COSINE, model="local", track="audio")
    visual, audio = (await compare(a, b, VISUAL, TrackSpec("audio", 0.0))).tracks
    assert visual.result.threshold == default_threshold(Metric.COSINE, model="local", track="visual")
    assert (visual.result.differing_count, audio.result.threshold) == (2, 0.0)


TRACKS = ("visual", "audio", "transcription")


@pytest.mark.parametrize(("silent_side", "kind"), [("b", DifferenceKind.ONLY_IN_A), ("a", DifferenceKind.ONLY_IN_B)])
@pytest.mark.parametrize("name", TRACKS)
@pytest.mark.parametrize("alone", [True, False])
async def test_any_track_that_one_side_requested_and_lacks_is_only_in_the_other(silent_side, kind, name, alone):
    present = StoredEmbedding({track: stored_track(OLD) for track in TRACKS}, duration=13.0)
    others = {track: stored_track(OLD) for track in TRACKS if track != name}
    silent = present.but(tracks=others, requested_tracks=TRACKS, video_id=new_id("video"))
    a, b = (present, silent) if silent_side == "b" else (silent, present)
    specs = [TrackSpec(name)] if alone else [TrackSpec(track) for track in TRACKS]
    compared = {track.name: track for track in (await compare(a, b, *specs)).tracks}
    found = compared[name]
    (difference,) = found.result.differences
    where, nowhere = (difference.a, difference.b) if silent_side == "b" else (difference.b, difference.a)
    assert (difference.kind, where.start, where.end, nowhere) == (kind, 0.0, 13.0, None)
    assert (difference.max_distance, difference.mean_distance) == (None, None)
    assert (found.result.similarity_percent, found.result.differing_count, len(found.result.series)) == (0.0, 0, 0)
    assert found.result.threshold == default_threshold(Metric.COSINE, model="local", track=name)
    assert [found.a_covered, found.b_covered].count(None) == 1


SILENT = {"tracks": {"visual": stored_track(OLD)}, "requested_tracks": ("visual", "audio")}


async def test_silence_does_not_differ_from_silence_whatever_the_durations():
    a, b = with_sound(**SILENT), with_sound(**SILENT, duration=20.0)
    audio = await compare_track(a, b, AUDIO)
    assert (audio.result.differences, audio.result.similarity_percent) == ((), 100.0)
    assert (audio.a_covered, audio.b_covered, len(audio.result.series)) == (None, None, 0)


@pytest.mark.parametrize(("name", "differs"), [("transcription", False), ("audio", False), ("visual", True)])
async def test_shared_gap_is_silence_in_sound_and_not_compared_in_the_picture(name: str, differs: bool):
    whole = stored_track(OLD)
    gaps = StoredTrack(whole.starts[[0, 3]], whole.ends[[0, 3]], whole.vectors[[0, 3]])
    a = StoredEmbedding(tracks={name: gaps}, duration=12.0, dimensions=6)
    found = (await compare_track(a, a.but(video_id=new_id("video")), TrackSpec(name))).result
    assert [d.kind for d in found.differences] == ([DifferenceKind.NOT_COMPARED] * 2 if differs else [])
    assert (found.similarity_percent == 100.0) is not differs


@pytest.mark.parametrize("specs", [(AUDIO,), (VISUAL, AUDIO), (AUDIO, VISUAL)])
async def test_track_that_one_side_did_not_request_is_missing_and_not_silent(specs):
    for a, b in ((with_sound(), stored(OLD)), (stored(OLD), with_sound(**SILENT))):
        error = await refusal(a, b, *specs)
        assert error.reason is Reason.TRACK_MISSING
        assert error.facts["track"] == "audio"
        assert error.facts["tracks"] == "visual"


async def test_error_for_a_missing_track_lists_the_tracks_that_exist():
    b = stored(OLD).but(tracks={"visual": stored_track(OLD), "frame": stored_track(OLD)})
    error = await refusal(b, b, AUDIO)
    assert error.reason is Reason.TRACK_MISSING
    assert error.facts == {"embedding_id": b.id, "track": "audio", "tracks": "visual, frame"}


async def test_segments_of_all_requested_tracks_count_towards_the_limit():
    a, b = with_sound(), with_sound()
    ours, reader = comparer(a, b, max_segments=11)
    await ours.compare(request(a, b))
    with pytest.raises(SageError) as refused:
        await ours.compare(request(a, b, VISUAL, AUDIO))
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    assert (refused.value.facts["segment_count"], refused.value.facts["max"]) == ("12", "11")
    assert "one track at a time" in refused.value.facts["what_to_do"]
    assert reader.reads == {(a.id, "visual"): 1, (b.id, "visual"): 1}


async def test_too_many_segments_are_refused_before_they_are_read():
    a, b = stored(OLD[:3]), stored(OLD)
    ours, reader = comparer(a, b, max_segments=5)
    with pytest.raises(SageError) as refused:
        await ours.compare(request(a, b))
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    assert not reader.reads


async def test_unknown_embedding_is_not_found():
    missing = new_id("embed")
    error = await refusal(stored(OLD), stored(OLD), embedding_id_b=missing)
    assert error.reason is Reason.EMBEDDING_NOT_FOUND
    assert error.facts == {"embedding_id": missing}


async def test_deleted_embedding_is_not_found_although_its_segments_are_cached():
    a, b = stored(OLD), stored(NEW)
    ours, reader = comparer(a, b)
    await ours.compare(request(a, b))
    del reader.stored[b.id]
    with pytest.raises(SageError) as refused:
        await ours.compare(request(a, b))
    assert refused.value.reason is Reason.EMBEDDING_NOT_FOUND


@pytest.mark.parametrize("state", ["PENDING", "PROCESSING", "FAILED", "CANCELLED"])
async def test_embedding_that_is_not_completed_is_refused_before_anything_else_is_checked(state):
    b = stored(OLD).but(state=state, model="other", tracks={})
    error = await refusal(stored(OLD), b)
    assert error.reason is Reason.EMBEDDING_NOT_COMPLETED
    in_progress = state in {"PENDING", "PROCESSING"}
    what_to_do = "Wait until it is COMPLETED." if in_progress else "Embed the video again."
    assert error.facts == {"embedding_id": b.id, "state": state, "what_to_do": what_to_do}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "marengo3.0"}, "marengo3.0 (1), 6 dimensions, 2 s clips"),
        ({"model_revision": "2"}, "local (2), 6 dimensions, 2 s clips"),
        ({"dimensions": 12}, "local (1), 12 dimensions, 2 s clips"),
        ({"clip_seconds": 2.5}, "local (1), 6 dimensions, 2.5 s clips"),
        ({"model_revision": ""}, "local, 6 dimensions, 2 s clips"),
    ],
)
async def test_embeddings_made_in_different_ways_are_refused_with_both_described(change, words):
    error = await refusal(stored(OLD), stored(OLD).but(**change))
    assert error.reason is Reason.MODELS_DIFFER
    assert error.facts == {"a": "local (1), 6 dimensions, 2 s clips", "b": words}


async def test_lost_audio_is_told_although_only_the_picture_is_compared():
    found = await compare(stored(OLD), stored(OLD, audio=()))
    assert [(one.kind.name, one.a, one.b) for one in found.media_differences] == [("AUDIO_TRACK_COUNT", "1", "0")]
    assert found.not_compared == ()
    assert found.tracks[0].result.differences == ()


async def test_sound_is_named_as_not_compared_with_the_reason():
    for model, reason in (
        ("local", "MODEL_LACKS_TRACK"),
        ("marengo3.0", "NOT_REQUESTED"),
        ("retired", "MODEL_LACKS_TRACK"),
    ):
        found = await compare(stored(OLD, model=model), stored(NEW, model=model))
        assert [(one.track, one.reason.name) for one in found.not_compared] == [("audio", reason)]
    retired = with_sound(model="retired")
    found = await compare(retired, retired.but(video_id=new_id("video")))
    assert [one.reason.name for one in found.not_compared] == ["NOT_REQUESTED"]
    assert (await compare(with_sound(), with_sound(), VISUAL, AUDIO)).not_compared == ()


async def test_one_video_is_the_same_in_everything_that_was_not_compared():
    one = stored(OLD)
    found = await compare(one, one.but())
    assert (found.media_differences, found.not_compared) == ((), ())
