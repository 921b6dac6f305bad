"""The key to use now: the stored one, else the one that the process was started with."""

import asyncio
import hashlib
import time

from sage_embed.key_model import PROVIDER
from sage_embed.ports import KeyVault, ProviderKey, ProviderKeys

# A key that is set or deleted takes effect in every process within this time; within it, no work asks the store twice.
_KEEP_S = 1.0
_FINGERPRINT_LENGTH = 16


class CurrentKey(ProviderKeys):
    """Gives out the provider's key, read at most once a second.

    Args:
        vault: Where the stored key is.
        environment_key: What is used where none is stored.

    Attributes:
        environment_key: See above.
    """

    def __init__(self, vault: KeyVault, environment_key: str | None) -> None:
        self.environment_key = environment_key
        self._vault = vault
        self._lock = asyncio.Lock()
        self._known: ProviderKey | None = None
        self._read_at = -_KEEP_S
        self._generation = 0

    async def current(self) -> ProviderKey | None:
        """See `ProviderKeys`."""
        if self._fresh():
            return self._known
        async with self._lock:
            if not self._fresh():
                generation = self._generation
                secret = await self._vault.read(PROVIDER) or self.environment_key
                known = None if secret is None else ProviderKey(secret, fingerprint(secret))
                if generation != self._generation:
                    # The key was changed while it was read: whoever asks next reads again.
                    return known
                self._known = known
                self._read_at = time.monotonic()
            return self._known

    def forget(self) -> None:
        """Read the key again when it is asked for next: it has changed."""
        self._generation += 1
        self._read_at = -_KEEP_S
        self._known = None

    def _fresh(self) -> bool:
        return time.monotonic() - self._read_at < _KEEP_S


def fingerprint(secret: str) -> str:
    """Return what tells a key apart from others and gives nothing of it away.

    A plain hash will do: a provider's key is random and far too long to be found by trying. It needs no key of its own,
    so all workers come to the same, before and after the key-encryption keys are changed. The prefix makes it another
    than a hash of the key that anybody else may have published.
    """
    return hashlib.sha256(f"sage provider key\0{secret}".encode()).hexdigest()[:_FINGERPRINT_LENGTH]
