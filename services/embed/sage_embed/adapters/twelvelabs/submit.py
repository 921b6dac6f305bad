"""Getting a task: one, whatever becomes of the answers."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from sage_embed.adapters.twelvelabs.lookup import find
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

    Before every create `Submitting` is yielded, so that its URL is stored. A create whose answer was lost is followed
    by a look for its task, and only where there is none by another.

    Raises:
        SageError: PROVIDER_REJECTED_VIDEO, PROVIDER_QUOTA_EXCEEDED, PROVIDER_FAILED, API_KEY_INVALID and
            API_KEY_MISSING, where it was refused and there is no task; PROVIDER_UNREACHABLE; what `find` and the
            video's URL raise.
    """
    resume = request.resume
    if resume.submitted_url is not None:
        yield Progressed(0.0, f"Looking whether {NAME} has a task for this video already.")
        since = resume.submitted_at or session.now() - _KEPT
        found = await find(session, wire, model, url=resume.submitted_url, since=since)
        if found is not None:
            yield TaskStarted(found)
            return
    url, made_at = "", 0.0
    unclear = 0
    while True:
        yield Progressed(0.0, f"Asking {NAME} for a task.")
        key = await session.turn()
        # Refused creates made no task, and of those without an answer none was found: nobody looks for theirs again.
        if not url or session.monotonic() - made_at > session.policy.url_reuse_s:
            url, made_at = await request.video_url(), session.monotonic()
            yield Submitting(url)
        sent_at = session.now()
        try:
            task_id = await wire.create(key, model, url=url, clip_seconds=round(request.clip_seconds), tracks=tracks)
        except LimitedError as limited:
            await session.limited(key, limited)
            yield Progressed(0.0, f"{NAME} limits the rate of requests; waiting.")
            continue
        except RefusedError as error:
            if await session.changed(key, error):
                continue
            raise refused(error, secret=key.secret) from None
        except UnclearError as error:
            session.troubled("create", error)
            unclear += 1
            found = None
            if error.sent:
                yield Progressed(0.0, f"The answer of {NAME} was lost; looking whether it has a task.")
                found = await find(session, wire, model, url=url, since=sent_at)
            if found is None:
                if unclear >= session.policy.create_attempts:
                    raise unreachable(f"no clear answer to {unclear} creates, the last: {error}") from None
                await session.sleep(_BACKOFF_S * unclear)
                continue
            task_id = found
        yield TaskStarted(task_id)
        return
