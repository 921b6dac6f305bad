"""A provider's API key, and the parts of it that may be shown."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sage_runtime.errors import invalid_field

# The provider whose key this service stores.
PROVIDER = "twelvelabs"

MIN_LENGTH = 8
MAX_LENGTH = 512
_LAST_LENGTH = 4
_FINGERPRINT_LENGTH = 16


class KeyStatus(StrEnum):
    """What a provider said about a key."""

    VALID = "VALID"
    INVALID = "INVALID"
    # It could not be checked: no network, a rate limit, or an error at the provider.
    UNKNOWN = "UNKNOWN"


class KeySource(StrEnum):
    """Where a key comes from."""

    STORED = "STORED"
    ENVIRONMENT = "ENVIRONMENT"


@dataclass(frozen=True)
class ProviderKey:
    """A key in clear, ready to send requests with.

    Attributes:
        secret: The key.
        fingerprint: Identifies the key without revealing it, see `fingerprint`.
    """

    secret: str = field(repr=False)
    fingerprint: str


@dataclass(frozen=True)
class KeyFacts:
    """The facts about a key that may be shown.

    Attributes:
        last_four: Its last four characters.
        status: What the provider said about it; None if it was never asked.
        check_time: When the provider was asked.
    """

    last_four: str
    status: KeyStatus | None = None
    check_time: datetime | None = None


@dataclass(frozen=True)
class KeyDescription:
    """Whether there is a key, and what is known about it.

    Attributes:
        facts: The facts that may be shown; None if there is no key.
        source: Where it comes from; None if there is no key, or if it was only checked.
    """

    facts: KeyFacts | None = None
    source: KeySource | None = None


def read_key(text: str) -> str:
    """Return a pasted key without surrounding white space.

    Only visible ASCII is accepted: a key travels in an HTTP header, and HTTP libraries quote invalid header values in
    their errors.

    Raises:
        SageError: FIELD_INVALID. The message contains no part of the key.
    """
    key = text.strip()
    if not key:
        raise invalid_field("key", f"is required: {MIN_LENGTH} to {MAX_LENGTH} characters.")
    if not MIN_LENGTH <= len(key) <= MAX_LENGTH:
        raise invalid_field("key", f"has {len(key)} characters; a key has {MIN_LENGTH} to {MAX_LENGTH}.")
    if not all("!" <= character <= "~" for character in key):
        raise invalid_field("key", "must be visible ASCII characters without spaces or line breaks.")
    return key


def last_four(secret: str) -> str:
    """Return the characters by which people recognize a key."""
    return secret[-_LAST_LENGTH:]


def fingerprint(secret: str) -> str:
    """Return an identifier of a key that reveals nothing about it.

    A plain hash is enough: a provider's key is random and far too long to be guessed. It needs no secret, so all
    workers compute the same value, even across a rotation of the key-encryption keys. The prefix keeps it different
    from any published hash of the key.
    """
    return hashlib.sha256(f"sage provider key\0{secret}".encode()).hexdigest()[:_FINGERPRINT_LENGTH]


class ApiKeyRepository(Protocol):
    """Stores providers' keys encrypted. Every asynchronous method raises STORE_UNAVAILABLE."""

    def require_encryption(self) -> None:
        """Raise unless a key can be stored.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING.
        """
        ...

    async def put(self, provider: str, secret: str, facts: KeyFacts) -> None:
        """Store a provider's key, replacing the previous one.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING.
        """
        ...

    async def read(self, provider: str) -> str | None:
        """Return the key in clear, or None if none is stored.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING if it cannot be decrypted.
        """
        ...

    async def describe(self, provider: str) -> KeyFacts | None:
        """Return the facts about the key even if it cannot be decrypted, or None if none is stored."""
        ...

    async def delete(self, provider: str) -> None:
        """Delete a provider's key. Does nothing if none is stored."""
        ...


class KeyChecker(Protocol):
    """Asks a provider whether it accepts a key."""

    async def check(self, secret: str) -> KeyStatus:
        """Return the status of a key at its provider. Errors are reported as UNKNOWN, never raised."""
        ...


class ProviderKeys(Protocol):
    """Provides the key to send requests with."""

    async def current(self) -> ProviderKey | None:
        """Return the key in use, or None if there is none.

        Raises:
            SageError: STORE_UNAVAILABLE; ENCRYPTION_KEY_MISSING if the stored key cannot be decrypted.
        """
        ...
