"""A JSON object that is read while it arrives, with the elements of its large arrays handed over one by one.

A result of TwelveLabs can have 200 MB. Parsed at once, as the SDK does it, it stops the event loop for many seconds and
takes ten times its size in memory, in whatever thread that happens: the parser does not let go of the interpreter.
"""

import json
from collections.abc import Callable, Generator, Mapping

Path = tuple[str, ...]
Document = dict[str, object]

_SPACE = " \t\n\r"
_ENDS = frozenset(_SPACE + ",]}")
# No element of an array, and nothing else in an answer, is nearly as large: what is, is no answer of TwelveLabs.
_MAX_VALUE_CHARS = 4 * 1024 * 1024


class JsonStreamError(ValueError):
    """What arrived is no JSON object."""


class JsonStream:
    """Reads one JSON object in pieces.

    Args:
        elements: For arrays, by the keys that lead to them, what takes their elements. In the document these arrays
            are left out.
    """

    def __init__(self, elements: Mapping[Path, Callable[[object], None]]) -> None:
        self._elements = elements
        self._inner = {path[:length] for path in elements for length in range(1, len(path))}
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False
        self._document: Document | None = None
        self._parsing = self._parse()

    def feed(self, text: str) -> None:
        """Read on.

        Raises:
            JsonStreamError: It is no JSON object.
        """
        self._text = self._text[self._at :] + text
        self._at = 0
        self._go_on()
        if len(self._text) - self._at > _MAX_VALUE_CHARS:
            raise JsonStreamError("a value is too large")

    def finish(self) -> Document:
        """Return the object without the arrays whose elements were handed over. Nothing follows.

        Raises:
            JsonStreamError: It is no JSON object, or not all of one.
        """
        self._ended = True
        self._go_on()
        if self._document is None or self._text[self._at :].strip(_SPACE):
            raise JsonStreamError("not one JSON object")
        return self._document

    def _go_on(self) -> None:
        if self._document is None:
            next(self._parsing, None)

    # The parser is a generator that is resumed when there is more text.
    def _parse(self) -> Generator[None, None, None]:
        yield from self._expect("{")
        self._document = yield from self._object(())

    def _object(self, path: Path) -> Generator[None, None, Document]:
        document: Document = {}
        if (yield from self._peek()) == "}":
            self._at += 1
            return document
        while True:
            key = yield from self._value()
            if not isinstance(key, str):
                raise JsonStreamError("a key is no string")
            yield from self._expect(":")
            document[key] = yield from self._member((*path, key))
            if (yield from self._expect(",}")) == "}":
                return document

    def _member(self, path: Path) -> Generator[None, None, object]:
        opening = yield from self._peek()
        if opening == "[" and path in self._elements:
            self._at += 1
            yield from self._array(self._elements[path])
            return None
        if opening == "{" and path in self._inner:
            self._at += 1
            return (yield from self._object(path))
        return (yield from self._value())

    def _array(self, take: Callable[[object], None]) -> Generator[None, None, None]:
        if (yield from self._peek()) == "]":
            self._at += 1
            return
        while True:
            take((yield from self._value()))
            if (yield from self._expect(",]")) == "]":
                return

    def _value(self) -> Generator[None, None, object]:
        while True:
            yield from self._peek()
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._ended:
                    raise JsonStreamError("a value is cut off or no JSON") from error
            else:
                # Of a number the rest may be yet to come: `1.` is read as 1, with a point behind it.
                if isinstance(value, str | list | dict) or self._text[end : end + 1] in _ENDS or self._ended:
                    self._at = end
                    return value
            yield

    def _expect(self, characters: str) -> Generator[None, None, str]:
        found = yield from self._peek()
        if found not in characters:
            raise JsonStreamError(f"one of {characters} is missing")
        self._at += 1
        return found

    def _peek(self) -> Generator[None, None, str]:
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                raise JsonStreamError("it ends early")
            yield
