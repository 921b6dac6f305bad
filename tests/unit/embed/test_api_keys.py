"""Setting, checking, describing and deleting the provider's key."""

from datetime import UTC, datetime, timedelta

import pytest
from fakes.api_keys import WITNESS, InMemoryKeyVault, ScriptedKeyChecker
from hypothesis import given
from hypothesis import strategies as st
from sage_embed import api_keys
from sage_embed.current_key import CurrentKey
from sage_embed.key_model import PROVIDER, KeyDescription, KeyFacts, KeySource, KeyStatus
from sage_runtime.errors import Reason, SageError


@pytest.fixture
def vault() -> InMemoryKeyVault:
    """An empty vault."""
    return InMemoryKeyVault()


@pytest.fixture
def checker() -> ScriptedKeyChecker:
    """A provider that takes every key."""
    return ScriptedKeyChecker()


@pytest.fixture
def needs(vault, checker) -> dict:
    """What the use cases work with, and no key in the environment."""
    return {"vault": vault, "checker": checker, "current": CurrentKey(vault, None)}


async def refusal(call) -> SageError:
    """Return the error that a call is refused with; it never holds the key."""
    with pytest.raises(SageError) as caught:
        await call
    assert WITNESS not in f"{caught.value!r} {caught.value.facts} {caught.value.violations}"
    return caught.value


async def test_a_valid_key_is_stored_and_used(needs, vault):
    """It is described by its last four characters, what the provider said and when, and is the one in use."""
    found = await api_keys.set_key(WITNESS, **needs)
    assert found.facts is not None
    assert (found.facts.last_four, found.facts.status, found.source) == ("LAST", KeyStatus.VALID, KeySource.STORED)
    assert datetime.now(UTC) - found.facts.check_time < timedelta(minutes=1)
    assert vault.keys[PROVIDER] == (WITNESS, found.facts)
    assert (await needs["current"].current()).secret == WITNESS


async def test_a_refused_key_is_not_stored_and_the_one_before_stays(needs, vault, checker):
    """API_KEY_INVALID names the provider, and nothing has changed."""
    await api_keys.set_key("tlk_before_0001", **needs)
    checker.status = KeyStatus.INVALID
    error = await refusal(api_keys.set_key(WITNESS, **needs))
    assert (error.reason, error.facts) == (Reason.API_KEY_INVALID, {"provider": "TwelveLabs"})
    assert vault.keys[PROVIDER][0] == "tlk_before_0001"


async def test_a_key_of_which_nothing_can_be_told_is_stored_as_unknown(needs, vault, checker):
    """The provider's trouble keeps nobody from setting a key, and is not hidden."""
    checker.status = KeyStatus.UNKNOWN
    found = await api_keys.set_key(WITNESS, **needs)
    assert found.facts.status is KeyStatus.UNKNOWN
    assert vault.keys[PROVIDER][0] == WITNESS


async def test_without_encryption_nothing_is_asked_and_nothing_is_stored(needs, vault, checker):
    """ENCRYPTION_KEY_MISSING comes before the key is looked at or sent anywhere."""
    vault.encrypts = False
    error = await refusal(api_keys.set_key("", **needs))
    assert error.reason is Reason.ENCRYPTION_KEY_MISSING
    assert error.facts["setting"] == "SAGE_KEY_ENCRYPTION_KEYS"
    assert (checker.asked, vault.keys) == ([], {})


@pytest.mark.parametrize("pasted", [f"{WITNESS}\n", f"  {WITNESS}\r\n", f"\t{WITNESS} "])
async def test_white_space_around_a_pasted_key_is_dropped(needs, vault, checker, pasted):
    """What is checked and stored is the key alone."""
    await api_keys.set_key(pasted, **needs)
    assert (checker.asked, vault.keys[PROVIDER][0]) == ([WITNESS], WITNESS)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is required: 8 to 512 characters."),
        (" \n", "is required: 8 to 512 characters."),
        ("1234567", "has 7 characters; a key has 8 to 512."),
        ("x" * 513, "has 513 characters; a key has 8 to 512."),
        (f"{WITNESS}\n{WITNESS}", "no space or line break inside."),
        (f"{WITNESS} x", "no space or line break inside."),
        (f"{WITNESS}\x00x", "no space or line break inside."),
        (f"{WITNESS}é", "no space or line break inside."),
    ],
)
async def test_what_cannot_be_a_key_is_refused_without_asking(needs, checker, text, rule):
    """FIELD_INVALID says the rule, and the provider hears nothing."""
    error = await refusal(api_keys.set_key(text, **needs))
    assert error.reason is Reason.FIELD_INVALID
    assert error.violations[0].field == "key"
    assert error.violations[0].rule.endswith(rule)
    assert checker.asked == []


@given(st.text(max_size=600))
def test_what_is_taken_can_stand_in_a_header_and_what_is_not_is_not_quoted(text):
    """Every text is either a key of visible ASCII or an error that holds nothing of it."""
    try:
        key = api_keys.read_key(text)
    except SageError as error:
        words = error.facts["rules"]
        assert text.strip() not in words or len(text.strip()) < 8
    else:
        assert 8 <= len(key) <= 512
        assert key.isascii()
        assert key.isprintable()
        assert " " not in key


@pytest.mark.parametrize("status", KeyStatus)
async def test_a_check_answers_whatever_the_provider_says_and_stores_nothing(needs, vault, checker, status):
    """A refused key is an answer here; the description has no source, because nothing was set."""
    vault.encrypts = False
    checker.status = status
    found = await api_keys.check_key(f"{WITNESS}\n", **needs)
    assert (found.facts.status, found.facts.last_four, found.source) == (status, "LAST", None)
    assert vault.keys == {}


async def test_a_check_without_a_key_is_of_the_one_in_use(needs, vault, checker):
    """It asks anew about the stored key, and what is stored of it stays."""
    before = await api_keys.set_key(WITNESS, **needs)
    checker.status = KeyStatus.INVALID
    found = await api_keys.check_key("", **needs)
    assert (found.facts.status, found.source) == (KeyStatus.INVALID, KeySource.STORED)
    assert await api_keys.describe_key(vault=vault, current=needs["current"]) == before


async def test_a_check_without_any_key_says_that_there_is_none(needs, checker):
    """That is an answer as well, and nobody is asked."""
    assert await api_keys.check_key("", **needs) == KeyDescription()
    assert checker.asked == []


async def test_the_environment_stands_in_until_a_key_is_set_and_after_it_is_deleted(vault, checker):
    """The stored key goes first; the one that the server was started with is described as never checked."""
    current = CurrentKey(vault, "tlk_environment_ENVI")
    needs = {"vault": vault, "checker": checker, "current": current}
    from_environment = KeyDescription(KeyFacts("ENVI"), KeySource.ENVIRONMENT)
    assert await api_keys.describe_key(vault=vault, current=current) == from_environment
    assert (await current.current()).secret == "tlk_environment_ENVI"
    assert (await api_keys.check_key("", **needs)).source is KeySource.ENVIRONMENT
    await api_keys.set_key(WITNESS, **needs)
    assert (await api_keys.describe_key(vault=vault, current=current)).source is KeySource.STORED
    assert (await current.current()).secret == WITNESS
    for _ in range(2):
        await api_keys.delete_key(vault=vault, current=current)
        assert await api_keys.describe_key(vault=vault, current=current) == from_environment
        assert (await current.current()).secret == "tlk_environment_ENVI"


async def test_a_key_that_cannot_be_decrypted_is_still_described(needs, vault):
    """People see that there is one and which, though it cannot be used or checked."""
    await api_keys.set_key(WITNESS, **needs)
    vault.decrypts = False
    assert (await api_keys.describe_key(vault=vault, current=needs["current"])).facts.last_four == "LAST"
    assert (await refusal(api_keys.check_key("", **needs))).reason is Reason.ENCRYPTION_KEY_MISSING
