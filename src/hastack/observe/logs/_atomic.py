"""Regular expressions that mean the same on every Python 3.11.

Before 3.11.5 a possessive repetition of a group could match what it must not, or miss what it must
match, as soon as the group's inside had tried something in vain (python/cpython#106052 and
#100061). Atomic groups are right there, and ``X*+`` is ``(?>X*)``.
"""

from __future__ import annotations

import re

__all__ = ("as_atomic", "compile_regex")

_PIECE = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|.", re.DOTALL)
_TIMES = re.compile(r"([*+?]|\{[0-9]*,?[0-9]*\})\+")
_IS_RIGHT = re.fullmatch("(?:ab?c)?+", "a") is None


def compile_regex(pattern: str, *, right: bool = _IS_RIGHT) -> re.Pattern[str]:
    """An expression whose dot matches every character.

    Args:
        pattern: The expression.
        right: Whether the interpreter repeats groups possessively as it should.
    """
    return re.compile(pattern if right else as_atomic(pattern), re.DOTALL)


def as_atomic(pattern: str) -> str:
    """The same expression, with possessive repetitions of groups written as atomic groups."""
    pieces: list[str] = []
    opened: list[int] = []
    at = 0
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        assert piece is not None
        at = piece.end()
        pieces.append(piece[0])
        if piece[0] == "(":
            opened.append(len(pieces) - 1)
        elif piece[0] == ")" and opened:
            start = opened.pop()
            times = _TIMES.match(pattern, at)
            if times is not None:
                pieces[start] = f"(?>{pieces[start]}"
                pieces.append(f"{times[1]})")
                at = times.end()
    return "".join(pieces)
