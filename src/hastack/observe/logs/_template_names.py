"""What the values of a template are called and which type they have."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

from ._template_tokens import HOLE, LIST, TAIL, word_set
from ._value_types import BROKEN, reader, type_of_text
from ._vote import vote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._template_tokens import Pattern

__all__ = ("Slot", "named", "slots")

_EXAMPLES = 3
_SKIPPED = word_set(
    "a an the is was are be of to at for by in on with from as via and or than = : - id"
)
_UNITS = word_set(
    "byte bytes kb mb gb tb b kib mib gib ms us ns s sec secs second seconds min "
    "minutes hours days percent times mhz ghz"
)
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]{0,63})[\"'\])}]?[=:]++[\"'\[({<]*\Z")
_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9]{0,63})[_#@-]?\Z")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_NOT_NAME = re.compile(r"[^a-z0-9]+")
_HUMP = re.compile(r"([a-z0-9])([A-Z])")
# What a record of such a line has beside its values.
_TAKEN = ("template", "message")
_NO_NAMES = frozenset({"str", "int", "float", "null"})


@attrs.frozen
class Slot:
    """A variable part of a template.

    Attributes:
        name: What stands before the values says how they are called.
        type: What more than 70 % of them are; ``"str"`` when there is no such type.
        confidence: The share of values that have this type.
        examples: Some values.
    """

    name: str
    type: str
    confidence: float
    examples: tuple[str, ...]


@cache
def _reader(kind: str) -> Callable[[Any], Any]:
    return reader(kind)


def _value(text: str, kind: str) -> object:
    """``text`` as ``kind``; None for nothing, and the text itself when it is something else."""
    read = _reader(kind)(text)
    return text if read is BROKEN else read


def slots(tokens: Pattern, holes: int, samples: Sequence[Sequence[str]]) -> tuple[Slot, ...]:
    """The slots of a template.

    Args:
        tokens: Its tokens.
        holes: How many values there are.
        samples: Values of some lines.
    """
    columns = list(zip(*samples, strict=True)) if samples else [()] * holes
    verdicts = [vote(Counter(map(type_of_text, column))) for column in columns]
    kinds = [verdict.type if verdict.values else "str" for verdict in verdicts]
    return tuple(
        Slot(name, kind, verdict.share, tuple(dict.fromkeys(column))[:_EXAMPLES])
        for name, kind, verdict, column in zip(
            _names(tokens, kinds), kinds, verdicts, columns, strict=True
        )
    )


def named(found: Sequence[Slot], values: Sequence[str]) -> dict[str, object]:
    """Values by name and of their type."""
    return {slot.name: _value(value, slot.type) for slot, value in zip(found, values, strict=True)}


def _clean(name: str) -> str:
    return _NOT_NAME.sub("_", _HUMP.sub(r"\1_\2", name).lower()).strip("_")


def _before(tokens: Pattern, at: int) -> str:
    """The nearest word in front that can be a name."""
    for token in reversed(tokens[max(0, at - 3) : at]):
        if HOLE in token:
            return ""
        found = _WORD.search(token)
        if found and found[0].lower() not in _SKIPPED:
            return found[0]
    return ""


def _names(tokens: Pattern, kinds: Sequence[str]) -> list[str]:
    """A name for each hole.

    ``key=`` and what else is written together with the value come first, then the unit behind it,
    the word before it, and at last its type. Names that come again are numbered.

    Args:
        tokens: The template.
        kinds: The type of each hole.
    """
    found: list[str] = []
    last = ""
    for at, token in enumerate(tokens):
        if token == TAIL:
            found.append("rest")
            continue
        pieces = token.lstrip(LIST).split(HOLE)
        for k, piece in enumerate(pieces[:-1]):
            kind = kinds[len(found)]
            name = _clean(_name(tokens, at, piece, first=k == 0))
            if k and piece == ":" and last in {"ip", "str"} and kind == "int":
                name = "port"
            name = name or ("arg" if kind in _NO_NAMES else kind)
            found.append(name)
            last = kind
    return _numbered(found)


def _name(tokens: Pattern, at: int, piece: str, *, first: bool) -> str:
    key = _KEY.search(piece) or _PREFIX.search(piece)
    if key:
        return key[1]
    if not first:
        return ""
    after = tokens[at + 1].strip("()[],.;:") if at + 1 < len(tokens) else ""
    before = _before(tokens, at)
    if after.lower() in _UNITS and (not before or before.endswith(",") or before.lower() in _UNITS):
        return after
    return before


def _numbered(found: Sequence[str]) -> list[str]:
    taken: set[str] = set(_TAKEN)
    out = []
    for name in found:
        unique, n = name, 1
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        taken.add(unique)
        out.append(unique)
    return out
