"""Setting, checking, describing and deleting the key of the outside provider.

The key goes in and never comes out: no error, no description and no line of the log carries more of it than its last
four characters.
"""

from datetime import UTC, datetime

import structlog
from sage_runtime.errors import invalid_field

from sage_embed.current_key import CurrentKey
from sage_embed.errors import api_key_invalid
from sage_embed.key_model import PROVIDER, KeyDescription, KeyFacts, KeySource, KeyStatus, last_four
from sage_embed.ports import KeyChecker, KeyVault

MIN_LENGTH = 8
MAX_LENGTH = 512

log = structlog.get_logger()


async def set_key(text: str, *, vault: KeyVault, checker: KeyChecker, current: CurrentKey) -> KeyDescription:
    """Check a key with its provider and store it in place of the one before; return its description.

    A key of which nothing can be told is stored as UNKNOWN: the provider's trouble should not keep anybody from setting
    up this server.

    Raises:
        SageError: ENCRYPTION_KEY_MISSING before anything is asked of anybody, FIELD_INVALID, API_KEY_INVALID,
            STORE_UNAVAILABLE.
    """
    vault.require_encryption()
    secret = read_key(text)
    facts = await _ask(secret, checker)
    if facts.status is KeyStatus.INVALID:
        raise api_key_invalid(PROVIDER)
    await vault.put(PROVIDER, secret, facts)
    current.forget()
    log.info("api_key_set", provider=PROVIDER, key_status=facts.status)
    return KeyDescription(facts, KeySource.STORED)


async def check_key(text: str, *, vault: KeyVault, checker: KeyChecker, current: CurrentKey) -> KeyDescription:
    """Ask the provider what it says of a key, or for an empty text of the one in use, and store nothing.

    A key that the provider refuses is an answer. So is that there is none in use.

    Raises:
        SageError: FIELD_INVALID; for the key in use ENCRYPTION_KEY_MISSING and STORE_UNAVAILABLE.
    """
    if text.strip():
        return KeyDescription(await _ask(read_key(text), checker))
    current.forget()
    key = await current.current()
    if key is None:
        return KeyDescription()
    description = await describe_key(vault=vault, current=current)
    return KeyDescription(await _ask(key.secret, checker), description.source)


async def describe_key(*, vault: KeyVault, current: CurrentKey) -> KeyDescription:
    """Return what is known of the key that is in use. It is not decrypted for that.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    stored = await vault.describe(PROVIDER)
    if stored is not None:
        return KeyDescription(stored, KeySource.STORED)
    if current.environment_key is not None:
        return KeyDescription(KeyFacts(last_four(current.environment_key)), KeySource.ENVIRONMENT)
    return KeyDescription()


async def delete_key(*, vault: KeyVault, current: CurrentKey) -> None:
    """Delete the stored key, where there is one. The one from the environment takes its place, where there is one.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    await vault.delete(PROVIDER)
    current.forget()
    log.info("api_key_deleted", provider=PROVIDER)


def read_key(text: str) -> str:
    """Return a key as a person pasted it, without the white space around it.

    Only visible ASCII is taken: a key travels in an HTTP header, and what cannot stand there is quoted in the errors of
    HTTP libraries.

    Raises:
        SageError: FIELD_INVALID, in words that hold nothing of the key.
    """
    key = text.strip()
    if not key:
        raise invalid_field("key", f"is required: {MIN_LENGTH} to {MAX_LENGTH} characters.")
    if not MIN_LENGTH <= len(key) <= MAX_LENGTH:
        raise invalid_field("key", f"has {len(key)} characters; a key has {MIN_LENGTH} to {MAX_LENGTH}.")
    if not all("!" <= character <= "~" for character in key):
        raise invalid_field("key", "must be letters, digits and signs of ASCII, with no space or line break inside.")
    return key


async def _ask(secret: str, checker: KeyChecker) -> KeyFacts:
    status = await checker.check(secret)
    return KeyFacts(last_four(secret), status, datetime.now(UTC))
