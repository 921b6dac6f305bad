"""Encryption of providers' keys with AES-256-GCM, under key-encryption keys that only the server's operator has."""

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
from sage_runtime.exposure import StartError

from sage_embed.errors import encryption_key_missing

KEYS_VARIABLE = "SAGE_KEY_ENCRYPTION_KEYS"
FILE_VARIABLE = "SAGE_KEY_ENCRYPTION_KEYS_FILE"

_KEY_BYTES = 32
# 96 bits, as NIST SP 800-38D recommends for GCM. Drawn at random they may be used 2^32 times under one key.
_NONCE_BYTES = 12
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_FILE_BYTES = 64 * 1024
_HOW = "ID:KEY, such as 2030-01:KEY with what `openssl rand -base64 32` prints for KEY"


class KeyRingError(StartError):
    """The key-encryption keys cannot be used. The message names the setting and holds nothing of a key."""


@dataclass(frozen=True)
class Sealed:
    """An encrypted key.

    Attributes:
        encryption_key_id: Which key-encryption key it is encrypted with.
        nonce: 12 bytes, drawn for this encryption alone.
        ciphertext: The encrypted key and its tag.
    """

    encryption_key_id: str
    nonce: bytes
    ciphertext: bytes


class KeyRing:
    """Key-encryption keys by their ids: the first encrypts, each decrypts what was encrypted with it.

    Args:
        keys: 32 bytes each. Empty: nothing can be encrypted or decrypted.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    def first_id(self) -> str:
        """Return the id of the key that encrypts.

        Raises:
            SageError: ENCRYPTION_KEY_MISSING where there is none.
        """
        first = next(iter(self._ciphers), None)
        if first is None:
            raise encryption_key_missing("it has nothing to encrypt them with")
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
            SageError: ENCRYPTION_KEY_MISSING where the key for it is missing or another, or the record was changed.
        """
        key_id = sealed.encryption_key_id
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise encryption_key_missing(
                f"the stored one is encrypted under the key-encryption key {key_id!r}, which it was not started with"
            )
        try:
            return cipher.decrypt(sealed.nonce, sealed.ciphertext, _associated(provider, key_id)).decode()
        except InvalidTag:
            raise encryption_key_missing(
                f"the stored one does not open with the key-encryption key {key_id!r}; either that is another key than "
                "it was encrypted under, or the record was changed"
            ) from None


def load_key_ring(keys: SecretStr | None, file: Path | None) -> KeyRing:
    """Return the key ring of the settings; an empty one where neither is set.

    Args:
        keys: `ID:KEY` entries, separated by commas or line breaks.
        file: A file of the same form.

    Raises:
        KeyRingError: What is set cannot be used.
    """
    if keys is not None and file is not None:
        raise KeyRingError(f"{KEYS_VARIABLE} and {FILE_VARIABLE} are both set: set one of them")
    if keys is not None:
        return parse_key_ring(keys.get_secret_value(), source=KEYS_VARIABLE)
    if file is not None:
        return parse_key_ring(_read(file), source=f"{FILE_VARIABLE} ({file})")
    return KeyRing({})


def parse_key_ring(text: str, *, source: str) -> KeyRing:
    """Return the key ring of a text with `ID:KEY` entries, KEY being 32 bytes in base64.

    Args:
        text: The entries, separated by commas or line breaks.
        source: Where they are from, for errors.

    Raises:
        KeyRingError: An entry is not one. It is named by its number: any part of it may be a key.
    """
    entries = [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]
    if not entries:
        raise KeyRingError(f"{source}: has no key in it; write {_HOW}")
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(entries, start=1):
        key_id, separator, encoded = entry.partition(":")
        if not separator or not _ID.fullmatch(key_id):
            raise KeyRingError(f"{source}: entry {number} is not {_HOW}")
        if key_id in keys:
            raise KeyRingError(f"{source}: entry {number} has the id of an earlier one; each key has its own")
        keys[key_id] = _decode(encoded, where=f"{source}: entry {number}")
    return KeyRing(keys)


def _decode(encoded: str, *, where: str) -> bytes:
    try:
        key = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyRingError(f"{where}: the key is not base64; make one with `openssl rand -base64 32`") from None
    if len(key) != _KEY_BYTES:
        raise KeyRingError(
            f"{where}: the key has {len(key)} bytes and must have {_KEY_BYTES}; make one with `openssl rand -base64 32`"
        )
    return key


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_FILE_BYTES).decode()
    except OSError as error:
        raise KeyRingError(f"{FILE_VARIABLE}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyRingError(f"{FILE_VARIABLE}: {file} is not text; write {_HOW}") from None


def _associated(provider: str, key_id: str) -> bytes:
    """Return what binds a ciphertext to its row: moved to another provider or id, it does not open."""
    return f"sage api key\0{provider}\0{key_id}".encode()
