"""The engine for TwelveLabs over the real SDK: one task, whatever happens on the way."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import numpy as np
import pytest
from fakes.marengo import KEY, URL, Marengo, Outcome, form_of, refusal, request_of, vector
from sage_embed.adapters.twelvelabs.policy import TwelveLabsPolicy
from sage_embed.engine import EngineRequest, Resume
from sage_embed.ports import ProviderKey
from sage_runtime.catalogue import public_text
from sage_runtime.errors import Reason, SageError

HTML = "<html><body>502 Bad Gateway</body></html>"
DROPPED = httpx.RemoteProtocolError("Server disconnected without sending a response.")


async def run(
    marengo: Marengo, request: EngineRequest | None = None, *, policy: TwelveLabsPolicy | None = None
) -> Outcome:
    """Embed a video to its end."""
    outcome, engine = Outcome(), marengo.engine(policy)
    async for event in engine.embed(request or request_of(marengo)):
        outcome.add(event)
    await engine.aclose()
    return outcome


async def fail(marengo: Marengo, request: EngineRequest | None = None, **options: TwelveLabsPolicy) -> SageError:
    """Embed a video that cannot be embedded."""
    with pytest.raises(SageError) as caught:
        await run(marengo, request, **options)
    for text in (public_text(caught.value), str(caught.value), caught.value.detail):
        assert KEY.secret not in text
        assert "X-Amz-Signature" not in text
    return caught.value


@pytest.mark.parametrize("model", ["marengo3.0", "marengo3.5", "Marengo-retrieval-2.7"])
async def test_every_model_embeds_the_picture(model):
    """Each model's clips come with their times and vectors, after its URL and task were told."""
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, model=model))
    assert (outcome.submitted, outcome.started) == ([URL], ["t1"])
    (produced,) = outcome.produced
    assert list(produced.segments.start_seconds) == [0, 2, 4, 6]
    assert list(produced.segments.end_seconds) == [2, 4, 6, 8]
    option, dimensions = ("visual-text", 1024) if "2.7" in model else ("visual", 512)
    assert (produced.segments.vectors[1] == vector(option, 2, dimensions)).all()
    assert marengo.seen["create"] == 1


async def test_v2_is_asked_for_just_what_is_wanted():
    """Options, scopes and segmentation of a request are those of its tracks; 3.5 has its segmentation deeper."""
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


async def test_v1_is_asked_with_a_form_without_empty_fields():
    """The form has the fields that are needed and no other; the whole video comes on top of its clips."""
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, model="Marengo-retrieval-2.7", tracks=("visual", "video")))
    assert form_of(marengo.requests[0]) == {
        "model_name": ["Marengo-retrieval-2.7"],
        "video_url": [URL],
        "video_clip_length": ["2"],
        "video_embedding_scope": ["clip", "video"],
    }
    assert outcome.tracks() == ["visual", "video"]


async def test_tracks_are_kept_apart():
    """Picture, sound, speech and the whole video are tracks of their own."""
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, tracks=("visual", "audio", "transcription", "video")))
    assert outcome.tracks() == ["visual", "audio", "transcription", "video"]
    assert (outcome.track("audio")[3] == vector("audio", 6)).all()
    assert (outcome.track("video") == [vector("visual", 0)]).all()


async def test_a_silent_video_is_not_asked_for_sound():
    """Without sound only the picture is asked for; where only sound is wanted, nothing is, before it costs."""
    marengo = Marengo()
    outcome = await run(marengo, request_of(marengo, tracks=("visual", "audio"), has_audio=False))
    assert outcome.tracks() == ["visual"]
    assert marengo.order()["options"] == ["visual"]
    error = await fail(marengo, request_of(marengo, tracks=("audio",), has_audio=False))
    assert error.reason is Reason.PROVIDER_REJECTED_VIDEO
    assert marengo.seen["create"] == 1


async def test_waits_between_looks_grow_up_to_the_longest():
    """The pace of looks slows down, with some chance in it."""
    marengo = Marengo(polls_before_ready=12)
    outcome = await run(marengo)
    waits = marengo.clock.sleeps
    assert waits[0] == pytest.approx(2.0, rel=0.21)
    assert waits[-1] == pytest.approx(15.0, rel=0.21)
    assert len({round(wait, 6) for wait in waits[7:]}) > 1
    assert any("1 min so far, status processing" in said for said in outcome.said)


@pytest.mark.parametrize("status", ["processing", "queued", "pending", "validating", "READY_SOON", "something new"])
async def test_every_other_status_means_not_done(status):
    """A status that nobody documented is waited through."""
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
async def test_trouble_while_polling_is_survived(model, trouble):
    """Whatever is no answer is asked for again."""
    marengo = Marengo()
    for step in ("retrieve", "status", "result"):
        marengo.tell(step, trouble, trouble)
    outcome = await run(marengo, request_of(marengo, model=model))
    assert outcome.tracks() == ["visual"]
    assert marengo.seen["create"] == 1


async def test_trouble_that_does_not_end_ends_at_the_deadline():
    """After the deadline the task is given up on, and the user is told that it may be billed."""
    marengo = Marengo()
    marengo.tell("retrieve", *[httpx.Response(503)] * 5000)
    error = await fail(marengo, policy=TwelveLabsPolicy(deadline_s=3600))
    assert error.reason is Reason.PROVIDER_FAILED
    assert "was not done within 1 h" in public_text(error)
    assert "may still bill" in public_text(error)
    assert marengo.clock.seconds == pytest.approx(3600, abs=20)


async def test_an_overdue_task_that_is_ready_is_taken():
    """A worker that begins again after the deadline looks once before it gives up."""
    marengo = Marengo(polls_before_ready=0)
    task = marengo.make_task()
    long_ago = marengo.clock.now() - timedelta(days=2)
    assert (await run(marengo, request_of(marengo, resume=Resume(task, None, long_ago, {})))).tracks() == ["visual"]
    marengo.polls_before_ready = 10**6
    error = await fail(marengo, request_of(marengo, resume=Resume(task, None, long_ago, {})))
    assert "was not done within 4 h" in public_text(error)


@pytest.mark.parametrize(
    "lost",
    [
        httpx.ReadTimeout("slow"),
        DROPPED,
        httpx.Response(500, json={"code": "internal_server_error"}),
        httpx.Response(503),
        httpx.Response(202),
        httpx.Response(202, text=HTML),
        httpx.Response(202, json={}),
        httpx.Response(202, json={"_id": None, "status": "processing"}),
        httpx.Response(202, json={"_id": "t1", "status": "processing", "data": [{"embedding": [None]}]}),
        httpx.Response(202, content=b"\xff\xfe\xfd"),
    ],
    ids=lambda lost: repr(lost)[:40],
)
@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_a_create_whose_answer_was_lost_is_found_in_the_list(model, lost):
    """The task took effect: it is found by its URL, though the list lags, and not paid for twice."""
    marengo = Marengo(list_lag=2)
    marengo.create_answers.append(lost)
    outcome = await run(marengo, request_of(marengo, model=model))
    assert outcome.started == ["t1"]
    assert outcome.tracks() == ["visual"]
    assert marengo.seen["create"] == 1


async def test_a_create_that_had_no_effect_is_sent_again_with_the_same_url():
    """After several looks at the list over ten seconds there is no task: another is made."""
    marengo = Marengo()
    marengo.tell("create", DROPPED)
    outcome = await run(marengo)
    assert outcome.started == ["t1"]
    assert outcome.submitted == [URL, URL]
    assert marengo.seen["create"] == 2
    assert marengo.seen["list"] >= 3
    assert len(marengo.tasks) == 1


async def test_a_create_that_was_never_sent_is_sent_again_without_a_look():
    """Where there was no connection there can be no task."""
    marengo = Marengo()
    marengo.tell("create", httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"))
    await run(marengo)
    assert (marengo.seen["create"], marengo.seen["list"]) == (3, 0)


async def test_creates_that_are_never_answered_are_put_off():
    """After four of them the work may be tried again later."""
    marengo = Marengo()
    marengo.tell("create", *[httpx.Response(503)] * 100)
    error = await fail(marengo)
    assert error.reason is Reason.PROVIDER_UNREACHABLE
    assert marengo.seen["create"] == 4


async def test_a_list_that_does_not_name_urls_leads_to_no_second_task():
    """Where it cannot be told whether there is a task, none is made, and the user is told why."""
    marengo = Marengo(lists_urls=False)
    marengo.create_answers.append(DROPPED)
    error = await fail(marengo)
    assert error.reason is Reason.PROVIDER_FAILED
    assert "no other was asked for" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_a_list_that_cannot_be_read_is_not_an_empty_one():
    """No second create before the list was seen; the work is put off."""
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)
    marengo.tell("list", *[httpx.Response(500)] * 5)
    assert (await fail(marengo)).reason is Reason.PROVIDER_UNREACHABLE
    assert marengo.seen["create"] == 1


async def test_work_that_begins_again_takes_up_its_task():
    """With a task's id there is neither a create nor a look at the list, and no URL is asked for."""
    marengo = Marengo()
    resume = Resume(marengo.make_task(), None, marengo.clock.now(), {})
    outcome = await run(marengo, request_of(marengo, resume=resume, urls=()))
    assert outcome.started == []
    assert outcome.tracks() == ["visual"]
    assert (marengo.seen["create"], marengo.seen["list"]) == (0, 0)


@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_work_that_begins_again_looks_for_what_it_asked_for(model):
    """A worker that died after its create, before the answer was stored: the task is found by the stored URL."""
    marengo = Marengo(list_lag=1)
    for other in range(3):
        marengo.make_task(f"https://store.example/other{other}", model=model)
    task = marengo.make_task(model=model)
    marengo.tasks[task]["options"] = ["visual-text" if "2.7" in model else "visual"]
    resume = Resume(None, URL, marengo.clock.now(), {})
    outcome = await run(marengo, request_of(marengo, model=model, resume=resume, urls=()))
    assert outcome.started == [task]
    assert marengo.seen["create"] == 0


async def test_work_that_begins_again_asks_with_a_fresh_url_where_there_is_no_task():
    """A worker that died before its create: after the looks a task is made, with a URL that is told first."""
    marengo = Marengo()
    resume = Resume(None, "https://store.example/old", marengo.clock.now(), {})
    outcome = await run(marengo, request_of(marengo, resume=resume))
    assert (outcome.submitted, outcome.started) == ([URL], ["t1"])


async def test_a_create_of_a_worker_that_was_cut_off_is_waited_for():
    """Who sent it may have lost the store alone, and its create may arrive late: no second one is sent before."""
    marengo = Marengo()
    arrives_s = marengo.clock.seconds + TwelveLabsPolicy().create_limit_s

    def late(_: httpx.Request) -> httpx.Response:
        if marengo.clock.seconds >= arrives_s and not marengo.tasks:
            marengo.make_task()
            marengo.order()["options"] = ["visual"]
        marengo.told["list"].append(late)
        return marengo._list()

    marengo.tell("list", late)
    resume = Resume(None, URL, marengo.clock.now(), {}, KEY.fingerprint)
    outcome = await run(marengo, request_of(marengo, resume=resume, urls=()))
    assert outcome.started == ["t1"]
    assert marengo.seen["create"] == 0


async def test_another_key_does_not_tell_of_a_task_that_was_asked_for_under_the_one_before():
    """The list of another account has none of it: that is no reason to pay twice."""
    marengo = Marengo()
    resume = Resume(None, URL, marengo.clock.now(), {}, "key of before")
    error = await fail(marengo, request_of(marengo, resume=resume))
    assert error.reason is Reason.PROVIDER_FAILED
    assert "another key" in public_text(error)
    assert marengo.seen["create"] == 0
    task = marengo.make_task()
    marengo.tasks[task]["options"] = ["visual"]
    assert (await run(marengo, request_of(marengo, resume=resume))).started == [task]


async def test_a_list_with_urls_that_are_cut_off_leads_to_no_second_task():
    """A URL without its signature may be that of any request for the video."""
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)
    now = marengo.clock.now().isoformat()
    cut = {"_id": "t1", "created_at": now, "metadata": {"input_url": URL.partition("?")[0]}}
    page = httpx.Response(200, json={"data": [cut], "page_info": {"page": 1, "total_page": 1}})
    marengo.tell("list", *[page] * 50)
    error = await fail(marengo, policy=TwelveLabsPolicy(lookup_undecided_s=20))
    assert "no other was asked for" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_a_task_that_is_made_late_has_all_of_its_time():
    """Work that was asked for days ago, and whose task never came about, does not throw its new task away."""
    marengo = Marengo(polls_before_ready=20)
    resume = Resume(None, "https://store.example/old", marengo.clock.now() - timedelta(days=2), {}, KEY.fingerprint)
    outcome = await run(marengo, request_of(marengo, resume=resume))
    assert (outcome.started, outcome.tracks()) == (["t1"], ["visual"])


async def test_the_list_is_looked_at_only_as_far_back_as_the_create():
    """Older tasks end the look, however many pages there are."""
    marengo = Marengo()
    old = (marengo.clock.now() - timedelta(hours=1)).isoformat()
    page = [{"_id": f"old{number}", "created_at": old, "model_name": "marengo3.0"} for number in range(50)]
    full = httpx.Response(200, json={"data": page, "page_info": {"page": 1, "total_page": 400}})
    marengo.tell("list", *[full] * 100)
    marengo.tell("create", DROPPED)
    await run(marengo)
    assert marengo.seen["list"] <= 6


async def test_a_task_is_found_by_its_url_however_far_clocks_are_apart():
    """Our clock is an hour ahead: the task looks older than its create, and is the one all the same."""
    marengo = Marengo()
    task = marengo.make_task()
    marengo.tasks[task] |= {"options": ["visual"], "created_at": (marengo.clock.now() - timedelta(hours=1)).isoformat()}
    resume = Resume(None, URL, marengo.clock.now(), {}, KEY.fingerprint)
    assert (await run(marengo, request_of(marengo, resume=resume, urls=()))).started == [task]


async def test_a_list_that_is_too_long_to_be_read_leads_to_no_second_task():
    """What was not looked at may be the task."""
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)
    now = marengo.clock.now().isoformat()
    others = [{"_id": "other", "created_at": now, "metadata": {"input_url": "https://o/1"}}]
    page = httpx.Response(200, json={"data": others, "page_info": {"page": 1, "total_page": 400}})
    marengo.tell("list", *[page] * 400)
    error = await fail(marengo, policy=TwelveLabsPolicy(lookup_s=1, lookup_undecided_s=1))
    assert "no other was asked for" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_later_pages_of_the_list_are_looked_at():
    """A task on the second page is found."""
    marengo = Marengo()
    task = marengo.make_task()
    now = marengo.clock.now().isoformat()
    others = [{"_id": f"o{n}", "created_at": now, "metadata": {"input_url": f"https://o/{n}"}} for n in range(50)]
    marengo.tell("list", httpx.Response(200, json={"data": others, "page_info": {"page": 1, "total_page": 2}}))
    outcome = await run(marengo, request_of(marengo, resume=Resume(None, URL, marengo.clock.now(), {})))
    assert outcome.started == [task]


@pytest.mark.parametrize("step", ["create", "retrieve", "list"])
@pytest.mark.parametrize(
    ("headers", "said"),
    [({"Retry-After": "7"}, 7.0), ({}, None), ({"Retry-After": "11382"}, 11382.0), ({"Retry-After": "soon"}, None)],
)
async def test_a_refusal_for_the_rate_holds_the_key_back_and_is_tried_again(step, headers, said):
    """429 on any request is told to the pace; no task was made, so there is one create that counts."""
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


async def test_a_create_that_was_held_back_for_long_gets_a_fresh_url():
    """The URL of a create that was refused is used again while it is young, and not for longer."""
    marengo = Marengo()
    limited = httpx.Response(429)

    def late(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += 3600
        return limited

    marengo.tell("create", limited, late)
    outcome = await run(marengo, request_of(marengo, urls=[URL, "https://store.example/later"]))
    assert outcome.submitted == [URL, URL, "https://store.example/later"]
    assert marengo.order()["url"] == "https://store.example/later"


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (refusal(401, "api_key_invalid", "expired"), Reason.API_KEY_INVALID, "refused the API key"),
        (httpx.Response(401), Reason.API_KEY_INVALID, "refused the API key"),
        (refusal(403, "forbidden", "No access to Marengo."), Reason.PROVIDER_FAILED, "No access to Marengo."),
        (httpx.Response(403), Reason.PROVIDER_FAILED, "HTTP 403"),
        (refusal(403, "usage_limit_exceeded", "Upgrade."), Reason.PROVIDER_QUOTA_EXCEEDED, "Upgrade."),
        (refusal(429, "usage_limit_exceeded", "Upgrade."), Reason.PROVIDER_QUOTA_EXCEEDED, "Upgrade."),
        (refusal(400, "parameter_invalid", "The URL is odd."), Reason.PROVIDER_FAILED, "The URL is odd."),
        (
            httpx.Response(400, json={"error": {"code": "video_file_broken", "message": "It is broken"}}),
            Reason.PROVIDER_REJECTED_VIDEO,
            "It is broken",
        ),
        *(
            (refusal(400, code, f"Words for {code}"), Reason.PROVIDER_REJECTED_VIDEO, f"Words for {code}")
            for code in (
                "video_duration_too_short",
                "video_duration_too_long",
                "video_resolution_too_low",
                "video_resolution_too_high",
                "video_filesize_too_large",
            )
        ),
        (
            refusal(400, "x", f"cannot fetch '{URL}' for {KEY.secret}"),
            Reason.PROVIDER_FAILED,
            "cannot fetch 'https://store.example/videos/a.mp4' for ***",
        ),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_refused_create_is_final_and_says_why(answer, reason, words):
    """TwelveLabs' own words reach the user, under a reason of the catalogue, and no task is looked for."""
    marengo = Marengo()
    marengo.tell("create", answer)
    error = await fail(marengo)
    assert error.reason is reason
    assert words in public_text(error)
    assert (marengo.seen["create"], marengo.seen["list"]) == (1, 0)


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
async def test_a_failed_task_tells_its_own_words(model, error_body, reason):
    """What TwelveLabs says of the failure is what the user reads."""
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
async def test_a_task_that_is_gone_is_missed_several_times_before_it_counts(model):
    """A task that is not found once may come back; one that never does is gone."""
    marengo = Marengo()
    not_found = refusal(404 if model == "marengo3.0" else 400, "resource_not_exists")
    for step in ("retrieve", "status"):
        marengo.tell(step, not_found, not_found)
    assert (await run(marengo, request_of(marengo, model=model))).tracks() == ["visual"]
    resume = Resume("unknown", None, None, {})
    error = await fail(marengo, request_of(marengo, model=model, resume=resume))
    assert error.reason is Reason.PROVIDER_FAILED
    assert "its task unknown is gone" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_a_key_that_was_replaced_meanwhile_is_used():
    """A 401 for the key of before is asked again under the new one; a 401 for the new one is final."""
    new = ProviderKey("tlk_new", "new")
    marengo = Marengo()
    # Asked for before and after the turn of the create, then of the look.
    marengo.keys.keys = deque([KEY, KEY, KEY, KEY, new])
    marengo.tell("retrieve", refusal(401, "api_key_invalid"))
    await run(marengo)
    assert marengo.requests[-1].headers["x-api-key"] == new.secret
    marengo.tell("retrieve", refusal(401, "api_key_invalid"))
    assert (await fail(marengo)).reason is Reason.API_KEY_INVALID


async def test_a_key_that_was_replaced_just_now_is_given_a_moment():
    """A process hears of a new key within a second: a 401 for the one before, meanwhile, throws no task away."""
    new = ProviderKey("tlk_new", "new")
    marengo = Marengo()
    marengo.tell("retrieve", refusal(401, "api_key_invalid"))
    marengo.keys.keys = deque([KEY] * 5 + [new])
    assert (await run(marengo)).tracks() == ["visual"]
    assert marengo.requests[-1].headers["x-api-key"] == new.secret


async def test_without_a_key_nothing_is_sent_and_no_model_is_usable():
    """No key: every model says so, and work fails with the same reason."""
    marengo = Marengo()
    marengo.keys.keys = deque([None])
    models = await marengo.engine().models()
    assert [model.name for model in models] == ["marengo3.0", "marengo3.5", "Marengo-retrieval-2.7"]
    assert {model.unusable.reason for model in models if model.unusable} == {Reason.API_KEY_MISSING}
    assert (await fail(marengo)).reason is Reason.API_KEY_MISSING
    assert not marengo.requests
    marengo.keys.keys = deque([KEY])
    assert all(model.unusable is None for model in await marengo.engine().models())


async def test_work_that_begins_again_stores_what_is_missing():
    """Of a track with three segments stored the rest comes, of a complete one nothing."""
    marengo = Marengo(duration_seconds=700.0)
    task = marengo.make_task()
    marengo.tasks[task] |= {"options": ["visual", "audio"]}
    resume = Resume(task, None, None, {"visual": 300, "audio": 350})
    outcome = await run(marengo, request_of(marengo, tracks=("visual", "audio"), resume=resume))
    (produced,) = outcome.produced
    assert (produced.segments.track, produced.segments.first_index) == ("visual", 300)
    assert len(produced.segments.vectors) == 50
    assert (produced.segments.vectors[0] == vector("visual", 600)).all()


async def test_a_result_that_is_bad_once_is_fetched_again():
    """A result with a number missing is not stored; the next one is whole."""
    marengo, spoiled = Marengo(polls_before_ready=0), deque([True])

    def change(vectors: list[dict[str, object]]) -> None:
        if spoiled:
            spoiled.pop()
            vectors[2]["embedding"] = [None, *np.zeros(511).tolist()]

    marengo.change = change
    assert (await run(marengo)).tracks() == ["visual"]
    assert marengo.seen["retrieve"] == 2


async def test_a_result_that_stays_bad_fails_with_words():
    """After three fetches the user is told what is wrong with it."""
    marengo = Marengo(polls_before_ready=0)
    marengo.change = lambda vectors: vectors[2].update(embedding=[float("nan"), *np.zeros(511).tolist()])
    error = await fail(marengo)
    assert error.reason is Reason.PROVIDER_FAILED
    assert "numbers that are not finite" in public_text(error)
    assert (marengo.seen["retrieve"], marengo.seen["create"]) == (3, 1)


async def test_closing_stops_at_once_and_asks_for_nothing_more():
    """A cancelled embedding sends nothing after its cancellation, and leaves no connection."""
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


async def test_a_rate_limit_that_never_ends_ends_at_the_deadline():
    """Work that gets no turn until the deadline says so."""

    class Never:
        async def wait_turn(self, key: ProviderKey, *, in_use: Callable[[], Awaitable[bool]]) -> None:
            await asyncio.Event().wait()

    marengo = Marengo()
    marengo.pace = Never()  # type: ignore[assignment]
    error = await fail(marengo, policy=TwelveLabsPolicy(deadline_s=0.01, grace_s=0.01, timeout_s=0.01))
    assert error.reason is Reason.PROVIDER_QUOTA_EXCEEDED


@pytest.mark.parametrize("step", ["create", "retrieve"])
async def test_a_rate_limit_that_refuses_every_request_ends_at_the_deadline(step):
    """Turns come, and each request is refused: that is not waited for without end either."""
    marengo = Marengo()

    def refuse(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += 60
        marengo.told[step].append(refuse)
        return httpx.Response(429, headers={"Retry-After": "5"})

    marengo.tell(step, refuse)
    error = await fail(marengo, request_of(marengo, urls=[URL] * 500))
    assert error.reason is Reason.PROVIDER_QUOTA_EXCEEDED
    assert marengo.clock.seconds == pytest.approx(TwelveLabsPolicy().deadline_s, abs=120)


async def test_an_overdue_task_gets_its_look_though_the_rate_is_limited():
    """A limit of a moment is no reason to throw a task away that is ready."""
    marengo = Marengo(polls_before_ready=0)
    resume = Resume(marengo.make_task(), None, marengo.clock.now() - timedelta(days=1), {})
    marengo.tell("retrieve", httpx.Response(429))
    assert (await run(marengo, request_of(marengo, resume=resume))).tracks() == ["visual"]


async def test_a_key_that_is_replaced_while_its_turn_is_waited_for_is_not_used():
    """Nothing is sent under a key that was changed meanwhile."""
    new = ProviderKey("tlk_new", "new")
    marengo = Marengo()
    marengo.keys.keys = deque([KEY, new])
    await run(marengo)
    assert {request.headers["x-api-key"] for request in marengo.requests} == {new.secret}


async def test_a_limit_is_told_while_it_lasts():
    """Whoever waits for hours reads why."""
    marengo = Marengo()
    marengo.tell("create", httpx.Response(429))
    outcome = await run(marengo)
    assert "limits the rate" in outcome.said[1]


async def test_no_log_has_the_key_or_the_url(caplog, capsys):
    """Neither our own log nor that of a library has what lets a reader in."""
    caplog.set_level(logging.DEBUG)
    marengo = Marengo(list_lag=1)
    marengo.create_answers.append(httpx.Response(202, text=f"{URL} {KEY.secret}"))
    marengo.tell("retrieve", httpx.Response(500, text=f"{URL} {KEY.secret}"))
    await run(marengo)
    log = caplog.text + capsys.readouterr().out
    assert "twelvelabs_trouble" in log
    assert not any(secret in log for secret in (KEY.secret, "X-Amz-Signature", "api.twelvelabs.io"))
