"""Getting a task: one, whatever becomes of the answers."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from sage_embed.adapters.twelvelabs.lookup import Sent, find
from sage_embed.adapters.twelvelabs.models import Model
from sage_embed.adapters.twelvelabs.problems import (
    NAME,
    LimitedError,
    RefusedError,
    UnclearError,
    refused,
    unreachable,
)
from sage_embed.adapters.twelvelabs.session import Session
from sage_embed.adapters.twelvelabs.wire import Wire
from sage_embed.engine import EngineEvent, EngineRequest, Progressed, Submitting, TaskStarted

_BACKOFF_S = 2.0
# TwelveLabs lists the tasks of so long.
_KEPT = timedelta(days=7)


async def submit(
    session: Session, wire: Wire, model: Model, *, request: EngineRequest, tracks: tuple[str, ...]
) -> AsyncGenerator[EngineEvent, None]:
    """Find the task that earlier work asked for, or create one; the last event is `TaskStarted`.

    Before every create `Submitting` is yielded, so that its URL is stored, by whoever has the work. A create whose
    answer was lost is followed by a look for its task, and only where there is none by another.

    Raises:
        SageError: PROVIDER_REJECTED_VIDEO, PROVIDER_QUOTA_EXCEEDED, PROVIDER_FAILED, API_KEY_INVALID and
            API_KEY_MISSING, where it was refused and there is no task; PROVIDER_UNREACHABLE; what `find` and the
            video's URL raise.
    """
    resume = request.resume
    if resume.submitted_url is not None:
        yield Progressed(0.0, f"Looking whether {NAME} has a task for this video already.", lasting=True)
        since = resume.submitted_at or session.now() - _KEPT
        sent = Sent(resume.submitted_url, since, resume.submitted_key)
        # Who sent it may be alive and cut off from the store alone: its create may be on its way still.
        arrived_s = session.policy.create_limit_s - (session.now() - since).total_seconds()
        found = await find(session, wire, model, sent, arrived_in_s=arrived_s)
        if found is not None:
            session.begun_at(since)
            yield TaskStarted(found)
            return
    url, made_at = "", 0.0
    unclear = 0
    doing = f"Asking {NAME} for a task."
    while True:
        yield Progressed(0.0, doing, lasting=True)
        key = await session.turn()
        # Refused creates made no task, and of those without an answer none was found: nobody looks for theirs again.
        if not url or session.monotonic() - made_at > session.policy.url_reuse_s:
            url, made_at = await request.video_url(), session.monotonic()
        # Also where the URL is stored: turns may be long in coming, and whoever has lost the work meanwhile hears so
        # here and sends nothing.
        yield Submitting(url, key.fingerprint)
        sent = Sent(url, session.now(), key.fingerprint)
        try:
            task_id = await wire.create(key, model, url=url, clip_seconds=round(request.clip_seconds), tracks=tracks)
        except LimitedError as limited:
            doing = f"{NAME} limits the rate of requests; waiting until it takes this one."
            await session.limited(key, limited)
            continue
        except RefusedError as error:
            if await session.changed(key, error):
                continue
            raise refused(error) from None
        except UnclearError as error:
            session.troubled("create", error)
            unclear += 1
            found = None
            if error.sent:
                yield Progressed(0.0, f"The answer of {NAME} was lost; looking whether it has a task.", lasting=True)
                found = await find(session, wire, model, sent)
            if found is None:
                if unclear >= session.policy.create_attempts:
                    raise unreachable(f"no clear answer to {unclear} creates, the last: {error}") from None
                await session.sleep(_BACKOFF_S * unclear)
                continue
            task_id = found
        session.begun_at(sent.at)
        yield TaskStarted(task_id)
        return
