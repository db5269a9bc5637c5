"""What in one text must not be seen, and where exactly it is.

Each function replaces one kind of thing in a text. All expressions are bounded or possessive: the
time is in proportion to the text. What has been replaced already is not found again, so redacting
twice is the same as once.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections import Counter
from itertools import pairwise
from math import log2
from typing import TYPE_CHECKING, Final, TypeAlias

from ._redact_cards import CARD, is_card
from ._redact_ips import V4, V6
from ._redact_scan import NAMES, PIECES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "KINDS",
    "REPLACED",
    "Replace",
    "cards",
    "emails",
    "ips",
    "logins",
    "random",
    "secrets",
    "tokens",
)

KINDS: Final = ("email", "token", "secret", "card", "ip", "random")
"""The words for what is found: a secret is what a name says is one, random what looks like it."""

Replace: TypeAlias = "Callable[[str], str]"
"""From what was found to what stands there instead."""

REPLACED: Final = re.compile(
    rf"\[(?:{'|'.join(KINDS)})\]|(?:{'|'.join(KINDS)})#[a-z0-9.-]{{0,32}}:[a-p]{{24}}"
)
"""What stands where something was: a mark, or the keyed hash of it and the name of the key."""

_LOCAL: Final = re.compile(
    r"[^\s\0-\x1f\"'<>()\[\],;:=|/\\@&?]{1,64}+"
)  # read backwards from the @
_DOMAIN: Final = re.compile(r"(?:[\w-]{1,63}+\.){1,8}[^\W\d_][\w-]{1,62}+")
_AT: Final = re.compile(r"@|%40")


def emails(text: str, replace: Replace) -> str:
    """Addresses of people: ``ada@example.org``, ``ada%40example.org``."""
    parts: list[str] = []
    done = 0
    for at in _AT.finditer(text):
        start, end = at.span()
        if start < done:
            continue
        local = _LOCAL.match(text[max(done, start - 64) : start][::-1])
        domain = _DOMAIN.match(text, end)
        if local is None or domain is None:
            continue
        start -= local.end()
        end = _chain(text, domain.end())
        parts += [text[done:start], replace(text[start:end].lower().replace("%40", "@"))]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def _chain(text: str, end: int) -> int:
    """``a@b.org@c.org`` is one: a hash must not stand before an ``@``."""
    while (at := _AT.match(text, end)) and (domain := _DOMAIN.match(text, at.end())):
        end = domain.end()
    return end


_PEM: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,32}PRIVATE KEY-----)?"
)
_LOGIN: Final = re.compile(r"(?<=://)([^\s/:@]{0,64}+):([^\s/@]{1,256}+)(?=@)")
_BEARER: Final = re.compile(
    r"(?<![A-Za-z0-9])(bearer[ \t]+)([A-Za-z0-9._~+/=-]{8,}+)", re.IGNORECASE
)
_BASIC: Final = re.compile(
    r"(?<![A-Za-z0-9])(basic[ \t]+)([A-Za-z0-9+/]{4,}+={0,2})", re.IGNORECASE
)
_TOKEN: Final = re.compile(  # the first character first: see `_redact_cards.CARD`
    r"[eAgxnpsrS](?<![A-Za-z0-9_-].)(?:"
    r"(?<=e)yJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)?+"
    r"|(?<=A)(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}|(?<=A)Iza[A-Za-z0-9_-]{30,}+"
    r"|(?<=g)h[pousr]_[A-Za-z0-9]{20,}+|(?<=g)ithub_pat_[A-Za-z0-9_]{20,}+"
    r"|(?<=g)lpat-[A-Za-z0-9_-]{16,}+|(?<=x)ox[abposr]-[A-Za-z0-9-]{15,}+"
    r"|(?<=n)pm_[A-Za-z0-9]{30,}+|(?<=p)ypi-[A-Za-z0-9_-]{40,}+"
    r"|(?<=[srp])k_(?:live|test)_[A-Za-z0-9]{16,}+|(?<=s)k-[A-Za-z0-9_-]{32,}+"
    r"|(?<=S)G\.[A-Za-z0-9_-]{20,}+\.[A-Za-z0-9_-]{20,}+)",
    re.DOTALL,
)


def tokens(text: str, replace: Replace) -> str:
    """Tokens that are known by their prefix: of AWS, GitHub, Slack and others, and JWT."""
    return _TOKEN.sub(lambda found: replace(found[0]), text)


def logins(text: str, replace: Replace) -> str:
    """Credentials known by what stands before them: private keys, passwords in URLs, schemes."""
    if "-----BEGIN" in text:
        text = _PEM.sub(lambda found: replace(found[0]), text)
    if "://" in text:
        text = _LOGIN.sub(lambda found: _login(found, replace), text)
    if "earer" in text or "EARER" in text:
        text = _BEARER.sub(lambda found: _bearer(found, replace), text)
    if "asic" in text or "ASIC" in text:
        text = _BASIC.sub(lambda found: _basic(found, replace), text)
    return text


def _login(found: re.Match[str], replace: Replace) -> str:
    """A hash would do here what an address of mail does: stand before an ``@``."""
    if found[2] != "[token]":
        replace(found[2])
    return f"{found[1]}:[token]"


def _bearer(found: re.Match[str], replace: Replace) -> str:
    """``bearer of good news`` is no token: those have digits, or are long."""
    word = found[2]
    if len(word) < 24 and not any(char.isdigit() for char in word):
        return found[0]
    return found[1] + replace(word)


def _basic(found: re.Match[str], replace: Replace) -> str:
    """What is in Base64 there is a name, a colon and a password; what is not is a word."""
    word = found[2]
    try:
        named = b":" in b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        return found[0]
    return found[1] + replace(word) if named else found[0]


_NAMED: Final = re.compile(
    "(?P<name>"
    + "|".join(
        re.sub("(?<=.)(?=key$|id$)", "[_-]?", n) for n in sorted(NAMES, key=len, reverse=True)
    )
    + r")\\?[\"']?[ \t]{0,4}+(?P<sign>[=:])>?[ \t]{0,4}+",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(
    r"(?P<double>\"(?>(?:[^\"\\]++|\\.)*))"
    r"|(?P<single>'(?>(?:[^'\\]++|\\.)*))"
    r"|(?P<inner>\\\"[^\"\\]*+)"
    r"|(?P<bare>[^\s\"'&,;<>(){}\[\]|\\]++)",
    re.DOTALL,
)
_LINE: Final = re.compile(r"[^\r\n\"'\\]++")
_HEADERS: Final = ("authorization", "cookie")
_PIECES: Final = tuple("session" if piece == b"sessionid" else piece.decode() for piece in PIECES)


def secrets(text: str, replace: Replace) -> str:
    """Values that a name before them says are secret: ``password=...``, ``Cookie: ...``."""
    parts: list[str] = []
    done = 0
    for found in _names(text):
        if found.start() < done:
            continue  # within a value
        start, end = _value(text, found)
        value = text[start:end]
        if value and not REPLACED.fullmatch(value):
            parts += [text[done:start], replace(value)]
            done = end
    return "".join([*parts, text[done:]]) if parts else text


def _names(text: str) -> list[re.Match[str]]:
    """Names of secrets with the sign behind them, in order; looked for near what they have."""
    small = text.lower()
    if len(small) != len(text):  # letters whose small form is longer
        small = "".join([char.lower() if char < "\x80" else char for char in text])
    found: dict[int, re.Match[str]] = {}
    for piece in _PIECES:
        at = small.find(piece)
        while at >= 0:
            name = _NAMED.search(text, max(0, at - 9), at + 32)
            while name is not None and name.end() <= at:  # one before it
                name = _NAMED.search(text, name.end(), at + 32)
            if name is not None:
                found[name.end()] = name
            at = small.find(piece, at + len(piece))
    return [found[end] for end in sorted(found)]


def _value(text: str, name: re.Match[str]) -> tuple[int, int]:
    """Where the value behind a name is, without its quotation marks."""
    found = _VALUE.match(text, name.end())
    if found is None:
        return name.end(), name.end()
    for quoted, mark in (("double", 1), ("single", 1), ("inner", 2)):
        if found[quoted] is not None:
            return found.start() + mark, found.end()
    end = found.end()
    if name["sign"] == ":" and name["name"].lower().endswith(_HEADERS):
        line = _LINE.match(text, end)  # a header: `Cookie: a=b; c=d`
        end = line.end() if line is not None else end
    return found.start(), end


def cards(text: str, replace: Replace) -> str:
    """Numbers of payment cards, in groups or not."""
    parts: list[str] = []
    done = at = 0
    while (found := CARD.search(text, at)) is not None:
        at = found.start() + 1  # what failed may have begun with a number before that of a card
        digits = found[0].replace(" ", "").replace("-", "")
        end = found.end()
        if len(digits) == 19 and len(found[0]) == 23 and not is_card(digits):
            digits, end = digits[:16], end - 4  # three digits of something else
        if is_card(digits) and not _is_identifier(text, found.start(), end):
            parts += [text[done : found.start()], replace(digits)]
            done = at = end
    return "".join([*parts, text[done:]]) if parts else text


def _is_identifier(text: str, start: int, end: int) -> bool:
    """``blk_-4608999687919862906``, or a part of a hash.

    Few cards have other than 14 to 16 digits, and many ids do; and no card has twenty.
    """
    before, after = text[max(0, start - 20) : start], text[end : end + 20]
    if text[start:end].isdigit() and not 14 <= end - start <= 16:
        last = before[-1:]
        if last.isalnum() or last in {"_", "-"}:
            return True
    beside = len(before) - len(before.rstrip(_HEX)) + len(after) - len(after.lstrip(_HEX))
    return beside > 0 and end - start + beside >= 20


_HEX: Final = "0123456789abcdefABCDEF"
_RANDOM: Final = re.compile(r"(?<![A-Za-z0-9_+-])[A-Za-z0-9_+-]{32,}+={0,2}")
_LOWER, _UPPER, _DIGIT, _OTHER = range(4)


def random(text: str, replace: Replace) -> str:
    """Long words that look as if drawn at random, as keys do; hashes and UUIDs do not."""

    def check(found: re.Match[str]) -> str:
        return replace(found[0]) if looks_random(found[0]) else found[0]

    return _RANDOM.sub(check, text)


def looks_random(word: str) -> bool:
    """Whether capitals, small letters and digits follow each other without any order.

    In words that people make, digits stand together and mostly at an end; among 62 characters drawn
    at random a digit stands beside a letter at every fourth place. Hexadecimal digits have capitals
    or small letters, not both, and are left alone.

    Example:
        >>> looks_random("x9Kf2LmQ7pZr4TvB1nHs8WdG3jYc6RaE")
        True
        >>> looks_random("ThisIsTheNameOfSomeVeryLongClass42")
        False
    """
    classes = [_class_of(char) for char in word]
    if not {_LOWER, _UPPER} <= set(classes):
        return False
    beside = sum(
        (a == _DIGIT) != (b == _DIGIT) and _OTHER not in {a, b} for a, b in pairwise(classes)
    )
    return beside * 8 >= len(word) and entropy(word) >= 3.5


def _class_of(char: str) -> int:
    if "a" <= char <= "z":
        return _LOWER
    if "A" <= char <= "Z":
        return _UPPER
    return _DIGIT if "0" <= char <= "9" else _OTHER


def entropy(word: str) -> float:
    """Shannon's entropy of the characters of a word, in bits for each."""
    size = len(word)
    return -sum(n / size * log2(n / size) for n in Counter(word).values())


def ips(text: str, replace: Replace) -> str:
    """What may be an IP address; ``replace`` makes sure of it."""
    if "::" in text or text.count(":") >= 6:  # six, and an IPv4 address behind them
        text = V6.sub(lambda found: replace(found[0]), text)
    return V4.sub(lambda found: replace(found[0]), text)
