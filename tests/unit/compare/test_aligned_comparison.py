"""What a client is told beside the edits: similarity, residuals, semantic distances; and how large a response is."""

import asyncio
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from fakes.compare import FakeFingerprint, InMemoryEmbeddingReader, InMemoryFingerprintReader, fingerprint_of, stored
from sage_compare.aligned.comparison import MAX_RESIDUALS, AlignedComparison, FilmTimes, with_bounded_residuals
from sage_compare.aligned.inputs import Options
from sage_compare.aligned.script import Change, ChangeKind, Edit, EditKind, EditScript, Frames, Region
from sage_compare.alignment import Aligner, _film
from sage_compare.comparer import Comparison, Mode, TrackComparison
from sage_compare.convert import to_response
from sage_compare.inputs.fingerprints import FingerprintCache
from sage_compare.inputs.media import Area, DynamicRange
from sage_compare.inputs.segments import SegmentCache, Segments
from sage_compare.semantic import semantic_distances
from sage_compare.time_mode.distance import Metric
from support.waiting import until_turned


def times(frames: int, *, rate: float = 24) -> FilmTimes:
    """Return the times of a film with a constant rate."""
    return FilmTimes(np.arange(frames) / rate, frames / rate)


def comparison(*edits: Edit, frames: int = 240) -> AlignedComparison:
    """Return a comparison of two films of one length."""
    return AlignedComparison(EditScript(edits), times(frames), times(frames), 1.0)


def test_similarity_is_the_share_of_both_films_that_matches():
    found = AlignedComparison(
        EditScript(
            (
                Edit(EditKind.MATCHED, Frames(0, 120), Frames(0, 120)),
                Edit(EditKind.INSERTED, None, Frames(120, 240)),
                Edit(EditKind.MOVED, Frames(120, 240), Frames(240, 360)),
            )
        ),
        times(240),
        times(360),
        1.0,
    )
    assert found.similarity_percent == pytest.approx(100 * 10 / 25)


def test_similarity_is_100_only_without_a_difference():
    whole = Frames(0, 240)
    assert comparison(Edit(EditKind.MATCHED, whole, whole)).similarity_percent == 100
    # An edit of one frame in a film so long that the share rounds to 100.
    films = FilmTimes(np.array([0.0, 1e15]), 1e15 + 1e-9)
    tiny = EditScript(
        (Edit(EditKind.MATCHED, Frames(0, 1), Frames(0, 1)), Edit(EditKind.CHANGED, Frames(1, 2), Frames(1, 2)))
    )
    assert AlignedComparison(tiny, films, films, 1.0).similarity_percent < 100


def test_residuals_of_a_long_film_keep_the_peaks():
    frames = 2 * MAX_RESIDUALS + 1
    residuals = np.full(frames, -1, np.float32)
    residuals[[0, 5, frames - 1]] = 0.25, 7.0, 3.0
    bounded = with_bounded_residuals(EditScript((), residuals=residuals))
    assert len(bounded.residuals) <= MAX_RESIDUALS
    step = bounded.residual_step_frames
    assert step == 3
    assert [bounded.residuals[frame // step] for frame in (0, 5, frames - 1)] == [0.25, 7.0, 3.0]
    assert bounded.residuals[2] == -1


def test_response_for_eight_hours_with_many_edits_fits_in_a_message():
    frames, count = 8 * 3600 * 24, 3000
    step = frames // count
    edits = []
    for first in range(0, frames, step):
        span = Frames(first, min(first + step, frames))
        change = Change(ChangeKind.OVERLAY, span, span, 3.21, region=Region(0.1, 0.2, 0.3, 0.4))
        edits.append(Edit(EditKind.CHANGED, span, span, changes=(change, change)))
    script = EditScript(tuple(edits), residuals=np.full(frames, 0.5, np.float32))
    films = times(frames)
    result = AlignedComparison(with_bounded_residuals(script), films, films, 1.0, (0.5,) * len(edits))
    side = asyncio.run(InMemoryEmbeddingReader(one := stored(np.eye(4))).get(one.id))
    response = to_response(
        Comparison(Mode.ALIGNED, Metric.COSINE, side, side, (TrackComparison("visual", None, None, result),))
    )
    assert response.ByteSize() < 4 * 1024 * 1024


def test_semantic_distance_weighs_segments_by_how_much_of_a_range_they_cover():
    east, north = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    old = Segments.of([0.0, 2.0], [2.0, 4.0], np.array([east, north], np.float32))
    new = Segments.of([0.0], [4.0], np.array([east], np.float32))
    film = times(96)
    script = EditScript(
        (
            Edit(EditKind.MATCHED, Frames(0, 24), Frames(0, 24)),
            Edit(EditKind.CHANGED, Frames(24, 72), Frames(24, 72)),
            Edit(EditKind.CHANGED, Frames(72, 96), Frames(72, 96)),
        )
    )
    none, half, right_angle = semantic_distances(script, (film, old), (film, new), metric=Metric.COSINE)
    assert none is None
    assert half == pytest.approx(1 - np.sqrt(0.5))
    assert right_angle == pytest.approx(1.0)
    euclidean = semantic_distances(script, (film, old), (film, new), metric=Metric.EUCLIDEAN)
    assert euclidean[2] == pytest.approx(np.sqrt(2.0))


def test_range_without_segments_has_no_semantic_distance():
    some = Segments.of([0.0], [1.0], np.ones((1, 2), np.float32))
    script = EditScript((Edit(EditKind.CHANGED, Frames(48, 96), Frames(48, 96)),))
    assert semantic_distances(script, (times(96), some), (times(96), some), metric=Metric.COSINE) == (None,)


async def test_cancelled_call_frees_its_place():
    film = stored(np.eye(3), duration=6.0)
    reader = InMemoryFingerprintReader(**{film.video_id: FakeFingerprint(fingerprint_of([1, 2, 3]))})
    embeddings = InMemoryEmbeddingReader(film)
    aligner = Aligner(
        reader,
        FingerprintCache(reader, max_bytes=0, max_reads=2),
        SegmentCache(embeddings, max_bytes=1 << 20, max_reads=1),
        max_frames=1000,
        max_at_once=1,
    )
    side = await embeddings.get(film.id)

    async def compare() -> None:
        await aligner.compare(side, side, tracks=("visual",), options=Options(), metric=Metric.COSINE)

    reader.gate.clear()
    first, second = asyncio.create_task(compare()), asyncio.create_task(compare())
    await until_turned(lambda: reader.reads)
    first.cancel()
    await asyncio.wait([first])
    reader.gate.set()
    await second
    aligner.close()
    # The call that was cancelled had begun to read, and the second one read again.
    assert reader.reads[film.video_id] == 2


async def test_alignment_of_a_cancelled_call_keeps_its_place_until_it_is_done(monkeypatch):
    film = stored(np.eye(3), duration=6.0)
    reader = InMemoryFingerprintReader(**{film.video_id: FakeFingerprint(fingerprint_of([1, 2, 3]))})
    embeddings = InMemoryEmbeddingReader(film)
    aligner = Aligner(
        reader,
        FingerprintCache(reader, max_bytes=1 << 30, max_reads=2),
        SegmentCache(embeddings, max_bytes=1 << 20, max_reads=1),
        max_frames=1000,
        max_at_once=1,
    )
    side = await embeddings.get(film.id)
    begun, done = [], threading.Event()

    def align(a, b, options):
        begun.append(1)
        done.wait()
        return EditScript((Edit(EditKind.MATCHED, Frames(0, 144), Frames(0, 144)),))

    monkeypatch.setattr("sage_compare.alignment.align", align)

    async def compare() -> None:
        await aligner.compare(side, side, tracks=("visual",), options=Options(), metric=Metric.COSINE)

    first = asyncio.create_task(compare())
    await until_turned(lambda: begun)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(compare())
    for _ in range(50):
        await asyncio.sleep(0)
    # The second call has not even looked its films up.
    assert reader.lookups[film.video_id] == 2
    done.set()
    await second
    assert len(begun) == 2
    aligner.close()


async def test_sound_alone_needs_no_vectors():
    film = stored(np.eye(3), duration=6.0)
    reader = InMemoryFingerprintReader(**{film.video_id: FakeFingerprint(fingerprint_of([1, 2, 3]))})
    embeddings = InMemoryEmbeddingReader(film)
    aligner = Aligner(
        reader,
        FingerprintCache(reader, max_bytes=1 << 30, max_reads=2),
        SegmentCache(embeddings, max_bytes=1 << 20, max_reads=1),
        max_frames=1000,
        max_at_once=1,
    )
    side = await embeddings.get(film.id)
    found = await aligner.compare(side, side, tracks=("audio",), options=Options(), metric=Metric.COSINE)
    assert list(found) == ["audio"]
    assert not embeddings.reads
    aligner.close()


async def test_call_whose_deadline_passes_while_it_waits_reads_nothing():
    film = stored(np.eye(3), duration=6.0)
    reader = InMemoryFingerprintReader(**{film.video_id: FakeFingerprint(fingerprint_of([1, 2, 3]))})
    embeddings = InMemoryEmbeddingReader(film)
    aligner = Aligner(
        reader,
        FingerprintCache(reader, max_bytes=0, max_reads=2),
        SegmentCache(embeddings, max_bytes=0, max_reads=1),
        max_frames=1000,
        max_at_once=1,
    )
    side = await embeddings.get(film.id)
    reader.gate.clear()

    async def compare() -> None:
        await aligner.compare(side, side, tracks=("visual",), options=Options(), metric=Metric.COSINE)

    first = asyncio.create_task(compare())
    await until_turned(lambda: reader.reads)
    # A deadline cancels the call, as grpc does.
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await compare()
    assert reader.lookups[film.video_id] == 2, "those of the first call"
    reader.gate.set()
    await first
    await compare()
    aligner.close()


@pytest.mark.parametrize("share", [0, 0.5, 1.5])
async def test_pair_that_is_too_large_for_the_cache_is_compared_all_the_same(share):
    """Neither film is kept, or only the one that was used last."""
    films = [stored(np.eye(3), duration=6.0) for _ in range(2)]
    prints = [fingerprint_of([1, 2, 3]), fingerprint_of([1, 9, 3])]
    reader = InMemoryFingerprintReader(
        **{film.video_id: FakeFingerprint(one) for film, one in zip(films, prints, strict=True)}
    )
    embeddings = InMemoryEmbeddingReader(*films)
    cache = FingerprintCache(reader, max_bytes=int(share * prints[0].nbytes), max_reads=1)
    segments = SegmentCache(embeddings, max_bytes=0, max_reads=1)
    aligner = Aligner(reader, cache, segments, max_frames=1000, max_at_once=1)
    a, b = [await embeddings.get(film.id) for film in films]
    found = [await aligner.compare(a, b, tracks=("visual",), options=Options(), metric=Metric.COSINE) for _ in range(2)]
    for one in found:
        kinds = [edit.kind for edit in one["visual"].script.edits]
        assert kinds == [EditKind.MATCHED, EditKind.CHANGED, EditKind.MATCHED]
    assert cache.nbytes <= share * prints[0].nbytes
    aligner.close()


async def test_film_has_the_rate_the_picture_inside_its_bars_and_the_dynamic_range_of_its_file():
    one = stored(np.eye(3), duration=6.0, frame_rate=Fraction(30_000, 1001))
    side = await InMemoryEmbeddingReader(one).get(one.id)
    area = Area(Fraction(0), Fraction(1, 8), Fraction(1), Fraction(3, 4))
    side = replace(side, media=replace(side.media, active=area, dynamic_range=DynamicRange.HLG))
    fingerprint = fingerprint_of([1])
    film = _film(side, fingerprint)
    assert film.fingerprint is fingerprint
    assert (film.frame_rate, film.dynamic_range) == (Fraction(30_000, 1001), "HLG")
    assert film.active == Region(0.0, 0.125, 1.0, 0.75)
    unknown = replace(side, media=replace(side.media, active=None, dynamic_range=DynamicRange.SDR))
    assert (_film(unknown, fingerprint).active, _film(unknown, fingerprint).dynamic_range) == (None, "SDR")
    without_rate = stored(np.eye(3), duration=6.0, frame_rate=None)
    assert _film(await InMemoryEmbeddingReader(without_rate).get(without_rate.id), fingerprint).frame_rate is None
