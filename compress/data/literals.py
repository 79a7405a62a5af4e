"""Parse lists and mappings that a cell holds as text: JSON, Python's repr, numpy's arrays. Nothing is evaluated."""

from __future__ import annotations

import ast
import json
import re

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<number>[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)(?![\w.]))
      | (?P<word>[A-Za-z_]\w*(?:\.\w+)*)
      | (?P<mark>[\[\](){},:=])
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False, "nan": float("nan"), "NaN": float("nan")}
MAX_DEPTH = 20
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")  # a lone surrogate: no Unicode text, and nothing can write it as UTF-8


def parse_literal(text: str) -> object:
    """Return the value that a text writes: of strings, numbers, lists and mappings.

    Lists are separated by commas or, as numpy prints them, by blanks, but not by both: two strings are never joined.

    Raises:
        ValueError: the text is something else.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # not JSON: parsed below as Python or numpy print values
        pass
    parser = _Parser(text)
    value = parser.value()
    parser.end()
    return value


class _Parser:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.position, self.depth = text.rstrip(), 0, 0

    def value(self) -> object:
        """Read a value."""
        kind, read = self._next()
        if kind == "string":
            return ast.literal_eval(read.replace("\n", "\\n").replace("\r", "\\r"))
        if kind == "number":
            return float(read) if re.search(r"[.eE]", read) else int(read)
        if kind == "word" and read in _WORDS:
            return _WORDS[read]
        if kind == "word" and read.rpartition(".")[2] == "array":
            return self._array()
        if read == "[":
            return self._list("]")
        if read == "{":
            return self._mapping()
        raise ValueError(f"{read!r} is no value")

    def end(self) -> None:
        """Expect the end of the text."""
        if self.position < len(self.text):
            raise ValueError(f"{self.text[self.position :][:20]!r} comes after the end")

    def _next(self) -> tuple[str, str]:
        match = _TOKEN.match(self.text, self.position)
        if match is None or match.lastgroup is None:
            raise ValueError(f"{self.text[self.position :][:20]!r} is no value")
        self.position = match.end()
        return match.lastgroup, match[match.lastgroup]

    def _peek(self) -> str:
        match = _TOKEN.match(self.text, self.position)
        return match[match.lastgroup] if match and match.lastgroup else ""

    def _expect(self, token: str) -> None:
        if self._next()[1] != token:
            raise ValueError(f"{token!r} is missing")

    def _list(self, close: str) -> list[object]:
        """Read what follows an opening bracket."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        values: list[object] = []
        commas: bool | None = None
        while self._peek() != close:
            before = self.position
            values.append(self.value())
            if len(values) > 1 and not commas and self.text[before : before + 1] not in (" ", "\n", "\r", "\t", "["):
                raise ValueError("two values without a separator")
            if self._peek() == close:
                break
            comma = self._peek() == ","
            if commas is not None and comma != commas:
                raise ValueError("some commas are missing")
            commas = comma
            if comma:
                self._next()
        self._expect(close)
        self.depth -= 1
        return values

    def _mapping(self) -> dict[object, object]:
        values: dict[object, object] = {}
        while self._peek() != "}":
            key = self.value()
            if not isinstance(key, str) or key in values:
                raise ValueError("a key is no text, or occurs twice")
            self._expect(":")
            values[key] = self.value()
            if self._peek() != "}":
                self._expect(",")
        self._expect("}")
        return values

    def _array(self) -> list[object]:
        """Read what follows `array`: a list in parentheses, perhaps with a type."""
        self._expect("(")
        value = self.value()
        if self._peek() == ",":
            for token in (",", "dtype", "="):
                self._expect(token)
            self._next()
        self._expect(")")
        if not isinstance(value, list):
            raise ValueError("an array that is no list")
        return value
