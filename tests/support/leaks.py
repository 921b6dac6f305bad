"""Looking for a secret where it has no business."""

import base64

import psycopg
from psycopg import sql

# So many characters at the end of a key may be shown.
_SHOWN = 4


def leaks(key: str, where: bytes) -> list[str]:
    """Return in which forms a key, but for its last four characters, is there."""
    secret = key[:-_SHOWN].encode()
    forms = {"in clear": secret, "as hexadecimal digits": secret.hex().encode()}
    for shift in range(3):
        # Where it begins in three bytes decides how base64 writes it; the ends depend on what is beside it.
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
