"""Parts that several formats have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from hastack.observe.logs import _times
from hastack.observe.logs import combinators as c
from hastack.observe.logs._atomic import compile_regex
from hastack.observe.logs._nodes import Derive, Leaf

if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from datetime import tzinfo

__all__ = (
    "END",
    "LEVELS",
    "Where",
    "address",
    "count",
    "derived",
    "end",
    "host",
    "in_quotes",
    "leaf",
    "level",
    "millis",
    "plain_time",
    "request",
    "seconds",
    "slash_time",
    "status",
    "unescape",
    "user",
    "word",
)

LEVELS = "TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL|SEVERE|CONFIG|FINEST|FINER|FINE"
END = r"\Z"


def _present() -> datetime:
    return datetime.now(UTC)


@attrs.frozen
class Where:
    """Where a log was written: what its timestamps do not say.

    Attributes:
        zone: That of timestamps that name none.
        now: Asked for the present, where a timestamp has no year.
    """

    zone: tzinfo = UTC
    now: Callable[[], datetime] = _present


def leaf(
    pattern: str,
    convert: Callable[[str], Any] | None = None,
    *,
    expected: str,
    kind: str = "str",
    nil: str | None = None,
    rare: str | None = None,
) -> c.Parser:
    """One regular expression; see `Leaf`."""
    made = Leaf(pattern, convert, expected=expected, kind=kind, nil=nil, rare=rare)
    return c.Parser(made)


def derived(pattern: str, expected: str, **made: tuple[Callable[[str], Any], str]) -> c.Parser:
    """Several fields of one text; see `Derive`."""
    return c.Parser(Derive(Leaf(pattern, None, expected=expected), made))


_ESCAPES = compile_regex(r"((?:\\x[0-9A-Fa-f]{2})++)|\\(.)")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "v": "\v", "b": "\b", "f": "\f"}


def _escape(found: re.Match[str]) -> str:
    octets, letter = found.groups()
    if octets is None:
        return _LETTERS.get(letter, letter)
    try:
        return bytes.fromhex(octets.replace("\\x", "")).decode()
    except UnicodeDecodeError:
        return octets  # no text: it is better readable as it stands


def unescape(text: str) -> str:
    r"""``\"``, ``\n`` and ``\xc3\xa9`` as web servers write them."""
    return _ESCAPES.sub(_escape, text)


def in_quotes(nil: str | None = "-") -> c.Parser:
    """What stands between two quotation marks, which are not part of it."""
    # Most texts have no escapes, and one character that is excluded is found sooner than two.
    pattern = r'(?:[^"]*+(?<!\\)(?=")|[^"\\]*+(?:\\.[^"\\]*+)*+)'
    return leaf(pattern, unescape, expected="a quoted text", nil=nil, rare="\\")


def word(nil: str | None = "-", expected: str = "a word") -> c.Parser:
    """Up to the next space."""
    return leaf("[^ ]++", expected=expected, nil=nil)


host = leaf(r"(?!- )[A-Za-z0-9_.:%-]++", expected="a host")
"""A host name or an address."""

address = leaf(r"(?:\[[0-9a-fA-F:.%]++\]|[A-Za-z0-9_.%-]++)", expected="an address", nil="-")
"""A host before ``:port``."""

user = leaf(
    r"[^ ]++(?= \[)|(?<= - )[^ ]++(?:(?! \[| - ) [^ ]*+)++(?= \[)", expected="a user", nil="-"
)
"""Who authenticated; a date in brackets follows. With spaces only if nobody was asked who it is
(``-`` before it): a line of another kind may well contain one of these.
"""

status = leaf("[1-9][0-9]{2}", _times.remembering(int), expected="a status", kind="int")
"""An HTTP status."""

count = leaf("-|[0-9]{1,19}+", int, expected="a number", kind="int", nil="-")
"""A number that may be missing."""

seconds = leaf(
    r"-1|-|[0-9]{1,9}+(?:\.[0-9]{1,9}+)?+",
    lambda text: None if text == "-1" else float(text),
    expected="seconds",
    kind="duration",
    nil="-",
)
"""Seconds; ``-`` and ``-1`` are none."""

millis = leaf(
    r"\+?[0-9]{1,12}+|-1",
    lambda text: None if text == "-1" else int(text) / 1000,
    expected="milliseconds",
    kind="duration",
)
"""Milliseconds, as seconds; ``-1`` is none."""

level = leaf(f"(?:{LEVELS})(?![A-Za-z])", expected="a level")
"""The level of a logger, in capitals."""

end = c.Parser(Leaf(END, None, expected="the end of the line"))


def request() -> c.Parser:
    """``GET /path HTTP/1.1`` in quotes, or whatever a client sent instead of it."""
    path = leaf("[^ ]++", unescape, expected="a path", rare="\\")
    return c.alt(
        c.seq(
            c.field("method", leaf("[A-Z]{1,24}+", expected="a method")),
            " ",
            c.field("path", path),
            " ",
            c.field("protocol", leaf('HTTP/[0-9.]{1,3}+(?=")', expected="HTTP/1.1")),
        ),
        c.field("request", in_quotes()),
    )


def plain_time(where: Where, *, expected: str = "2026-10-10 13:55:36,123") -> c.Parser:
    """Year, month, day and time of day; a zone if it is there."""
    return leaf(_times.ISO, _times.iso(where.zone), expected=expected, kind="timestamp")


def slash_time(where: Where) -> c.Parser:
    """``2026/10/10 13:55:36``, as nginx and Go write it."""
    read = _times.iso(where.zone)
    pattern = r"[0-9]{4}/[01][0-9]/[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:\.[0-9]{1,9}+)?+"

    def slashed(text: str) -> datetime:
        return read(text.replace("/", "-"))

    convert = _times.remembering(slashed)
    return leaf(pattern, convert, expected="2026/10/10 13:55:36", kind="timestamp")
