"""What can go wrong, in words that use cases may use: no grpc here.

A use case raises a `SageError`; `sage_runtime.catalogue` decides what the caller sees of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto


class Reason(StrEnum):
    """`sage.errors.v1.ErrorReason` without its prefix. A test holds the two equal."""

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
    VIDEO_NOT_READY = auto()
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


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request and the rule that it breaks.

    Attributes:
        field: The field's path as the contract has it, such as `spec.size_bytes`.
        rule: The rule and what to do, as a sentence.
    """

    field: str
    rule: str


class SageError(Exception):
    """An error that the caller is told about.

    Args:
        reason: Its reason in the catalogue.
        detail: What only the log should say. Never a secret, never the contents of a file.
        violations: For bad input, the fields at fault.
        facts: What the public text and `ErrorInfo.metadata` are filled with. Never a secret.
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


def check_all(*checks: Callable[[], object]) -> None:
    """Run every check, so that one answer names all fields that break rules.

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
