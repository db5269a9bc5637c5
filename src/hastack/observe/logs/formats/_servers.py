"""Servers and load balancers: PostgreSQL, Redis, HAProxy, AWS; containers; CEF."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from hastack.observe.logs import _times
from hastack.observe.logs import combinators as c

from ._format import Format
from ._leaves import (
    Where,
    count,
    derived,
    in_quotes,
    leaf,
    millis,
    plain_time,
    request,
    seconds,
    word,
)
from ._syslog import header

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("alb", "cef", "cri", "elb", "haproxy", "postgresql", "redis")

# The abbreviations of time zones as PostgreSQL itself reads them, those that logs are full of.
_ZONES = {
    "UTC": 0.0,
    "GMT": 0.0,
    "WET": 0.0,
    "WEST": 1.0,
    "BST": 1.0,
    "CET": 1.0,
    "CEST": 2.0,
    "EET": 2.0,
    "EEST": 3.0,
    "MSK": 3.0,
    "SAST": 2.0,
    "PKT": 5.0,
    "IST": 2.0,
    "HKT": 8.0,
    "SGT": 8.0,
    "JST": 9.0,
    "KST": 9.0,
    "ACST": 9.5,
    "AEST": 10.0,
    "AEDT": 11.0,
    "NZST": 12.0,
    "NZDT": 13.0,
    "EST": -5.0,
    "EDT": -4.0,
    "CST": -6.0,
    "CDT": -5.0,
    "MST": -7.0,
    "MDT": -6.0,
    "PST": -8.0,
    "PDT": -7.0,
    "AKST": -9.0,
    "AKDT": -8.0,
    "HST": -10.0,
    "BRT": -3.0,
    "ART": -3.0,
}


def _zoned(where: Where) -> Callable[[str], datetime]:
    read = _times.iso(where.zone)

    def moment(text: str) -> datetime:
        clock, _, zone = text.rpartition(" ")
        if zone[:1] in {"+", "-"}:
            return read(clock + (zone if len(zone) > 3 else f"{zone}:00"))
        return read(clock).replace(tzinfo=timezone(timedelta(hours=_ZONES[zone])))

    return moment


_ZONED = (
    r"[0-9]{4}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:\.[0-9]{1,6}+)?+ "
    rf"(?:(?:{'|'.join(sorted(_ZONES))})(?![A-Z])|[+-][0-9]{{2}}(?::?[0-9]{{2}})?+)"
)
_SEVERITIES = "DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|STATEMENT|CONTEXT|QUERY|LOCATION"


def postgresql(where: Where) -> Format:
    """PostgreSQL with ``log_line_prefix`` as it is by default, and as Debian sets it."""
    time = leaf(_ZONED, _zoned(where), expected="2026-10-10 13:55:36.123 UTC", kind="timestamp")
    took = c.seq(
        "duration: ",
        c.field("duration", leaf(r"[0-9]++\.[0-9]{3}", _ms, expected="ms", kind="duration")),
        " ms",
        c.opt(
            c.seq(
                leaf("  (?:statement|parse|bind|execute)[^:]{0,128}+: ", expected="a statement"),
                c.field("statement", leaf(".++", expected="a statement")),
            )
        ),
        leaf(r"\Z", expected="the end of the line"),
    )
    line = c.seq(
        *(c.field("time", time), " [", c.field("pid", c.integer)),
        c.opt(c.seq("-", c.field("line", c.integer))),
        leaf(r"\] ?", expected="']'"),
        c.opt(
            c.seq(
                c.field("user", leaf("[^@ :]++(?=@)", expected="a user")),
                *("@", c.field("database", leaf("[^ ]++(?= )", expected="a database")), " "),
            )
        ),
        c.field("level", leaf(f"(?:{_SEVERITIES})(?=:)", expected="a severity")),
        leaf(": ++|:", expected="':'"),
        c.alt(took, c.field("message", c.rest)),
    )
    return Format("postgresql", line)


def _ms(text: str) -> float:
    return float(text) / 1000


def redis(where: Where) -> Format:
    """Redis, Valkey and Sentinel."""
    roles = {"X": "sentinel", "C": "child", "S": "replica", "M": "master"}
    levels = {".": "debug", "-": "verbose", "*": "notice", "#": "warning"}

    def moment(text: str) -> datetime:
        day, month, year, clock = text.split()
        number = _times._MONTHS[month]
        return read(f"{year}-{number:02}-{day} {clock}")

    read = _times.iso(where.zone)
    pattern = (
        "[0-3][0-9] (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
        r"[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}"
    )
    time = leaf(pattern, moment, expected="10 Oct 2026 13:55:36.123", kind="timestamp")
    line = c.seq(
        *(c.field("pid", c.integer), ":"),
        c.field("role", leaf("[XCSM]", roles.__getitem__, expected="X, C, S or M")),
        *(" ", c.field("time", time), " "),
        c.field("level", leaf(r"[.*#-]", levels.__getitem__, expected="., -, * or #")),
        *(" ", c.field("message", c.rest)),
    )
    return Format("redis", line)


def _haproxy_time(where: Where) -> c.Parser:
    def moment(text: str) -> datetime:
        month = _times._MONTHS[text[3:6]]
        return read(f"{text[7:11]}-{month:02}-{text[:2]} {text[12:]}")

    read = _times.iso(where.zone)
    pattern = (
        r"[0-3][0-9]/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/[0-9]{4}:"
        r"[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}"
    )
    return leaf(pattern, moment, expected="10/Oct/2026:13:55:36.123", kind="timestamp")


def _peer_host(text: str) -> str:
    return text.rpartition(":")[0]


def _peer_port(text: str) -> int:
    return int(text.rpartition(":")[2])


_PORT: tuple[Callable[[str], Any], str] = (_peer_port, "int")


def peer(name: str) -> c.Parser:
    """``10.0.0.7:4711``: an address, and a port whose field is called after it."""
    return derived(
        "[A-Za-z0-9_.%-]*+(?::++[A-Za-z0-9_.%-]++)++",
        "an address and a port",
        **{name: (_peer_host, "str"), "port": _PORT},
    )


def haproxy(where: Where) -> Format:
    """HAProxy's HTTP log, with or without what syslog puts before it."""
    queue = leaf(r"\+?[0-9]{1,9}+", int, expected="a number", kind="int")
    headers = leaf(r"[^}]*+", expected="headers")
    before = c.seq(
        header(where, time="logged"),
        *(c.field("app", leaf(r"[^ \[:]++", expected="a program")), "["),
        *(c.field("pid", c.integer), "]: "),
    )
    timers = ("time_request", "time_queue", "time_connect", "time_response", "time_total")
    totals = ("active", "frontend_active", "backend_active", "server_active")
    line = c.seq(
        *(c.opt(before), peer("client"), " [", c.field("time", _haproxy_time(where)), "] "),
        *(c.field("frontend", word(None)), " "),
        *(c.field("backend", leaf("[^ /]++", expected="a backend")), "/"),
        *(c.field("server", word(None)), " ", *_joined("/", timers, millis), " "),
        c.field("status", leaf("-1|[1-9][0-9]{2}", _answer, expected="a status", kind="int")),
        *(" ", c.field("size", leaf(r"\+?[0-9]{1,19}+", int, expected="bytes", kind="size")), " "),
        *(c.field("request_cookie", word()), " ", c.field("response_cookie", word()), " "),
        *(c.field("termination", leaf("[A-Za-z-]{4}", expected="----")), " "),
        *_joined("/", totals, c.integer),
        *("/", c.field("retries", queue), " "),
        *_joined("/", ("server_queue", "backend_queue"), c.integer),
        c.opt(c.seq(" {", c.field("request_headers", headers), "}")),
        c.opt(c.seq(" {", c.field("response_headers", headers), "}")),
        *(' "', request(), '"'),
    )
    return Format("haproxy.http", line)


def _answer(text: str) -> int | None:
    return None if text == "-1" else int(text)


def _joined(separator: str, names: tuple[str, ...], part: c.Parser) -> list[object]:
    parts: list[object] = []
    for name in names:
        parts += [separator, c.field(name, part)] if parts else [c.field(name, part)]
    return parts


def cri(where: Where) -> Format:
    """Container logs as containerd and CRI-O write them."""
    line = c.seq(
        *(c.field("time", plain_time(where)), " "),
        *(c.field("stream", leaf("stdout|stderr", expected="stdout or stderr")), " "),
        c.field("partial", leaf("[PF](?::[^ ]++)?+", _is_partial, expected="P or F", kind="bool")),
        *(" ", c.field("message", c.rest)),
    )
    return Format("cri", line)


def _is_partial(text: str) -> bool:
    return text.startswith("P")


_request = (
    *('"', c.field("method", leaf("[A-Z-]{1,24}+", expected="a method")), " "),
    *(c.field("url", leaf(r'[^ "]++', expected="a URL", kind="url")), " "),
    *(c.field("protocol", leaf(r"HTTP/[0-9.]{1,3}+|-", expected="HTTP/1.1", nil="-")), c.opt(" ")),
    '"',
)
_TARGET = r"-|\[[0-9a-fA-F:]++\]:[0-9]{1,5}+|[^ :]++:[0-9]{1,5}+"


def _balanced(prefix: tuple[object, ...], target: str) -> list[object]:
    endpoint = leaf(_TARGET, expected="an address and a port", nil="-")
    timers = ("request", target, "response")
    return [
        *prefix,
        *(peer("client"), " ", c.field(target, endpoint), " "),
        *_joined(" ", tuple(f"time_{timer}" for timer in timers), seconds),
        *(" ", c.field("status", count), " ", c.field(f"{target}_status", count), " "),
        *(c.field("received", count), " ", c.field("sent", count), " "),
        *_request,
        *(' "', c.field("agent", in_quotes()), '" ', c.field("cipher", word()), " "),
        c.field("tls", word()),
    ]


def alb(where: Where) -> Format:
    """AWS Application Load Balancer; fields that were added later may be missing or follow."""
    kind = leaf("https?|h2|grpcs?|wss?", expected="http, https, h2, grpcs, ws or wss")
    named = ("trace", "domain", "certificate")
    quoted = [part for name in named for part in (' "', c.field(name, in_quotes()), '"')]
    late = ("actions", "redirect_url", "error", "targets", "target_statuses")
    later: c.Parser | None = None
    for name in reversed((*late, "classification", "classification_reason")):
        parts = [' "', c.field(name, in_quotes()), '"']
        later = c.opt(c.seq(*parts, later) if later is not None else c.seq(*parts))
    prefix = (
        *(c.field("type", kind), " ", c.field("time", plain_time(where)), " "),
        *(c.field("balancer", word()), " "),
    )
    line = c.seq(
        *_balanced(prefix, "target"),
        *(" ", c.field("target_group", word())),
        *quoted,
        *(" ", c.field("rule", count)),
        c.opt(c.seq(" ", c.field("created", plain_time(where)), later)),
        c.opt(c.seq(" ", c.field("more", c.rest))),
    )
    return Format("aws.alb", line)


def elb(where: Where) -> Format:
    """AWS Classic Load Balancer."""
    prefix = (c.field("time", plain_time(where)), " ", c.field("balancer", word()), " ")
    return Format("aws.elb", c.seq(*_balanced(prefix, "backend")))


_KEY = re.compile(r"(?:^|(?<= ))([A-Za-z0-9_.\[\]-]++)(?<!\\)=")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BREAKS = {"n": "\n", "r": "\r"}
_INTEGERS = frozenset(
    ("spt", "dpt", "cnt", "in", "out", "spid", "dpid", "dvcpid", "fsize", "oldFileSize", "type")
) | {f"cn{n}" for n in range(1, 4)}
_TIMES = frozenset(("rt", "start", "end", "art", "fileCreateTime", "fileModificationTime"))
_WORDS = {"unknown": None, "low": 3, "medium": 6, "high": 8, "very-high": 10}


def _unescaped(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        return _BREAKS.get(found[1], found[1])

    return _ESCAPED.sub(plain, text) if "\\" in text else text


def extension(text: str) -> dict[str, Any]:
    """``src=10.0.0.1 msg=two words``: a value goes up to the next key."""
    keys = list(_KEY.finditer(text))
    found: dict[str, Any] = {}
    for place, key in enumerate(keys):
        end = keys[place + 1].start() if place + 1 < len(keys) else len(text)
        value = _unescaped(text[key.end() : end].strip())
        name = key[1]
        if name in _INTEGERS and value.isdecimal() and len(value) < 20:
            found[name] = int(value)
        elif name in _TIMES and re.fullmatch(_times.EPOCH, value) is not None:
            found[name] = _times.epoch(value)
        else:
            found[name] = value
    return found


def _cef_severity(text: str) -> int | None:
    return int(text) if text.isdecimal() else _WORDS[text.lower()]


def cef(where: Where) -> Format:
    """ArcSight's Common Event Format, with or without what syslog puts before it."""
    part = leaf(r"[^|\\]*+(?:\\.[^|\\]*+)*+", _unescaped, expected="a text", rare="\\")
    severity = leaf(
        "[0-9]{1,2}|(?i:unknown|low|medium|high|very-high)",
        _cef_severity,
        expected="a severity",
        kind="int",
    )
    named = [
        item
        for name in ("vendor", "product", "device_version", "signature", "name")
        for item in (c.field(name, part), "|")
    ]
    attributes = leaf(".*+", extension, expected="key=value", kind="json")
    line = c.seq(
        c.opt(header(where, time="logged")),
        *("CEF:", c.field("version", leaf("[0-9]{1,3}+", int, expected="0", kind="int")), "|"),
        *named,
        *(c.field("severity", severity), "|", c.field("extension", attributes)),
    )
    return Format("cef", line)
