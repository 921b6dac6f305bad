"""Finding the task of a create whose answer was lost, in TwelveLabs' list."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import unquote

from sage_runtime.errors import Reason, SageError

from sage_embed.adapters.twelvelabs.answers import TaskPage
from sage_embed.adapters.twelvelabs.models import Model
from sage_embed.adapters.twelvelabs.problems import NAME, RefusedError, UnclearError, refused, unreachable
from sage_embed.adapters.twelvelabs.session import Session
from sage_embed.adapters.twelvelabs.wire import Wire
from sage_embed.ports import ProviderKey

_FIRST_PAUSE_S, _PAUSE_GROWTH, _MAX_PAUSE_S = 1.0, 2.0, 15.0
# Looks that may fail one after another before the work is put off.
_MAX_TROUBLES = 5
# Of 50 tasks each: more tasks than anybody makes in the minutes that matter.
_MAX_PAGES = 100


@dataclass(frozen=True)
class Sent:
    """A create that was sent.

    Attributes:
        url: What it was sent with. No create for anything else was sent with it.
        at: When.
        key: Fingerprint of the key that it was sent under; None where that is not known.
    """

    url: str = field(repr=False)
    at: datetime
    key: str | None


async def find(session: Session, wire: Wire, model: Model, sent: Sent, *, arrived_in_s: float = 0.0) -> str | None:
    """Return the id of the task of a create, once it is in the list; None where it is clear that there is none.

    The list may lag, so it is looked at several times. Tasks in it that are as young and do not say which URL they are
    of may be the one: then it is looked at for longer, and in the end nothing is decided. The same where the key is
    another by now: a list has the tasks of one account.

    Args:
        session: Makes the requests.
        wire: Sends them.
        model: What the task was asked for with.
        sent: The create.
        arrived_in_s: Until then it may still be on its way.

    Raises:
        SageError: PROVIDER_UNREACHABLE where the list cannot be read now; PROVIDER_FAILED where it does not tell, or
            is refused; what `Session.ask` raises.
    """
    begun = session.monotonic() + max(0.0, arrived_in_s)
    pause_s, troubles = _FIRST_PAUSE_S, 0
    while True:
        undecided = False
        # A list may be as old as the look that it answers, however long that took.
        looked_s = session.monotonic() - begun
        try:
            found, undecided = await _look(session, wire, model, sent)
            if found:
                return found
            troubles = 0
        except RefusedError as error:
            raise refused(error) from None
        except UnclearError as error:
            session.troubled("lookup", error)
            troubles += 1
            if troubles >= _MAX_TROUBLES:
                raise unreachable(f"the list of tasks cannot be read: {error}") from None
        if not troubles and not undecided and looked_s >= session.policy.lookup_s:
            return None
        if undecided and looked_s >= max(session.policy.lookup_s, session.policy.lookup_undecided_s):
            why = (
                "its answer to the request for a task was lost, and its list of tasks, or the list of another key's "
                "account, does not tell whether this video has one; no other was asked for, as both would be billed"
            )
            raise SageError(Reason.PROVIDER_FAILED, provider=NAME, why=why)
        await session.sleep(pause_s)
        pause_s = min(_MAX_PAUSE_S, pause_s * _PAUSE_GROWTH)


async def _look(session: Session, wire: Wire, model: Model, sent: Sent) -> tuple[str | None, bool]:
    """Return the task's id where the list has it, and whether there may be one that the list does not tell of."""
    oldest = sent.at - timedelta(seconds=session.policy.lookup_slack_s)
    undecided = False

    async def ask(key: ProviderKey, number: int) -> TaskPage:
        nonlocal undecided
        page = await wire.page(key, model.api, number)
        undecided |= sent.key not in (None, key.fingerprint)
        return page

    for number in range(1, _MAX_PAGES + 1):
        page = await session.ask(partial(ask, number=number))
        # Whatever its age: a URL tells for certain, and clocks may be far apart.
        for task in page.tasks:
            if task.url is not None and _same(task.url, sent.url):
                return task.id, False
        young = [task for task in page.tasks if task.created_at is None or task.created_at >= oldest]
        undecided |= any(_unnamed(task.url, sent.url) and task.model in (None, model.info.name) for task in young)
        if page.last or len(young) < len(page.tasks):
            return None, undecided
    # There is more than was looked at.
    return None, True


def _unnamed(listed: str | None, sent: str) -> bool:
    """Return whether a task may be the one by its URL, which is left out or has lost what tells it from others."""
    return listed is None or _same(listed, sent.partition("?")[0])


def _same(listed: str, sent: str) -> bool:
    # Whoever passes a URL on may write its escapes in another way.
    return listed == sent or unquote(listed) == unquote(sent)
