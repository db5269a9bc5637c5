"""On which line of a TOML document each key stands; `tomllib` does not say.

The document has been accepted by `tomllib` before, so this walks the grammar of TOML 1.0
(https://toml.io/en/v1.0.0) without judging it.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
_STRING = re.compile(
    r"""
    \"{3} (?:\\.|[^\\])*? \"{3} "{0,2} | '{3} .*? '{3} '{0,2}  # several lines
    | " (?:\\.|[^"\\])* " | ' [^']* '
    """,
    re.DOTALL | re.VERBOSE,
)


def key_lines(text: str) -> dict[Path, int]:
    """Line of every key and table of ``text``, by path; elements of lists count from 0."""
    return _Scan(text).document()


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.elements: dict[Path, int] = {}  # how many [[tables]] each path has so far
        self.counted_to = 0
        self.line = 1

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self.blank() < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def blank(self) -> int:
        """Skip white space and comments; say where that ends."""
        match = _BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return self.at

    def note(self, path: Path) -> None:
        self.line += self.text.count("\n", self.counted_to, self.at)
        self.counted_to = self.at
        self.lines.setdefault(path, self.line)

    def header(self) -> Path:
        start = self.at
        many = self.text.startswith("[[", start)
        self.at += 2 if many else 1
        parts = self.key()
        self.blank()
        self.at += 2 if many else 1
        path: Path = ()
        for part in parts[:-1]:
            path = self.latest((*path, part))
        path = (*path, parts[-1])
        end, self.at = self.at, start
        if many:
            number = self.elements[path] = self.elements.get(path, -1) + 1
            self.note(path)
            path = (*path, number)
        else:
            path = self.latest(path)
        self.note(path)
        self.at = end
        return path

    def latest(self, path: Path) -> Path:
        """``path``, or the newest element when it names a list of tables."""
        return (*path, self.elements[path]) if path in self.elements else path

    def key(self) -> list[str]:
        parts = []
        while True:
            self.blank()
            parts.append(self.part())
            self.blank()
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def part(self) -> str:
        match = _BARE.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            return match[0]
        quoted = self.string()
        # Escapes are rare in keys: tomllib reads them.
        return next(iter(tomllib.loads(f"{quoted} = 1")))

    def string(self) -> str:
        match = _STRING.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return match[0]

    def pair(self, table: Path) -> None:
        self.blank()
        start = self.at
        parts = self.key()
        self.at, end = start, self.at
        path = table
        for part in parts:
            path = (*path, part)
            self.note(path)
        self.at = end + 1  # past the equals sign
        self.blank()
        self.value(path)

    def value(self, path: Path) -> None:
        first = self.text[self.at]
        if first in "\"'":
            self.string()
        elif first == "[":
            self.list_of(path)
        elif first == "{":
            self.inline_table(path)
        else:
            match = _SCALAR.match(self.text, self.at)
            assert match is not None
            self.at = match.end()

    def list_of(self, path: Path) -> None:
        self.at += 1
        number = 0
        while self.text[self.blank()] != "]":
            self.note((*path, number))
            self.value((*path, number))
            number += 1
            self.comma()
        self.at += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        while self.text[self.blank()] != "}":
            self.pair(path)
            self.comma()
        self.at += 1

    def comma(self) -> None:
        if self.text[self.blank()] == ",":
            self.at += 1
