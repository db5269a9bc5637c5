"""Which type a field has, by the votes of its values.

A type decides when more than 70 % of the values that are not null are of it, exactly 70 % do not.
An int is a float: where both occur, float has the votes of both. A field that no type decides is a
text. A type, once decided, is left only when fewer than half of the values are of it.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("ENTER", "LEAVE", "Verdict", "decided_values", "holds", "support", "vote", "wilson")

ENTER: Final = (7, 10)
"""A type decides above this share. Whole numbers, so that exactly 70 % is exact."""

LEAVE: Final = (1, 2)
"""A decided type is left below this share."""

_UNDER: Final = {"float": ("int",), "json": ("object",)}
_SILENT: Final = frozenset({"null", "blank"})
# Of two types with equal votes the narrower one, of unrelated ones none can have 70 % twice.
_ORDER: Final = (
    *("bool", "int", "timestamp", "duration", "size", "ip", "uuid", "url", "object"),
    *("float", "json"),
)


@final
@attrs.frozen
class Verdict:
    """What a vote came to.

    Attributes:
        type: The type; ``"str"`` when none decides, ``"null"`` when there was no value.
        share: How many of the values it holds, from 0 to 1.
        bound: The lower bound of that share, see `wilson`.
        values: How many values voted.
    """

    type: str
    share: float
    bound: float
    values: int


def decided_values(tally: Mapping[str, int]) -> int:
    """How many values vote: neither nulls, nor texts that stand for nothing."""
    return sum(count for word, count in tally.items() if word not in _SILENT)


def support(word: str, tally: Mapping[str, int]) -> int:
    """How many of the values that vote a type holds."""
    if word == "str":
        return decided_values(tally)
    return tally.get(word, 0) + sum(tally.get(under, 0) for under in _UNDER.get(word, ()))


def vote(tally: Mapping[str, int]) -> Verdict:
    """Decide on a type.

    Among the types that decide, the one that holds most values, and of two with the same the
    narrower one: 80 ints and 20 floats are floats, for as ints 20 values would not be what the
    schema says of them.

    Args:
        tally: How many values of each type there were; ``"null"`` and ``"blank"`` do not vote.

    Example:
        >>> vote({"int": 60, "float": 40}).type, vote({"int": 70, "str": 30}).type
        ('float', 'str')
    """
    values = decided_values(tally)
    if not values:
        return Verdict("str" if tally.get("blank") else "null", 0.0, 0.0, 0)
    best, most = "str", 0
    for word in _ORDER:
        votes = support(word, tally)
        if votes > most and votes * ENTER[1] > values * ENTER[0]:
            best, most = word, votes
    if best == "str":
        most = values  # everything is a text
    return Verdict(best, most / values, wilson(most, values), values)


def holds(word: str, tally: Mapping[str, int]) -> bool:
    """Whether a decided type stays: at least half of the values are of it."""
    return support(word, tally) * LEAVE[1] >= decided_values(tally) * LEAVE[0]


def wilson(successes: int, trials: int, *, z: float = 1.959963984540054) -> float:
    """The lower end of Wilson's interval for a share: how large it is at least, with 97.5 %.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22
    (1927). Unlike the share itself, it says how much was looked at: 3 of 3 are not 100 of 100.

    Args:
        successes: How many.
        trials: Of how many; 0 knows nothing and gives 0.
        z: The quantile of the normal distribution.

    Example:
        >>> round(wilson(3, 3), 2), round(wilson(100, 100), 2)
        (0.44, 0.96)
    """
    if not trials:
        return 0.0
    share, square = successes / trials, z * z
    middle = share + square / (2 * trials)
    width = z * sqrt(share * (1.0 - share) / trials + square / (4.0 * trials * trials))
    # Rounding must not put it beside what it bounds.
    return min(share, max(0.0, (middle - width) / (1.0 + square / trials)))
