"""Ids: typed by a prefix, sortable by the time they were made (UUIDv7, RFC 9562)."""

import re

import uuid_utils

from sage_runtime.errors import invalid_field


def new_id(prefix: str) -> str:
    """Return a new id such as `video_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d`."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def check_id(value: str, *, prefix: str, field: str) -> str:
    """Return `value` where it is an id with this prefix.

    Raises:
        SageError: FIELD_INVALID, naming `field`.
    """
    if not value:
        raise invalid_field(field, f"is required: an id such as {prefix}_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d.")
    if not re.fullmatch(rf"{prefix}_[0-9a-f]{{32}}", value):
        raise invalid_field(field, f"must be `{prefix}_` and 32 hexadecimal digits, as the server gave it.")
    return value
