"""All formats by name: those that are built in, made when they are needed, and those of users."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from hastack._core._errors import InvalidArgument

from ._format import Format

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, tzinfo

__all__ = ("get", "known", "names", "register", "unregister")

BLOCK, MARKED, SPECIFIC, JSON, SHAPED, SYSLOG, OPEN, LOOSE = 5, 8, 10, 20, 30, 40, 50, 60
"""Ranks. Formats of one rank never read the same line; between ranks the smaller is asked first.

What is marked begins with words that only one program writes, and may go on with anything.
"""


class _Built(NamedTuple):
    module: str
    function: str
    rank: int
    starts: str | None = None
    marks: tuple[str, ...] = ()
    block: bool = False
    raw: bool = False


_DIGITS = "0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_HOST = f"{_DIGITS}{_LOWER}{_UPPER}_.:%-"
_NAME = _HOST.replace(":", "").replace("%", "")
_MONTHS = "JFMASOND"
_APT = tuple(
    f"{key}: "
    for key in (
        *("Start-Date", "End-Date", "Commandline", "Requested-By", "Install", "Reinstall"),
        *("Upgrade", "Downgrade", "Remove", "Purge"),
    )
)
_PYTHON = ("Traceback (most recent call last):", "  + Exception Group Traceback")
_PANIC = ("panic: ", "fatal error: ")

BUILT_IN: dict[str, _Built] = {
    "nginx.combined": _Built("_web", "combined", SPECIFIC, _HOST),
    "nginx.common": _Built("_web", "common", SPECIFIC, _HOST),
    "nginx.main": _Built("_web", "main", SPECIFIC, _HOST),
    "apache.vhost_combined": _Built("_web", "vhost", SPECIFIC, _NAME),
    "nginx.error": _Built("_web", "nginx_error", SPECIFIC, _DIGITS),
    "apache.error": _Built("_web", "apache_error", SPECIFIC, "["),
    "syslog.rfc5424": _Built("_syslog", "rfc5424", SPECIFIC, "<"),
    "cef": _Built("_servers", "cef", SPECIFIC, f"C<{_MONTHS}{_DIGITS}"),
    "haproxy.http": _Built("_servers", "haproxy", SPECIFIC, f"{_HOST}<"),
    "postgresql": _Built("_servers", "postgresql", SPECIFIC, _DIGITS),
    "redis": _Built("_servers", "redis", SPECIFIC, f"{_DIGITS}+-"),
    "cri": _Built("_servers", "cri", SPECIFIC, _DIGITS),
    "docker.json": _Built("_json", "docker", SPECIFIC, "{", ('{"log":',)),
    "kubernetes.audit": _Built("_json", "audit", SPECIFIC, "{", ('{"kind":"Event"',)),
    "aws.alb": _Built("_servers", "alb", SPECIFIC, "hgw"),
    "aws.elb": _Built("_servers", "elb", SPECIFIC, _DIGITS),
    "glog": _Built("_apps", "glog", SPECIFIC, "IWEF"),
    "go.slog": _Built("_logfmt", "slog", SPECIFIC, "t", ("time=",)),
    "dpkg": _Built("_system", "dpkg", SPECIFIC, _DIGITS),
    "apt.history": _Built("_system", "apt", BLOCK, "SECRIUDP", _APT, block=True),
    "alternatives": _Built("_system", "alternatives", MARKED, "u", ("update-alternatives ",)),
    "journal.export": _Built(
        "_system", "journal", SPECIFIC, "_", ("__CURSOR=",), block=True, raw=True
    ),
    "kernel": _Built("_system", "kernel", SPECIFIC, "["),
    "python.traceback": _Built("_traces", "python_traceback", BLOCK, "T ", _PYTHON, block=True),
    "java.stacktrace": _Built("_traces", "java_trace", BLOCK, f"E{_LOWER}_$", block=True),
    "go.panic": _Built("_traces", "go_panic", BLOCK, "pf", _PANIC, block=True),
    "json": _Built("_json", "lines", JSON, "{", ("{",), block=True),
    "python.basic": _Built("_apps", "python_basic", SHAPED, "DIWEC"),
    "python.logging": _Built("_apps", "python_logging", SHAPED, _DIGITS),
    "python.gunicorn": _Built("_apps", "gunicorn", SHAPED, "["),
    "python.uvicorn": _Built("_apps", "uvicorn", SHAPED, "DIWEC"),
    "java.log4j": _Built("_apps", "java_log4j", SHAPED, _DIGITS),
    "java.spring": _Built("_apps", "java_spring", SHAPED, _DIGITS),
    "java.logback": _Built("_apps", "java_time_of_day", SHAPED, _DIGITS),
    "java.util.logging": _Built("_apps", "java_util", SHAPED, _MONTHS),
    "go.log": _Built("_apps", "go_log", SHAPED, _DIGITS),
    "go.zap": _Built("_apps", "go_zap", SHAPED, _DIGITS),
    "syslog.rfc3164": _Built("_syslog", "rfc3164", SYSLOG, "<"),
    "syslog.file": _Built("_syslog", "file", SYSLOG, _MONTHS),
    "syslog.iso": _Built("_syslog", "iso_file", SYSLOG, _DIGITS),
    "logfmt": _Built("_logfmt", "logfmt", OPEN, f"{_LOWER}{_UPPER}_@"),
    "app": _Built("_apps", "plain", LOOSE, f"[{_DIGITS}"),
}


_made: dict[tuple[str, tzinfo | None], Format] = {}
_users: dict[str, Format] = {}
version = 0
"""Counts what was registered and forgotten."""


def get(
    name: str, *, zone: tzinfo | None = None, now: Callable[[], datetime] | None = None
) -> Format:
    """The format of that name.

    Args:
        name: Such as ``"nginx.error"``.
        zone: Of timestamps that name none; UTC by default.
        now: Asked for the present, where a timestamp has no year; the system's clock by default.

    Raises:
        InvalidArgument: There is none.

    Example:
        >>> from hastack.observe.logs import formats
        >>> formats.get("dpkg").try_parse("2026-05-09 07:28:46 startup archives unpack")["action"]
        'startup'
    """
    found = _users.get(name)
    if found is not None:
        return found
    built = BUILT_IN.get(name)
    if built is None:
        raise InvalidArgument("name", name, f"one of {', '.join(names())}")
    if now is not None:
        return _build(name, built, zone, now)
    found = _made.get((name, zone))
    return found or _made.setdefault((name, zone), _build(name, built, zone, None))


def look_up(name: str, zone: tzinfo | None, now: Callable[[], datetime] | None) -> Format:
    """`get`, for pickle: a format travels by its name."""
    return get(name, zone=zone, now=now)


def _build(
    name: str, built: _Built, zone: tzinfo | None, now: Callable[[], datetime] | None
) -> Format:
    def build() -> Format:
        module = importlib.import_module(f"{__package__}.{built.module}")
        leaves = importlib.import_module(f"{__package__}._leaves")
        given = {key: value for key, value in (("zone", zone), ("now", now)) if value is not None}
        made: Format = getattr(module, built.function)(leaves.Where(**given))
        return made

    return Format._later(
        name,
        build,
        rank=built.rank,
        starts=built.starts,
        marks=built.marks,
        block=built.block,
        raw=built.raw,
        where=(zone, now),
    )


def names() -> list[str]:
    """The names of all formats, those asked first coming first."""
    return [*_users, *(name for name in BUILT_IN if name not in _users)]


def known() -> list[Format]:
    """All formats, those asked first coming first: the user's, then by rank."""
    return sorted(map(get, names()), key=_rank)


def _rank(known: Format) -> int:
    return -1 if known.rank is None else known.rank


def register(new: Format) -> Format:
    """Make a format known to every parser that is made from now on.

    It comes before those that are built in, unless it has a rank, and takes the place of one with
    the same name.

    Example:
        >>> from hastack.observe import logs
        >>> from hastack.observe.logs import combinators as c, formats
        >>> line = c.seq("order ", c.field("order", c.integer), " took ", c.field("took", c.duration))
        >>> mine = formats.register(formats.Format("shop.orders", line))
        >>> logs.parse("order 42 took 250ms")
        {'order': 42, 'took': 0.25}
        >>> formats.unregister("shop.orders")
    """
    if not isinstance(new, Format):
        raise InvalidArgument("new", new, "a Format")
    global version
    _users[new.name] = new
    version += 1
    return new


def unregister(name: str) -> None:
    """Forget a format that was registered; one that is built in under that name is back then.

    Raises:
        InvalidArgument: None was.
    """
    global version
    if _users.pop(name, None) is None:
        raise InvalidArgument("name", name, f"one of {', '.join(_users) or 'none'}")
    version += 1
