"""A complete stack whose callers must sign in: everything works for those with the right scope."""

from collections.abc import Iterator

import pytest
from sage_local.stack import RunningStack, running_stack
from sage_runtime.auth.tokens import Scope, new_token
from support.films import SAMPLES
from support.sage_command import Sage


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A token of each scope, and the file of them under `file`."""
    made = {scope: new_token(f"a-{scope}", scope) for scope in (Scope.READ, Scope.WRITE)}
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("\n".join(token.line() for _, token in made.values()))
    return {"file": str(file), **{str(scope): secret for scope, (secret, _) in made.items()}}


@pytest.fixture(scope="module")
def guarded(tokens: dict[str, str]) -> Iterator[RunningStack]:
    """A stack that accepts these tokens."""
    with running_stack(environment={"SAGE_TOKENS_FILE": tokens["file"]}) as running:
        yield running


async def test_each_scope_permits_what_it_should_and_no_token_is_logged(
    guarded: RunningStack, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sage = Sage(guarded.address)
    old, new = str(SAMPLES / "old.mp4"), str(SAMPLES / "new.mp4")

    refused = await sage("videos")
    assert refused.code == 2
    assert "The call has no token." in refused.err

    monkeypatch.setenv("SAGE_TOKEN", tokens["read"])
    refused = await sage("diff", old, new)
    assert refused.code == 2
    assert "needs the scope write" in refused.err

    monkeypatch.setenv("SAGE_TOKEN", tokens["write"])
    made = await sage("diff", old, new)
    assert made.code == 1, made.err

    monkeypatch.setenv("SAGE_TOKEN", tokens["read"])
    compared = await sage("diff", old, new)
    assert (compared.code, compared.out) == (1, made.out), compared.err

    logs = {name: (guarded.logs / f"{name}.log").read_text() for name in ("ingest", "embed", "compare", "gateway")}
    assert '"caller": "a-read"' in logs["embed"]  # compare asked it for the reader
    assert '"caller": "a-write"' in logs["ingest"]
    assert '"caller": "service"' in logs["ingest"]  # the worker
    everything = "".join(file.read_text(errors="replace") for file in guarded.logs.glob("*.log"))
    assert not [secret for scope, secret in tokens.items() if scope != "file" and secret[5:] in everything]
