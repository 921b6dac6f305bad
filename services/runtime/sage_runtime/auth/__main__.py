"""`python -m sage_runtime.auth` makes API tokens and lists the tokens of a file.

new NAME --scope read|write|gateway [--expires 2027-01-31] [--file FILE]
list FILE
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sage_runtime.auth.tokens import Scope, Token, TokenFiles, TokensError, check_name, new_token, parse_date
from sage_runtime.process.settings import fail
from sage_runtime.process.startup import CommandParser

T = TypeVar("T")


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    try:
        if arguments.command == "new":
            _new(arguments)
        else:
            _list(arguments.file)
    except TokensError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m sage_runtime.auth", description="API tokens of SAGE.")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="make a token; it is shown once, and files contain only its hash")
    new.add_argument("name", type=_argument(check_name), help="who or what it is for; it appears in logs")
    new.add_argument("--scope", required=True, choices=[str(scope) for scope in Scope], help="what it allows")
    new.add_argument(
        "--expires", type=_argument(parse_date), metavar="YYYY-MM-DD", help="the last day on which it is valid, in UTC"
    )
    new.add_argument("--file", type=Path, help="add its line to this file, which running servers re-read")
    listing = commands.add_parser("list", help="check a file and list its tokens")
    listing.add_argument("file", type=Path)
    return parser


def _new(arguments: argparse.Namespace) -> None:
    secret, token = new_token(arguments.name, Scope(arguments.scope), expires=arguments.expires)
    if arguments.file:
        _add(arguments.file, token)
        sys.stderr.write(f"Its line was added to {arguments.file}. The token, shown only once:\n")
    else:
        sys.stderr.write(f"The line for the tokens file:\n{token.line()}\nThe token, shown only once:\n")
    # Nothing else goes to stdout, so `... new ci --scope read --file tokens > token` keeps it off the screen.
    sys.stdout.write(f"{secret}\n")


def _add(file: Path, token: Token) -> None:
    """Add a line to a file in one step, so that no server reads half of it."""
    file = file.resolve()  # a symbolic link stays one
    before = ""
    if file.exists():
        before = file.read_text()
        if before.strip():
            # Refuse to add to a file that servers would refuse.
            TokenFiles([file])
        if before and not before.endswith("\n"):
            before += "\n"
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(f"{before}{token.line()}\n")
        if file.exists():
            draft.chmod(file.stat().st_mode & 0o777)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _list(file: Path) -> None:
    for token in TokenFiles([file]).tokens:
        until = f"until {token.expires}" if token.expires else "does not expire"
        state = "EXPIRED" if token.expired() else "valid"
        # The start of the hash distinguishes two tokens with the same name.
        sys.stdout.write(f"{token.name:<24} {token.scope:<8} {token.digest.hex()[:8]} {state:<8} {until}\n")


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a type for argparse, which prints the messages of only its own kind of error."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


if __name__ == "__main__":
    main()
