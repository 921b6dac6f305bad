"""The engine for TwelveLabs with the real SDK: one task, even after errors and restarts."""

import asyncio
import json
import logging
from collections import deque
from datetime import timedelta

import httpx
import numpy as np
import pytest
from fakes.marengo import (
    DROPPED,
    HTML,
    KEY,
    SENT,
    URL,
    Marengo,
    Outcome,
    fail,
    form_of,
    refusal,
    request_of,
    run,
    vector,
)
from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.engine import Resume, SegmentsProduced
from sage_embed.keys.model import ProviderKey
from sage_runtime.errors import Reason, SageError
from sage_runtime.errors.catalogue import public_text
from support.waiting import until_turned


@pytest.mark.parametrize("model", ["marengo3.0", "marengo3.5", "Marengo-retrieval-2.7"])
async def test_every_model_embeds_the_picture(model):
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, model=model))
    assert (outcome.submitted, outcome.started) == ([SENT], ["t1"])
    (produced,) = outcome.produced
    assert list(produced.segments.start_seconds) == [0, 2, 4, 6]
    assert list(produced.segments.end_seconds) == [2, 4, 6, 8]
    option, dimensions = ("visual-text", 1024) if "2.7" in model else ("visual", 512)
    assert (produced.segments.vectors[1] == vector(option, 2, dimensions)).all()
    assert marengo.seen["create"] == 1


async def test_v2_requests_exactly_the_options_of_the_tracks():
    """Marengo 3.5 has its segmentation one level deeper."""
    marengo = Marengo()
    await run(marengo, request_of(marengo, tracks=("visual", "transcription", "video")))
    await run(marengo, request_of(marengo, model="marengo3.5", tracks=("video",)))
    orders = [json.loads(request.content) for request in marengo.requests if request.method == "POST"]
    fixed = {"strategy": "fixed", "fixed": {"duration_sec": 2}}
    assert orders[0]["video"] == {
        "media_source": {"url": URL},
        "segmentation": fixed,
        "embedding_option": ["visual", "transcription"],
        "embedding_scope": ["clip", "asset"],
    }
    assert orders[1]["video"]["segmentation"] == {"temporal": fixed}
    assert orders[1]["video"]["embedding_scope"] == ["asset"]


async def test_v1_requests_are_forms_without_empty_fields():
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, model="Marengo-retrieval-2.7", tracks=("visual", "video")))
    assert form_of(marengo.requests[0]) == {
        "model_name": ["Marengo-retrieval-2.7"],
        "video_url": [URL],
        "video_clip_length": ["2"],
        "video_embedding_scope": ["clip", "video"],
    }
    assert outcome.tracks() == ["visual", "video"]


async def test_each_track_gets_its_own_vectors():
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, tracks=("visual", "audio", "transcription", "video")))
    assert outcome.tracks() == ["visual", "audio", "transcription", "video"]
    assert (outcome.track("audio")[3] == vector("audio", 6)).all()
    assert (outcome.track("video") == [vector("visual", 0)]).all()


async def test_sound_of_a_silent_video_is_not_requested():
    """If only sound is requested, nothing is submitted or billed."""
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, tracks=("visual", "audio"), has_audio=False))
    assert outcome.tracks() == ["visual"]
    assert marengo.order()["options"] == ["visual"]
    error = await fail(marengo, request_of(marengo, tracks=("audio",), has_audio=False))
    assert error.reason is Reason.PROVIDER_REJECTED_VIDEO
    assert marengo.seen["create"] == 1


async def test_intervals_between_polls_grow_up_to_the_longest():
    marengo = Marengo(polls_before_ready=12)
    outcome = await run(marengo)
    waits = marengo.clock.sleeps
    assert waits[0] == pytest.approx(2.0, rel=0.21)
    assert waits[-1] == pytest.approx(15.0, rel=0.21)
    assert len({round(wait, 6) for wait in waits[7:]}) > 1
    assert any("1 min so far, status processing" in said for said in outcome.said)


@pytest.mark.parametrize("status", ["processing", "queued", "pending", "validating", "READY_SOON", "something new"])
async def test_undocumented_statuses_mean_not_done(status):
    marengo = Marengo()
    marengo.tell("retrieve", *[httpx.Response(200, json={"_id": "t1", "status": status, "data": None})] * 3)
    assert (await run(marengo)).tracks() == ["visual"]


TROUBLES = [
    httpx.Response(500, json={"code": "internal_server_error", "message": "Internal server error."}),
    httpx.Response(503, text=""),
    httpx.Response(502, text=HTML),
    httpx.Response(200, text=""),
    httpx.Response(200, text=HTML),
    httpx.Response(200, content=b'{"_id": "t1", "status": "rea'),
    httpx.Response(200, content=b'{"_id": "t1", "status": "\xff\xfe"}'),
    httpx.Response(200, json={"_id": "t1"}),
    httpx.Response(200, json=["t1"]),
    httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
    httpx.Response(408, json={"code": "timeout"}),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    DROPPED,
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: repr(trouble)[:40])
@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_errors_while_polling_are_retried(model, trouble):
    marengo = Marengo()
    for step in ("retrieve", "status", "result"):
        marengo.tell(step, trouble, trouble)
    outcome = await run(marengo, request_of(marengo, model=model))
    assert outcome.tracks() == ["visual"]
    assert marengo.seen["create"] == 1


async def test_persistent_errors_are_told_with_times_and_fail_at_the_deadline():
    marengo = Marengo()
    marengo.tell("retrieve", *[httpx.Response(503)] * 5000)
    outcome = Outcome()
    with pytest.raises(SageError) as caught:
        await run(marengo, settings=TwelveLabsSettings(deadline_s=3600), outcome=outcome)
    told = outcome.said
    assert caught.value.reason is Reason.PROVIDER_FAILED
    assert "did not finish within 1 h" in public_text(caught.value)
    assert any("no usable answer since 00:00:0" in message and "HTTP 503" in message for message in told)
    assert any("times in a row" in message for message in told)
    assert marengo.clock.seconds == pytest.approx(3600, abs=20)


async def test_an_overdue_task_is_polled_once_when_its_work_resumes():
    marengo = Marengo(polls_before_ready=0)
    task = marengo.make_task()
    long_ago = marengo.clock.now() - timedelta(days=2)
    resume = Resume(task, None, long_ago, {}, waiting_since=long_ago)
    assert (await run(marengo, request_of(marengo, resume=resume))).tracks() == ["visual"]
    marengo.polls_before_ready = 10**6
    error = await fail(marengo, request_of(marengo, resume=resume))
    assert "did not finish within 4 h" in public_text(error)


async def test_a_known_task_is_resumed_without_create_list_or_url():
    marengo = Marengo()
    resume = Resume(marengo.make_task(), None, marengo.clock.now(), {})
    outcome = await run(marengo, request_of(marengo, resume=resume, urls=()))
    assert outcome.started == []
    assert outcome.tracks() == ["visual"]
    assert (marengo.seen["create"], marengo.seen["list"]) == (0, 0)


@pytest.mark.parametrize("step", ["create", "retrieve", "list"])
@pytest.mark.parametrize(
    ("headers", "said"),
    [({"Retry-After": "7"}, 7.0), ({}, None), ({"Retry-After": "11382"}, 11382.0), ({"Retry-After": "soon"}, None)],
)
async def test_a_rate_limit_slows_the_key_down_and_the_request_is_repeated(step, headers, said):
    """A 429 created no task, so only one create request takes effect."""
    marengo = Marengo()
    body = {"json": {"code": "too_many_requests"}} if said else {"text": "Too Many Requests"}
    marengo.tell(step, *[httpx.Response(429, headers=headers, **body) for _ in range(2)])
    if step == "list":
        marengo.create_answers.append(DROPPED)
    outcome = await run(marengo)
    assert marengo.pace.limits == [said, said]
    assert outcome.started == ["t1"]
    assert len(marengo.tasks) == 1
    assert marengo.pace.turns == marengo.seen.total()


@pytest.mark.parametrize(
    ("error_body", "reason"),
    [
        ({"error": {"message": "failed to fetch or materialize source media"}}, Reason.PROVIDER_FAILED),
        ({"error": {"message": "Too short.", "code": "video_duration_too_short"}}, Reason.PROVIDER_REJECTED_VIDEO),
        ({"message": "failed to fetch or materialize source media"}, Reason.PROVIDER_FAILED),
        ({}, Reason.PROVIDER_FAILED),
    ],
)
@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_a_failed_task_is_reported_in_twelvelabs_words(model, error_body, reason):
    marengo = Marengo()
    document = {"_id": "t1", "status": "failed", "data": None, **error_body}
    for step in ("retrieve", "status"):
        marengo.tell(step, httpx.Response(200, json=document))
    error = await fail(marengo, request_of(marengo, model=model))
    assert error.reason is reason
    inner = error_body.get("error", error_body)
    message = inner.get("message", "no reason") if isinstance(inner, dict) else ""
    assert message.rstrip(".") in public_text(error)


@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_a_task_counts_as_gone_only_after_several_polls(model):
    marengo = Marengo()
    not_found = refusal(404 if model == "marengo3.0" else 400, "resource_not_exists")
    for step in ("retrieve", "status"):
        marengo.tell(step, not_found, not_found)
    assert (await run(marengo, request_of(marengo, model=model))).tracks() == ["visual"]
    resume = Resume("unknown", None, None, {})
    error = await fail(marengo, request_of(marengo, model=model, resume=resume))
    assert error.reason is Reason.PROVIDER_FAILED
    assert "task unknown no longer exists" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_a_replaced_key_is_used():
    new = ProviderKey("tlk_new", "new")
    marengo = Marengo()
    # The key is read before and after waiting for a turn, for the create request and then for the poll.
    marengo.keys.keys = deque([KEY, KEY, KEY, KEY, new])
    marengo.tell("retrieve", refusal(401, "api_key_invalid"))
    await run(marengo)
    assert marengo.requests[-1].headers["x-api-key"] == new.secret


async def test_a_refusal_of_a_key_that_was_just_replaced_fails_no_task():
    """Processes learn of a new key within a second."""
    new = ProviderKey("tlk_new", "new")
    marengo = Marengo()
    marengo.tell("retrieve", refusal(401, "api_key_invalid"))
    marengo.keys.keys = deque([KEY] * 5 + [new])
    assert (await run(marengo)).tracks() == ["visual"]
    assert marengo.requests[-1].headers["x-api-key"] == new.secret


async def test_without_a_key_nothing_is_sent_and_no_model_is_usable():
    marengo = Marengo()
    marengo.keys.keys = deque([None])
    models = await marengo.engine().models()
    assert [model.name for model in models] == ["marengo3.0", "marengo3.5", "Marengo-retrieval-2.7"]
    assert {model.unusable.reason for model in models if model.unusable} == {Reason.API_KEY_MISSING}
    assert (await fail(marengo)).reason is Reason.API_KEY_MISSING
    assert not marengo.requests
    marengo.keys.keys = deque([KEY])
    assert all(model.unusable is None for model in await marengo.engine().models())


async def test_resumed_work_yields_only_missing_segments():
    marengo = Marengo(duration_seconds=700.0)
    task = marengo.make_task()
    marengo.tasks[task] |= {"options": ["visual", "audio"]}
    resume = Resume(task, None, None, {"visual": 300, "audio": 350})
    outcome = await run(marengo, request_of(marengo, tracks=("visual", "audio"), resume=resume))
    (produced,) = outcome.produced
    assert (produced.segments.track, produced.segments.first_index) == ("visual", 300)
    assert len(produced.segments.vectors) == 50
    assert (produced.segments.vectors[0] == vector("visual", 600)).all()


async def test_an_invalid_result_is_fetched_again():
    marengo, spoiled = Marengo(polls_before_ready=0), deque([True])

    def change(vectors: list[dict[str, object]]) -> None:
        if spoiled:
            spoiled.pop()
            vectors[2]["embedding"] = [None, *np.zeros(511).tolist()]

    marengo.change = change
    assert (await run(marengo)).tracks() == ["visual"]
    assert marengo.seen["retrieve"] == 2


async def test_a_result_that_stays_invalid_fails_after_three_fetches():
    marengo = Marengo(polls_before_ready=0)
    marengo.change = lambda vectors: vectors[2].update(embedding=[float("nan"), *np.zeros(511).tolist()])
    error = await fail(marengo)
    assert error.reason is Reason.PROVIDER_FAILED
    assert "the vector from 4.00 to 6.00 s of its visual track is not finite" in public_text(error)
    assert (marengo.seen["retrieve"], marengo.seen["create"]) == (3, 1)


@pytest.mark.parametrize("end", ["stored", "closed"])
async def test_a_result_waits_for_a_free_slot(end):
    """The slot is released when the first result is stored or abandoned."""
    marengo = Marengo(polls_before_ready=0)
    engine = marengo.engine()
    first = engine.embed(request_of(marengo))
    async for event in first:
        if isinstance(event, SegmentsProduced):
            break
    other = Outcome()

    async def embed_other() -> None:
        async for event in engine.embed(request_of(marengo)):
            other.add(event)

    embedding = asyncio.create_task(embed_other())
    await until_turned(lambda: other.said)
    for _ in range(100):
        await asyncio.sleep(0)
    assert marengo.seen["retrieve"] == 1
    if end == "closed":
        await first.aclose()
    else:
        assert [event async for event in first] == []
    await embedding
    assert other.tracks() == ["visual"]
    await engine.aclose()


async def test_closing_sends_no_further_request():
    marengo = Marengo(polls_before_ready=10**9)
    engine = marengo.engine()
    events = engine.embed(request_of(marengo))
    async for _ in events:
        if marengo.seen["retrieve"]:
            break
    before = marengo.seen.total()
    await events.aclose()
    await engine.aclose()
    await asyncio.sleep(0)
    assert marengo.seen.total() == before


async def test_logs_contain_neither_the_key_nor_the_url(caplog, capsys):
    caplog.set_level(logging.DEBUG)
    marengo = Marengo(list_lag=1)
    marengo.create_answers.append(httpx.Response(202, text=f"{URL} {KEY.secret}"))
    marengo.tell("retrieve", httpx.Response(500, text=f"{URL} {KEY.secret}"))
    await run(marengo)
    log = caplog.text + capsys.readouterr().out
    assert "twelvelabs_request_failed" in log
    assert not any(secret in log for secret in (KEY.secret, "X-Amz-Signature", "api.twelvelabs.io"))
