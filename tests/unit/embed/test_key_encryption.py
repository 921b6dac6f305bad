"""Encryption of keys, and the key-encryption keys from the settings."""

import base64
import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.api_keys import WITNESS
from pydantic import SecretStr
from sage_embed.keys.encryption import KeyRing, KeyRingError, load_key_ring, parse_key_ring
from sage_runtime.errors import Reason, SageError
from sage_runtime.errors.catalogue import public_text

OLD, NEW = hashlib.sha256(b"old").digest(), hashlib.sha256(b"new").digest()


def encoded(key: bytes) -> str:
    """Return a key as it is written in the settings."""
    return base64.b64encode(key).decode()


def refusal(ring: KeyRing, sealed, *, provider: str = "twelvelabs") -> SageError:
    """Return the error of a failed decryption, which must not contain the key."""
    with pytest.raises(SageError) as caught:
        ring.decrypt(sealed, provider=provider)
    assert caught.value.reason is Reason.ENCRYPTION_KEY_MISSING
    assert WITNESS not in public_text(caught.value)
    return caught.value


def test_a_key_survives_encryption_and_is_not_part_of_the_ciphertext():
    ring = KeyRing({"new": NEW})
    sealed = ring.encrypt(WITNESS, provider="twelvelabs")
    assert ring.decrypt(sealed, provider="twelvelabs") == WITNESS
    assert (sealed.encryption_key_id, len(sealed.nonce)) == ("new", 12)
    assert len(sealed.ciphertext) == len(WITNESS) + 16
    assert not any(WITNESS[at : at + 4].encode() in sealed.ciphertext for at in range(len(WITNESS) - 3))


def test_no_nonce_is_used_twice():
    ring = KeyRing({"new": NEW})
    several = [ring.encrypt(WITNESS, provider="twelvelabs") for _ in range(50)]
    assert len({sealed.nonce for sealed in several}) == len({sealed.ciphertext for sealed in several}) == 50


def test_the_first_key_encrypts_and_all_keys_decrypt():
    before = KeyRing({"old": OLD}).encrypt(WITNESS, provider="twelvelabs")
    ring = KeyRing({"new": NEW, "old": OLD})
    assert ring.decrypt(before, provider="twelvelabs") == WITNESS
    assert ring.encrypt(WITNESS, provider="twelvelabs").encryption_key_id == "new"


def test_the_error_names_the_missing_key_encryption_key():
    sealed = KeyRing({"old": OLD}).encrypt(WITNESS, provider="twelvelabs")
    assert "'old'" in refusal(KeyRing({"new": NEW}), sealed).facts["why"]
    assert "'old'" in refusal(KeyRing({}), sealed).facts["why"]


def test_a_different_key_under_the_same_id_cannot_decrypt():
    sealed = KeyRing({"main": OLD}).encrypt(WITNESS, provider="twelvelabs")
    refusal(KeyRing({"main": NEW}), sealed)


def test_a_changed_record_cannot_be_decrypted():
    """Provider, ID, nonce and ciphertext are all authenticated."""
    ring = KeyRing({"main": NEW, "twin": NEW})
    sealed = ring.encrypt(WITNESS, provider="twelvelabs")
    refusal(ring, sealed, provider="another")
    refusal(ring, replace(sealed, encryption_key_id="twin"))
    for field, at in itertools.product(("nonce", "ciphertext"), (0, -1)):
        changed = bytearray(getattr(sealed, field))
        changed[at] ^= 1
        refusal(ring, replace(sealed, **{field: bytes(changed)}))


def test_an_empty_ring_cannot_encrypt():
    with pytest.raises(SageError) as caught:
        load_key_ring(None, None).encrypt(WITNESS, provider="twelvelabs")
    assert public_text(caught.value) == (
        "This server cannot encrypt or decrypt API keys: it has no key-encryption key. "
        "Its operator must set SAGE_KEY_ENCRYPTION_KEYS."
    )


@pytest.mark.parametrize("separator", [",", "\n", " ,\n ", "\r\n"])
def test_entries_are_separated_by_commas_or_line_breaks(separator):
    text = f"new:{encoded(NEW)}{separator}old: {encoded(OLD)}{separator}"
    ring = load_key_ring(SecretStr(text), None)
    assert ring.first_id() == "new"
    assert ring.decrypt(KeyRing({"old": OLD}).encrypt(WITNESS, provider="p"), provider="p") == WITNESS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (" \n,", "contains no key"),
        (encoded(NEW), "entry 1 is not ID:KEY"),
        (f"new:{encoded(NEW)},{encoded(OLD)}", "entry 2 is not ID:KEY"),
        (f"a b:{encoded(NEW)}", "entry 1 is not ID:KEY"),
        (f":{encoded(NEW)}", "entry 1 is not ID:KEY"),
        (f"{'i' * 65}:{encoded(NEW)}", "entry 1 is not ID:KEY"),
        ("new:not base64!", "entry 1: the key is not base64"),
        (f"new:{encoded(NEW[:16])}", "entry 1: the key has 16 bytes instead of 32"),
        (f"new:{encoded(NEW + b'x')}", "entry 1: the key has 33 bytes instead of 32"),
        (f"new:{encoded(NEW)}\nnew:{encoded(OLD)}", "entry 2 repeats the ID of an earlier entry"),
    ],
)
def test_malformed_entries_are_identified_by_number_and_never_quoted(text, problem):
    """Any part of an entry may be a key."""
    with pytest.raises(KeyRingError, match=problem) as caught:
        parse_key_ring(text, source="SAGE_KEY_ENCRYPTION_KEYS")
    message = str(caught.value)
    assert message.startswith("SAGE_KEY_ENCRYPTION_KEYS: ")
    assert not any(encoded(key)[:8] in message for key in (NEW, OLD))
    assert "not base64!" not in message
    # The chain of causes, which a traceback would print, must not contain it either.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_file_has_the_same_format_and_its_errors_name_it(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"new:{encoded(NEW)}\n")
    assert load_key_ring(None, file).first_id() == "new"
    file.write_text("new")
    with pytest.raises(KeyRingError, match=f"^SAGE_KEY_ENCRYPTION_KEYS_FILE \\({file}\\): entry 1 "):
        load_key_ring(None, file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(KeyRingError, match="is not text"):
        load_key_ring(None, file)
    with pytest.raises(KeyRingError, match=r"missing cannot be read: No such file or directory$"):
        load_key_ring(None, tmp_path / "missing")


def test_variable_and_file_cannot_both_be_set(tmp_path: Path):
    with pytest.raises(KeyRingError, match="both set"):
        load_key_ring(SecretStr(f"new:{encoded(NEW)}"), tmp_path / "keys")


def test_the_repr_of_a_key_ring_shows_no_key():
    ring = KeyRing({"new": NEW})
    assert encoded(NEW) not in repr(ring)
    assert repr(NEW) not in f"{ring!r} {vars(ring)!r}"
