"""What a regular expression may do, read off its parsed form.

A leaf's expression backtracks inside itself. Accepted is one in which giving back can never help,
or can be tried only a bounded number of times: no repetition without bound inside another, and
what follows an unbounded repetition begins with characters that the repetition does not eat.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._bounds import Unbounded

if TYPE_CHECKING:
    from collections.abc import Sequence

from re import _constants as op  # type: ignore[attr-defined]  # not in typeshed
from re import _parser as parser  # type: ignore[attr-defined]  # not in typeshed

__all__ = ("check", "may_be_empty", "may_be_long", "may_read_on", "never_gives_back")

_FAR = 2000  # a repetition up to this bound counts as short
_ANY = None  # a set of characters of which nothing is known
_SAMPLES = [chr(code) for code in range(128)] + ["\u00e9", "\u4e2d", "\U0001f600"]


@lru_cache(maxsize=4096)
def may_be_long(pattern: str) -> bool:
    """Whether there is no small bound to what it matches."""
    longest: int = parser.parse(pattern, re.DOTALL).getwidth()[1]
    return longest > _FAR


@lru_cache(maxsize=4096)
def may_be_empty(pattern: str) -> bool:
    """Whether it matches the empty text."""
    shortest: int = parser.parse(pattern, re.DOTALL).getwidth()[0]
    return shortest == 0


@lru_cache(maxsize=4096)
def may_read_on(pattern: str) -> bool:
    """Whether it may read arbitrarily far and then not match."""
    tree = parser.parse(pattern, re.DOTALL)
    return _reads_on(tree.state, list(tree))


def _reads_on(state: Any, items: list[tuple[Any, Any]]) -> bool:
    repeats = {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}
    for number, (code, argument) in enumerate(items):
        if parser.SubPattern(state, [items[number]]).getwidth()[1] <= _FAR:
            continue
        rest = items[number + 1 :]
        if any(each in {op.ASSERT, op.ASSERT_NOT, op.AT} for each, _ in rest):
            return True
        if parser.SubPattern(state, rest).getwidth()[0] > 0:
            return True
        if code is op.ATOMIC_GROUP:
            if _reads_on(state, list(argument)):
                return True
        elif code not in repeats or argument[2].getwidth()[1] > _FAR:
            return True
    return False


@lru_cache(maxsize=4096)
def never_gives_back(pattern: str) -> bool:
    """Whether it can match in one way only, so that making it atomic would change nothing."""
    return _one_way(list(parser.parse(pattern, re.DOTALL)))


def _one_way(items: list[tuple[Any, Any]]) -> bool:
    for code, argument in items:
        if code in {op.MAX_REPEAT, op.MIN_REPEAT}:
            least, most, body = argument
            if least != most or not _one_way(list(body)):
                return False
        elif code is op.BRANCH or (code is op.SUBPATTERN and not _one_way(list(argument[-1]))):
            return False
    return True


def check(pattern: str) -> None:
    """Accept a user's expression, or say why not.

    Raises:
        Unbounded: It could take more than time in proportion to what it reads.
        re.error: It is no regular expression.
    """
    tree = parser.parse(pattern, re.DOTALL)
    if tree.state.groups > 1:
        raise Unbounded("groups that capture are for field(): use (?:...)")
    _walk(list(tree), inside=False, after=[])


def _walk(items: list[tuple[Any, Any]], *, inside: bool, after: Sequence[tuple[Any, Any]]) -> None:
    for number, (code, argument) in enumerate(items):
        rest = [*items[number + 1 :], *after]
        if code in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
            _, most, body = argument
            if most > _FAR:
                if inside:
                    raise Unbounded("a repetition without bound inside another one")
                if code is not op.POSSESSIVE_REPEAT:
                    _check_disjoint(list(body), rest)
            _walk(list(body), inside=inside or most > _FAR, after=rest)
        elif code is op.BRANCH:
            for branch in argument[1]:
                _walk(list(branch), inside=inside, after=rest)
        elif code is op.SUBPATTERN:
            _walk(list(argument[-1]), inside=inside, after=rest)
        elif code is op.ATOMIC_GROUP:
            _walk(list(argument), inside=inside, after=[])
        elif code in {op.ASSERT, op.ASSERT_NOT}:
            if parser.SubPattern(argument[1].state, list(argument[1])).getwidth()[1] > _FAR:
                raise Unbounded("a look-around without bound")
        elif code is op.GROUPREF:
            raise Unbounded("a reference back")


def _check_disjoint(body: list[tuple[Any, Any]], rest: Sequence[tuple[Any, Any]]) -> None:
    follows = _first(list(rest))
    eaten = _every(body)
    if follows is None:
        return  # nothing follows that could fail: nothing is ever given back
    if eaten & follows:
        example = min(eaten & follows)
        raise Unbounded(
            f"what follows a repetition may begin with {example!r}, which the repetition eats too: "
            "make it possessive (*+) or say more exactly what it eats"
        )


def _accepts(code: Any, argument: Any) -> set[str]:
    """The sample characters that a single-character item takes."""
    if code is op.LITERAL:
        return {chr(argument)}
    if code is op.ANY:
        return set(_SAMPLES)
    if code is op.NOT_LITERAL:
        return {char for char in _SAMPLES if char != chr(argument)}
    regex = re.compile(_class_source(argument), re.DOTALL)
    return {char for char in _SAMPLES if regex.match(char)}


def _class_source(items: Sequence[tuple[Any, Any]]) -> str:
    parts: list[str] = []
    for code, argument in items:
        if code is op.NEGATE:
            parts.insert(0, "^")
        elif code is op.LITERAL:
            parts.append(re.escape(chr(argument)))
        elif code is op.RANGE:
            parts.append(f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}")
        else:
            parts.append(_CATEGORIES[argument])
    return f"[{''.join(parts)}]"


_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}


def _every(items: Sequence[tuple[Any, Any]]) -> set[str]:
    """Every sample character that may be eaten anywhere in ``items``."""
    found: set[str] = set()
    for code, argument in items:
        if code in {op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN}:
            found |= _accepts(code, argument)
        elif code in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
            found |= _every(list(argument[2]))
        elif code is op.BRANCH:
            for branch in argument[1]:
                found |= _every(list(branch))
        elif code is op.SUBPATTERN:
            found |= _every(list(argument[-1]))
        elif code is op.ATOMIC_GROUP:
            found |= _every(list(argument))
    return found


def _first(items: list[tuple[Any, Any]]) -> set[str] | None:
    """What may come first; `_ANY` when everything may be left out."""
    found: set[str] = set()
    for code, argument in items:
        if code in {op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN}:
            return found | _accepts(code, argument)
        if code in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
            inner = _first(list(argument[2]))
            found |= inner or set()
            if argument[0] > 0 and inner is not _ANY:
                return found
        elif code is op.BRANCH:
            inners = [_first(list(branch)) for branch in argument[1]]
            for inner in inners:
                found |= inner or set()
            if _ANY not in inners:
                return found
        elif code in {op.SUBPATTERN, op.ATOMIC_GROUP}:
            body = list(argument[-1]) if code is op.SUBPATTERN else list(argument)
            inner = _first(body)
            found |= inner or set()
            if inner is not _ANY:
                return found
    return _ANY
