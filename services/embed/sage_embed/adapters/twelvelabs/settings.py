"""The settings of the engine for TwelveLabs and of the pace of its requests."""

from pydantic import Field
from sage_runtime.settings import Settings

from sage_embed.adapters.pace import PacePolicy
from sage_embed.adapters.twelvelabs.policy import TwelveLabsPolicy


class TwelveLabsSettings(Settings):
    """Settings of `python -m sage_embed worker` for models of TwelveLabs.

    Attributes:
        deadline_s: Seconds after which a task that is not done is given up on.
        poll_first_s: Seconds between the first two looks at a task; the waits grow from there.
        poll_max_s: The longest wait between two looks in seconds.
        timeout_s: Seconds that TwelveLabs may take to answer a question.
        create_timeout_s: Seconds that it may take to answer a request for a task. Where a worker was lost while it sent
            one, the next waits for twice as long before it sends another.
        lookup_s: Seconds for which a task is looked for in TwelveLabs' list after its answer was lost, before another
            is made. The list may lag.
        rate_window_s: Seconds over which TwelveLabs counts requests for its rate limit.
        requests_per_second: Requests that all workers together send at the most.
        rate_relax_s: Seconds without a refusal after which requests may become faster again, by little at a time.
    """

    deadline_s: float = Field(
        default=4 * 3600.0, gt=0, le=7 * 24 * 3600.0, validation_alias="SAGE_TWELVELABS_DEADLINE_SECONDS"
    )
    poll_first_s: float = Field(default=2.0, gt=0, le=3600, validation_alias="SAGE_TWELVELABS_POLL_SECONDS")
    poll_max_s: float = Field(default=15.0, gt=0, le=3600, validation_alias="SAGE_TWELVELABS_POLL_MAX_SECONDS")
    timeout_s: float = Field(default=30.0, gt=0, le=600, validation_alias="SAGE_TWELVELABS_TIMEOUT_SECONDS")
    create_timeout_s: float = Field(
        default=60.0, gt=0, le=600, validation_alias="SAGE_TWELVELABS_CREATE_TIMEOUT_SECONDS"
    )
    lookup_s: float = Field(default=10.0, ge=0, le=600, validation_alias="SAGE_TWELVELABS_LOOKUP_SECONDS")
    rate_window_s: float = Field(default=60.0, gt=0, le=3600, validation_alias="SAGE_TWELVELABS_RATE_WINDOW_SECONDS")
    requests_per_second: float = Field(
        default=50.0, gt=0, le=1000, validation_alias="SAGE_TWELVELABS_REQUESTS_PER_SECOND"
    )
    rate_relax_s: float = Field(default=600.0, gt=0, validation_alias="SAGE_TWELVELABS_RATE_RELAX_SECONDS")

    def policy(self) -> TwelveLabsPolicy:
        """Return what the engine goes by."""
        return TwelveLabsPolicy(
            deadline_s=self.deadline_s,
            poll_first_s=self.poll_first_s,
            poll_max_s=max(self.poll_first_s, self.poll_max_s),
            timeout_s=self.timeout_s,
            create_timeout_s=self.create_timeout_s,
            lookup_s=self.lookup_s,
            lookup_undecided_s=12 * self.lookup_s,
        )

    def pace(self) -> PacePolicy:
        """Return what the pace of requests goes by."""
        return PacePolicy(
            window_s=self.rate_window_s,
            min_interval_s=1 / self.requests_per_second,
            relax_after_s=self.rate_relax_s,
        )
