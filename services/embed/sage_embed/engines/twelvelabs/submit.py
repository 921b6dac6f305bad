"""Submitting a video without paying twice, even if responses are lost.

The URL of a submission is stored before it is sent, and no two submissions use the same URL. If the response is lost,
TwelveLabs' list is searched for the task by that URL, and another task is created only if the list does not have it.
Every task is billed.

A presigned URL lets anyone read the video, so only what is left of it without its signature is stored. That still
differs between submissions, by the time and the validity of the signature.
"""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import unquote

from sage_runtime.errors import Reason, SageError

from sage_embed.engines.engine import (
    EngineEvent,
    EngineRequest,
    Progressed,
    Resume,
    SubmissionRefused,
    Submitting,
    TaskStarted,
)
from sage_embed.engines.twelvelabs.models import Model
from sage_embed.engines.twelvelabs.problems import (
    NAME,
    LimitedError,
    RefusedError,
    UnclearError,
    refused,
    unreachable,
)
from sage_embed.engines.twelvelabs.responses import TaskPage, is_task_id
from sage_embed.engines.twelvelabs.session import Session
from sage_embed.keys.model import ProviderKey

# How many times a create request without a clear response is sent, each time after a search for its task.
_CREATE_ATTEMPTS = 4
_CREATE_PAUSE_S = 2.0
# How long a URL is reused for further create requests.
_URL_REUSE_S = 60.0
# How long TwelveLabs keeps tasks in its list.
_KEPT = timedelta(days=7)
# Pauses between two searches of the list.
_FIRST_PAUSE_S, _PAUSE_GROWTH, _MAX_PAUSE_S = 1.0, 2.0, 15.0
# Consecutive searches that may fail before the work is postponed.
_MAX_TROUBLES = 5
# With 50 tasks each: more tasks than are created within the minutes that matter.
_MAX_PAGES = 100
# How far TwelveLabs' clock may be behind PostgreSQL's.
_CLOCK_SLACK = timedelta(minutes=15)
_SIGNATURE = re.compile(r"(?<=[?&])x-amz-(?:signature|security-token|credential)=[^&]*&?", re.IGNORECASE)


@dataclass(frozen=True)
class Submission:
    """A create request that was sent.

    Attributes:
        url: The URL that it submitted, without its signature. No other submission used it.
        at: When it was sent, by PostgreSQL's clock.
        key: Fingerprint of the key that it was sent with; None if unknown.
    """

    url: str = field(repr=False)
    at: datetime
    key: str | None


async def submit(
    session: Session, model: Model, *, request: EngineRequest, tracks: tuple[str, ...], sent: Submission | None
) -> AsyncGenerator[EngineEvent | Submission, None]:
    """Find the task that earlier work submitted, or create one. The last events are a `Submission` and `TaskStarted`.

    `Submitting` is yielded before every create request, so that the caller stores its URL first. A caller that has
    lost the work closes the generator at that point, and nothing is sent.

    Args:
        session: Sends the requests.
        model: The requested model.
        request: What is embedded.
        tracks: The requested tracks.
        sent: The submission of earlier work, if it may have created a task.

    Raises:
        SageError: PROVIDER_REJECTED_VIDEO, PROVIDER_QUOTA_EXCEEDED, PROVIDER_FAILED, API_KEY_INVALID or
            API_KEY_MISSING if it was refused and there is no task; PROVIDER_UNREACHABLE; whatever `find_task` and the
            video's URL raise.
    """
    clock = session.clock
    if sent is not None:
        yield Progressed(0.0, f"Checking whether {NAME} already has a task for this video.", lasting=True)
        found = await _find_earlier(session, model, sent, adopted=request.resume.adopted)
        if found is not None:
            session.deadline_from(request.resume.waiting_since)
            yield sent
            yield TaskStarted(found)
            return
    url, made_at = "", 0.0
    unclear = 0
    message = f"Submitting the video to {NAME}."
    while True:
        yield Progressed(0.0, message, lasting=True)
        key = await session.turn()
        # Refused requests created no task, and for unclear ones none was found, so reusing their URL is safe.
        if not url or clock.monotonic() - made_at > _URL_REUSE_S:
            url, made_at = await request.video_url(), clock.monotonic()
        # Even if this URL is already stored: the wait may have been long, and a caller that has lost the work in the
        # meantime finds out here.
        sent = Submission(unsigned(url), session.now(), key.fingerprint)
        yield Submitting(sent.url, key.fingerprint)
        try:
            task_id = await session.requests.create(
                key, model, url=url, clip_seconds=round(request.clip_seconds), tracks=tracks
            )
        except LimitedError as limited:
            yield SubmissionRefused()
            await session.limited(key, limited)
            message = session.held(key) or f"The rate limit of {NAME} was reached. Submitting the video again."
            continue
        except RefusedError as error:
            yield SubmissionRefused()
            if await session.key_replaced(key, error):
                continue
            raise refused(error) from None
        except UnclearError as error:
            session.log_trouble("create", error)
            unclear += 1
            found = None
            if error.sent:
                yield Progressed(
                    0.0,
                    f"The response of {NAME} was not usable: {error}. Checking whether it created a task.",
                    lasting=True,
                )
                found = await find_task(session, model, sent)
            if found is None:
                if unclear >= _CREATE_ATTEMPTS:
                    raise unreachable(f"no clear response to {unclear} create requests, the last: {error}") from None
                await session.sleep(_CREATE_PAUSE_S * unclear)
                continue
            task_id = found
        session.deadline_from(sent.at)
        yield sent
        yield TaskStarted(task_id)
        return


async def _find_earlier(session: Session, model: Model, sent: Submission, *, adopted: bool) -> str | None:
    # The previous worker may be alive and only disconnected from the database, with its request still in flight.
    arrived_in_s = session.settings.create_limit_s - (session.now() - sent.at).total_seconds()
    try:
        return await find_task(session, model, sent, arrived_in_s=arrived_in_s)
    except SageError as error:
        # The earlier embedding has ended, and its user asks again: an inconclusive list may not prevent that for ever.
        if adopted and error.reason is Reason.PROVIDER_FAILED:
            return None
        raise


def submission_of(resume: Resume, now: datetime) -> Submission | None:
    """Return the submission of earlier work, if there was one."""
    if resume.submitted_url is None:
        return None
    return Submission(resume.submitted_url, resume.submitted_at or now - _KEPT, resume.submitted_key)


async def find_task(session: Session, model: Model, sent: Submission, *, arrived_in_s: float = 0.0) -> str | None:
    """Return the ID of the task that a submission created, or None once it is certain that it created none.

    There may be a task, so a key that is refused or missing meanwhile is waited for.

    The list may lag, so it is searched several times. A recent task in it that does not state its URL may be the right
    one: the search then lasts longer, and fails if it remains inconclusive. It also fails if the submission used
    another key, because a list shows only the tasks of one account.

    Args:
        session: Sends the requests.
        model: The submitted model.
        sent: The submission.
        arrived_in_s: Seconds for which the submission may still be in flight.

    Raises:
        SageError: PROVIDER_UNREACHABLE if the list cannot be read now; PROVIDER_FAILED if it is inconclusive or
            refused; see `Session.ask`.
    """
    patient, session.patient = session.patient, True
    try:
        return await _find(session, model, sent, arrived_in_s=arrived_in_s)
    finally:
        session.patient = patient


async def _find(session: Session, model: Model, sent: Submission, *, arrived_in_s: float) -> str | None:
    settings, clock = session.settings, session.clock
    begun = clock.monotonic() + max(0.0, arrived_in_s)
    pause_s, troubles = _FIRST_PAUSE_S, 0
    while True:
        undecided = False
        # A slow response may show the list as it was when the request was sent, so the time is taken first.
        searched_s = clock.monotonic() - begun
        try:
            found, undecided = await _search(session, model, sent)
            if found:
                return found
            troubles = 0
        except RefusedError as error:
            raise refused(error) from None
        except UnclearError as error:
            session.log_trouble("lookup", error)
            troubles += 1
            if troubles >= _MAX_TROUBLES:
                raise unreachable(f"the list of tasks cannot be read: {error}") from None
        if not troubles and not undecided and searched_s >= settings.lookup_s:
            return None
        if undecided and searched_s >= settings.lookup_undecided_s:
            why = (
                "its response to the submission was lost, and its list of tasks, or that of another key's account, "
                "does not show whether this video has a task. No second task was created, because both would be billed"
            )
            raise SageError(Reason.PROVIDER_FAILED, provider=NAME, why=why)
        await session.sleep(pause_s)
        pause_s = min(_MAX_PAUSE_S, pause_s * _PAUSE_GROWTH)


async def _search(session: Session, model: Model, sent: Submission) -> tuple[str | None, bool]:
    """Search the list once. Return the task's ID, if found, and whether the list is inconclusive."""
    oldest = sent.at - _CLOCK_SLACK
    undecided = False

    async def ask(key: ProviderKey, number: int) -> TaskPage:
        nonlocal undecided
        page = await session.requests.page(key, model.api, number)
        undecided |= sent.key not in (None, key.fingerprint)
        return page

    for number in range(1, _MAX_PAGES + 1):
        page = await session.ask(partial(ask, number=number))
        # At any age: the URL is proof, and the clocks may differ widely.
        for task in page.tasks:
            if task.url is not None and same_url(task.url, sent.url):
                # The task exists, but there is no way to ask for it.
                return (task.id, False) if is_task_id(task.id) else (None, True)
        recent = [task for task in page.tasks if task.created_at is None or task.created_at >= oldest]
        undecided |= any(_may_be(task.url, sent.url) and task.model in (None, model.info.name) for task in recent)
        if page.last or len(recent) < len(page.tasks):
            return None, undecided
    # The list has more pages than were read.
    return None, True


def _may_be(listed: str | None, sent: str) -> bool:
    """Return whether a listed URL is missing, or has lost the query that distinguishes it from other submissions."""
    return listed is None or same_url(listed, sent.partition("?")[0])


def is_of(url: str | None, sent: Submission) -> bool:
    """Return whether a task with this URL may be the one of a submission, as far as its response shows."""
    return _may_be(url, sent.url) or (url is not None and same_url(url, sent.url))


def unsigned(url: str) -> str:
    """Return a presigned URL without its signature, so that it gives no access to the video."""
    return _SIGNATURE.sub("", url).rstrip("?&")


def same_url(listed: str, sent: str) -> bool:
    """Return whether two URLs are the same, apart from their signatures."""
    # Percent-encoding may differ if the URL was re-encoded on the way.
    return unsigned(unquote(listed)) == unsigned(unquote(sent))
