"""Grok patterns as a tree: regular expressions with references to other patterns."""

from __future__ import annotations

import re
from typing import TypeAlias

import attrs

__all__ = ("Choice", "Item", "Mark", "Named", "Piece", "Refused", "Repeat", "Text", "parse")


class Refused(ValueError):
    """A pattern cannot be imported; the message says why."""


@attrs.frozen
class Text:
    """Exactly these characters."""

    text: str


@attrs.frozen
class Piece:
    """One character, or one repeated.

    Attributes:
        one: Expression of one character.
        least: How often at least.
        most: How often at most; ``None`` is any number.
        lazy: As seldom as what follows allows.
    """

    one: str
    least: int = 1
    most: int | None = 1
    lazy: bool = False


@attrs.frozen
class Mark:
    """A place: an anchor, a word boundary, a look-around."""

    pattern: str


@attrs.frozen
class Named:
    """A reference, or a group with a name.

    Attributes:
        name: Of the pattern; empty for a group.
        field: What it is called in the record, if at all.
        kind: Word for the type of the value.
        body: What is in the group.
    """

    name: str
    field: str | None
    kind: str | None
    body: Choice | None = None


@attrs.frozen
class Choice:
    """A group: alternatives of items in order."""

    branches: tuple[tuple[Item, ...], ...]


@attrs.frozen
class Repeat:
    """A group or a reference, repeated."""

    item: Item
    least: int
    most: int | None


Item: TypeAlias = "Text | Piece | Mark | Named | Choice | Repeat"

_REFERENCE = re.compile(r"%\{(\w{1,128})(?::([^:}]{1,128}))?(?::(\w{1,16}))?\}")
_TIMES = re.compile(r"(?:([*+?])|\{(\d{1,4})(,)?(\d{1,4})?\}|\{,(\d{1,4})\})([?+])?")
_CLASS = re.compile(r"\[\^?\]?(?>(?:[^\]\\\[]|\\.|\[:\^?[a-z]{1,10}:\]|\[(?!:))*)\]", re.DOTALL)
_POSIX = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "word": r"\w",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
}
_GROUP = re.compile(
    r"\((?:\?(?::|>|P?<([A-Za-z_][\w.\[\]@-]{0,127})>|(<?[=!])|([a-z-]{1,6}:)|([a-z-]{1,6}\))))?"
)
_DEEP = 40


def parse(text: str) -> Choice:
    """The tree of a pattern.

    Raises:
        Refused: It has something that cannot be imported.
    """
    return _Reader(text).all()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._deep = 0
        self._any_case = False

    def all(self) -> Choice:
        found = self._choice()
        if self._at < len(self._text):
            raise Refused(f"a ')' too many at column {self._at + 1}")
        return found

    def _choice(self) -> Choice:
        self._deep += 1
        if self._deep > _DEEP:
            raise Refused(f"groups more than {_DEEP} deep")
        branches = [self._branch()]
        while self._text.startswith("|", self._at):
            self._at += 1
            branches.append(self._branch())
        self._deep -= 1
        return Choice(tuple(branches))

    def _branch(self) -> tuple[Item, ...]:
        items: list[Item] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            item = self._times(self._atom())
            if isinstance(item, Text) and items and isinstance(items[-1], Text):
                items[-1] = Text(items[-1].text + item.text)
            else:
                items.append(item)
        return tuple(items)

    def _atom(self) -> Item:
        text, at = self._text, self._at
        reference = _REFERENCE.match(text, at)
        if reference is not None:
            self._at = reference.end()
            name, field, kind = reference.groups()
            return Named(name, field and _field(field), kind)
        char = text[at]
        if char == "(":
            return self._group()
        if char == "[":
            return self._set()
        self._at += 1
        if char == ".":
            return Piece(".")
        if char in "^$":
            return Mark(r"\A" if char == "^" else r"\Z")
        if char in "*+?" or (char == "{" and _TIMES.match(text, at)):
            raise Refused(f"nothing to repeat at column {at + 1}")
        if self._any_case and char.isalpha():
            return Piece(f"[{char.lower()}{char.upper()}]")
        return self._escape() if char == "\\" else Text(char)

    def _escape(self) -> Item:
        char = self._text[self._at : self._at + 1]
        self._at += 1
        if char in {"d", "D", "s", "S", "w", "W"}:
            return Piece(f"\\{char}")
        if char == "h":  # a hexadecimal digit, in Oniguruma
            return Piece("[0-9A-Fa-f]")
        if char in {"A", "b", "B", "Z", "z"}:
            return Mark("\\" + ("Z" if char == "z" else char))
        known = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "e": "\x1b"}
        if char in known:
            return Text(known[char])
        if char.isalnum() or not char:
            raise Refused(f"\\{char} at column {self._at - 1}")
        return Text(char)

    def _set(self) -> Item:
        found = _CLASS.match(self._text, self._at)
        if found is None:
            raise Refused(f"a class without an end at column {self._at + 1}")
        self._at = found.end()
        body = re.sub(r"\[:([a-z]+):\]", lambda m: _POSIX.get(m[1], m[0]), found[0])
        body = body.replace(r"\h", "0-9A-Fa-f")
        inner = re.sub(r"(?<!\\)\[", r"\\[", body[1:])
        one = f"[{inner}"
        try:
            re.compile(one)
        except re.error as error:
            raise Refused(f"the class {found[0]}: {error}") from None
        return Piece(one)

    def _group(self) -> Item:
        found = _GROUP.match(self._text, self._at)
        start = self._at
        if found is None or (self._text.startswith("(?", start) and found.end() == start + 1):
            raise Refused(f"the group at column {start + 1}")
        name, around, flags, loose = found.groups()
        if loose is not None or flags not in {None, "i:"}:
            raise Refused(f"flags at column {start + 1}, other than (?i:...)")
        self._at = found.end()
        begin = self._at
        outer, self._any_case = self._any_case, self._any_case or flags is not None
        body = self._choice()
        self._any_case = outer
        if not self._text.startswith(")", self._at):
            raise Refused(f"a group without an end at column {start + 1}")
        inner = self._text[begin : self._at]
        self._at += 1
        if around is not None:
            if "%{" in inner:
                raise Refused(f"a reference in a look-around at column {start + 1}")
            return Mark(f"(?{around}{inner})")
        return body if name is None else Named("", _field(name), None, body)

    def _times(self, item: Item) -> Item:
        found = _TIMES.match(self._text, self._at)
        if found is None:
            return item
        self._at = found.end()
        sign, least, comma, most, at_most, how = found.groups()
        if sign is not None:
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        elif at_most is not None:
            low, high = 0, int(at_most)
        else:
            low = int(least)
            high = int(most) if most else None if comma else low
        if isinstance(item, Mark):
            raise Refused(f"a place that is repeated at column {found.start() + 1}")
        if isinstance(item, Piece):
            return Piece(item.one, low, high, lazy=how == "?")
        if isinstance(item, Text):
            return Piece(re.escape(item.text), low, high, lazy=how == "?")
        return Repeat(item, low, high)


def _field(name: str) -> str:
    """``[a][b]`` is ``a.b``."""
    return ".".join(re.findall(r"[^\[\]]+", name)) or name
