"""Fakes of the repository of API keys and of the check of a key."""

from sage_embed.errors import encryption_key_missing
from sage_embed.keys.model import ApiKeyRepository, KeyChecker, KeyFacts, KeyStatus
from sage_runtime.errors import Reason, SageError

# Not a real key. Tests search logs, traces and errors for it.
WITNESS = "tlk_WITNESS-0123456789abcdefghijk-LAST"


class FakeApiKeyRepository(ApiKeyRepository):
    """Stores keys in a dictionary.

    Attributes:
        keys: The stored keys by provider.
        reads: How often a key was read.
        encrypts: Whether there is a key-encryption key.
        decrypts: Whether stored keys can be decrypted.
        away: Whether the store is unreachable.
    """

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, KeyFacts]] = {}
        self.reads = 0
        self.encrypts = True
        self.decrypts = True
        self.away = False

    def require_encryption(self) -> None:
        if not self.encrypts:
            raise encryption_key_missing("it has no key-encryption key")

    async def put(self, provider: str, secret: str, facts: KeyFacts) -> None:
        self._reach()
        self.require_encryption()
        self.keys[provider] = (secret, facts)

    async def read(self, provider: str) -> str | None:
        self._reach()
        self.reads += 1
        if provider not in self.keys:
            return None
        if not self.decrypts:
            raise encryption_key_missing("the stored key cannot be decrypted")
        return self.keys[provider][0]

    async def describe(self, provider: str) -> KeyFacts | None:
        self._reach()
        return self.keys[provider][1] if provider in self.keys else None

    async def delete(self, provider: str) -> None:
        self._reach()
        self.keys.pop(provider, None)

    def _reach(self) -> None:
        if self.away:
            raise SageError(Reason.STORE_UNAVAILABLE, store="database")


class ScriptedKeyChecker(KeyChecker):
    """Returns `status` for every key, and records the keys in `asked`."""

    def __init__(self, status: KeyStatus = KeyStatus.VALID) -> None:
        self.status = status
        self.asked: list[str] = []

    async def check(self, secret: str) -> KeyStatus:
        self.asked.append(secret)
        return self.status
