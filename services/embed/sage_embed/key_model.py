"""What is known of a provider's key besides the key itself."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# Whose key this service keeps.
PROVIDER = "twelvelabs"

LAST_LENGTH = 4


class KeyStatus(StrEnum):
    """What a provider says of a key."""

    VALID = "VALID"
    INVALID = "INVALID"
    # It could not be told: no network, a rate limit, trouble on the provider's side.
    UNKNOWN = "UNKNOWN"


class KeySource(StrEnum):
    """Where a key comes from."""

    STORED = "STORED"
    ENVIRONMENT = "ENVIRONMENT"


@dataclass(frozen=True)
class KeyFacts:
    """What may be told of a key.

    Attributes:
        last_four: Its last four characters.
        status: What the provider said of it; None where nobody asked.
        check_time: When the provider was asked.
    """

    last_four: str
    status: KeyStatus | None = None
    check_time: datetime | None = None


@dataclass(frozen=True)
class KeyDescription:
    """The answer to whether there is a key, and to what was found out about one.

    Attributes:
        facts: What may be told of it; None where there is no key.
        source: Where it comes from; None where there is no key, or it was only checked.
    """

    facts: KeyFacts | None = None
    source: KeySource | None = None


def last_four(secret: str) -> str:
    """Return what people tell keys apart by."""
    return secret[-LAST_LENGTH:]
