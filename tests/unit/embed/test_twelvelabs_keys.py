"""Keys that TwelveLabs refuses, or that are removed, while there is a task."""

from collections import deque

import httpx
import pytest
from fakes.marengo import (
    DROPPED,
    KEY,
    FixedKeys,
    Marengo,
    fail,
    refusal,
    request_of,
    run,
)
from sage_embed.config import TwelveLabsSettings
from sage_embed.errors import encryption_key_missing
from sage_embed.keys.model import ProviderKey
from sage_runtime.errors.catalogue import public_text

REFUSALS = [
    refusal(401, "api_key_invalid", "expired"),
    refusal(403, "forbidden", "No access."),
    refusal(403, "usage_limit_exceeded", "Upgrade."),
]


@pytest.mark.parametrize("answer", REFUSALS, ids=lambda answer: str(answer.status_code))
async def test_one_refusal_of_a_key_while_polling_is_no_verdict(answer):
    marengo = Marengo()
    marengo.tell("retrieve", answer)
    assert (await run(marengo)).tracks() == ["visual"]
    assert (marengo.seen["create"], marengo.reported) == (1, [])
    assert marengo.clock.seconds < 20


@pytest.mark.parametrize("answer", REFUSALS, ids=lambda answer: str(answer.status_code))
@pytest.mark.parametrize("model", ["marengo3.0", "Marengo-retrieval-2.7"])
async def test_a_refused_key_is_waited_for_with_the_same_task_and_without_asking(answer, model):
    """Until another key is set. The refused one is tried again once a minute."""
    new, marengo = ProviderKey("tlk_new", "new"), Marengo()
    asked = []

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.headers["x-api-key"] == new.secret:
            return marengo._task("t1", "status" if request.url.path.endswith("status") else "retrieve")
        asked.append(marengo.clock.seconds)
        if marengo.clock.seconds > 300:
            marengo.keys.keys = deque([new])
        marengo.told[step].append(refuse)
        return answer

    step = "retrieve" if model == "marengo3.0" else "status"
    marengo.tell(step, refuse)
    assert (await run(marengo, request_of(marengo, model=model))).tracks() == ["visual"]
    assert marengo.seen["create"] == 1
    assert len(asked) <= 3 + 300 / 50
    (said,) = set(marengo.reported)
    assert said.startswith(f"TwelveLabs refused the API key (HTTP {answer.status_code}")
    assert "continues once a valid key is set" in said


async def test_a_refused_key_ends_the_work_at_the_deadline():
    marengo = Marengo()
    marengo.tell("retrieve", *[REFUSALS[0]] * 1000)
    error = await fail(marengo, settings=TwelveLabsSettings(deadline_s=900))
    assert "did not finish within 15 min" in public_text(error)
    assert "TwelveLabs refused the API key (HTTP 401: expired)" in public_text(error)
    assert marengo.clock.seconds == pytest.approx(900, abs=20)


@pytest.mark.parametrize("missing", [None, encryption_key_missing("it is lost")])
async def test_a_removed_key_is_waited_for_with_the_same_task(missing):
    """Or one that cannot be decrypted."""
    marengo = Marengo(polls_before_ready=2)

    class Removed(FixedKeys):
        async def current(self) -> ProviderKey | None:
            if marengo.seen["create"] and marengo.clock.seconds < 20:
                if missing is not None:
                    raise missing
                return None
            return KEY

    marengo.keys = Removed()
    assert (await run(marengo)).tracks() == ["visual"]
    assert marengo.seen["create"] == 1
    (said,) = set(marengo.reported)
    assert "The task is kept and continues once a valid key is set." in said


async def test_a_refused_key_during_the_search_for_a_task_is_waited_for():
    """There may be a task, which is paid for."""
    marengo = Marengo()
    marengo.create_answers.append(DROPPED)
    marengo.tell("list", *[REFUSALS[0]] * 5)
    assert (await run(marengo)).started == ["t1"]
    assert marengo.seen["create"] == 1
