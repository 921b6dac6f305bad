"""Domain errors, free of gRPC. `sage_runtime.errors.catalogue` maps them to what callers see."""

from sage_runtime.errors.model import (
    STORE_REASONS,
    FieldViolation,
    Reason,
    SageError,
    check_all,
    expected_error,
    first_error,
    invalid,
    invalid_field,
    task_group,
)

__all__ = [
    "STORE_REASONS",
    "FieldViolation",
    "Reason",
    "SageError",
    "check_all",
    "expected_error",
    "first_error",
    "invalid",
    "invalid_field",
    "task_group",
]
