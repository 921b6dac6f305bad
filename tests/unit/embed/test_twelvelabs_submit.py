"""Submitting to TwelveLabs with the real SDK: one task, whatever happens to requests and responses."""

from datetime import timedelta

import httpx
import pytest
from fakes.marengo import DROPPED, HTML, KEY, SENT, URL, Marengo, fail, refusal, request_of, run
from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.engine import Resume, Submitting
from sage_runtime.errors import Reason
from sage_runtime.errors.catalogue import public_text


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
async def test_a_task_whose_create_response_was_lost_is_found_in_the_list(model, lost):
    """Although the list lags. It is not paid for twice."""
    marengo = Marengo(list_lag=2)
    marengo.create_answers.append(lost)
    outcome = await run(marengo, request_of(marengo, model=model))
    assert outcome.started == ["t1"]
    assert outcome.tracks() == ["visual"]
    assert marengo.seen["create"] == 1


async def test_a_slow_response_of_the_list_does_not_end_the_search():
    """The list may be as old as the request."""
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)

    def slow_and_lagging(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += 2 * TwelveLabsSettings().lookup_s
        return httpx.Response(200, json={"data": [], "page_info": {"page": 1, "total_page": 1}})

    marengo.tell("list", slow_and_lagging)
    outcome = await run(marengo)
    assert outcome.started == ["t1"]
    assert marengo.seen["create"] == 1


async def test_a_create_request_without_effect_is_repeated_with_the_same_url():
    marengo = Marengo()
    marengo.tell("create", DROPPED)
    outcome = await run(marengo)
    assert outcome.started == ["t1"]
    assert outcome.submitted == [SENT, SENT]
    assert marengo.seen["create"] == 2
    assert marengo.seen["list"] >= 3
    assert len(marengo.tasks) == 1


async def test_a_create_request_that_was_never_sent_is_repeated_without_a_search():
    marengo = Marengo()
    marengo.tell("create", httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"))
    await run(marengo)
    assert (marengo.seen["create"], marengo.seen["list"]) == (3, 0)


async def test_work_is_put_off_after_four_unclear_create_requests():
    marengo = Marengo()
    marengo.tell("create", *[httpx.Response(503)] * 100)
    # Waits are random, so the last request may or may not reuse the URL.
    error = await fail(marengo, request_of(marengo, urls=[URL, URL]))
    assert error.reason is Reason.PROVIDER_UNREACHABLE
    assert marengo.seen["create"] == 4


async def test_a_list_without_urls_leads_to_no_second_task():
    marengo = Marengo(lists_urls=False)
    marengo.create_answers.append(DROPPED)
    error = await fail(marengo)
    assert error.reason is Reason.PROVIDER_FAILED
    assert "No second task was created" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_an_unreadable_list_is_not_an_empty_one():
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)
    marengo.tell("list", *[httpx.Response(500)] * 5)
    assert (await fail(marengo)).reason is Reason.PROVIDER_UNREACHABLE
    assert marengo.seen["create"] == 1


@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_resumed_work_finds_the_task_of_its_submission(model):
    marengo = Marengo(list_lag=1)
    for other in range(3):
        marengo.make_task(f"https://store.example/other{other}", model=model)
    task = marengo.make_task(model=model)
    marengo.tasks[task]["options"] = ["visual-text" if "2.7" in model else "visual"]
    resume = Resume(None, URL, marengo.clock.now(), {})
    outcome = await run(marengo, request_of(marengo, model=model, resume=resume, urls=()))
    assert outcome.started == [task]
    assert marengo.seen["create"] == 0


async def test_resumed_work_submits_a_fresh_url_if_there_is_no_task():
    marengo = Marengo()
    resume = Resume(None, "https://store.example/old", marengo.clock.now(), {})
    outcome = await run(marengo, request_of(marengo, resume=resume))
    assert (outcome.submitted, outcome.started) == ([SENT], ["t1"])


async def test_a_create_request_still_in_flight_is_waited_for():
    """The worker that sent it may only be cut off from the database."""
    marengo = Marengo()
    arrives_s = marengo.clock.seconds + TwelveLabsSettings().create_limit_s

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


async def test_the_list_of_another_key_is_inconclusive():
    marengo = Marengo()
    resume = Resume(None, URL, marengo.clock.now(), {}, "key of before")
    error = await fail(marengo, request_of(marengo, resume=resume))
    assert error.reason is Reason.PROVIDER_FAILED
    assert "another key" in public_text(error)
    assert marengo.seen["create"] == 0
    task = marengo.make_task()
    marengo.tasks[task]["options"] = ["visual"]
    assert (await run(marengo, request_of(marengo, resume=resume))).started == [task]


async def test_a_list_with_truncated_urls_leads_to_no_second_task():
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)
    now = marengo.clock.now().isoformat()
    cut = {"_id": "t1", "created_at": now, "metadata": {"input_url": URL.partition("?")[0]}}
    page = httpx.Response(200, json={"data": [cut], "page_info": {"page": 1, "total_page": 1}})
    marengo.tell("list", *[page] * 50)
    error = await fail(marengo, settings=TwelveLabsSettings(lookup_s=2))
    assert "No second task was created" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_the_deadline_counts_from_the_last_submission():
    marengo = Marengo(polls_before_ready=20)
    resume = Resume(None, "https://store.example/old", marengo.clock.now() - timedelta(days=2), {}, KEY.fingerprint)

    def late(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += TwelveLabsSettings().deadline_s - 60
        return httpx.Response(429)

    marengo.tell("create", late)
    outcome = await run(marengo, request_of(marengo, resume=resume, urls=[URL, URL]))
    assert (outcome.started, outcome.tracks()) == (["t1"], ["visual"])


async def test_the_list_is_read_only_as_far_back_as_the_submission():
    marengo = Marengo()
    old = (marengo.clock.now() - timedelta(hours=1)).isoformat()
    page = [{"_id": f"old{number}", "created_at": old, "model_name": "marengo3.0"} for number in range(50)]
    full = httpx.Response(200, json={"data": page, "page_info": {"page": 1, "total_page": 400}})
    marengo.tell("list", *[full] * 100)
    marengo.tell("create", DROPPED)
    await run(marengo)
    assert marengo.seen["list"] <= 6


async def test_a_task_is_found_by_its_url_even_if_it_seems_too_old():
    marengo = Marengo()
    task = marengo.make_task()
    marengo.tasks[task] |= {"options": ["visual"], "created_at": (marengo.clock.now() - timedelta(hours=1)).isoformat()}
    resume = Resume(None, URL, marengo.clock.now(), {}, KEY.fingerprint)
    assert (await run(marengo, request_of(marengo, resume=resume, urls=()))).started == [task]


async def test_a_list_that_is_too_long_leads_to_no_second_task():
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)
    now = marengo.clock.now().isoformat()
    others = [{"_id": "other", "created_at": now, "metadata": {"input_url": "https://o/1"}}]
    page = httpx.Response(200, json={"data": others, "page_info": {"page": 1, "total_page": 400}})
    marengo.tell("list", *[page] * 400)
    error = await fail(marengo, settings=TwelveLabsSettings(lookup_s=0.1))
    assert "No second task was created" in public_text(error)
    assert marengo.seen["create"] == 1


async def test_later_pages_of_the_list_are_searched():
    marengo = Marengo()
    task = marengo.make_task()
    now = marengo.clock.now().isoformat()
    others = [{"_id": f"o{n}", "created_at": now, "metadata": {"input_url": f"https://o/{n}"}} for n in range(50)]
    marengo.tell("list", httpx.Response(200, json={"data": others, "page_info": {"page": 1, "total_page": 2}}))
    outcome = await run(marengo, request_of(marengo, resume=Resume(None, URL, marengo.clock.now(), {})))
    assert outcome.started == [task]


async def test_work_lost_during_a_rate_limit_sends_nothing():
    """`Submitting` is yielded before every create request, and a caller that cannot store it closes the generator."""
    marengo = Marengo()
    marengo.tell("create", httpx.Response(429))
    events, submissions = marengo.engine().embed(request_of(marengo)), []
    async for event in events:
        submissions += [event] if isinstance(event, Submitting) else []
        if len(submissions) == 2:
            break
    await events.aclose()
    assert submissions == [Submitting(SENT, KEY.fingerprint)] * 2
    assert (marengo.seen["create"], len(marengo.tasks)) == (1, 0)


async def test_a_create_request_delayed_for_long_gets_a_fresh_url():
    marengo = Marengo()
    limited = httpx.Response(429)

    def late(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += 3600
        return limited

    marengo.tell("create", limited, late)
    outcome = await run(marengo, request_of(marengo, urls=[URL, "https://store.example/later"]))
    assert outcome.submitted == [SENT, SENT, "https://store.example/later"]
    assert marengo.order()["url"] == "https://store.example/later"


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (refusal(401, "api_key_invalid", "expired"), Reason.API_KEY_INVALID, "rejected the API key"),
        (httpx.Response(401), Reason.API_KEY_INVALID, "rejected the API key"),
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
async def test_a_refused_create_request_is_final_and_quotes_the_reason(answer, reason, words):
    marengo = Marengo()
    marengo.tell("create", answer)
    error = await fail(marengo)
    assert error.reason is reason
    assert words in public_text(error)
    assert (marengo.seen["create"], marengo.seen["list"]) == (1, 0)
