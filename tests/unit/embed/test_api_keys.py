"""Use cases of the API key."""

from datetime import UTC, datetime, timedelta

import pytest
from fakes.api_keys import WITNESS, FakeApiKeyRepository, ScriptedKeyChecker
from hypothesis import given
from hypothesis import strategies as st
from sage_embed.keys import api_keys
from sage_embed.keys.api_keys import CurrentKey
from sage_embed.keys.model import PROVIDER, KeyDescription, KeyFacts, KeySource, KeyStatus, read_key
from sage_runtime.errors import Reason, SageError


@pytest.fixture
def repository() -> FakeApiKeyRepository:
    """An empty repository."""
    return FakeApiKeyRepository()


@pytest.fixture
def checker() -> ScriptedKeyChecker:
    """A provider that accepts every key."""
    return ScriptedKeyChecker()


@pytest.fixture
def arguments(repository, checker) -> dict:
    """Arguments of the use cases, without a key in the environment."""
    return {"repository": repository, "checker": checker, "current": CurrentKey(repository, None)}


async def refusal(call) -> SageError:
    """Return the error of a call, which must not contain the key."""
    with pytest.raises(SageError) as caught:
        await call
    assert WITNESS not in f"{caught.value!r} {caught.value.facts} {caught.value.violations}"
    return caught.value


async def test_a_valid_key_is_stored_and_used(arguments, repository):
    found = await api_keys.set_key(WITNESS, **arguments)
    assert found.facts is not None
    assert (found.facts.last_four, found.facts.status, found.source) == ("LAST", KeyStatus.VALID, KeySource.STORED)
    assert datetime.now(UTC) - found.facts.check_time < timedelta(minutes=1)
    assert repository.keys[PROVIDER] == (WITNESS, found.facts)
    assert (await arguments["current"].current()).secret == WITNESS


async def test_a_rejected_key_is_not_stored_and_the_previous_one_remains(arguments, repository, checker):
    await api_keys.set_key("tlk_before_0001", **arguments)
    checker.status = KeyStatus.INVALID
    error = await refusal(api_keys.set_key(WITNESS, **arguments))
    assert (error.reason, error.facts) == (Reason.API_KEY_INVALID, {"provider": "TwelveLabs"})
    assert repository.keys[PROVIDER][0] == "tlk_before_0001"


async def test_a_key_that_cannot_be_checked_is_stored_as_unknown(arguments, repository, checker):
    checker.status = KeyStatus.UNKNOWN
    found = await api_keys.set_key(WITNESS, **arguments)
    assert found.facts.status is KeyStatus.UNKNOWN
    assert repository.keys[PROVIDER][0] == WITNESS


async def test_without_encryption_the_provider_is_not_asked_and_nothing_is_stored(arguments, repository, checker):
    """ENCRYPTION_KEY_MISSING is raised before the key is inspected or sent anywhere."""
    repository.encrypts = False
    error = await refusal(api_keys.set_key("", **arguments))
    assert error.reason is Reason.ENCRYPTION_KEY_MISSING
    assert error.facts["setting"] == "SAGE_KEY_ENCRYPTION_KEYS"
    assert (checker.asked, repository.keys) == ([], {})


@pytest.mark.parametrize("pasted", [f"{WITNESS}\n", f"  {WITNESS}\r\n", f"\t{WITNESS} "])
async def test_white_space_around_a_pasted_key_is_removed(arguments, repository, checker, pasted):
    await api_keys.set_key(pasted, **arguments)
    assert (checker.asked, repository.keys[PROVIDER][0]) == ([WITNESS], WITNESS)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is required: 8 to 512 characters."),
        (" \n", "is required: 8 to 512 characters."),
        ("1234567", "has 7 characters; a key has 8 to 512."),
        ("x" * 513, "has 513 characters; a key has 8 to 512."),
        (f"{WITNESS}\n{WITNESS}", "must be visible ASCII characters without spaces or line breaks."),
        (f"{WITNESS} x", "must be visible ASCII characters without spaces or line breaks."),
        (f"{WITNESS}\x00x", "must be visible ASCII characters without spaces or line breaks."),
        (f"{WITNESS}é", "must be visible ASCII characters without spaces or line breaks."),
    ],
)
async def test_malformed_keys_are_refused_without_asking_the_provider(arguments, checker, text, rule):
    error = await refusal(api_keys.set_key(text, **arguments))
    assert error.reason is Reason.FIELD_INVALID
    assert error.violations[0].field == "key"
    assert error.violations[0].rule.endswith(rule)
    assert checker.asked == []


@given(st.text(max_size=600))
def test_accepted_keys_fit_into_a_header_and_refused_ones_are_not_quoted(text):
    try:
        key = read_key(text)
    except SageError as error:
        words = error.facts["rules"]
        assert text.strip() not in words or len(text.strip()) < 8
    else:
        assert 8 <= len(key) <= 512
        assert key.isascii()
        assert key.isprintable()
        assert " " not in key


@pytest.mark.parametrize("status", KeyStatus)
async def test_a_check_returns_what_the_provider_says_and_stores_nothing(arguments, repository, checker, status):
    """A rejected key is a result. The description has no source, because no key was set."""
    repository.encrypts = False
    checker.status = status
    found = await api_keys.check_key(f"{WITNESS}\n", **arguments)
    assert (found.facts.status, found.facts.last_four, found.source) == (status, "LAST", None)
    assert repository.keys == {}


async def test_a_check_with_an_empty_text_checks_the_key_in_use(arguments, repository, checker):
    """What is stored about that key does not change."""
    before = await api_keys.set_key(WITNESS, **arguments)
    checker.status = KeyStatus.INVALID
    found = await api_keys.check_key("", **arguments)
    assert (found.facts.status, found.source) == (KeyStatus.INVALID, KeySource.STORED)
    assert await api_keys.describe_key(repository=repository, current=arguments["current"]) == before


async def test_a_check_without_any_key_reports_that_there_is_none(arguments, checker):
    assert await api_keys.check_key("", **arguments) == KeyDescription()
    assert checker.asked == []


async def test_the_environment_key_is_used_until_one_is_set_and_after_it_is_deleted(repository, checker):
    current = CurrentKey(repository, "tlk_environment_ENVI")
    arguments = {"repository": repository, "checker": checker, "current": current}
    from_environment = KeyDescription(KeyFacts("ENVI"), KeySource.ENVIRONMENT)
    assert await api_keys.describe_key(repository=repository, current=current) == from_environment
    assert (await current.current()).secret == "tlk_environment_ENVI"
    assert (await api_keys.check_key("", **arguments)).source is KeySource.ENVIRONMENT
    await api_keys.set_key(WITNESS, **arguments)
    assert (await api_keys.describe_key(repository=repository, current=current)).source is KeySource.STORED
    assert (await current.current()).secret == WITNESS
    for _ in range(2):
        await api_keys.delete_key(repository=repository, current=current)
        assert await api_keys.describe_key(repository=repository, current=current) == from_environment
        assert (await current.current()).secret == "tlk_environment_ENVI"


async def test_a_key_that_cannot_be_decrypted_is_still_described(arguments, repository):
    await api_keys.set_key(WITNESS, **arguments)
    repository.decrypts = False
    assert (await api_keys.describe_key(repository=repository, current=arguments["current"])).facts.last_four == "LAST"
    assert (await refusal(api_keys.check_key("", **arguments))).reason is Reason.ENCRYPTION_KEY_MISSING
