"""Syslog: RFC 5424 with structured data, RFC 3164, and what syslog daemons write into files."""

from __future__ import annotations

from datetime import datetime

from hastack.observe.logs import _times
from hastack.observe.logs import combinators as c
from hastack.observe.logs._atomic import compile_regex

from ._format import Format
from ._leaves import Where, derived, leaf, plain_time, word

__all__ = ("file", "header", "iso_file", "priority", "rfc3164", "rfc5424", "structured_data")

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
# RFC 5424, 6.2.1: 8 times the facility and the severity, without leading zeros.
_facility = {f"<{n}>": FACILITIES[n >> 3] for n in range(192)}
_severity = {f"<{n}>": n & 7 for n in range(192)}
_level = {f"<{n}>": SEVERITIES[n & 7] for n in range(192)}

priority = derived(
    "<(?:0|[1-9][0-9]?|1[0-8][0-9]|19[01])>",
    "a priority, <0> to <191>",
    facility=(_facility.__getitem__, "str"),
    severity=(_severity.__getitem__, "int"),
    level=(_level.__getitem__, "str"),
)
"""``<34>``: facility, and severity as a number and as a word."""

_small = _times.remembering(int)
# RFC 5424, 6.2.3: with a zone, capital letters, and without leap seconds.
_STRICT = (
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9}+)?+"
    r"(?:Z|[+-][0-2][0-9]:[0-5][0-9])"
)
_VALUE = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ELEMENT = rf'\[[^ =\]"]++(?: [^ =\]"]++={_VALUE})*+ ?\]'
_PART = compile_regex(rf'\[([^ =\]"]++)| ([^ =\]"]++)=({_VALUE})')
_ESCAPED = compile_regex(r'\\(["\\\]])')


# The same for what is usual: one element, with parameters, without escapes.
_SIMPLE = r'\[[^ =\]"]++ [^"]++"[^"]*+(?<!\\)"(?: [^"]++"[^"]*+(?<!\\)")*+\](?!\[)'


def structured_data(text: str) -> dict[str, dict[str, str]]:
    """``[id name="value"]...``: the parameters of each element by its id."""
    if "\\" not in text:
        texts = text.split('"')
        shape = _shapes(tuple(texts[::2]))
        if shape is not None:
            element, names = shape
            count = len(names)
            if count == 2:  # one of two costs half of what `zip` does
                return {element: {names[0]: texts[1], names[1]: texts[3]}}
            if count == 3:
                return {element: {names[0]: texts[1], names[1]: texts[3], names[2]: texts[5]}}
            return {element: dict(zip(names, texts[1::2], strict=False))}
    return _all_elements(text)


def _shape(texts: tuple[str, ...]) -> tuple[str, list[str]] | None:
    """Element and names of what stands around the values, if it is one element with some."""
    *names, shut = texts
    if shut != "]" or any("]" in name for name in names):
        return None
    element, _, names[0] = names[0].partition(" ")
    return element[1:], [name.strip(" =") for name in names]


_shapes = _times.remembering(_shape)  # programs send few shapes, and many values


def _all_elements(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    inner: dict[str, str] = {}
    for element, name, value in _PART.findall(text):
        if element:
            inner = found.setdefault(element, {})
        else:
            plain = value[1:-1]
            inner[name] = _ESCAPED.sub(r"\1", plain) if "\\" in plain else plain
    return found


_data = leaf(
    rf"-|(?:{_SIMPLE}|(?:{_ELEMENT})++)",
    structured_data,
    expected="structured data",
    kind="json",
    nil="-",
)
_process = c.alt(
    c.field("pid", leaf(r"[0-9]{1,18}+(?= )", _small, expected="a process", kind="int")),
    c.field("procid", word()),
)


def rfc5424(where: Where) -> Format:
    """RFC 5424. A process id that is no number is in ``procid``."""
    moment = datetime.fromisoformat
    time = leaf(f"-|{_STRICT}", moment, expected="an RFC 3339 time", kind="timestamp", nil="-")
    line = c.seq(
        *(priority, c.field("version", leaf("[1-9][0-9]{0,2}+", _small, expected="1", kind="int"))),
        *(" ", c.field("time", time), " ", c.field("host", word())),
        *(" ", c.field("app", word()), " ", _process, " ", c.field("msgid", word())),
        *(" ", c.field("data", _data)),
        c.opt(c.seq(leaf(" \ufeff?", expected="a space"), c.field("message", c.rest))),
    )
    return Format("syslog.rfc5424", line)


def header(where: Where, *, time: str) -> c.Parser:
    """Priority if there is one, time without a year or in ISO form, host if there is one."""
    moment = c.field(time, _either_time(where))
    return c.seq(c.opt(priority), moment, " ", c.opt(c.seq(_host, " ")))


def _either_time(where: Where) -> c.Parser:
    iso = plain_time(where, expected="an ISO 8601 time")
    return c.alt(c.syslog_time(where.zone, where.now), iso)


_host = c.field(
    "host",
    leaf(r"[A-Za-z0-9_.%-]++(?:::?[A-Za-z0-9_.%-]++)*+(?= )", expected="a host"),
)
_tag = c.opt(
    c.seq(
        c.field("app", leaf(r"[^ :\[\]<>]{1,128}+(?=[:\[])", expected="a program")),
        c.opt(c.seq("[", c.field("pid", c.integer), "]")),
        ":",
        c.opt(" "),
    )
)


def _line(*before: object) -> c.Parser:
    return c.seq(*before, " ", c.opt(c.seq(_host, " ")), _tag, c.field("message", c.rest))


def rfc3164(where: Where) -> Format:
    """RFC 3164 as it comes over the network; also with an ISO timestamp, which many send."""
    return Format("syslog.rfc3164", _line(priority, c.field("time", _either_time(where))))


def file(where: Where) -> Format:
    """``/var/log/syslog`` with the traditional timestamp, without a year."""
    return Format("syslog.file", _line(c.field("time", c.syslog_time(where.zone, where.now))))


def iso_file(where: Where) -> Format:
    """``/var/log/syslog`` with ISO timestamps, also ``journalctl -o short-iso``."""
    pattern = _times.ISO.replace("[Tt ]", "T")
    moment = _times.iso(where.zone)
    time = leaf(pattern, moment, expected="2026-10-10T13:55:36+02:00", kind="timestamp")
    line = c.seq(
        *(c.field("time", time), " ", _host, " "),
        c.field("app", leaf(r"[^ :\[\]<>]{1,128}+(?=[:\[])", expected="a program")),
        c.opt(c.seq("[", c.field("pid", c.integer), "]")),
        *(":", c.opt(" "), c.field("message", c.rest)),
    )
    return Format("syslog.iso", line)
