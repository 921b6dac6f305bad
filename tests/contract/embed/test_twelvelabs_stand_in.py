"""The stand-in for TwelveLabs has the wire that the real SDK expects, and misbehaves as it is told."""

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


@pytest.fixture(scope="module")
def film() -> Iterator[str]:
    """Where a silent film of 5 s can be fetched."""
    with FileServer(small_film(frames=24 * SECONDS)).running() as server:
        yield server.url


@pytest.fixture
async def client(twelvelabs: StandIn, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncTwelveLabs]:
    """The real SDK, led to the stand-in as in production."""
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
        while (task := await client.embed.v_2.tasks.retrieve(task_id)).status == "processing":  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)
    return task


async def error_of(awaitable: Any) -> ApiError:
    """Return the error that the SDK raises."""
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_v2_answers_what_the_sdk_reads(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    """A task is made, followed and listed; its vectors are those of the film, as many as it has clips."""
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


async def test_marengo_3_5_wants_the_segmentation_one_level_deeper(client: AsyncTwelveLabs, film: str) -> None:
    """Each model takes its own shape, and answers 400 to the other's."""
    flat = {"strategy": "fixed", "fixed": {"duration_sec": 2}}
    assert (await error_of(create(client, film, model="marengo3.5", segmentation=flat))).status_code == 400
    assert (await error_of(create(client, film, segmentation={"temporal": flat}))).status_code == 400
    task = await done(client, await create(client, film, model="marengo3.5", segmentation={"temporal": flat}))
    assert task.status == "ready"


async def test_v1_answers_what_the_sdk_reads(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    """A task is made from a form, has a status and a result of its own, and loses its short last clip."""
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
        while (await client.embed.tasks.status(task_id)).status != "ready":  # noqa: ASYNC110 - nothing tells of it
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
async def test_a_wrong_request_is_400(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str, changes: Any) -> None:
    """What the real service refuses is refused with its code, and makes no task."""
    error = await error_of(create(client, film, **changes))
    assert (error.status_code, error.body["code"]) == (400, "parameter_invalid")
    assert not twelvelabs.tasks


async def test_a_wrong_key_is_401(client: AsyncTwelveLabs, twelvelabs: StandIn) -> None:
    """An unknown key is told so in a flat body."""
    twelvelabs.keys = {"another"}
    error = await error_of(client.embed.v_2.tasks.list(page=1, page_limit=1))
    assert (error.status_code, error.body["code"]) == (401, "api_key_invalid")


async def test_an_unknown_task_is_404_in_v2_and_400_in_v1(client: AsyncTwelveLabs) -> None:
    """Each API says it in its own way."""
    assert (await error_of(client.embed.v_2.tasks.retrieve("gone"))).status_code == 404
    assert (await error_of(client.embed.tasks.status("gone"))).status_code == 400


async def test_a_url_that_leads_nowhere_fails_the_task(client: AsyncTwelveLabs, film: str) -> None:
    """The task is made, and fails with the service's words."""
    task = await done(client, await create(client, film.replace("http://127.0.0.1", "http://127.0.0.1:1/")))
    assert (task.status, task.error.message) == ("failed", UNFETCHABLE)


async def test_angles_are_those_of_the_local_model() -> None:
    """Cosine distances between clips are the same in every model's dimensions, though no vector has length 1."""
    with FileServer((SAMPLES / "old.mp4").read_bytes()).running() as server:
        footage = await Studio().look(server.url, 2)
    for model, api in (("marengo3.0", Api.V2), ("Marengo-retrieval-2.7", Api.V1)):
        option = "visual" if api is Api.V2 else "visual-text"
        result = pieces(Order(api, model, "", 2, (option,), ("clip",)), footage, speech=False)
        vectors = np.array([piece.vector for piece in result])
        assert not np.allclose(np.linalg.norm(vectors, axis=1), 1)
        assert np.allclose(_cosines(vectors), _cosines(footage.pictures), atol=1e-4)


async def test_another_dub_sounds_different_and_another_bit_rate_does_not(tmp_path: Path) -> None:
    """Sound is told from its real samples: near where it was only encoded anew, far where it is another."""
    films = {
        "old": SAMPLES / "old.mp4",
        "new": SAMPLES / "new.mp4",
        "dubbed": with_sound(SAMPLES / "old.mp4", tmp_path / "dubbed.mp4"),
    }
    sounds = {}
    for name, path in films.items():
        with FileServer(path.read_bytes()).running() as server:
            sounds[name] = (await Studio().look(server.url, 2)).sounds[:10]
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in sounds.items()}
    assert (1 - (unit["old"] * unit["new"]).sum(axis=1)).max() < 0.05
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
async def test_an_answer_is_what_it_is_told_to_be(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str, fault: Fault, status: int
) -> None:
    """A status, headers and a body of any kind are answered once, and all is well after that."""
    twelvelabs.misbehave(fault, Step.CREATE, times=1)
    error = await error_of(create(client, film))
    assert error.status_code == status
    assert len(twelvelabs.tasks) == (status == 202)
    assert await create(client, film)


@pytest.mark.parametrize(("moment", "effect"), [(Moment.BEFORE, 0), (Moment.AFTER, 1), (Moment.HALF, 1)])
async def test_a_connection_drops_at_the_moment_it_is_told_to(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str, moment: Moment, effect: int
) -> None:
    """The client sees a transport error, whether the create took effect or not."""
    twelvelabs.misbehave(Drops(moment), Step.CREATE, times=1)
    with pytest.raises(httpx.TransportError):
        await create(client, film)
    assert len(twelvelabs.tasks) == effect
    assert twelvelabs.creates_received == 1


async def test_a_request_waits_at_a_gate(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    """A held request goes on when the gate opens, and breaks off when it is dropped."""
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


async def test_a_request_of_a_test_before_has_no_effect(
    client: AsyncTwelveLabs, twelvelabs: StandIn, film: str
) -> None:
    """What is still held when everything is forgotten breaks off, and makes no task that the next test would find."""
    gate = twelvelabs.hold(Step.CREATE, Moment.BEFORE)
    waiting = asyncio.create_task(create(client, film))
    assert await asyncio.to_thread(gate.reached.wait, 10)
    twelvelabs.reset()
    gate.open()
    with pytest.raises(httpx.TransportError):
        await waiting
    assert not twelvelabs.tasks


async def test_a_slow_answer_is_slow(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    """A delay is longer than a client waits that has no patience."""
    twelvelabs.misbehave(Delays(5), Step.CREATE, times=1)
    with pytest.raises(httpx.ReadTimeout):
        await client.embed.v_2.tasks.create(
            input_type="video",
            model_name="marengo3.0",
            video=video(film),
            # Long enough to connect in.
            request_options={"timeout_in_seconds": 1},
        )


@pytest.mark.parametrize("retry_after", [True, False])
async def test_the_rate_limit_holds(twelvelabs: StandIn, retry_after: bool) -> None:
    """Within a window no more requests pass than may."""
    twelvelabs.rate_limit = RateLimit(requests=3, window_s=60, retry_after=retry_after)
    async with httpx.AsyncClient(headers={"x-api-key": KEY}) as http:
        answers = [await http.get(f"{twelvelabs.base_url}/embed-v2/tasks") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert ("Retry-After" in answers[-1].headers) is retry_after


async def test_results_are_spoilt_as_told(client: AsyncTwelveLabs, twelvelabs: StandIn, film: str) -> None:
    """Order, number, size and content of vectors can be made wrong, in the answers of either API."""
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
    """Sound and speech have vectors only where they are."""
    pictures = np.eye(3, dtype=np.float32)
    order = Order(Api.V2, "marengo3.0", "", 2, ("visual", "audio", "transcription"), ("clip",))
    silent = pieces(order, Footage(6.0, pictures), speech=True)
    assert {piece.option for piece in silent} == {"visual"}
    loud = pieces(order, Footage(6.0, pictures, pictures), speech=False)
    assert {piece.option for piece in loud} == {"visual", "audio"}


def _cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T
