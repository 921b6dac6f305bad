"""Which addresses only this machine reaches."""

import pytest
from sage_runtime.auth.sign_in import is_loopback, token_paths


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "::1"])
def test_loopback_addresses_are_recognized(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "localhost.example.com", "my-laptop", "127.1", ""])
def test_other_addresses_and_names_are_not_loopback(host):
    assert not is_loopback(host)


def test_token_files_are_separated_by_commas():
    assert [str(path) for path in token_paths(" /a/tokens, /b/tokens,")] == ["/a/tokens", "/b/tokens"]
