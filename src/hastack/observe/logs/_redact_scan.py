"""Which of many texts may hold something that must not be seen: most of them do not.

All texts of a batch are searched at once, and by what runs at the speed of memory: finding a fixed
piece, and mapping bytes. Classes of characters become one character first, so that twenty of them
in a row are a fixed piece. What is found here is looked at closely by `_redact_find`; what is not
found here is left alone, so this must err on the side of finding.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Final

from ._redact_cards import is_card

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = (
    "CARD",
    "EMAIL",
    "IP",
    "LOGIN",
    "LONG",
    "NAMES",
    "PIECES",
    "RANDOM",
    "SECRET",
    "TOKEN",
    "suspects",
)

LONG: Final = 20
"""Characters of a word from which on it may be a token."""

NAMES: Final = (
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "accesskey"),
    *("secretkey", "privatekey", "authorization", "cookie", "cookies", "credential"),
    *("credentials", "sessionid", "sessionkey"),
)
"""What the names of secrets end with, in small letters and without ``_`` and ``-``."""

_BETWEEN: Final = b"\0"
_WORD: Final = (string.ascii_letters + string.digits + "_-+").encode()
_DIGITS: Final = string.digits.encode()


def _classes(pairs: dict[bytes, bytes], other: bytes = b" ") -> bytes:
    table = bytearray(other * 256)
    table[0] = 0
    for members, mark in pairs.items():
        for member in members:
            table[member] = mark[0]
    return bytes(table)


_AS_WORDS: Final = _classes({_WORD: b"t"})
_AS_DIGITS: Final = _classes({_DIGITS: b"0", b" -": b"s"}, b".")
_SMALL: Final = bytes(range(256)).lower()
_HEX: Final = string.hexdigits.encode()
# What names are not made of, and what does not stand between a name and its value: the less is
# left to search, the better.
_ASIDE: Final = b"_-0123456789./()[]{};%?&#*+,<>|"

PIECES: Final = tuple(
    piece.encode()
    for piece in (
        *("pass", "pwd", "secret", "token", "key", "ization", "cookie", "credential", "sessionid"),
    )
)
_NAMED: Final = re.compile(
    f"(?:{'|'.join(sorted(NAMES, key=len, reverse=True))})[\\\\\"' \t]{{0,6}}+[=:]".encode()
)
_MAIL: Final = re.compile(rb"(?:@|%40)[^\0\s\"'<>()@,;:/]{1,253}?\.[^\0\s]")
_LOGIN: Final = re.compile(rb"://[^\0\s/@:]{0,64}+:[^\0\s/@]{1,256}+@")
_SCHEME: Final = re.compile(rb"[a-z]+[ \t]+[^\0\s]")
_GROUPS: Final = re.compile(rb"0000s(?:0000s0000|000000s0000)")
_PREFIXES: Final = frozenset(b"ghp gho ghu ghs ghr git glp xox npm pyp sk_ pk_ rk_ sk-".split())
_WORDS: Final = re.compile(rb"t++")
_ZEROS: Final = re.compile(rb"0++")
_CARD_FIRST: Final = frozenset(b"23456")


EMAIL, LOGIN, TOKEN, SECRET, CARD, RANDOM, IP = (1 << at for at in range(7))


def suspects(texts: Sequence[str], wanted: int) -> dict[int, int]:
    """The numbers of the texts that must be looked at, and for what.

    Args:
        texts: All of them.
        wanted: What is looked for: `EMAIL`, `LOGIN`, `TOKEN` and so on, added up.
    """
    joined = "\0".join(texts)
    if joined.count("\0") >= len(texts):
        joined = "\0".join([text.replace("\0", " ") for text in texts])
    data = joined.encode("utf-8", "surrogatepass")
    found: dict[int, int] = {}
    if wanted & EMAIL:
        _pieces(data, b"@", found, EMAIL, lambda at: _MAIL.match(data, at))
        if b"%" in data:
            _pieces(data, b"%40", found, EMAIL, lambda at: _MAIL.match(data, at))
    if wanted & LOGIN:
        _pieces(data, b"@", found, LOGIN, lambda at: _is_login(data, at))
        _pieces(data, b"-----BEGIN", found, LOGIN)
    if wanted & TOKEN:
        _pieces(data, b"eyJ", found, TOKEN)  # the parts of a JWT may be short
    if wanted & (TOKEN | RANDOM):
        _long_words(data, found, wanted & (TOKEN | RANDOM))
    if wanted & CARD:
        _cards(data, found)
    if wanted & (LOGIN | SECRET):
        bare = data.translate(_SMALL, _ASIDE)
        if wanted & LOGIN:
            for piece in (b"bearer", b"basic"):
                _pieces(bare, piece, found, LOGIN, lambda at: _SCHEME.match(bare, at))
        if wanted & SECRET:
            for piece in PIECES:
                _pieces(bare, piece, found, SECRET, lambda at: _named(bare, at))
    if wanted & IP:
        # Without digits an IPv4 address is three dots, and an IPv6 one mostly has two colons.
        _pieces(data.translate(None, _DIGITS), b"...", found, IP)
        _pieces(data, b"::", found, IP)
        _pieces(data.translate(None, _HEX), b"::::::", found, IP)
    return found


def _named(data: bytes, at: int) -> object:
    # The longest name is 13 characters, and ends at most 9 after the start of its piece.
    return _NAMED.search(data, max(0, at - 9), at + 20)


def _is_login(data: bytes, at: int) -> bool:
    start = data.rfind(b"://", max(0, at - 330), at)
    return start >= 0 and _LOGIN.match(data, start) is not None


def _pieces(
    data: bytes,
    piece: bytes,
    found: dict[int, int],
    flag: int,
    confirm: Callable[[int], object] | None = None,
) -> None:
    """Texts in which a piece occurs and stands where it should."""
    at = data.find(piece)
    number = counted = 0
    while at >= 0:
        if confirm is None or confirm(at):
            number += data.count(_BETWEEN, counted, at)
            counted = at
            found[number] = found.get(number, 0) | flag
            at = data.find(_BETWEEN, at)  # the rest of this text needs no further look
            if at < 0:
                return
        else:
            at += 1
        at = data.find(piece, at)


def _long_words(data: bytes, found: dict[int, int], flag: int) -> None:
    """Texts with words so long that they may be tokens. Hashes have no capitals, nor a prefix."""

    def may_be(at: int, end: int) -> bool:
        word = data[at:end]
        if word != word.lower():
            return True
        return any(piece[:3] in _PREFIXES for piece in word.split(b"+"))  # a token has no plus

    _runs(data.translate(_AS_WORDS), b"t" * LONG, _WORDS, found, flag, may_be)


def _cards(data: bytes, found: dict[int, int]) -> None:
    digits = data.translate(_AS_DIGITS)

    def is_one(at: int, end: int) -> bool:
        return data[at] in _CARD_FIRST and end - at < 20 and is_card(data[at:end].decode())

    _runs(digits, b"0" * 13, _ZEROS, found, CARD, is_one)
    _pieces(digits, b"0000s0000", found, CARD, lambda at: _GROUPS.match(digits, at))


def _runs(
    data: bytes,
    piece: bytes,
    run: re.Pattern[bytes],
    found: dict[int, int],
    flag: int,
    confirm: Callable[[int, int], bool],
) -> None:
    """Texts in which one character comes so many times in a row, if the whole row is right."""
    at = data.find(piece)
    number = counted = 0
    while at >= 0:
        row = run.match(data, at)
        end = row.end() if row is not None else at + 1
        if confirm(at, end):
            number += data.count(_BETWEEN, counted, at)
            counted = at
            found[number] = found.get(number, 0) | flag
            end = data.find(_BETWEEN, end)
            if end < 0:
                return
        at = data.find(piece, end)
