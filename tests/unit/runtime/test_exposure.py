"""Which addresses only this machine reaches."""

import pytest
from sage_runtime.exposure import is_loopback, token_paths


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.9.10:1", "localhost:1", "[::1]:1", "::1:1"])
def test_this_machine(listen):
    """The loopback addresses of both families, and their name."""
    assert is_loopback(listen)


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:1", "[::]:1", "192.168.1.7:1", "localhost.example.com:1", "my-laptop:1", "127.1:1", ":1"]
)
def test_others_may_reach_it(listen):
    """Every other address, and every name that may stand for one."""
    assert not is_loopback(listen)


def test_files_of_tokens_are_separated_by_commas():
    """People's tokens and services' may come from two Secrets."""
    assert [str(path) for path in token_paths(" /a/tokens, /b/tokens,")] == ["/a/tokens", "/b/tokens"]
