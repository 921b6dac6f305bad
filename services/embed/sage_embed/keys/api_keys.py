"""Setting, checking, describing and deleting the provider's key, and providing the one in use.

The key is never exposed: errors, descriptions and log lines contain at most its last four characters.
"""

import asyncio
import time
from datetime import UTC, datetime

import structlog

from sage_embed.errors import api_key_invalid
from sage_embed.keys.model import (
    PROVIDER,
    ApiKeyRepository,
    KeyChecker,
    KeyDescription,
    KeyFacts,
    KeySource,
    KeyStatus,
    ProviderKey,
    ProviderKeys,
    fingerprint,
    last_four,
    read_key,
)

# A key that is set or deleted takes effect in every process within this time. A process reads the repository at most
# once in this time.
_KEEP_S = 1.0

log = structlog.get_logger()


class CurrentKey(ProviderKeys):
    """The key in use: the stored one, else the one that the process was started with. Read at most once a second.

    Args:
        repository: Holds the stored key.
        environment_key: Used if no key is stored.

    Attributes:
        environment_key: See above.
    """

    def __init__(self, repository: ApiKeyRepository, environment_key: str | None) -> None:
        self.environment_key = environment_key
        self._repository = repository
        self._lock = asyncio.Lock()
        self._known: ProviderKey | None = None
        self._read_at = -_KEEP_S
        self._generation = 0

    async def current(self) -> ProviderKey | None:
        if self._fresh():
            return self._known
        async with self._lock:
            if not self._fresh():
                generation = self._generation
                secret = await self._repository.read(PROVIDER) or self.environment_key
                known = None if secret is None else ProviderKey(secret, fingerprint(secret))
                if generation != self._generation:
                    # The key changed while it was being read: do not keep it, so that the next call reads again.
                    return known
                self._known = known
                self._read_at = time.monotonic()
            return self._known

    def forget(self) -> None:
        """Make the next `current` read the repository, because the key has changed."""
        self._generation += 1
        self._read_at = -_KEEP_S
        self._known = None

    def _fresh(self) -> bool:
        return time.monotonic() - self._read_at < _KEEP_S


async def set_key(
    text: str, *, repository: ApiKeyRepository, checker: KeyChecker, current: CurrentKey
) -> KeyDescription:
    """Check a key with its provider, store it in place of the previous one, and return its description.

    A key that could not be checked is stored as UNKNOWN: an outage at the provider should not prevent
    setting up this server.

    Raises:
        SageError: ENCRYPTION_KEY_MISSING before the provider is asked; FIELD_INVALID, API_KEY_INVALID,
            STORE_UNAVAILABLE.
    """
    repository.require_encryption()
    secret = read_key(text)
    facts = await _ask(secret, checker)
    if facts.status is KeyStatus.INVALID:
        raise api_key_invalid(PROVIDER)
    await repository.put(PROVIDER, secret, facts)
    current.forget()
    log.info("api_key_set", provider=PROVIDER, key_status=facts.status)
    return KeyDescription(facts, KeySource.STORED)


async def check_key(
    text: str, *, repository: ApiKeyRepository, checker: KeyChecker, current: CurrentKey
) -> KeyDescription:
    """Ask the provider about a key and store nothing. An empty text means the key in use.

    A rejected key is a result, not an error, as is having no key.

    Raises:
        SageError: FIELD_INVALID; for the key in use ENCRYPTION_KEY_MISSING and STORE_UNAVAILABLE.
    """
    if text.strip():
        return KeyDescription(await _ask(read_key(text), checker))
    current.forget()
    key = await current.current()
    if key is None:
        return KeyDescription()
    description = await describe_key(repository=repository, current=current)
    return KeyDescription(await _ask(key.secret, checker), description.source)


async def describe_key(*, repository: ApiKeyRepository, current: CurrentKey) -> KeyDescription:
    """Return what is known about the key in use, without decrypting it.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    stored = await repository.describe(PROVIDER)
    if stored is not None:
        return KeyDescription(stored, KeySource.STORED)
    if current.environment_key is not None:
        return KeyDescription(KeyFacts(last_four(current.environment_key)), KeySource.ENVIRONMENT)
    return KeyDescription()


async def delete_key(*, repository: ApiKeyRepository, current: CurrentKey) -> None:
    """Delete the stored key, if any. From then on the key from the environment is used, if any.

    Raises:
        SageError: STORE_UNAVAILABLE.
    """
    await repository.delete(PROVIDER)
    current.forget()
    log.info("api_key_deleted", provider=PROVIDER)


async def _ask(secret: str, checker: KeyChecker) -> KeyFacts:
    status = await checker.check(secret)
    return KeyFacts(last_four(secret), status, datetime.now(UTC))
