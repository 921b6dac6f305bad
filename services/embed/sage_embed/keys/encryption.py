"""Encryption of providers' keys: AES-256-GCM, with key-encryption keys that only the server's operator has."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr
from sage_runtime.process.settings import variable_of
from sage_runtime.server import StartError

from sage_embed.config import EmbedSettings
from sage_embed.errors import encryption_key_missing

_KEYS_VARIABLE = variable_of(EmbedSettings, "key_encryption_keys")
_FILE_VARIABLE = variable_of(EmbedSettings, "key_encryption_keys_file")

_KEY_BYTES = 32
# 96 bits, as NIST SP 800-38D recommends for GCM. Random nonces allow 2^32 encryptions per key.
_NONCE_BYTES = 12
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_FILE_BYTES = 64 * 1024
_HOW = "ID:KEY, for example 2030-01:KEY with the output of `openssl rand -base64 32` as KEY"


class KeyRingError(StartError):
    """The key-encryption keys cannot be used. The message names the setting and contains no part of a key."""


@dataclass(frozen=True)
class Sealed:
    """An encrypted key.

    Attributes:
        encryption_key_id: The key-encryption key that it is encrypted with.
        nonce: 12 random bytes, used for this encryption only.
        ciphertext: The encrypted key followed by its authentication tag.
    """

    encryption_key_id: str
    nonce: bytes
    ciphertext: bytes


class KeyRing:
    """Key-encryption keys by ID: the first one encrypts, all of them decrypt.

    Args:
        keys: 32 bytes each. With an empty mapping nothing can be encrypted or decrypted.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    def first_id(self) -> str:
        """Return the ID of the key that encrypts.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING if the ring is empty.
        """
        first = next(iter(self._ciphers), None)
        if first is None:
            raise encryption_key_missing("it has no key-encryption key")
        return first

    def encrypt(self, secret: str, *, provider: str) -> Sealed:
        """Return a provider's key encrypted.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING.
        """
        key_id = self.first_id()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[key_id].encrypt(nonce, secret.encode(), _associated(provider, key_id))
        return Sealed(key_id, nonce, sealed)

    def decrypt(self, sealed: Sealed, *, provider: str) -> str:
        """Return a provider's key in clear.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING if its key-encryption key is missing or differs, or if the record was
                changed.
        """
        key_id = sealed.encryption_key_id
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise encryption_key_missing(
                f"the stored key is encrypted with the key-encryption key {key_id!r}, which this process does not have"
            )
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, _associated(provider, key_id)).decode()
        except InvalidTag:
            raise encryption_key_missing(
                f"the stored key cannot be decrypted with the key-encryption key {key_id!r}: either a different key is "
                "configured under that ID, or the record was changed"
            ) from None


def load_key_ring(keys: SecretStr | None, file: Path | None) -> KeyRing:
    """Return the key ring of the settings, an empty one if neither is set.

    Args:
        keys: `ID:KEY` entries, separated by commas or line breaks.
        file: A file in the same format.

    Raises:
        KeyRingError: The keys cannot be used.
    """
    if keys is not None and file is not None:
        raise KeyRingError(f"{_KEYS_VARIABLE} and {_FILE_VARIABLE} are both set: set only one of them")
    if keys is not None:
        return parse_key_ring(keys.get_secret_value(), source=_KEYS_VARIABLE)
    if file is not None:
        return parse_key_ring(_read(file), source=f"{_FILE_VARIABLE} ({file})")
    return KeyRing({})


def parse_key_ring(text: str, *, source: str) -> KeyRing:
    """Parse `ID:KEY` entries, with KEY being 32 bytes in base64.

    Args:
        text: The entries, separated by commas or line breaks.
        source: Where the text comes from, for error messages.

    Raises:
        KeyRingError: An entry is malformed. It is identified by its number, because any part of it may be a key.
    """
    entries = [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]
    if not entries:
        raise KeyRingError(f"{source}: contains no key; write {_HOW}")
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(entries, start=1):
        key_id, separator, encoded = entry.partition(":")
        if not separator or not _ID.fullmatch(key_id):
            raise KeyRingError(f"{source}: entry {number} is not {_HOW}")
        if key_id in keys:
            raise KeyRingError(f"{source}: entry {number} repeats the ID of an earlier entry; IDs must be unique")
        keys[key_id] = _decode(encoded, where=f"{source}: entry {number}")
    return KeyRing(keys)


def _decode(encoded: str, *, where: str) -> bytes:
    try:
        key = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyRingError(f"{where}: the key is not base64; generate one with `openssl rand -base64 32`") from None
    if len(key) != _KEY_BYTES:
        problem = f"the key has {len(key)} bytes instead of {_KEY_BYTES}"
        raise KeyRingError(f"{where}: {problem}; generate one with `openssl rand -base64 32`")
    return key


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_FILE_BYTES).decode()
    except OSError as error:
        raise KeyRingError(f"{_FILE_VARIABLE}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyRingError(f"{_FILE_VARIABLE}: {file} is not text; write {_HOW}") from None


def _associated(provider: str, key_id: str) -> bytes:
    """Return the data that binds a ciphertext to its row: it cannot be decrypted under another provider or ID."""
    return f"sage api key\0{provider}\0{key_id}".encode()
