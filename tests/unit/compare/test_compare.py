"""The use case: two embeddings in, a comparison or a clear error out."""

from dataclasses import replace

import numpy as np
import pytest
from fakes.compare import InMemoryEmbeddingReader, Segments, StoredEmbedding, segments, stored
from sage_compare.clip_cache import ClipCache
from sage_compare.compare import Comparer
from sage_compare.model import Comparison, Kind, Metric, Mode, Request
from sage_compare.thresholds import default_threshold
from sage_runtime.errors import Reason, SageError
from sage_runtime.ids import new_id

OLD = np.eye(6, dtype=np.float32)
NEW = OLD.copy()
NEW[2:4] = -OLD[2:4]


def comparer(*embeddings: StoredEmbedding, max_segments: int = 1000) -> tuple[Comparer, InMemoryEmbeddingReader]:
    """Return a comparer over these embeddings, and what it reads from."""
    reader = InMemoryEmbeddingReader(*embeddings)
    cache = ClipCache(reader, max_bytes=1 << 20, max_reads=2)
    return Comparer(reader, cache, max_segments=max_segments), reader


def request(a: StoredEmbedding, b: StoredEmbedding, **changes: object) -> Request:
    """Return a plain request for two embeddings, with changes."""
    plain = Request(a.id, b.id, mode=Mode.TIME, metric=Metric.COSINE, threshold=None, track="visual")
    return replace(plain, **changes)


async def compare(a: StoredEmbedding, b: StoredEmbedding, **changes: object) -> Comparison:
    """Compare two embeddings."""
    ours, _ = comparer(a, b)
    return await ours.compare(request(a, b, **changes))


async def refusal(a: StoredEmbedding, b: StoredEmbedding, **changes: object) -> SageError:
    """Return the error that comparing them ends with."""
    with pytest.raises(SageError) as refused:
        await compare(a, b, **changes)
    return refused.value


async def test_changed_clips_are_one_difference():
    """Two exchanged clips in the middle are one range, and the rest is the same."""
    found = await compare(stored(OLD), stored(NEW))
    (difference,) = found.first.findings.differences
    assert (difference.kind, difference.a.start, difference.a.end) == (Kind.CHANGED, 4.0, 8.0)
    assert difference.a == difference.b
    assert difference.max_distance == difference.mean_distance == 2.0
    assert found.first.findings.similarity_percent == pytest.approx(100 * 4 / 6)
    assert found.first.findings.differing_count == 2
    assert found.first.series.distances.tolist() == [0, 0, 2, 2, 0, 0]


async def test_an_embedding_beside_itself_has_no_differences():
    """An embedding is the same as itself even at threshold 0, and is read once."""
    one = stored(np.random.default_rng(0).standard_normal((50, 33)))
    ours, reader = comparer(one)
    found = await ours.compare(request(one, one, threshold=0.0))
    assert found.first.findings.differences == ()
    assert found.first.findings.similarity_percent == 100.0
    assert reader.reads == {(one.id, "visual"): 1}


async def test_what_no_clip_covers_is_no_difference_within_one_video():
    """An embedding beside itself, or another of the same video, has no differences where it has no clips."""
    one = stored(OLD, duration=13.5)
    for other in (one, one.but()):
        found = await compare(one, other)
        assert (found.first.findings.differences, found.first.findings.similarity_percent) == ((), 100.0)


async def test_both_metrics_mark_the_same_by_default():
    """The default thresholds of both metrics mark the same intervals."""
    random = np.random.default_rng(2)
    old = random.standard_normal((400, 16))
    a, b = stored(old), stored(old + random.standard_normal((400, 16)) * 0.45)
    cosine, euclidean = await compare(a, b), await compare(a, b, metric=Metric.EUCLIDEAN)
    assert 0 < cosine.first.findings.differing_count < 400
    assert [d.a for d in cosine.first.findings.differences] == [d.a for d in euclidean.first.findings.differences]
    assert (cosine.first.threshold, euclidean.first.threshold) == (
        default_threshold(Mode.TIME, Metric.COSINE, model="local", track="visual"),
        default_threshold(Mode.TIME, Metric.EUCLIDEAN, model="local", track="visual"),
    )


async def test_duration_is_the_videos_and_not_the_last_clips():
    """What clips leave out at the end is shown as not compared, not dropped."""
    a, b = stored(OLD, duration=13.5), stored(OLD, duration=15.0)
    found = await compare(a, b)
    assert [(d.kind, d.start) for d in found.first.findings.differences] == [
        (Kind.NOT_COMPARED, 12.0),
        (Kind.ONLY_IN_B, 13.5),
    ]
    assert found.first.findings.similarity_percent == pytest.approx(100 * 12 / 15)


async def test_track_without_segments_is_not_compared():
    """A track that exists and is empty compares nothing, which is no error."""
    none = Segments(np.zeros(0), np.zeros(0), np.zeros((0, 6), np.float32))
    a = StoredEmbedding(tracks={"visual": none}, duration=3.0, dimensions=6)
    found = await compare(a, stored(OLD))
    assert [d.kind for d in found.first.findings.differences] == [Kind.NOT_COMPARED, Kind.ONLY_IN_B]
    assert found.first.findings.similarity_percent == 0.0


async def test_only_the_track_that_was_asked_for_is_compared():
    """Other tracks, the vector of the whole video among them, are never mixed in."""
    tracks = {"visual": segments(OLD), "video": segments(-OLD[:1], clip_seconds=12), "audio": segments(OLD)}
    a = stored(OLD).but(tracks=tracks)
    b = stored(OLD).but(tracks={**tracks, "audio": segments(NEW)})
    assert (await compare(a, b)).first.findings.similarity_percent == 100.0
    assert (await compare(a, b, track="audio")).first.findings.differing_count == 2


def dubbed(**changes: object) -> StoredEmbedding:
    """Return an embedding of picture and sound, with changes."""
    return stored(OLD).but(**{"tracks": {"visual": segments(OLD), "audio": segments(OLD)}, **changes})


async def test_second_track_is_compared_beside_the_first():
    """A dub that was changed under the same picture differs in the second track alone."""
    a, b = dubbed(), dubbed(tracks={"visual": segments(OLD), "audio": segments(NEW)})
    found = await compare(a, b, second_track="audio")
    assert (found.first.track, found.first.findings.similarity_percent) == ("visual", 100.0)
    assert found.second.track == "audio"
    (difference,) = found.second.findings.differences
    assert (difference.kind, difference.a.start, difference.a.end) == (Kind.CHANGED, 4.0, 8.0)
    assert found.second.findings.similarity_percent == pytest.approx(100 * 4 / 6)
    assert found.second.series.distances.tolist() == [0, 0, 2, 2, 0, 0]
    assert (await compare(a, b)).second is None


async def test_each_track_has_its_own_threshold():
    """What is given goes for its track; the other has its default."""
    a, b = dubbed(tracks={"visual": segments(NEW), "audio": segments(OLD)}), dubbed()
    found = await compare(a, b, threshold=2.0, second_track="audio")
    assert (found.first.threshold, found.first.findings.differing_count) == (2.0, 0)
    assert found.second.threshold == default_threshold(Mode.TIME, Metric.COSINE, model="local", track="audio")
    found = await compare(a, b, second_track="audio", second_threshold=0.0)
    assert found.first.threshold == default_threshold(Mode.TIME, Metric.COSINE, model="local", track="visual")
    assert (found.first.findings.differing_count, found.second.threshold) == (2, 0.0)


SILENT = {"tracks": {"visual": segments(OLD)}, "requested_tracks": ("visual", "audio")}


@pytest.mark.parametrize(("silent_side", "kind"), [("b", Kind.ONLY_IN_A), ("a", Kind.ONLY_IN_B)])
@pytest.mark.parametrize("as_second", [True, False])
async def test_sound_beside_silence_is_all_of_it(silent_side, kind, as_second):
    """Where one asked for a track and has none, all of the other's timeline is what only that one has."""
    sounding, silent = dubbed(duration=13.0), dubbed(**SILENT)
    a, b = (sounding, silent) if silent_side == "b" else (silent, sounding)
    found = await compare(a, b, **({"second_track": "audio"} if as_second else {"track": "audio"}))
    audio = found.second if as_second else found.first
    (difference,) = audio.findings.differences
    where, nowhere = (difference.a, difference.b) if silent_side == "b" else (difference.b, difference.a)
    assert (difference.kind, where.start, where.end, nowhere) == (kind, 0.0, 13.0, None)
    assert (difference.max_distance, difference.mean_distance) == (None, None)
    assert (audio.findings.similarity_percent, audio.findings.differing_count, len(audio.series)) == (0.0, 0, 0)
    assert [audio.a_covered, audio.b_covered].count(None) == 1


async def test_silence_beside_silence_is_the_same():
    """Two that both asked for a track that neither has do not differ in it, whatever their lengths."""
    found = await compare(dubbed(**SILENT), dubbed(**SILENT, duration=20.0), second_track="audio")
    audio = found.second
    assert (audio.findings.differences, audio.findings.similarity_percent) == ((), 100.0)
    assert (audio.a_covered, audio.b_covered, len(audio.series)) == (None, None, 0)


@pytest.mark.parametrize(("track", "differs"), [("transcription", False), ("audio", False), ("visual", True)])
async def test_where_nobody_speaks_in_both_nothing_differs(track: str, differs: bool):
    """Gaps between the clips of speech and sound are silence. Of the picture they are something that was not seen."""
    speech = segments(OLD)
    gaps = Segments(speech.starts[[0, 3]], speech.ends[[0, 3]], speech.vectors[[0, 3]])
    a = StoredEmbedding(tracks={track: gaps}, duration=12.0, dimensions=6)
    found = (await compare(a, a.but(video_id=new_id("video")), track=track)).first.findings
    assert [d.kind for d in found.differences] == ([Kind.NOT_COMPARED] * 2 if differs else [])
    assert (found.similarity_percent == 100.0) is not differs


async def test_track_that_one_has_not_asked_for_is_missing_not_silent():
    """Nothing is known of a track that was not asked for: TRACK_MISSING, also as second track."""
    for a, b in ((dubbed(), stored(OLD)), (stored(OLD), dubbed(**SILENT))):
        error = await refusal(a, b, second_track="audio")
        assert error.reason is Reason.TRACK_MISSING
        assert error.facts["track"] == "audio"
        assert error.facts["tracks"] == "visual"


async def test_both_tracks_count_for_the_limit():
    """Each track may be within the limit and both together over it: nothing is read then."""
    a, b = dubbed(), dubbed()
    ours, reader = comparer(a, b, max_segments=11)
    await ours.compare(request(a, b))
    with pytest.raises(SageError) as refused:
        await ours.compare(request(a, b, second_track="audio"))
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    assert (refused.value.facts["segment_count"], refused.value.facts["max"]) == ("12", "11")
    assert "one track at a time" in refused.value.facts["what_to_do"]
    assert reader.reads == {(a.id, "visual"): 1, (b.id, "visual"): 1}


async def test_unknown_embedding_is_not_found():
    """An id that nothing has is EMBEDDING_NOT_FOUND and says which."""
    missing = new_id("embed")
    error = await refusal(stored(OLD), stored(OLD), embedding_id_b=missing)
    assert error.reason is Reason.EMBEDDING_NOT_FOUND
    assert error.facts == {"embedding_id": missing}


async def test_deleted_embedding_is_not_found_although_cached():
    """A comparison that worked is refused once one embedding was deleted."""
    a, b = stored(OLD), stored(NEW)
    ours, reader = comparer(a, b)
    await ours.compare(request(a, b))
    del reader.stored[b.id]
    with pytest.raises(SageError) as refused:
        await ours.compare(request(a, b))
    assert refused.value.reason is Reason.EMBEDDING_NOT_FOUND


@pytest.mark.parametrize("state", ["PENDING", "PROCESSING", "FAILED", "CANCELLED"])
async def test_embedding_that_is_not_completed_is_refused(state):
    """Vectors that are not all there are not compared, whatever else does not fit."""
    b = stored(OLD).but(state=state, model="other", tracks={})
    error = await refusal(stored(OLD), b)
    assert error.reason is Reason.EMBEDDING_NOT_COMPLETED
    waiting = state in {"PENDING", "PROCESSING"}
    what_to_do = "Wait until it is COMPLETED." if waiting else "Embed the video again."
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
async def test_embeddings_made_in_different_ways_are_refused(change, words):
    """A different model, revision, dimension or clip length is MODELS_DIFFER and says both."""
    error = await refusal(stored(OLD), stored(OLD).but(**change))
    assert error.reason is Reason.MODELS_DIFFER
    assert error.facts == {"a": "local (1), 6 dimensions, 2 s clips", "b": words}


async def test_missing_track_is_refused():
    """A track that one does not have is TRACK_MISSING and says what there is."""
    b = stored(OLD).but(tracks={"visual": segments(OLD), "frame": segments(OLD)})
    error = await refusal(b, b, track="audio")
    assert error.reason is Reason.TRACK_MISSING
    assert error.facts == {"embedding_id": b.id, "track": "audio", "tracks": "visual, frame"}


async def test_too_many_segments_are_refused_before_they_are_read():
    """A track over the limit is LIMIT_EXCEEDED and nothing is read."""
    a, b = stored(OLD[:3]), stored(OLD)
    ours, reader = comparer(a, b, max_segments=5)
    with pytest.raises(SageError) as refused:
        await ours.compare(request(a, b))
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    assert not reader.reads
