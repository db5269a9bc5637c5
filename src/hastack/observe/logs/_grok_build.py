"""Grok patterns as grammars of combinators, which read in time that is bound by the line.

A regular expression tries again and again what matched; a grammar never does. What grok patterns
need of that is little: a repeated character gives back as much as the text that follows it needs.
So each repetition knows what may follow, and goes up to its last place (``.*``) or its first
(``.*?``). What cannot be said so is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import _leaf_bounds, _values
from . import combinators as c
from ._atomic import compile_regex
from ._bounds import cost
from ._fuse import Fused, without_groups
from ._grok_syntax import Choice, Mark, Named, Piece, Refused, Repeat, Text, parse
from ._nodes import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._grok_syntax import Item

__all__ = ("Builder",)

END = r"\Z"
_DEEP = 40
_FAR = 64  # characters that are looked ahead at
_WIDE = 400  # characters of an expression that looks ahead
_DURATION = compile_regex(rf"(?:{_values.DURATION})\Z")
_SIZE = compile_regex(rf"(?:{_values.SIZE})\Z")
_ASCII = [chr(code) for code in range(128)]


def _seconds(text: str) -> float:
    found = _DURATION.match(text)
    return _values.duration(text) if found is not None else float(text)


def _bytes(text: str) -> int:
    found = _SIZE.match(text)
    return _values.size(text) if found is not None else int(text)


_KINDS: dict[str, tuple[Callable[[str], Any] | None, str]] = {
    **dict.fromkeys(("int", "integer", "long"), (int, "int")),
    **dict.fromkeys(("float", "double"), (float, "float")),
    **dict.fromkeys(("bool", "boolean"), (_values.boolean, "bool")),
    **dict.fromkeys(("string", "str"), (None, "str")),
    **dict.fromkeys(("ip", "uuid", "url"), (None, "str")),
    "hex": (lambda text: int(text, 16), "int"),
    "duration": (_seconds, "duration"),
    "size": (_bytes, "size"),
}


class Builder:
    """Makes grammars of trees.

    Args:
        patterns: Texts of the patterns that may be referred to.
        moment: Reads timestamps of any known shape.
    """

    def __init__(self, patterns: Mapping[str, str], moment: Callable[[str], Any]) -> None:
        self._patterns = patterns
        self._trees: dict[str, Choice] = {}
        self._kinds = {**_KINDS, "timestamp": (moment, "timestamp")}
        self._deep = 0

    def grammar(self, text: str, rest: str | None) -> c.Parser:
        """The grammar of a pattern; what follows it on the line goes to the field ``rest``."""
        tree = parse(text)
        if len(tree.branches) == 1:
            items = list(tree.branches[0])
            while items and items[0] == Mark(r"\A"):
                del items[0]
            while items and items[-1] == Mark(END):
                del items[-1]
            tree = Choice((tuple(items),))
        made = self._choice(tree, END if rest is None else "")
        return made if rest is None else c.seq(made, c.field(rest, c.rest))

    def _tree(self, item: Named) -> Choice:
        if item.body is not None:
            return item.body
        found = self._trees.get(item.name)
        if found is None:
            if item.name not in self._patterns:
                raise Refused(f"the name {item.name}, which is not known")
            try:
                found = self._trees[item.name] = parse(self._patterns[item.name])
            except Refused as error:
                raise Refused(f"in {item.name}: {error}") from None
        return found

    def _has_fields(self, item: Item) -> bool:
        if isinstance(item, Named):
            self._enter(item.name)
            found = item.field is not None or self._has_fields(self._tree(item))
            self._deep -= 1
            return found
        if isinstance(item, Choice):
            return any(self._has_fields(each) for branch in item.branches for each in branch)
        return isinstance(item, Repeat) and self._has_fields(item.item)

    def _enter(self, name: str) -> None:
        self._deep += 1
        if self._deep > _DEEP:
            raise Refused(f"{name}, which refers to itself, or is {_DEEP} patterns deep")

    # -- grammars -------------------------------------------------------------------------

    def _choice(self, choice: Choice, follow: str) -> c.Parser:
        branches = [self._sequence(branch, follow) for branch in choice.branches]
        return branches[0] if len(branches) == 1 else c.alt(*branches)

    def _sequence(self, items: tuple[Item, ...], follow: str) -> c.Parser:
        made = []
        for item in reversed(items):
            made.append(self._item(item, follow))
            follow = self._lead(item, follow)
        return c.seq(*reversed(made))

    def _item(self, item: Item, follow: str) -> Any:
        if isinstance(item, Text):
            return c.lit(item.text)
        if isinstance(item, Piece):
            return _leaf(_repeated(item, follow), None)
        if isinstance(item, Mark):
            return _leaf(_looking(item.pattern), None)
        if isinstance(item, Choice):
            return self._choice(item, follow)
        if isinstance(item, Named):
            self._enter(item.name)
            made = self._named(item, follow)
            self._deep -= 1
            return made
        return self._repeat(item, follow)

    def _repeat(self, item: Repeat, follow: str) -> c.Parser:
        if item.most == 1:
            inner = self._item(item.item, follow)
            return inner if item.least else c.opt(inner)
        if self._has_fields(item.item):
            raise Refused("a field in what is repeated")
        inner = self._item(item.item, self._either(self._lead(item.item, ""), follow))
        return c.many(inner, least=item.least, most=item.most)

    def _named(self, item: Named, follow: str) -> c.Parser:
        tree = self._tree(item)
        if self._has_fields(tree):
            if item.field is not None:
                raise Refused(f"the field {item.field} around other fields")
            return self._choice(tree, follow)
        made = self._choice(tree, follow)
        cost(made.node)
        pattern = without_groups(Fused(made.node).pattern)
        leaf = _leaf(pattern, self._conversion(item), item.name or item.field or "")
        return leaf if item.field is None else c.field(item.field, leaf)

    def _conversion(self, item: Named) -> tuple[Callable[[str], Any] | None, str]:
        if item.kind is None:
            return None, "str"
        found = self._kinds.get(item.kind)
        if found is None:
            raise Refused(f"the type {item.kind}: known are {', '.join(sorted(self._kinds))}")
        return found

    # -- what may follow ------------------------------------------------------------------

    def _lead(self, item: Item, follow: str) -> str:
        """An expression for what ``item`` begins with; ``""`` when it is anything."""
        if isinstance(item, Text):
            whole = len(item.text) <= _FAR
            return self._short(re.escape(item.text[:_FAR]), follow if whole else "")
        if isinstance(item, Piece):
            if not item.least:
                return self._either(item.one, follow)
            whole = item.least == item.most and item.least <= _FAR
            times = f"{{{min(item.least, _FAR)}}}" if item.least > 1 else ""
            return self._short(f"{item.one}{times}", follow if whole else "")
        if isinstance(item, Mark):
            return END if item.pattern == END else follow
        if isinstance(item, Repeat):
            first = self._lead(item.item, follow if item.most == 1 else "")
            return first if item.least else self._either(first, follow)
        if isinstance(item, Named):
            self._enter(item.name)
            found = self._lead(self._tree(item), follow)
            self._deep -= 1
            return found
        leads = []
        for branch in item.branches:
            lead = follow
            for each in reversed(branch):
                lead = self._lead(each, lead)
            leads.append(lead)
        return self._either(*leads)

    @staticmethod
    def _short(text: str, follow: str) -> str:
        return f"{text}{follow}" if len(follow) < _WIDE // 2 else text

    @staticmethod
    def _either(*leads: str) -> str:
        if not all(leads):
            return ""
        joined = "|".join(dict.fromkeys(leads))
        if len(joined) > _WIDE:
            firsts = list(dict.fromkeys(map(_first_of, leads)))
            joined = "|".join(firsts) if all(firsts) else ""
        return joined and f"(?:{joined})"


def _leaf(
    pattern: str, conversion: tuple[Callable[[str], Any] | None, str] | None, name: str = ""
) -> c.Parser:
    convert, kind = conversion or (None, "str")
    return c.Parser(Leaf(pattern, convert, expected=name or f"/{pattern}/", kind=kind))


def _looking(pattern: str) -> str:
    try:
        _leaf_bounds.check(pattern)
        re.compile(pattern)
    except re.error as error:
        raise Refused(f"{pattern}: {error}") from None
    return pattern


def _repeated(item: Piece, follow: str) -> str:
    """One character, or as many as what follows leaves."""
    if item.least == item.most:
        return item.one if item.least == 1 else f"{item.one}{{{item.least}}}"
    high = "" if item.most is None else str(item.most)
    times = f"{{{item.least},{high}}}"
    if not follow:
        # Nothing is known of what comes next: lazy takes the least, greedy the most.
        return f"{item.one}{{{item.least}}}" if item.lazy else f"{item.one}{times}+"
    if item.lazy:
        return f"(?>{item.one}{times}?(?={follow}))"
    if _apart(item.one, follow):
        return f"{item.one}{times}+"
    return f"(?>{item.one}{times}(?={follow}))"


def _apart(one: str, follow: str) -> bool:
    """Whether what is repeated is never what follows it."""
    first = _firsts(follow)
    return first is not None and not first & (_firsts(one) or set())


def _firsts(pattern: str) -> set[str] | None:
    parser: Any = _leaf_bounds.parser  # type: ignore[attr-defined]  # private
    if pattern == END:
        return set()
    return _leaf_bounds._first(list(parser.parse(pattern, re.DOTALL)))


def _first_of(lead: str) -> str:
    """One character instead of a long text; ``""`` when it may be any."""
    found = _firsts(lead)
    if found is None:
        return ""
    ascii_ones = "".join(re.escape(char) for char in _ASCII if char in found)
    beyond = "\\x80-\\U0010ffff" if any(char > "\x7f" for char in found) else ""
    return f"[{ascii_ones}{beyond}]" if ascii_ones or beyond else lead
