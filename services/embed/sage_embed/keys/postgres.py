"""Providers' keys in PostgreSQL. They are encrypted before they are sent there."""

from typing import Any

from sage_runtime.postgres import Pool, store_errors

from sage_embed.config import DatabaseSettings
from sage_embed.keys.api_keys import CurrentKey
from sage_embed.keys.encryption import KeyRing, Sealed, load_key_ring
from sage_embed.keys.model import ApiKeyRepository, KeyFacts, KeyStatus

_PUT = """
INSERT INTO api_keys (provider, encryption_key_id, nonce, ciphertext, last_four, status, check_time)
VALUES (
    %(provider)s, %(encryption_key_id)s, %(nonce)s, %(ciphertext)s, %(last_four)s, %(status)s, %(check_time)s
) ON CONFLICT (provider) DO UPDATE SET
    encryption_key_id = excluded.encryption_key_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext,
    last_four = excluded.last_four, status = excluded.status, check_time = excluded.check_time
"""

_RESEAL = """
UPDATE api_keys SET encryption_key_id = %(encryption_key_id)s, nonce = %(nonce)s, ciphertext = %(ciphertext)s
WHERE provider = %(provider)s
"""

_Row = dict[str, Any]


class PostgresApiKeyRepository(ApiKeyRepository):
    """Stores providers' keys in PostgreSQL.

    Args:
        pool: Connections whose search path is embed's schema; the caller closes it.
        ring: Encrypts and decrypts.
    """

    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring

    def require_encryption(self) -> None:
        self._ring.first_id()

    async def put(self, provider: str, secret: str, facts: KeyFacts) -> None:
        row = _columns(provider, self._ring.encrypt(secret, provider=provider))
        row |= {"last_four": facts.last_four, "status": facts.status, "check_time": facts.check_time}
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_PUT, row)

    async def read(self, provider: str) -> str | None:
        row = await self._row(provider)
        return None if row is None else self._ring.decrypt(_sealed(row), provider=provider)

    async def describe(self, provider: str) -> KeyFacts | None:
        row = await self._row(provider)
        if row is None:
            return None
        return KeyFacts(row["last_four"], KeyStatus(row["status"]), row["check_time"])

    async def delete(self, provider: str) -> None:
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute("DELETE FROM api_keys WHERE provider = %s", (provider,))

    async def rotate(self) -> int:
        """Re-encrypt keys that are not encrypted with the first key-encryption key, and return their number.

        One transaction: all keys or none. A key that is set at the same time is not lost.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING, STORE_UNAVAILABLE.
        """
        first_id = self._ring.first_id()
        query = "SELECT * FROM api_keys WHERE encryption_key_id <> %s FOR UPDATE"
        with store_errors():
            async with self._pool.connection() as connection, connection.transaction():
                rows = await (await connection.execute(query, (first_id,))).fetchall()
                for row in rows:
                    provider = row["provider"]
                    secret = self._ring.decrypt(_sealed(row), provider=provider)
                    sealed = self._ring.encrypt(secret, provider=provider)
                    await connection.execute(_RESEAL, _columns(provider, sealed))
        return len(rows)

    async def _row(self, provider: str) -> _Row | None:
        with store_errors():
            async with self._pool.connection() as connection:
                return await (
                    await connection.execute("SELECT * FROM api_keys WHERE provider = %s", (provider,))
                ).fetchone()


def open_keys(pool: Pool, settings: DatabaseSettings) -> tuple[PostgresApiKeyRepository, CurrentKey]:
    """Return the repository of keys and the provider of the key in use.

    Raises:
        KeyRingError: The key-encryption keys in the settings cannot be used.
    """
    ring = load_key_ring(settings.key_encryption_keys, settings.key_encryption_keys_file)
    repository = PostgresApiKeyRepository(pool, ring)
    key = settings.twelvelabs_api_key
    return repository, CurrentKey(repository, None if key is None else key.get_secret_value())


def _columns(provider: str, sealed: Sealed) -> _Row:
    return {
        "provider": provider,
        "encryption_key_id": sealed.encryption_key_id,
        "nonce": sealed.nonce,
        "ciphertext": sealed.ciphertext,
    }


def _sealed(row: _Row) -> Sealed:
    return Sealed(row["encryption_key_id"], row["nonce"], row["ciphertext"])
