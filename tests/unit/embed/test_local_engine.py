"""The local engine over real films, served over HTTP."""

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

import av
import numpy as np
import pytest
from sage_embed.config import LocalSettings
from sage_embed.embeddings.model import Progress, Video
from sage_embed.engines.engine import (
    BlockMade,
    EngineRequest,
    FingerprintMade,
    Progressed,
    Resume,
    SegmentsProduced,
    Vectors,
)
from sage_embed.engines.local import http_source
from sage_embed.engines.local.engine import REVISION, THREAD_NAME, LocalEngine
from sage_embed.engines.local.network import MODEL
from sage_embed.fingerprints.maker import ProcessFingerprintMaker
from sage_embed.fingerprints.model import Block
from sage_embed.fingerprints.ports import MakeRequest
from sage_runtime.errors import Reason, SageError
from sage_runtime.errors.catalogue import public_text
from support.file_server import FileServer
from support.films import SAMPLES
from support.moving_films import moving_film
from support.small_films import sound_with_cover

# Upper bound of the cosine distance between two encodes of the same picture at these sizes and qualities.
SAME = 0.02
# Encodes and decodes films.
pytestmark = pytest.mark.slow


@dataclass
class Embedded:
    """The result of a run."""

    ranges: list[tuple[float, float]]
    vectors: Vectors
    progress: list[Progress]
    blocks: list[Block] = field(default_factory=list)
    fingerprinted: bool = False


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """One engine for all tests, as in a worker."""
    return LocalEngine(LocalSettings(threads=2))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """No thread may outlive its run."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def _request(
    url: str,
    duration: float,
    *,
    clip_seconds: float = 2.0,
    start_offset: float = 0.0,
    stored: int = 0,
    first_block: int | None = None,
) -> EngineRequest:
    async def video_url() -> str:
        return url

    return EngineRequest(
        video_url=video_url,
        duration_seconds=duration,
        start_offset_seconds=start_offset,
        has_audio=False,
        model="local",
        clip_seconds=clip_seconds,
        tracks=("visual",),
        resume=Resume(
            provider_task_id=None,
            submitted_url=None,
            submitted_at=None,
            segment_counts={"visual": stored} if stored else {},
        ),
        first_block=first_block,
    )


async def _collect(engine: LocalEngine, request: EngineRequest) -> Embedded:
    result = Embedded([], np.empty((0, 112), np.float32), [])
    stored = request.resume.segment_counts.get("visual", 0)
    async with aclosing(engine.embed(request)) as events:
        async for event in events:
            if isinstance(event, Progressed):
                result.progress.append(Progress(event.fraction, event.message))
            elif isinstance(event, BlockMade):
                result.blocks.append(event.block)
            elif isinstance(event, FingerprintMade):
                result.fingerprinted = True
            elif isinstance(event, SegmentsProduced):
                segments = event.segments
                if event.progress is not None:
                    result.progress.append(event.progress)
                assert segments.track == "visual"
                assert segments.first_index == stored + len(result.ranges)
                result.ranges += zip(segments.start_seconds, segments.end_seconds, strict=True)
                result.vectors = np.concatenate([result.vectors, segments.vectors])
    return result


async def _embed(engine: LocalEngine, content: bytes, duration: float, **request: float) -> Embedded:
    with FileServer(content).running() as server:
        return await _collect(engine, _request(server.url, duration, **request))  # type: ignore[arg-type] # fields by name


def _distances(one: Embedded, other: Embedded) -> Vectors:
    distances: Vectors = 1 - (one.vectors * other.vectors).sum(axis=1)
    return distances


async def test_the_engine_offers_one_usable_model(engine: LocalEngine) -> None:
    (model,) = await engine.models()
    assert (model.name, model.provider, model.dimensions, model.tracks) == ("local", "local", 112, ("visual",))
    assert (model.min_clip_seconds, model.max_clip_seconds, model.unusable) == (1.0, 10.0, None)


def test_the_revision_contains_the_digest_of_the_weights() -> None:
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest()[:8] in REVISION


async def test_a_film_yields_consecutive_unit_vectors(engine: LocalEngine) -> None:
    result = await _embed(engine, moving_film(), 9.0)
    assert result.ranges == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0), (8.0, 9.0)]
    assert np.linalg.norm(result.vectors, axis=1) == pytest.approx(1)
    assert result.vectors.dtype == np.float32
    assert np.isfinite(result.vectors).all()
    assert (1 - result.vectors @ result.vectors.T)[np.triu_indices(5, 1)].min() > 2 * SAME
    assert result.progress[0] == Progress(0.0, "Embedded 0 of 9 s.")
    assert result.progress[-1] == Progress(1.0, "Embedded 9 of 9 s.")


@pytest.mark.parametrize(
    ("container", "codec", "start"),
    [("mp4", "libx264", 0.0), ("matroska", "libx264", 0.0), ("mpegts", "libx264", 1.4), ("avi", "mpeg4", 0.0)],
)
@pytest.mark.parametrize("stored", [1, 3, 4, 5])
async def test_a_resumed_run_yields_the_same_vectors_to_the_bit(
    engine: LocalEngine, container: str, codec: str, start: float, stored: int
) -> None:
    options = (("preset", "veryfast"), ("g", "50"), ("bf", "2")) if codec == "libx264" else (("g", "50"),)
    film = moving_film(container=container, codec=codec, start_seconds=start, options=options)
    origin = _first_timestamp(film)
    whole = await _embed(engine, film, 9.0, start_offset=origin)
    rest = await _embed(engine, film, 9.0, start_offset=origin, stored=stored)
    assert rest.ranges == whole.ranges[stored:]
    assert np.array_equal(rest.vectors, whole.vectors[stored:])


def _first_timestamp(film: bytes) -> float:
    with av.open(io.BytesIO(film)) as container:
        frame = next(container.decode(video=0))
        assert frame.time is not None
        return frame.time


@pytest.mark.parametrize(
    "other",
    [
        {"options": (("preset", "veryfast"), ("crf", "28"))},
        {"rate": 30},
        {"container": "matroska"},
        {"container": "mpegts", "start_seconds": 10.0},
        {"codec": "mpeg4", "container": "avi", "options": (("b", "2000000"),)},
        {"quarter_turns": 1},
        {"quarter_turns": 2},
        {"quarter_turns": 3},
        {"options": (("preset", "veryfast"), ("x264-params", "interlaced=1"))},
        {"times": tuple(np.cumsum([0.0] + [0.02, 0.05, 0.01, 0.08] * 56).round(3).tolist())},
    ],
    ids=lambda other: "-".join(f"{key}={value}" for key, value in other.items())[:40],
)
async def test_the_same_picture_in_a_different_file_has_close_vectors(
    engine: LocalEngine, other: dict[str, object]
) -> None:
    make: Callable[..., bytes] = moving_film
    film = make(**other)
    one = await _embed(engine, moving_film(), 9.0)
    another = await _embed(engine, film, 9.0, start_offset=_first_timestamp(film))
    assert np.allclose(another.ranges, one.ranges, atol=0.05)
    assert _distances(one, another).max() < SAME


async def test_a_rotated_film_is_far_from_the_upright_one(engine: LocalEngine) -> None:
    """This shows that the previous test can fail."""
    upright = await _embed(engine, moving_film(), 9.0)
    on_its_side = await _embed(engine, moving_film(quarter_turns=1, told=False), 9.0)
    assert _distances(upright, on_its_side).min() > 2 * SAME


async def test_a_picture_that_ends_early_is_covered_up_to_its_end(engine: LocalEngine) -> None:
    result = await _embed(engine, moving_film(), 12.5)
    assert result.ranges[:-1] == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0)]
    assert result.ranges[-1] == pytest.approx((8.0, 9.0), abs=0.01)
    short = await _embed(engine, moving_film(8.25), 12.5)
    assert short.ranges == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0)]


async def test_a_resumed_run_without_further_frames_yields_nothing(engine: LocalEngine) -> None:
    result = await _embed(engine, moving_film(), 12.5, stored=5)
    assert result.ranges == []


async def test_a_still_is_shown_until_the_next_frame(engine: LocalEngine) -> None:
    result = await _embed(engine, moving_film(times=(0.0, 0.1, 0.2, 7.9, 8.0, 8.9)), 9.0)
    assert len(result.ranges) == 5
    assert result.vectors[1] == pytest.approx(result.vectors[2])


async def test_a_single_frame_is_one_clip(engine: LocalEngine) -> None:
    result = await _embed(engine, moving_film(times=(0.0,)), 1 / 24)
    assert len(result.ranges) == 1


async def test_a_long_undecodable_stretch_fails_with_its_start(engine: LocalEngine) -> None:
    with pytest.raises(SageError) as caught:
        await _embed(engine, _broken(moving_film(container="matroska"), 4.0, 7.0), 9.0)
    assert caught.value.reason is Reason.PROVIDER_FAILED
    assert caught.value.facts == {"provider": "The local engine", "why": "the picture cannot be decoded after 4.0 s"}
    assert public_text(caught.value) == "The local engine failed: the picture cannot be decoded after 4.0 s."


async def test_an_undecodable_tail_fails(engine: LocalEngine) -> None:
    with pytest.raises(SageError) as caught:
        await _embed(engine, _broken(moving_film(container="matroska"), 5.0, 9.0), 9.0)
    assert caught.value.facts["why"] == "the picture cannot be decoded after 4.9 s"


async def test_a_few_undecodable_frames_are_tolerated(engine: LocalEngine) -> None:
    result = await _embed(engine, _broken(moving_film(container="matroska"), 4.0, 4.3), 9.0)
    assert len(result.ranges) == 5


def _broken(film: bytes, start: float, end: float) -> bytes:
    """Return a film with garbage frames between two times, in an intact container."""
    content, at = bytearray(film), 0
    with av.open(io.BytesIO(film)) as container:
        for packet in container.demux(video=0):
            if packet.pts is None or not packet.time_base:
                break
            at = film.index(bytes(packet), at)
            if start <= packet.pts * packet.time_base < end:
                content[at : at + packet.size] = b"\xff" * packet.size
            at += packet.size
    return bytes(content)


@pytest.mark.parametrize("content", [b"", b"no film at all" * 1000, moving_film()[:5000], sound_with_cover()])
async def test_files_without_a_decodable_picture_fail(engine: LocalEngine, content: bytes) -> None:
    with pytest.raises(SageError) as caught:
        await _embed(engine, content, 9.0)
    assert caught.value.reason is Reason.PROVIDER_FAILED
    assert caught.value.facts["why"]


@pytest.mark.parametrize("after", [0, 1])
async def test_an_unavailable_store_is_retryable(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """From the start or midway. It must not pass for a short film."""
    monkeypatch.setattr(http_source, "_RETRY_WAITS_S", (0.0,))
    # Too large for FFmpeg's buffers.
    film = moving_film(options=(("preset", "ultrafast"), ("crf", "1")))
    server = FileServer(film)
    if after:
        server.cut_after = len(film) // 2

        def refuse_further(offset: int) -> None:
            server.status = 503

        server.before_send = refuse_further
    else:
        server.status = 503
    with server.running(), pytest.raises(SageError) as caught:
        await _collect(engine, _request(server.url, 9.0))
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_errors_of_the_video_url_are_passed_on(engine: LocalEngine) -> None:
    async def video_url() -> str:
        raise SageError(Reason.VIDEO_NOT_FOUND, video_id="video_1")

    request = EngineRequest(video_url, 9.0, 0.0, False, "local", 2.0, ("visual",), Resume(None, None, None, {}))
    with pytest.raises(SageError) as caught:
        await _collect(engine, request)
    assert caught.value.reason is Reason.VIDEO_NOT_FOUND


async def test_closing_the_events_stops_the_work(engine: LocalEngine) -> None:
    film = moving_film(60.0, options=(("preset", "ultrafast"), ("crf", "10")))
    with FileServer(film).running() as server:
        events = engine.embed(_request(server.url, 60.0))
        async for event in events:
            if isinstance(event, SegmentsProduced):
                break
        begun_at = time.monotonic()
        await events.aclose()
        assert time.monotonic() - begun_at < 0.5


@pytest.mark.parametrize("moment", ["opening", "reading"])
async def test_cancelling_interrupts_a_run_that_waits_for_bytes(engine: LocalEngine, moment: str) -> None:
    film = moving_film(options=(("preset", "ultrafast"), ("crf", "1")))
    waiting, release = threading.Event(), threading.Event()

    def hold(offset: int) -> None:
        if moment == "opening" or offset > len(film) // 2:
            waiting.set()
            release.wait(30)

    server = FileServer(film)
    server.before_send = hold
    with server.running():
        try:
            task = asyncio.create_task(_collect(engine, _request(server.url, 9.0)))
            assert await asyncio.to_thread(waiting.wait, 10)
            begun_at = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # Half of the read timeout, which would end the read otherwise.
            assert time.monotonic() - begun_at < 5
        finally:
            release.set()


async def test_the_event_loop_is_not_blocked(engine: LocalEngine) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    watching = asyncio.create_task(watch())
    await _embed(engine, moving_film(), 9.0)
    watching.cancel()
    assert longest < 0.5


async def test_one_pass_has_the_results_of_separate_passes(engine: LocalEngine) -> None:
    film, seconds = (SAMPLES / "old.mp4").read_bytes(), 24.0
    apart = await _embed(engine, film, seconds)
    video = Video("video_1", duration_seconds=seconds, start_offset_seconds=0.0)
    with FileServer(film).running() as server:

        async def video_url() -> str:
            return server.url

        maker = ProcessFingerprintMaker(LocalSettings(threads=2))
        blocks = [block async for block in maker.make(MakeRequest(video, video_url))]
    assert (len(blocks), apart.blocks, apart.fingerprinted) == (3, [], False)
    # From the start, or resumed: with either of them behind, and with either of them complete.
    for stored, first_block in [(0, 0), (7, 0), (2, 1), (10, 1), (4, 2)]:
        together = await _embed(engine, film, seconds, stored=stored, first_block=first_block)
        assert together.blocks == blocks[first_block:]
        assert together.fingerprinted
        assert together.ranges == apart.ranges[stored:]
        assert np.array_equal(together.vectors, apart.vectors[stored:])
