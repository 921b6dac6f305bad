"""Domain errors, free of gRPC.

A use case raises a `SageError`; `sage_runtime.errors.catalogue` decides what the caller sees.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum, auto


class Reason(StrEnum):
    """`sage.errors.v1.ErrorReason` without its prefix. A test keeps the two equal."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name

    VIDEO_UNREADABLE = auto()
    VIDEO_TOO_LARGE = auto()
    CONTENT_TYPE_NOT_VIDEO = auto()
    SIZE_MISMATCH = auto()
    CHECKSUM_MISMATCH = auto()
    SPEC_MISSING = auto()
    SPEC_REPEATED = auto()
    UPLOAD_NOT_FOUND = auto()
    UPLOAD_CLOSED = auto()
    PART_MISSING = auto()
    PART_INVALID = auto()
    VIDEO_NOT_FOUND = auto()
    EMBEDDING_NOT_FOUND = auto()
    MODEL_UNKNOWN = auto()
    MODEL_UNAVAILABLE = auto()
    API_KEY_MISSING = auto()
    API_KEY_INVALID = auto()
    PROVIDER_QUOTA_EXCEEDED = auto()
    PROVIDER_REJECTED_VIDEO = auto()
    PROVIDER_FAILED = auto()
    PROVIDER_UNREACHABLE = auto()
    EMBEDDING_FINISHED = auto()
    EMBEDDING_NOT_COMPLETED = auto()
    MODELS_DIFFER = auto()
    TRACK_MISSING = auto()
    FIELD_INVALID = auto()
    PAGE_TOKEN_INVALID = auto()
    LIMIT_EXCEEDED = auto()
    STORE_UNAVAILABLE = auto()
    UNAUTHENTICATED = auto()
    FORBIDDEN = auto()
    REQUEST_ID_REUSED = auto()
    SERVICE_UNAVAILABLE = auto()
    INTERNAL = auto()
    UNIMPLEMENTED = auto()
    ENCRYPTION_KEY_MISSING = auto()
    STORE_FULL = auto()
    STORE_FORBIDDEN = auto()
    STORE_MISCONFIGURED = auto()
    FINGERPRINT_NOT_FOUND = auto()
    FINGERPRINT_NOT_COMPLETED = auto()
    FINGERPRINT_FINISHED = auto()


# Everything that can be wrong with a store of SAGE. Another request would fail in the same way.
STORE_REASONS = frozenset(
    {Reason.STORE_UNAVAILABLE, Reason.STORE_FULL, Reason.STORE_FORBIDDEN, Reason.STORE_MISCONFIGURED}
)


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request and the rule that it breaks.

    Attributes:
        field: The path of the field in the request, such as `spec.size_bytes`.
        rule: The rule and what to do, as a sentence.
    """

    field: str
    rule: str


class SageError(Exception):
    """An error that the caller is told about.

    Args:
        reason: Its reason in the catalogue.
        detail: For the log only. Never a secret, never the contents of a file.
        violations: The fields that break rules, for bad input.
        facts: Values for the public text and `ErrorInfo.metadata`. Never a secret.
    """

    def __init__(
        self,
        reason: Reason,
        *,
        detail: str = "",
        violations: tuple[FieldViolation, ...] = (),
        **facts: object,
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.violations = violations
        self.facts = {name: str(value) for name, value in facts.items()}


def invalid(*violations: FieldViolation) -> SageError:
    """Return the error for fields that break rules."""
    return SageError(
        Reason.FIELD_INVALID,
        violations=violations,
        fields=",".join(violation.field for violation in violations),
        rules=" ".join(f"{violation.field}: {violation.rule}" for violation in violations),
    )


def expected_error(error: BaseException) -> SageError | None:
    """Return the `SageError` that was raised, even if it is inside an exception group.

    Returns:
        The first one of a group, or `None` if anything else was raised, alone or in the group.
    """
    if isinstance(error, SageError):
        return error
    if isinstance(error, BaseExceptionGroup):
        inner = [expected_error(one) for one in error.exceptions]
        return inner[0] if all(inner) else None
    return None


def check_all(*checks: Callable[[], object]) -> None:
    """Run every check, so that one error names all fields that break rules.

    Raises:
        SageError: FIELD_INVALID with the violations of all checks; any other reason as the check raised it.
    """
    violations: list[FieldViolation] = []
    for check in checks:
        try:
            check()
        except SageError as error:
            if error.reason is not Reason.FIELD_INVALID:
                raise
            violations += error.violations
    if violations:
        raise invalid(*violations)


def invalid_field(field: str, rule: str) -> SageError:
    """Return the error for one field that breaks a rule."""
    return invalid(FieldViolation(field, rule))


@contextlib.asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open an `asyncio.TaskGroup` that raises its first error itself, not wrapped in an exception group.

    Example:
        async with task_group() as tasks:
            a = tasks.create_task(read(a_id))
            b = tasks.create_task(read(b_id))

    The group with all errors is the `__cause__` of the one that is raised.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise first_error(group) from group


def first_error(error: BaseException) -> BaseException:
    """Return the first error inside an exception group, at any depth, or the error itself if it is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
