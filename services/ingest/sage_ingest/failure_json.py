"""Why an upload was aborted, as JSON for the records."""

from typing import Any

from sage_runtime.errors import FieldViolation, Reason, SageError


def failure_to_json(error: SageError) -> dict[str, Any]:
    """Return an error as the records keep it."""
    return {
        "reason": str(error.reason),
        "violations": [[violation.field, violation.rule] for violation in error.violations],
        "facts": error.facts,
    }


def failure_from_json(fields: dict[str, Any]) -> SageError:
    """Return the error that the records keep."""
    return SageError(
        Reason(fields["reason"]),
        violations=tuple(FieldViolation(field, rule) for field, rule in fields["violations"]),
        **fields["facts"],
    )
