"""The stand-in for TwelveLabs: it speaks the protocol of the real SDK, and misbehaves on request."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fakes.twelvelabs import misbehaviour
from fakes.twelvelabs.endpoints import UNFETCHABLE
from fakes.twelvelabs.facts import Api
from fakes.twelvelabs.faults import Delays, Drops, Fault, Moment, Step
from fakes.twelvelabs.orders import Order
from fakes.twelvelabs.rate import RateLimit
from fakes.twelvelabs.server import KEY, StandIn
from fakes.twelvelabs.studio import Footage, Studio
from fakes.twelvelabs.vectors import pieces
from support.file_server import FileServer
from support.films import SAMPLES
from support.small_films import small_film
from support.sound import with_sound
from twelvelabs import AsyncTwelveLabs
from twelvelabs.core.api_error import ApiError

SECONDS = 5
# Decodes films.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def film() -> Iterator[str]:
    """URL of a silent film of 5 s."""
    with FileServer(small_film(frames=24 * SECONDS)).running() as server:
        yield server.url


@pytest.fixture
async def client(twelvelabs: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncTwelveLabs]:
    """The real SDK, configured as in production to use the stand-in."""
    monkeypatch.setenv("TWELVELABS_BASE_URL", twelvelabs.base_url)
    async with httpx.AsyncClient(timeout=10) as http:
        yield AsyncTwelveLabs(api_key=KEY, httpx_client=http)


def video(url: str, **changes: object) -> dict[str, Any]:
    """Return the video of a request to v2."""
    return {
        "media_source": {"url": url},
        "segmentation": {"strategy": "fixed", "fixed": {"duration_sec": 2}},
        "embedding_option": ["visual", "audio"],
        "embedding_scope": ["clip", "asset"],
        **changes,
    }


async def create(client: AsyncTwelveLabs, url: str, *, model: str = "marengo3.0", **changes: object) -> str:
    """Create a task through v2 and return its id."""
    request: Any = video(url, **changes)
    return (await client.embed.v_2.tasks.create(input_type="video", model_name=model, video=request)).id


async def done(client: AsyncTwelveLabs, task_id: str) -> Any:
    """Return the task once it is no longer processing."""
    async with asyncio.timeout(20):
        while (task := await client.embed.v_2.tasks.retrieve(task_id)).status == "processing":  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
    return task


async def error_of(awaitable: Any) -> ApiError:
    """Return the error that the SDK raises."""
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_v2_responses_are_read_by_the_sdk(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    task_id = await create(client, film)
    task = await done(client, task_id)
    assert task.status == "ready"
    assert [(one.embedding_option, one.embedding_scope, one.start_sec, one.end_sec) for one in task.data] == [
        ("visual", "clip", 0, 2), ("visual", "clip", 2, 4), ("visual", "clip", 4, 5), ("visual", "asset", 0, 5),
    ]  # fmt: skip
    assert {len(one.embedding) for one in task.data} == {512}
    assert task.metadata.input_url == film
    assert task.metadata.duration == SECONDS
    page = await client.embed.v_2.tasks.list(page=1, page_limit=1)
    (listed,) = page.items
    assert (listed.id, listed.status) == (task_id, "ready")
    assert listed.video_embedding.metadata.input_url == film
    assert twelvelabs.creates_received == len(twelvelabs.tasks) == 1


async def test_marengo_3_5_expects_the_segmentation_one_level_deeper(client: AsyncTwelveLabs, film: str) -> None:
    flat = {"strategy": "fixed", "fixed": {"duration_sec": 2}}
    assert (await error_of(create(client, film, model="marengo3.5", segmentation=flat))).status_code == 400
    assert (await error_of(create(client, film, segmentation={"temporal": flat}))).status_code == 400
    task = await done(client, await create(client, film, model="marengo3.5", segmentation={"temporal": flat}))
    assert task.status == "ready"


async def test_v1_responses_are_read_by_the_sdk(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    task_id = (
        await client.embed.tasks.create(
            model_name="Marengo-retrieval-2.7",
            video_url=film,
            video_clip_length=2,
            video_embedding_scope=["clip", "video"],
        )
    ).id
    assert task_id
    async with asyncio.timeout(20):
        while (await client.embed.tasks.status(task_id)).status != "ready":  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
    result = await client.embed.tasks.retrieve(task_id, embedding_option=["visual-text"])
    segments = result.video_embedding.segments
    assert [(one.embedding_scope, one.start_offset_sec, one.end_offset_sec) for one in segments] == [
        ("clip", 0, 2), ("clip", 2, 4), ("video", 0, 5),
    ]  # fmt: skip
    assert {len(one.float_) for one in segments} == {1024}
    assert [one.id for one in (await client.embed.tasks.list(page=1, page_limit=50)).items] == [task_id]
    assert [seen.step for seen in twelvelabs.seen][:2] == [Step.CREATE, Step.POLL]


@pytest.mark.parametrize(
    "changes",
    [
        {"segmentation": {"strategy": "fixed", "fixed": {"duration_sec": 2.5}}},
        {"segmentation": {"strategy": "fixed", "fixed": {"duration_sec": 11}}},
        {"embedding_option": ["smell"]},
        {"embedding_scope": ["video"]},
        {"media_source": {"url": "file:///etc/passwd"}},
    ],
)
async def test_a_malformed_request_is_400_and_creates_no_task(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str, changes: Any
) -> None:
    error = await error_of(create(client, film, **changes))
    assert (error.status_code, error.body["code"]) == (400, "parameter_invalid")
    assert not twelvelabs.tasks


async def test_a_wrong_key_is_401(client: AsyncTwelveLabs, twelvelabs: StandIn) -> None:
    twelvelabs.keys = {"another"}
    error = await error_of(client.embed.v_2.tasks.list(page=1, page_limit=1))
    assert (error.status_code, error.body["code"]) == (401, "api_key_invalid")


async def test_an_unknown_task_is_404_in_v2_and_400_in_v1(client: AsyncTwelveLabs) -> None:
    assert (await error_of(client.embed.v_2.tasks.retrieve("gone"))).status_code == 404
    assert (await error_of(client.embed.tasks.status("gone"))).status_code == 400


async def test_an_unreachable_url_fails_the_task(client: AsyncTwelveLabs, film: str) -> None:
    task = await done(client, await create(client, film.replace("http://127.0.0.1", "http://127.0.0.1:1/")))
    assert (task.status, task.error.message) == ("failed", UNFETCHABLE)


async def test_cosine_distances_are_those_of_the_local_model() -> None:
    with FileServer((SAMPLES / "old.mp4").read_bytes()).running() as server:
        footage = await Studio().look(server.url, 2)
    for model, api in (("marengo3.0", Api.V2), ("Marengo-retrieval-2.7", Api.V1)):
        option = "visual" if api is Api.V2 else "visual-text"
        result = pieces(Order(api, model, "", 2, (option,), ("clip",)), footage, speech=False)
        vectors = np.array([piece.vector for piece in result])
        assert not np.allclose(np.linalg.norm(vectors, axis=1), 1)
        assert np.allclose(_cosines(vectors), _cosines(footage.pictures), atol=1e-4)


async def test_a_dub_is_far_and_a_reencode_is_near(tmp_path: Path) -> None:
    films = {
        "old": SAMPLES / "old.mp4",
        "encoded": with_sound(SAMPLES / "old.mp4", tmp_path / "encoded.mp4", keep_seconds=19.0),
        "dubbed": with_sound(SAMPLES / "old.mp4", tmp_path / "dubbed.mp4"),
    }
    sounds = {}
    for name, path in films.items():
        with FileServer(path.read_bytes()).running() as server:
            sounds[name] = (await Studio().look(server.url, 2)).sounds[:9]
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in sounds.items()}
    assert (1 - (unit["old"] * unit["encoded"]).sum(axis=1)).max() < 0.05
    assert (1 - (unit["old"] * unit["dubbed"]).sum(axis=1)).min() > 0.2


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (misbehaviour.refuses(403, "forbidden", nested=True), 403),
        (misbehaviour.limits(retry_after="3"), 429),
        (misbehaviour.limits(json=False), 429),
        (misbehaviour.refuses(503, "service_unavailable"), 503),
        (misbehaviour.empty(500, at=Moment.BEFORE), 500),
        (misbehaviour.not_json(202), 202),
    ],
)
async def test_a_response_can_be_replaced_once(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str, fault: Fault, status: int
) -> None:
    twelvelabs.misbehave(fault, Step.CREATE, times=1)
    error = await error_of(create(client, film))
    assert error.status_code == status
    assert len(twelvelabs.tasks) == (status == 202)
    assert await create(client, film)


@pytest.mark.parametrize(("moment", "effect"), [(Moment.BEFORE, 0), (Moment.AFTER, 1), (Moment.HALF, 1)])
async def test_a_connection_drops_at_the_requested_point(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str, moment: Moment, effect: int
) -> None:
    twelvelabs.misbehave(Drops(moment), Step.CREATE, times=1)
    with pytest.raises(httpx.TransportError):
        await create(client, film)
    assert len(twelvelabs.tasks) == effect
    assert twelvelabs.creates_received == 1


async def test_a_request_waits_at_a_gate(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    gate = twelvelabs.hold(Step.CREATE, Moment.BEFORE)
    waiting = asyncio.create_task(create(client, film))
    await asyncio.to_thread(gate.reached.wait, 10)
    assert not twelvelabs.tasks
    gate.open()
    assert await waiting == twelvelabs.tasks[0].id
    gate = twelvelabs.hold(Step.CREATE, Moment.BEFORE)
    waiting = asyncio.create_task(create(client, film))
    await asyncio.to_thread(gate.reached.wait, 10)
    gate.drop()
    with pytest.raises(httpx.TransportError):
        await waiting
    assert len(twelvelabs.tasks) == 1


async def test_a_request_of_a_previous_test_has_no_effect(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str
) -> None:
    gate = twelvelabs.hold(Step.CREATE, Moment.BEFORE)
    waiting = asyncio.create_task(create(client, film))
    assert await asyncio.to_thread(gate.reached.wait, 10)
    twelvelabs.reset()
    gate.open()
    with pytest.raises(httpx.TransportError):
        await waiting
    assert not twelvelabs.tasks


async def test_a_delay_exceeds_the_timeout_of_the_client(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str
) -> None:
    twelvelabs.misbehave(Delays(5), Step.CREATE, times=1)
    with pytest.raises(httpx.ReadTimeout):
        await client.embed.v_2.tasks.create(
            input_type="video",
            model_name="marengo3.0",
            video=video(film),
            # Long enough to connect.
            request_options={"timeout_in_seconds": 1},
        )


@pytest.mark.parametrize("retry_after", [True, False])
async def test_the_rate_limit_holds(twelvelabs: StandIn, retry_after: bool) -> None:
    twelvelabs.rate_limit = RateLimit(requests=3, window_s=60, retry_after=retry_after)
    async with httpx.AsyncClient(headers={"x-api-key": KEY}) as http:
        responses = [await http.get(f"{twelvelabs.base_url}/embed-v2/tasks") for _ in range(5)]
    assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]
    assert ("Retry-After" in responses[-1].headers) is retry_after


async def test_results_can_be_corrupted(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    task_id = await create(client, film)
    await done(client, task_id)

    async def spoilt(fault: Fault) -> Any:
        twelvelabs.misbehave(fault, Step.FETCH, times=1)
        async with httpx.AsyncClient(headers={"x-api-key": KEY}) as http:
            return json.loads((await http.get(f"{twelvelabs.base_url}/embed-v2/tasks/{task_id}")).content)

    assert [one["start_sec"] for one in (await spoilt(misbehaviour.reversed_order()))["data"]] == [0, 4, 2, 0]
    assert [one["start_sec"] for one in (await spoilt(misbehaviour.without_clip(1)))["data"]] == [0, 4, 0]
    assert {len(one["embedding"]) for one in (await spoilt(misbehaviour.with_dimensions(7)))["data"]} == {7}
    assert (await spoilt(misbehaviour.with_number(None)))["data"][0]["embedding"][0] is None
    assert np.isnan((await spoilt(misbehaviour.with_nan()))["data"][0]["embedding"][0])
    assert (await spoilt(misbehaviour.without_vectors()))["data"] == []
    assert (await spoilt(misbehaviour.says("banana")))["status"] == "banana"
    assert (await spoilt(misbehaviour.fails("Because.")))["error"] == {"message": "Because."}


async def test_footage_without_sound_has_no_audio() -> None:
    pictures = np.eye(3, dtype=np.float32)
    order = Order(Api.V2, "marengo3.0", "", 2, ("visual", "audio", "transcription"), ("clip",))
    silent = pieces(order, Footage(6.0, pictures), speech=True)
    assert {piece.option for piece in silent} == {"visual"}
    loud = pieces(order, Footage(6.0, pictures, pictures), speech=False)
    assert {piece.option for piece in loud} == {"visual", "audio"}


def _cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T
