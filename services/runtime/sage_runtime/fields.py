"""Checks of single fields, each raising FIELD_INVALID with the field, the rule and what to do."""

import unicodedata

from sage_runtime.errors import invalid_field


def check_request_id(value: str, *, field: str = "request_id", max_length: int = 128) -> str:
    """Return an idempotency key: empty, or up to `max_length` printable ASCII characters."""
    if len(value) > max_length or not value.isascii() or not value.isprintable():
        raise invalid_field(field, f"must be at most {max_length} printable ASCII characters.")
    return value


def check_label(value: str, *, field: str, max_length: int) -> str:
    """Return a text that people read: 1 to `max_length` characters, none of them a control character."""
    if not value:
        raise invalid_field(field, f"is required: 1 to {max_length} characters.")
    if len(value) > max_length:
        raise invalid_field(field, f"has {len(value)} characters; at most {max_length} are allowed.")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise invalid_field(field, "must not contain control characters.")
    return value


def check_page_size(value: int, *, default: int = 50, maximum: int = 200, field: str = "page_size") -> int:
    """Return how many to put on a page, the default for zero."""
    if value < 0 or value > maximum:
        raise invalid_field(field, f"must be 1 to {maximum}, or 0 for {default}.")
    return value or default
