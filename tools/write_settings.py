"""Writes docs/settings.md from the settings in the code: name, default and meaning of every variable.

usage: python tools/write_settings.py [FILE]
"""

import re
import sys
from pathlib import Path

from pydantic.fields import FieldInfo
from sage_compare.config import CompareSettings
from sage_embed.config import ApiSettings, EmbedSettings, LocalSettings, TwelveLabsSettings, WorkerSettings
from sage_gateway.config import GatewaySettings
from sage_ingest.config import IngestSettings
from sage_local.settings import StackSettings
from sage_runtime.process.settings import ServerSettings, Settings

SECTIONS: list[tuple[str, type[Settings], type[Settings]]] = [
    ("Every server", ServerSettings, Settings),
    ("ingest: `python -m sage_ingest serve`", IngestSettings, ServerSettings),
    ("embed, service and workers", EmbedSettings, ServerSettings),
    ("embed's service: `python -m sage_embed serve`", ApiSettings, EmbedSettings),
    ("embed's workers: `python -m sage_embed worker`", WorkerSettings, EmbedSettings),
    ("the local model: `python -m sage_embed serve` and `worker`", LocalSettings, Settings),
    ("embed's work at TwelveLabs: `python -m sage_embed worker`", TwelveLabsSettings, Settings),
    ("compare: `python -m sage_compare serve`", CompareSettings, ServerSettings),
    ("The gateway: `python -m sage_gateway`, `sage-local up`", GatewaySettings, Settings),
    ("The stack on one machine: `sage-local up`", StackSettings, Settings),
]
HEAD = """# Settings

Settings are environment variables, read once at startup. An empty variable counts as unset. If a value is invalid, the
process prints one line that says why and exits with code 2. `make gen` writes this page from the code.

## The `sage` command

| variable | default | meaning |
| --- | --- | --- |
| `SAGE_ADDRESS` | `localhost:8080` | The gateway: HOST:PORT, or https://HOST[:PORT] for TLS. |
| `SAGE_TOKEN` | empty | The API token to sign in with. |
| `SAGE_TOKEN_FILE` | empty | A file that contains the token, instead of `SAGE_TOKEN`. |
| `SAGE_CA_FILE` | empty | File with PEM certificates of a CA that this machine does not already trust. |
| `SAGE_PLAINTEXT_TOKEN` | empty | `1` allows sending the token to another machine without TLS. |
| `SAGE_PARTS_OVER_MIB` | `64` | Files above this size, in MiB, are sent as resumable uploads. |
| `SAGE_DEBUG` | empty | `1` prints the traceback of an unexpected error. |
"""


def main() -> None:
    """Write the page."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "settings.md"
    target.write_text(HEAD + "".join(section(*one) for one in SECTIONS))


def section(title: str, settings: type[Settings], base: type[Settings]) -> str:
    """Return the section for the settings that a class adds to its base, renames, or gives another default."""
    meanings = {
        name: text for one in reversed(settings.__mro__) for name, text in attributes(one.__doc__ or "").items()
    }
    rows = []
    for name, field in settings.model_fields.items():
        inherited = base.model_fields.get(name)
        if inherited is not None and _same(inherited, field):
            continue
        if settings is ServerSettings and name == "listen":
            # Each service has its own variable for it.
            continue
        default = "required" if field.is_required() else shown(field.default)
        rows.append(f"| `{field.validation_alias}` | {default} | {meanings[name]} |\n")
    return f"\n## {title}\n\n| variable | default | meaning |\n| --- | --- | --- |\n{''.join(rows)}"


def _same(inherited: FieldInfo, field: FieldInfo) -> bool:
    return (inherited.validation_alias, inherited.default) == (field.validation_alias, field.default)


def shown(default: object) -> str:
    """Return a default as it would be written in the environment."""
    # An empty secret is not an empty string, but converts to one.
    return "empty" if default is None or str(default) == "" else f"`{default}`"


def attributes(docstring: str) -> dict[str, str]:
    """Return the texts of a Google docstring's Attributes, by name, each on one line."""
    _, _, block = docstring.partition("Attributes:")
    found = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", block, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


if __name__ == "__main__":
    main()
