"""Tasks that are adopted, of another video, or failed: which task is used, and what users are told."""

from collections import deque
from datetime import timedelta

import httpx
import pytest
from fakes.marengo import (
    KEY,
    SENT,
    URL,
    Marengo,
    Outcome,
    fail,
    refusal,
    request_of,
    run,
)
from sage_embed.engines.engine import Resume
from sage_embed.keys.model import ProviderKey
from sage_runtime.errors import SageError
from sage_runtime.errors.catalogue import public_text

FAILED = {"_id": "t1", "status": "failed", "error": {"message": "The video is too dark."}}
GONE = refusal(404, "resource_not_exists")


@pytest.mark.parametrize("usable", [True, False])
@pytest.mark.parametrize("unusable", [[httpx.Response(200, json=FAILED)], [GONE] * 5], ids=["failed", "gone"])
async def test_an_adopted_task_is_used_or_replaced_if_it_cannot_be(usable, unusable):
    """The user asked again, so a task that failed or no longer exists is not the end."""
    marengo = Marengo(polls_before_ready=3)
    task = marengo.make_task()
    marengo.tasks[task]["options"] = ["visual"]
    if not usable:
        marengo.tell("retrieve", *unusable)
    resume = Resume(task, SENT, marengo.clock.now(), {}, KEY.fingerprint, adopted=True)
    outcome = await run(marengo, request_of(marengo, resume=resume))
    assert outcome.tracks() == ["visual"]
    assert outcome.started == ([] if usable else ["t2"])
    assert marengo.seen["create"] == (0 if usable else 1)


async def test_the_deadline_of_an_adopted_task_begins_when_it_is_adopted():
    marengo = Marengo(polls_before_ready=20)
    task = marengo.make_task()
    now = marengo.clock.now()
    resume = Resume(task, SENT, now - timedelta(days=2), {}, KEY.fingerprint, adopted=True, waiting_since=now)
    assert (await run(marengo, request_of(marengo, resume=resume, urls=()))).tracks() == ["visual"]


@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
@pytest.mark.parametrize("wrong", ["another's", "unknown", "../../tasks/t9", "t\0", "", "x" * 101, "tlk_secret_key"])
async def test_a_wrong_task_id_leads_to_a_search_for_the_right_task(model, wrong):
    """A task is ours only if its URL is the one that was sent, and only possible IDs are put into URLs."""
    marengo = Marengo(polls_before_ready=0)
    other = marengo.make_task("https://store.example/videos/b.mp4?X-Amz-Date=now", model=model)
    marengo.tasks[other]["options"] = ["visual-text" if "2.7" in model else "visual"]
    answer = {"_id": other if wrong == "another's" else wrong, "status": "processing", "data": None}
    marengo.create_answers.append(httpx.Response(200 if "2.7" in model else 202, json=answer))
    outcome = await run(marengo, request_of(marengo, model=model))
    assert outcome.tracks() == ["visual"]
    assert outcome.started[-1] == "t2"
    assert (marengo.seen["create"], len(marengo.tasks)) == (1, 2)
    assert all("tasks/t9" not in str(request.url) and "%00" not in str(request.url) for request in marengo.requests)


async def test_a_task_of_another_video_fails_if_there_is_none_of_this_one():
    marengo = Marengo(polls_before_ready=0)
    marengo.metadata = {"input_url": "https://store.example/videos/b.mp4?X-Amz-Date=now"}
    error = await fail(marengo)
    assert "task t1 is of another video" in public_text(error)
    assert marengo.seen["create"] == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "SAGE's own store at store.example refuses to serve the video (HTTP 403)"),
        (206, "SAGE's own store serves the video at store.example"),
        (None, "SAGE's own store at store.example cannot be reached"),
    ],
)
@pytest.mark.parametrize("step", ["create", "retrieve"])
async def test_a_video_that_could_not_be_fetched_is_explained_by_its_store(step, status, words):
    marengo = Marengo()
    message = "failed to fetch or materialize source media"
    failed = httpx.Response(200, json={"_id": "t1", "status": "failed", "error": {"message": message}})
    marengo.tell(step, refusal(400, "parameter_invalid", message) if step == "create" else failed)
    marengo.tell("store", httpx.Response(status) if status else httpx.ConnectError("refused"))
    error = await fail(marengo, request_of(marengo, urls=[URL, URL]))
    assert message in public_text(error)
    assert words in public_text(error)


async def test_keys_and_signatures_quoted_in_a_failed_task_are_redacted():
    """Also a key that was replaced, and a status that quotes one."""
    old, marengo = ProviderKey("an-old-secret", "old"), Marengo()
    marengo.keys.keys = deque([old, old, KEY])
    quoting = f"{KEY.secret} {KEY.secret.upper()} {old.secret} X-Amz-Signature=abcdef {'0f' * 32} {URL}"
    marengo.tell("retrieve", httpx.Response(200, json={"_id": "t1", "status": f"waiting for {KEY.secret}"}))
    marengo.tell("retrieve", httpx.Response(200, json={"_id": "t1", "status": "failed", "error": {"message": quoting}}))
    outcome = Outcome()
    with pytest.raises(SageError) as caught:
        await run(marengo, outcome=outcome)
    text = f"{public_text(caught.value)} {outcome.said}".lower()
    assert "waiting for ***" in text
    assert not any(secret in text for secret in (KEY.secret, old.secret, "abcdef", "0f0f", "signed"))
