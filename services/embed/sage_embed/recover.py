"""Finding work that a lost worker left behind, and handing it to the queue again."""

from datetime import timedelta

import structlog
from sage_runtime.errors import Reason

from sage_embed.model import Failure, WorkLostError
from sage_embed.ports import WorkStore

log = structlog.get_logger()

# One sweep takes this many; the next one follows soon.
_BATCH = 100


async def recover(*, store: WorkStore, silent_for: timedelta, max_attempts: int) -> int:
    """Requeue the unfinished embeddings that nobody works on; return how many there were.

    Any number of processes may do this at once: each embedding is requeued once.

    Args:
        store: Where the work is kept.
        silent_for: A worker is lost when it has given no heartbeat for so long.
        max_attempts: After so many runs that ended in trouble the embedding fails: it may be what kills workers.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    lost = await store.lost(silent_for=silent_for, limit=_BATCH)
    for embedding, job_id in lost:
        log.warning("worker_lost", embedding_id=embedding.id, job_id=job_id, attempts=embedding.attempts)
        try:
            if embedding.attempts + 1 >= max_attempts:
                message = f"Workers ended without a word while they worked on this, {max_attempts} in a row."
                await store.fail(embedding.id, job_id, Failure(Reason.INTERNAL, message))
            else:
                await store.requeue(
                    embedding.id,
                    job_id,
                    delay=timedelta(0),
                    message="The worker was lost; another one goes on.",
                    counts_as_attempt=True,
                )
        except WorkLostError:
            # Another process was faster.
            continue
    await store.drop_dead_jobs(silent_for=silent_for)
    return len(lost)
