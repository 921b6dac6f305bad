"""What this command signs in with, and whom it trusts: from the environment, never from an argument.

Arguments are seen by everybody who lists processes, and are kept in the shell's history.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sage_cli.errors import Trouble


@dataclass(frozen=True)
class Access:
    """How to get in.

    Attributes:
        token: An API token; empty for none.
        ca_certificates: Certificates that the server's has to lead to, PEM; None for those that this machine trusts.
        plaintext_token: Whether the token may go to another machine without TLS.
    """

    token: str = field(default="", repr=False)
    ca_certificates: bytes | None = None
    plaintext_token: bool = False


def read_access(environment: Mapping[str, str]) -> Access:
    """Return what SAGE_TOKEN or SAGE_TOKEN_FILE, SAGE_CA_FILE and SAGE_PLAINTEXT_TOKEN say. Empty ones say nothing.

    Raises:
        Trouble: A file cannot be read, or what should be a token cannot be one.
    """
    token, token_file, ca_file = (environment.get(f"SAGE_{name}", "") for name in ("TOKEN", "TOKEN_FILE", "CA_FILE"))
    if token and token_file:
        raise Trouble("SAGE_TOKEN and SAGE_TOKEN_FILE are both set.", next_step="Unset one of the two.")
    source = "SAGE_TOKEN_FILE" if token_file else "SAGE_TOKEN"
    if token_file:
        token = _read(token_file, variable=source).decode(errors="replace")
    token = token.strip()
    # What is not visible ASCII cannot be sent, and what has several words is some other file. Neither is shown.
    if (token_file and not token) or not token.isascii() or not token.isprintable() or " " in token:
        raise Trouble(f"What {source} has is not a token.", next_step="It should be one word, such as sage_AbC...")
    certificates = _read(ca_file, variable="SAGE_CA_FILE") if ca_file else None
    # grpcio would say so of the connection, and only when there is one.
    if certificates is not None and b"-----BEGIN CERTIFICATE-----" not in certificates:
        raise Trouble(f"SAGE_CA_FILE: {ca_file} has no certificates in it.", next_step="It should be a PEM file.")
    return Access(
        token=token,
        ca_certificates=certificates,
        plaintext_token=environment.get("SAGE_PLAINTEXT_TOKEN", "") == "1",
    )


def _read(file: str, *, variable: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Trouble(f"{variable}: {file} cannot be read: {error.strerror}.") from error
