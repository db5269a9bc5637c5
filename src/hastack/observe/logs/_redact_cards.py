"""Which digits are the number of a payment card.

The prefixes and lengths are those that the schemes publish (ISO/IEC 7812); together with the check
digit they keep most other long numbers out: of those that have a card's prefix and length, every
tenth passes the check by chance.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ("CARD", "is_card", "luhn")

# Not a part of a longer number, nor the fraction of one: what stands before is looked at after the
# first digit, because a search for a digit is fast and one for what is not there is not.
CARD: Final = re.compile(
    r"[0-9](?<![0-9.].)(?:[0-9]{12,18}+"
    r"|[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?"
    r"|[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5}+)(?!\.?[0-9])",
    re.DOTALL,
)
"""How the number of a card is written: without gaps, or in the groups of its scheme."""

_ONCE: Final = {str(digit): digit for digit in range(10)}
_TWICE: Final = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}
# First and last prefix, and the lengths that go with them.
_SCHEMES: Final = (
    ("4", "4", (13, 16, 19)),
    ("51", "55", (16,)),
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),
    ("37", "37", (15,)),
    ("6011", "6011", (16, 19)),
    ("644", "659", (16, 19)),
    ("300", "305", (14, 16)),
    ("36", "36", (14, 15, 16, 17, 18, 19)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 17, 18, 19)),
    ("62", "62", (16, 17, 18, 19)),
    ("50", "50", (13, 14, 15, 16, 17, 18, 19)),
    ("56", "58", (13, 14, 15, 16, 17, 18, 19)),
    ("63", "63", (16, 18, 19)),
    ("67", "67", (16, 18, 19)),
)


def luhn(digits: str) -> bool:
    """Whether the last of some digits is the check digit of the others (ISO/IEC 7812-1, annex B).

    Example:
        >>> luhn("4111111111111111"), luhn("4111111111111112")
        (True, False)
    """
    once = sum(map(_ONCE.__getitem__, digits[-1::-2]))
    return (once + sum(map(_TWICE.__getitem__, digits[-2::-2]))) % 10 == 0


def is_card(digits: str) -> bool:
    """Whether digits, without gaps, are the number of a card."""
    if not luhn(digits):
        return False
    size = len(digits)
    return any(
        size in sizes and first <= digits[: len(first)] <= last for first, last, sizes in _SCHEMES
    )
