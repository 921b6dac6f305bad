"""API tokens: their lines, their files, the command that makes them."""

import asyncio
import hashlib
import hmac
import subprocess
import sys
import types
from datetime import UTC, date, datetime, timedelta

import pytest
from sage_runtime.auth import tokens as files
from sage_runtime.auth.tokens import Scope, TokenFiles, TokensError, new_token, parse_tokens
from structlog.testing import capture_logs

_HASH = hashlib.sha256(b"one").hexdigest()


def _today():
    return datetime.now(UTC).date()


@pytest.fixture
def file(tmp_path):
    """A file of tokens, not written yet."""
    return tmp_path / "tokens"


def test_new_token_is_random_and_its_line_has_only_the_hash():
    secret, token = new_token("ci", Scope.READ, expires=date(2027, 1, 31))
    assert secret.startswith("sage_")
    assert len(secret) == len("sage_") + 43
    assert secret != new_token("ci", Scope.READ)[0]
    assert token.line() == f"ci:read:{hashlib.sha256(secret.encode()).hexdigest()}:2027-01-31"
    assert list(parse_tokens(token.line())) == [token]


def test_repr_of_a_token_hides_its_hash():
    _, token = new_token("ci", Scope.READ)
    assert "ci" in repr(token)
    assert token.digest.hex()[:8] not in repr(token)
    assert repr(token.digest) not in repr(token)


def test_empty_lines_and_comments_are_ignored():
    (token,) = parse_tokens(f"# the nightly build\n\n  ci:write:{_HASH}  \n")
    assert (token.name, token.scope, token.expires) == ("ci", Scope.WRITE, None)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sage_secret", "must be NAME:SCOPE"),
        ("ci:read", "must be NAME:SCOPE"),
        (f"ci:read:{_HASH}:2027-01-31:more", "must be NAME:SCOPE"),
        (f"two words:read:{_HASH}", "a name has"),
        (f"ci:admin:{_HASH}", "read, write, gateway"),
        ("ci:read:sage_secret", "never the token itself"),
        (f"ci:read:{_HASH[:-1]}", "64 lowercase hex digits"),
        (f"ci:read:{_HASH}:tomorrow", "2027-01-31"),
    ],
)
def test_bad_line_is_named_by_number_and_not_quoted(line, problem):
    with pytest.raises(TokensError, match=f"line 2: .*{problem}") as error:
        list(parse_tokens(f"# tokens\n{line}\n"))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("days", "expired"), [(-1, True), (0, False), (1, False)])
def test_token_is_valid_through_its_last_day(days, expired):
    _, token = new_token("ci", Scope.READ, expires=_today() + timedelta(days=days))
    assert token.expired() is expired


def test_tokens_of_all_files_are_found(tmp_path):
    secrets = {}
    for name in ("people", "services"):
        secrets[name], token = new_token(name, Scope.READ)
        (tmp_path / name).write_text(token.line())
    tokens = TokenFiles([tmp_path / "people", tmp_path / "services"])
    assert {name: tokens.find(secret).name for name, secret in secrets.items()} == {name: name for name in secrets}
    assert tokens.find("sage_other") is None
    assert tokens.find("") is None


def test_every_token_is_compared_in_constant_time(file, monkeypatch):
    """All tokens are compared, each in a time that does not depend on where two differ."""
    made = [new_token(f"t{number}", Scope.READ) for number in range(5)]
    file.write_text("\n".join(token.line() for _, token in made))
    tokens = TokenFiles([file])
    compared = []

    def compare_digest(a, b):
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(files, "hmac", types.SimpleNamespace(compare_digest=compare_digest))
    for secret, token in made:
        compared.clear()
        assert tokens.find(secret) == token
        assert len(compared) == 5


@pytest.mark.parametrize("content", ["", "# none\n"])
def test_file_without_tokens_is_refused_at_start_up(file, content):
    """A server that would accept no one is a mistake."""
    file.write_text(content)
    with pytest.raises(TokensError, match="there is no token"):
        TokenFiles([file])


def test_unreadable_file_is_named(tmp_path):
    with pytest.raises(TokensError, match="missing: cannot be read: No such file"):
        TokenFiles([tmp_path / "missing"])
    (tmp_path / "picture").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TokensError, match="picture: is not a text file"):
        TokenFiles([tmp_path / "picture"])


def test_same_hash_under_two_names_is_refused(file):
    """Which of the two counted would depend on their order."""
    file.write_text(f"a:read:{_HASH}\nb:write:{_HASH}\n")
    with pytest.raises(TokensError, match="a and b have the same hash"):
        TokenFiles([file])


def test_changed_file_is_reloaded(file):
    old, old_token = new_token("ci", Scope.READ)
    new, new_one = new_token("ci", Scope.WRITE)
    file.write_text(old_token.line())
    tokens = TokenFiles([file])
    file.write_text(f"{old_token.line()}\n{new_one.line()}\n")
    with capture_logs() as logs:
        tokens.read_again()
        tokens.read_again()
    assert [line["tokens"] for line in logs] == [["ci:read", "ci:write"]]
    assert tokens.find(old)
    assert tokens.find(new)
    file.write_text(new_one.line())
    tokens.read_again()
    assert tokens.find(old) is None


def test_last_token_can_be_removed_while_running(file):
    """A file without tokens is refused only at start-up; later it revokes all access."""
    secret, token = new_token("ci", Scope.READ)
    file.write_text(token.line())
    tokens = TokenFiles([file])
    file.write_text("")
    tokens.read_again()
    assert tokens.find(secret) is None


def test_file_that_is_being_written_is_left_for_the_next_check(file, monkeypatch):
    """Truncating and rewriting a file locks no client out in between."""
    secret, token = new_token("ci", Scope.READ)
    more, other = new_token("other", Scope.READ)
    file.write_text(token.line())
    tokens = TokenFiles([file])
    file.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda _: file.write_text(f"{token.line()}\n{other.line()}\n"))
        tokens.read_again()
    assert tokens.find(secret)
    assert tokens.find(more) is None
    tokens.read_again()
    assert tokens.find(more)


def test_invalid_file_leaves_the_previous_tokens_valid(file):
    """The mistake is logged once, and its correction is noticed."""
    secret, token = new_token("ci", Scope.READ)
    file.write_text(token.line())
    tokens = TokenFiles([file])
    file.write_text("ci:read:oops")
    with capture_logs() as logs:
        tokens.read_again()
        tokens.read_again()
    assert [line["log_level"] for line in logs] == ["error"]
    assert "line 1" in logs[0]["problem"]
    assert tokens.find(secret)
    file.unlink()
    with capture_logs() as logs:
        tokens.read_again()
    assert "cannot be read" in logs[0]["problem"]
    _, other = new_token("other", Scope.READ)
    file.write_text(other.line())
    tokens.read_again()
    assert tokens.find(secret) is None


async def test_watched_files_are_reloaded(file):
    _, token = new_token("ci", Scope.READ)
    secret, other = new_token("other", Scope.READ)
    file.write_text(token.line())
    tokens = TokenFiles([file])
    async with tokens.watched(every_s=0.01):
        file.write_text(other.line())
        while tokens.find(secret) is None:  # noqa: ASYNC110 - nothing tells of the change
            await asyncio.sleep(0.01)


def _command(*arguments):
    command = [sys.executable, "-m", "sage_runtime.auth", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_makes_tokens_and_lists_them(file):
    first = _command("new", "ci", "--scope", "write", "--file", file)
    second = _command("new", "page", "--scope", "read", "--expires", "2020-01-31", "--file", file)
    tokens = TokenFiles([file])
    found = [tokens.find(run.stdout.strip()) for run in (first, second)]
    assert [(token.name, token.scope, token.expired()) for token in found] == [
        ("ci", "write", False),
        ("page", "read", True),
    ]
    assert first.stdout.strip() not in file.read_text() + first.stderr
    listing = _command("list", file).stdout
    assert [line.split()[:2] for line in listing.splitlines()] == [["ci", "write"], ["page", "read"]]
    assert "EXPIRED" in listing
    assert found[0].digest.hex() not in listing


def test_command_without_a_file_prints_the_line(tmp_path):
    run = _command("new", "ci", "--scope", "read")
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("ci:")]
    assert next(parse_tokens(line)).digest == hashlib.sha256(run.stdout.strip().encode()).digest()


def test_command_does_not_add_to_an_invalid_file(file):
    file.write_text("ci:read:oops\n")
    run = _command("new", "ci", "--scope", "read", "--file", file)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: ")
    assert file.read_text() == "ci:read:oops\n"
