"""Formats of their own that nginx's ``log_format`` and Apache's ``LogFormat`` describe."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hastack._core import _validate
from hastack._core._errors import InvalidArgument
from hastack.observe.logs import _times
from hastack.observe.logs import combinators as c

from ._format import Format
from ._leaves import leaf, unescape

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("apache", "nginx")

_INTEGER = "-|[0-9]{1,19}+"
_SECONDS = r"-|[0-9]{1,9}+(?:\.[0-9]{1,9}+)?+"

Part = tuple[str, "Callable[[str], Any] | None", str]
"""Expression, conversion and type of a value that has a shape of its own."""


def _by(divisor: float) -> Callable[[str], float]:
    return lambda text: float(text) / divisor


_integer: Part = (_INTEGER, int, "int")
_size: Part = (_INTEGER, int, "size")
_took: Part = (_SECONDS, float, "duration")
_clf: Part = (rf"-|{_times.CLF}", _times.remembering(_times.clf), "timestamp")
_epoch: Part = (_times.EPOCH, _times.epoch, "timestamp")

_NGINX: dict[str, Part] = {
    "time_local": _clf,
    "time_iso8601": (_times.ISO, _times.iso(UTC), "timestamp"),
    "msec": _epoch,
    "request_time": _took,
    "gzip_ratio": (_SECONDS, float, "float"),
    **dict.fromkeys(("status", "connection", "connection_requests", "pid"), _integer),
    **dict.fromkeys(("remote_port", "server_port", "proxy_port"), _integer),
    **dict.fromkeys(("body_bytes_sent", "bytes_sent", "request_length"), _size),
    **dict.fromkeys(("content_length", "sent_http_content_length"), _size),
}
_NGINX_NAMES = {
    "remote_addr": "client",
    "remote_user": "user",
    "time_local": "time",
    "time_iso8601": "time",
    "msec": "time",
    "body_bytes_sent": "size",
    "http_referer": "referer",
    "http_user_agent": "agent",
    "http_x_forwarded_for": "forwarded_for",
    "request_method": "method",
    "server_protocol": "protocol",
}
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")


def nginx(name: str, log_format: str) -> Format:
    """The format that a ``log_format`` of nginx describes.

    Variables that are numbers, times or durations are read as such; others are text up to what
    follows them. Well-known ones get the names that ``nginx.combined`` has.

    Args:
        name: What it is called.
        log_format: The text of the directive, without its name and quotation marks.

    Raises:
        InvalidArgument: Nothing says where a variable ends.

    Example:
        >>> from hastack.observe.logs import formats
        >>> mine = formats.nginx("shop.edge", '$remote_addr [$time_iso8601] "$request" $request_time')
        >>> record = mine.try_parse('10.0.0.7 [2026-10-10T13:55:36Z] "GET / HTTP/1.1" 0.125')
        >>> record["client"], record["request"], record["request_time"]
        ('10.0.0.7', 'GET / HTTP/1.1', 0.125)
    """
    text = _validate.text("log_format", log_format)
    parts: list[str | tuple[str, Part | None]] = []
    at = 0
    for found in _VARIABLE.finditer(text):
        parts.append(text[at : found.start()])
        variable = found[1] or found[2]
        parts.append((_NGINX_NAMES.get(variable, variable), _NGINX.get(variable)))
        at = found.end()
    parts.append(text[at:])
    return Format(name, _grammar("log_format", text, parts))


_APACHE: dict[str, tuple[str, Part | None]] = {
    "h": ("client", None),
    "a": ("client", None),
    "A": ("local_address", None),
    "l": ("ident", None),
    "u": ("user", None),
    "t": ("time", (rf"\[{_times.CLF}\]", lambda text: _times.clf(text[1:-1]), "timestamp")),
    "r": ("request", None),
    "s": ("status", _integer),
    "b": ("size", _size),
    "B": ("size", _size),
    "O": ("sent", _size),
    "I": ("received", _size),
    "S": ("transferred", _size),
    "D": ("took", (_INTEGER, _by(1_000_000), "duration")),
    "T": ("took", _took),
    "p": ("port", _integer),
    "P": ("pid", _integer),
    "k": ("keepalives", _integer),
    "v": ("server", None),
    "V": ("server", None),
    "m": ("method", None),
    "U": ("path", None),
    "q": ("query", None),
    "H": ("protocol", None),
    "f": ("file", None),
    "R": ("handler", None),
    "L": ("log_id", None),
    "X": ("connection", ("[X+-]", None, "str")),
}
_HEADERS = {"referer": "referer", "user-agent": "agent", "x-forwarded-for": "forwarded_for"}
_SCALES = {"us": 1_000_000, "ms": 1000, "s": 1}
_DIRECTIVE = re.compile(r"%(?:!?[0-9,]+)?[<>]?(?:\{([^}]*)\})?(\^?[A-Za-z]{1,2}|%)")


def apache(name: str, log_format: str) -> Format:
    r"""The format that a ``LogFormat`` of Apache describes.

    Args:
        name: What it is called.
        log_format: The text of the directive, without the quotation marks around it; ``\"`` inside
            may stay as it is.

    Raises:
        InvalidArgument: A directive is not known, or nothing says where one ends.

    Example:
        >>> from hastack.observe.logs import formats
        >>> mine = formats.apache("shop.apache", '%h %t \\"%r\\" %>s %D \\"%{X-Request-Id}i\\"')
        >>> record = mine.try_parse(
        ...     '10.0.0.7 [10/Oct/2026:13:55:36 +0200] "GET / HTTP/1.1" 200 125000 "abc"'
        ... )
        >>> record["status"], record["took"], record["x_request_id"]
        (200, 0.125, 'abc')
    """
    text = _validate.text("log_format", log_format).replace('\\"', '"').replace("\\t", "\t")
    parts: list[str | tuple[str, Part | None]] = []
    at = 0
    for found in _DIRECTIVE.finditer(text):
        parts.append(text[at : found.start()])
        inside, letter = found.groups()
        parts.append("%" if letter == "%" else _directive(text, inside, letter))
        at = found.end()
    parts.append(text[at:])
    return Format(name, _grammar("log_format", text, parts))


def _directive(text: str, inside: str | None, letter: str) -> tuple[str, Part | None]:
    if letter == "t" and inside is not None:
        return "time", _apache_time(text, inside)
    if letter == "T" and inside is not None and inside.lower() in _SCALES:
        return "took", (_SECONDS, _by(_SCALES[inside.lower()]), "duration")
    if inside is not None and letter in {"i", "o", "e", "n", "C", "x", "^ti", "^to"}:
        known = _HEADERS.get(inside.lower()) if letter == "i" else None
        return known or re.sub(r"\W+", "_", inside.lower()).strip("_") or letter, None
    if letter in _APACHE:
        return _APACHE[letter]
    raise InvalidArgument("log_format", text, f"directives of Apache, without %{letter}")


_STRFTIME = {
    "Y": "[0-9]{4}",
    "m": "[0-9]{2}",
    "d": "[0-9]{2}",
    "H": "[0-9]{2}",
    "M": "[0-9]{2}",
    "S": "[0-9]{2}",
    "b": "[A-Z][a-z]{2}",
    "a": "[A-Z][a-z]{2}",
    "y": "[0-9]{2}",
    "z": "[+-][0-9]{4}",
    "e": "[ 0-9][0-9]",
    "j": "[0-9]{3}",
    "p": "[AP]M",
    "I": "[0-9]{2}",
    "B": "[A-Z][a-z]{2,8}+",
    "A": "[A-Z][a-z]{5,8}+",
}
_SHORT = {"T": "%H:%M:%S", "F": "%Y-%m-%d", "R": "%H:%M", "D": "%m/%d/%y", "h": "%b"}


def _apache_time(text: str, inside: str) -> Part:
    inside = inside.removeprefix("begin:").removeprefix("end:")
    scales = {"sec": 1, "msec": 1000, "usec": 1_000_000}
    if inside in scales:
        return ("[0-9]{9,19}+", _times.epoch, "timestamp")
    if inside in {"msec_frac", "usec_frac"}:
        return ("[0-9]{3,6}+", int, "int")
    full = re.sub("%([TFRDh])", lambda found: _SHORT[found[1]], inside)
    pattern = ""
    for piece in re.split("(%[A-Za-z])", full):
        if len(piece) == 2 and piece[0] == "%":
            if piece[1] not in _STRFTIME:
                raise InvalidArgument("log_format", text, f"a time without {piece}")
            pattern += _STRFTIME[piece[1]]
        else:
            pattern += re.escape(piece)

    def moment(found: str) -> datetime:
        read = datetime.strptime(found, full)  # noqa: DTZ007  # the next line sees to it
        return read if read.tzinfo is not None else read.replace(tzinfo=UTC)

    return pattern, _times.remembering(moment), "timestamp"


def _grammar(parameter: str, text: str, parts: list[str | tuple[str, Part | None]]) -> c.Parser:
    """Literals and values in turn; a value of any shape goes up to the literal after it."""
    joined: list[str | tuple[str, Part | None]] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part:
            joined.append(part)
    seen: dict[str, int] = {}
    made: list[object] = []
    for place, part in enumerate(joined):
        if isinstance(part, str):
            made.append(part)
            continue
        name, shape = part
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name}_{seen[name]}"
        after = joined[place + 1] if place + 1 < len(joined) else ""
        made.append(c.field(name, _value(parameter, text, name, shape, after)))
    return c.seq(*made)


def _value(parameter: str, text: str, name: str, shape: Part | None, after: object) -> c.Parser:
    if shape is not None:
        pattern, convert, kind = shape
        return leaf(f"(?:{pattern})", convert, expected=f"a value of {name}", kind=kind, nil="-")
    if not isinstance(after, str):
        raise InvalidArgument(parameter, text, f"something between {name} and what follows it")
    if not after:
        return leaf(".*+", unescape, expected=f"a value of {name}", nil="-", rare="\\")
    if after.startswith('"'):
        pattern = r'(?:[^"]*+(?<!\\)(?=")|[^"\\]*+(?:\\.[^"\\]*+)*+)'
    else:
        first, whole = re.escape(after[0]), re.escape(after)
        pattern = f"[^{_class(after[0])}]*+"
        if len(after) > 1:
            pattern += f"(?:(?!{whole}){first}[^{_class(after[0])}]*+)*+"
        pattern += f"(?={whole})"
    return leaf(pattern, unescape, expected=f"a value of {name}", nil="-", rare="\\")


def _class(character: str) -> str:
    return f"\\{character}" if character in r"\]^-[&~|" else character
