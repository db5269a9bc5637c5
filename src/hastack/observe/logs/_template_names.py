"""What the values of a template are called and which type they have."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from ._template_tokens import HOLE, LIST, TAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._template_tokens import Pattern

__all__ = ("classify", "convert", "names", "vote")

_ENOUGH = 0.7
_TYPES = (
    ("int", re.compile(r"[+-]?[0-9]{1,18}")),
    ("float", re.compile(r"[+-]?[0-9]{1,18}\.[0-9]{1,18}(?:[eE][+-]?[0-9]{1,3})?")),
    ("hex", re.compile(r"0[xX][0-9a-fA-F]{1,64}")),
    ("bool", re.compile(r"[Tt]rue|[Ff]alse|TRUE|FALSE")),
    ("ip", re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")),
    ("uuid", re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")),
    ("url", re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{1,15}://\S{1,2000}")),
    ("timestamp", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T_ ][0-9:.,]{5,15}(?:Z|[+-][0-9:]{4,5})?)?")),
    ("null", re.compile(r"null|None|nil|-|")),
)
_SKIPPED = frozenset(
    "a an the is was are be of to at for by in on with from as via and or than = : - id".split()
)
_UNITS = frozenset(
    "byte bytes kb mb gb tb b kib mib gib ms us ns s sec secs second seconds min minutes hours days "
    "percent times mhz ghz".split()
)
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)[\"'\])}]?[=:]+[\"'\[({<]*\Z")
_PREFIX = re.compile(r"([A-Za-z][A-Za-z0-9]*)[_#@-]?\Z")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_NOT_NAME = re.compile(r"[^a-z0-9]+")


def classify(value: str) -> str:
    """The most exact type of a text."""
    for name, expression in _TYPES:
        if expression.fullmatch(value):
            return name
    return "str"


def vote(values: Sequence[str]) -> str:
    """The type of a column: one that more than 70 % have; integers count as floats, too."""
    votes = Counter(map(classify, values))
    votes.pop("null", None)
    total = sum(votes.values())
    if not total:
        return "str"
    name, count = votes.most_common(1)[0]
    if name == "int" and votes["float"]:
        name = "float"
    if name == "float":
        count = votes["int"] + votes["float"]
    return name if count > _ENOUGH * total else "str"


def _timestamp(value: str) -> object:
    return datetime.fromisoformat(value.replace(",", ".").replace("_", " "))


_CONVERT: dict[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "bool": lambda value: value.lower() == "true",
    "timestamp": _timestamp,
}


def convert(value: str, kind: str) -> object:
    """``value`` as ``kind``; None for nothing, and the text itself when it is something else."""
    found = classify(value)
    if found == "null":
        return None
    if kind in _CONVERT and (found == kind or (kind, found) == ("float", "int")):
        try:
            return _CONVERT[kind](value)
        except ValueError:  # a date that does not exist
            return value
    return value


def _clean(name: str) -> str:
    return _NOT_NAME.sub("_", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()).strip("_")


def _before(tokens: Pattern, at: int) -> str:
    """The nearest word in front that can be a name."""
    for token in reversed(tokens[max(0, at - 3) : at]):
        if HOLE in token:
            return ""
        found = _WORD.search(token)
        if found and found[0].lower() not in _SKIPPED:
            return found[0]
    return ""


def names(tokens: Pattern, kinds: Sequence[str]) -> list[str]:
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
            if k and piece == ":" and last in {"ip", "host"} and kind == "int":
                name = "port"
            name = name or (kind if kind not in {"str", "int", "float"} else "arg")
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
    if after.lower() in _UNITS and (not before or before[-1:] in "," or before.lower() in _UNITS):
        return after
    return before


def _numbered(found: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    out = []
    for name in found:
        unique, n = name, 1
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        taken.add(unique)
        out.append(unique)
    return out
