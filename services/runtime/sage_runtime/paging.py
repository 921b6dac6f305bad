"""Page tokens: opaque to the client, bound to the list and the filters that they were made for."""

import base64
import binascii
import hashlib

from sage_runtime.errors import FieldViolation, Reason, SageError

_DIGEST_BYTES = 12


def make_page_token(last_id: str, *, scope: str) -> str:
    """Return the token that asks for what comes after `last_id`.

    Args:
        last_id: The id of the last entry on this page.
        scope: The list and its filters as text; the token is refused for any other.
    """
    return base64.urlsafe_b64encode(_digest(last_id, scope) + last_id.encode()).decode().rstrip("=")


def read_page_token(token: str, *, scope: str) -> str | None:
    """Return the id that a page starts after, or None for the first page (an empty token).

    Raises:
        SageError: PAGE_TOKEN_INVALID.
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        last_id = raw[_DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError) as error:
        raise _invalid_token() from error
    if raw[:_DIGEST_BYTES] != _digest(last_id, scope):
        raise _invalid_token()
    return last_id


def _invalid_token() -> SageError:
    rule = "must be empty, or `next_page_token` of the page before with the same filters."
    return SageError(Reason.PAGE_TOKEN_INVALID, violations=(FieldViolation("page_token", rule),))


def _digest(last_id: str, scope: str) -> bytes:
    # No secret: a forged token could only start a list elsewhere, which any caller may do anyway.
    return hashlib.sha256(f"{scope}\n{last_id}".encode()).digest()[:_DIGEST_BYTES]
