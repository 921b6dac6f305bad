"""How patient the engine is with TwelveLabs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TwelveLabsPolicy:
    """Times and counts of the task lifecycle.

    Attributes:
        deadline_s: A task that is not done so long after it was asked for is given up on, and so is a task that could
            not be asked for in so long.
        grace_s: A task that is overdue when it is taken up again is waited for so long while the rate limit keeps it
            from being looked at.
        poll_first_s: The first wait between two looks at a task.
        poll_max_s: The longest wait between two looks.
        poll_growth: Each wait is so many times the one before.
        jitter: Waits are drawn from so much below to so much above what they would be, as a share of it.
        timeout_s: For a request that reads, per read from the network.
        create_timeout_s: For a request that creates, per read from the network; for all of it twice as long.
        fetch_timeout_s: For all of a request, however large its answer.
        lookup_s: How long a task is looked for in the list, which may lag, before there is none.
        lookup_undecided_s: How long, where the list has tasks that do not say which URL they are of.
        lookup_slack_s: How far TwelveLabs' clock may be behind ours.
        create_attempts: A create that has no clear answer is sent so often, each time after a look for its task.
        url_reuse_s: A URL is used for another create for so long.
        key_change_s: After so long a key that was changed is not given out any more, anywhere.
        gone_after: A task is gone when it was not found so many times in a row.
        result_attempts: A result that cannot be used is fetched so often.
        results_at_once: So many tasks are looked at in the same moment, which may give their results, or have a result
            in memory that is being stored: 50 MB for three tracks of four hours.
    """

    deadline_s: float = 4 * 3600.0
    grace_s: float = 600.0
    poll_first_s: float = 2.0
    poll_max_s: float = 15.0
    poll_growth: float = 1.5
    jitter: float = 0.2
    timeout_s: float = 30.0
    create_timeout_s: float = 60.0
    fetch_timeout_s: float = 600.0
    lookup_s: float = 10.0
    lookup_undecided_s: float = 120.0
    lookup_slack_s: float = 300.0
    create_attempts: int = 4
    url_reuse_s: float = 60.0
    key_change_s: float = 2.0
    gone_after: int = 5
    result_attempts: int = 3
    results_at_once: int = 16

    @property
    def create_limit_s(self) -> float:
        """How long a create may be on its way."""
        return 2 * self.create_timeout_s
