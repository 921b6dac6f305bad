"""Reading a key without showing it: from a prompt, or from standard input."""

import getpass
import sys
import warnings
from collections.abc import Sequence

from sage_cli.errors import Trouble

PROMPT = "TwelveLabs API key (it is not shown): "

# Far more than a key has: what is longer is another file.
MAX_BYTES = 4096

_HOW = "Run `sage key set` and paste the key, or `sage key set < FILE`."


def read_key(arguments: Sequence[str]) -> str:
    """Return the key that somebody types or pipes in.

    Args:
        arguments: What was given on the command line, where a key has no business.

    Raises:
        Trouble: There is an argument, nothing to read, or something that is no key. It never quotes what it is about.
        KeyboardInterrupt: Ctrl-C at the prompt.
    """
    if arguments:
        raise Trouble(
            "A key is not taken as an argument: everybody on this machine sees a command's arguments, and the shell "
            "writes them down.",
            next_step=f"{_HOW} If that was the key, delete it from the shell's history.",
        )
    text = _ask() if sys.stdin.isatty() else _read()
    if not text.strip():
        raise Trouble("No key came.", next_step=_HOW)
    return text


def _ask() -> str:
    with warnings.catch_warnings():
        # It warns where it cannot keep the key from being shown, and would show it then.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(PROMPT)
        except EOFError:
            return ""
        except getpass.GetPassWarning:
            raise Trouble(
                "This terminal cannot hide what is typed.", next_step="Use a file: `sage key set < FILE`."
            ) from None


def _read() -> str:
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Trouble(f"Standard input has more than {MAX_BYTES} bytes, which is no key.", next_step=_HOW)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Trouble("Standard input is not text, so it is no key.", next_step=_HOW) from None
