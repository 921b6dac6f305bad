"""Searching for a secret where it must not be."""

import base64

import psycopg
from psycopg import sql

# Number of characters at the end of a key that may be shown.
_SHOWN = 4


def leaks(key: str, where: bytes) -> list[str]:
    """Return the forms in which a key, without its last four characters, is found."""
    secret = key[:-_SHOWN].encode()
    forms = {"in clear": secret, "as hexadecimal digits": secret.hex().encode()}
    for shift in range(3):
        # Its base64 form depends on its offset modulo three; the ends also depend on the adjacent bytes.
        forms[f"as base64, shifted by {shift}"] = base64.b64encode(b"\0" * shift + secret)[4:-4]
    return [name for name, form in forms.items() if form in where]


def everything_in(dsn: str) -> bytes:
    """Return every row of every table of a database as text."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        rows = [
            row
            for table in tables
            for row in connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(*table)))
        ]
    return repr(rows).encode()
