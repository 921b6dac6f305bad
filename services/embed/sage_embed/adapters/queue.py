"""The job queue: procrastinate, whose tables live in embed's own schema.

Source for what is relied on: procrastinate 3.10's `sql/schema.sql`. A job's insertion notifies the workers; a job that
is put back to `todo` does not. So work that goes on elsewhere gets a new job, whose id is at the same time the right
to write that the worker before has lost.

There is a queue for each kind of work. The local engine keeps a processor busy, so a worker does one or two of its jobs
at once; a provider's engine mostly waits, so a worker does a hundred. In one queue each would take the other's place.
"""

import logging
from datetime import UTC, datetime, timedelta

import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from psycopg.rows import DictRow

from sage_embed.model import LOCAL_PROVIDER

Connection = psycopg.AsyncConnection[DictRow]

# Until version 0.1 there was one queue, for the local engine was the only one. A worker of that version which stops
# beside newer ones hands its work back to that queue.
LOCAL_QUEUES = ("local", "embed")
REMOTE_QUEUES = ("remote",)
TASK = "embed"


def quiet_queue() -> None:
    """Keep procrastinate's account of every job out of the log: what happens to embeddings is told in our own words."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)


def queue_of(provider: str) -> str:
    """Return the queue for work that this provider does."""
    return (LOCAL_QUEUES if provider == LOCAL_PROVIDER else REMOTE_QUEUES)[0]


class JobQueue:
    """Puts jobs into the queue and takes them out, as part of the caller's transaction."""

    def __init__(self) -> None:
        # Deferring runs on the caller's connection; the application needs none of its own.
        self._app = App(connector=PsycopgConnector())

    async def put(
        self, connection: Connection, embedding_id: str, *, provider: str, delay: timedelta = timedelta(0)
    ) -> int:
        """Queue work on an embedding, to be done by this provider, and return the job's id."""
        deferrer = self._app.configure_task(
            TASK,
            queue=queue_of(provider),
            connection=connection,
            schedule_at=datetime.now(UTC) + delay if delay else None,
        )
        try:
            return await deferrer.defer_async(embedding_id=embedding_id)
        except ConnectorException as error:
            # Callers know psycopg's errors: the transaction is theirs.
            raise error.__cause__ or error from error

    async def drop(self, connection: Connection, job_id: int) -> None:
        """Take a job out of the queue; where a worker has it, that worker is told to abort it."""
        await connection.execute("SELECT procrastinate_cancel_job_v1(%s, true, true)", (job_id,))
