"""Getting one task of TwelveLabs over the real SDK, whatever becomes of requests and answers."""

from datetime import timedelta

import httpx
import pytest
from fakes.marengo import DROPPED, HTML, KEY, URL, Marengo, fail, refusal, request_of, run
from sage_embed.adapters.twelvelabs.policy import TwelveLabsPolicy
from sage_embed.engine import Resume, Submitting
from sage_runtime.catalogue import public_text
from sage_runtime.errors import Reason


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


async def test_a_look_that_takes_long_does_not_stand_for_those_after_it():
    """The list may be answered as it was when it was asked for: who looks for ten seconds looks again after them."""
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)

    def slow_and_lagging(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += 2 * TwelveLabsPolicy().lookup_s
        return httpx.Response(200, json={"data": [], "page_info": {"page": 1, "total_page": 1}})

    marengo.tell("list", slow_and_lagging)
    outcome = await run(marengo)
    assert outcome.started == ["t1"]
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
    # Waits are drawn at random: the last create may come after the time for which a URL is used again, or before.
    error = await fail(marengo, request_of(marengo, urls=[URL, URL]))
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
    """Work of days ago whose task never came about, and that waits for hours more, does not throw its task away."""
    marengo = Marengo(polls_before_ready=20)
    resume = Resume(None, "https://store.example/old", marengo.clock.now() - timedelta(days=2), {}, KEY.fingerprint)

    def late(_: httpx.Request) -> httpx.Response:
        marengo.clock.seconds += TwelveLabsPolicy().deadline_s - 60
        return httpx.Response(429)

    marengo.tell("create", late)
    outcome = await run(marengo, request_of(marengo, resume=resume, urls=[URL, URL]))
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


async def test_who_loses_the_work_while_it_is_held_back_sends_nothing():
    """A submission is told before every create: where it cannot be stored any more, the work is closed there."""
    marengo = Marengo()
    marengo.tell("create", httpx.Response(429))
    events, submissions = marengo.engine().embed(request_of(marengo)), []
    async for event in events:
        submissions += [event] if isinstance(event, Submitting) else []
        if len(submissions) == 2:
            break
    await events.aclose()
    assert submissions == [Submitting(URL, KEY.fingerprint)] * 2
    assert (marengo.seen["create"], len(marengo.tasks)) == (1, 0)


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
