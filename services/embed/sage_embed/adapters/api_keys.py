"""Providers' keys in PostgreSQL, encrypted before they get there."""

from sage_runtime.postgres import Pool, store_errors

from sage_embed.adapters.key_encryption import KeyRing, Sealed, load_key_ring
from sage_embed.adapters.rows import Row
from sage_embed.config import EmbedSettings
from sage_embed.current_key import CurrentKey
from sage_embed.key_model import KeyFacts, KeyStatus
from sage_embed.ports import KeyVault

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


class PostgresKeyVault(KeyVault):
    """Keeps providers' keys in PostgreSQL.

    Args:
        pool: Connections that look in embed's schema; the caller closes it.
        ring: What encrypts and decrypts.
    """

    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring

    def require_encryption(self) -> None:
        """See `KeyVault`."""
        self._ring.first_id()

    async def put(self, provider: str, secret: str, facts: KeyFacts) -> None:
        """See `KeyVault`."""
        row = _columns(provider, self._ring.encrypt(secret, provider=provider))
        row |= {"last_four": facts.last_four, "status": facts.status, "check_time": facts.check_time}
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_PUT, row)

    async def read(self, provider: str) -> str | None:
        """See `KeyVault`."""
        row = await self._row(provider)
        return None if row is None else self._ring.decrypt(_sealed(row), provider=provider)

    async def describe(self, provider: str) -> KeyFacts | None:
        """See `KeyVault`."""
        row = await self._row(provider)
        if row is None:
            return None
        return KeyFacts(row["last_four"], KeyStatus(row["status"]), row["check_time"])

    async def delete(self, provider: str) -> None:
        """See `KeyVault`."""
        with store_errors():
            async with self._pool.connection() as connection:
                await connection.execute("DELETE FROM api_keys WHERE provider = %s", (provider,))

    async def rotate(self) -> int:
        """Encrypt under the first key-encryption key what is stored under another; return how many that were.

        All or nothing, and a key that is set meanwhile is not lost.

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

    async def _row(self, provider: str) -> Row | None:
        with store_errors():
            async with self._pool.connection() as connection:
                return await (
                    await connection.execute("SELECT * FROM api_keys WHERE provider = %s", (provider,))
                ).fetchone()


def open_keys(pool: Pool, settings: EmbedSettings) -> tuple[PostgresKeyVault, CurrentKey]:
    """Return where keys are kept and what gives out the one in use, as the settings have it.

    Raises:
        KeyRingError: The key-encryption keys of the settings cannot be used.
    """
    vault = PostgresKeyVault(pool, load_key_ring(settings.key_encryption_keys, settings.key_encryption_keys_file))
    own = settings.twelvelabs_api_key
    return vault, CurrentKey(vault, None if own is None else own.get_secret_value())


def _columns(provider: str, sealed: Sealed) -> Row:
    return {
        "provider": provider,
        "encryption_key_id": sealed.encryption_key_id,
        "nonce": sealed.nonce,
        "ciphertext": sealed.ciphertext,
    }


def _sealed(row: Row) -> Sealed:
    return Sealed(row["encryption_key_id"], row["nonce"], row["ciphertext"])
