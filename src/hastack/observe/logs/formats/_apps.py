"""What logging libraries write: Python, Java, Go, glog."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from hastack.observe.logs import _times
from hastack.observe.logs import combinators as c

from ._format import Format
from ._leaves import LEVELS, Where, leaf, level, plain_time, slash_time

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "glog",
    "go_log",
    "go_zap",
    "gunicorn",
    "java_log4j",
    "java_spring",
    "java_time_of_day",
    "java_util",
    "plain",
    "python_basic",
    "python_logging",
    "uvicorn",
)

_PYTHON = "DEBUG|INFO|WARNING|ERROR|CRITICAL"
# Square brackets around what may have some of its own: [QuorumPeer[myid=1]/0.0.0.0:2181].
_BRACKETED = r"[^\[\]]*+(?:\[[^\[\]]*+\][^\[\]]*+)*+"

_thread = c.field("thread", leaf(_BRACKETED, expected="a thread"))
_logger = c.field("logger", leaf(r"[A-Za-z_$][A-Za-z0-9_$./-]*+", expected="a logger"))
_level = c.field("level", level)
_message = c.field("message", c.rest)
_spaces = leaf(" ++", expected="a space")


def _python_level(expected: str = "a level of Python's") -> c.Parser:
    return c.field("level", leaf(f"(?:{_PYTHON})(?![A-Za-z])", expected=expected))


def python_basic(where: Where) -> Format:
    """``logging.basicConfig()``: ``WARNING:root:message``."""
    name = c.field("logger", leaf("[^: ]++", expected="a logger"))
    return Format("python.basic", c.seq(_python_level(), ":", name, ":", _message))


def python_logging(where: Where) -> Format:
    """``%(asctime)s - %(name)s - %(levelname)s - %(message)s`` and its nearest relatives."""
    name = c.field("logger", leaf("[^ :]++", expected="a logger"))
    process = c.field("pid", leaf("[0-9]{1,10}+(?= )", int, expected="a process", kind="int"))
    line = c.seq(
        *(c.field("time", plain_time(where)), " "),
        c.alt(
            c.seq("- ", name, " - ", _python_level(), " - "),
            c.seq("- ", _python_level(), " - ", name, " - "),
            # oslo.log, of OpenStack
            c.seq(process, " ", c.field("level", level), " ", name, " "),
        ),
        _message,
    )
    return Format("python.logging", line)


def gunicorn(where: Where) -> Format:
    """Gunicorn's error log, also that of Hypercorn."""
    line = c.seq(
        *("[", c.field("time", plain_time(where)), "] [", c.field("pid", c.integer), "] ["),
        *(_python_level(), "] ", _message),
    )
    return Format("python.gunicorn", line)


def uvicorn(where: Where) -> Format:
    """Uvicorn's logs: a level, a colon, spaces."""
    client = leaf(r"[0-9a-fA-F.:\[\]]++(?= - )", expected="a client")
    request = c.seq(
        *(c.field("method", leaf("[A-Z]{1,24}+", expected="a method")), " "),
        *(c.field("path", leaf('[^ "]++', expected="a path")), " "),
        c.field("protocol", leaf("HTTP/[0-9.]{1,3}+", expected="HTTP/1.1")),
    )
    status = leaf("[1-5][0-9]{2}", int, expected="a status", kind="int")
    line = c.seq(
        *(_python_level(), ":", leaf(" {2,9}+", expected="spaces")),
        c.alt(
            c.seq(
                *(c.field("client", client), ' - "', request, '" ', c.field("status", status)),
                c.opt(c.seq(" ", c.field("phrase", c.rest))),
            ),
            _message,
        ),
    )
    return Format("python.uvicorn", line)


def java_log4j(where: Where) -> Format:
    """Log4j and Logback with a date: the usual patterns with the thread in brackets.

    ``%d [%t] %-5p %c - %m``, ``%d %-5p [%t] %c: %m``, ``%d - %-5p [%t:%C{1}@%L] - %m``.
    """
    parted = leaf(" ?(?:-|:) ", expected="' - ' or ': '")
    line = c.seq(
        *(c.field("time", plain_time(where)), leaf(" ++(?:- )?", expected="a space")),
        c.alt(
            c.seq("[", _thread, "] ", _level, _spaces, _logger, c.opt(_place), parted),
            c.seq(_level, _spaces, "[", _thread, "] ", c.opt(_logger), c.opt(_place), parted),
            c.seq(_level, _spaces, "[", _thread, "] - "),
        ),
        _message,
    )
    return Format("java.log4j", line)


_place = c.seq(":", c.field("line", leaf(r"[0-9]{1,7}+", int, expected="a line", kind="int")))


def java_spring(where: Where) -> Format:
    """Spring Boot's console."""
    name = leaf(r"[^ \]]++", expected="a logger")
    line = c.seq(
        *(c.field("time", plain_time(where)), _spaces, _level, _spaces),
        *(c.field("pid", c.integer), leaf(" ++--- ++", expected="' --- '")),
        c.opt(
            c.seq(
                *("[", c.field("app", leaf(r"[^\]]*+(?=\] ++\[)", expected="an application"))),
                leaf(r"\] ++", expected="']'"),
            )
        ),
        *("[", c.field("thread", leaf(r" *+[^\]]*+", str.strip, expected="a thread")), "] "),
        *(c.field("logger", name), leaf(" *+: ", expected="' : '"), _message),
    )
    return Format("java.spring", line)


def java_time_of_day(where: Where) -> Format:
    """Logback's default, and Log4j's counting of milliseconds: no date, the thread in brackets."""
    clock = leaf("[0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:[.,][0-9]{1,9}+)?+", expected="a time of day")
    elapsed = leaf("[0-9]{1,12}+", lambda text: int(text) / 1000, expected="ms", kind="duration")
    line = c.seq(
        c.alt(c.field("clock", clock), c.field("elapsed", elapsed)),
        *(" [", _thread, "] ", _level, _spaces, _logger, leaf(" [^-]{0,256}+- ", expected="' - '")),
        _message,
    )
    return Format("java.logback", line)


_MONTH = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"


def java_util(where: Where) -> Format:
    """Where a record of ``java.util.logging`` comes from; the message is its next line."""

    def moment(text: str) -> datetime:
        found = datetime.strptime(text, "%b %d, %Y %I:%M:%S %p")  # noqa: DTZ007  # next line
        return found.replace(tzinfo=where.zone)

    pattern = rf"(?:{_MONTH}) [0-9]{{1,2}}, [0-9]{{4}} [0-9]{{1,2}}:[0-5][0-9]:[0-5][0-9] [AP]M"
    time = leaf(pattern, moment, expected="Oct 10, 2026 1:55:36 PM", kind="timestamp")
    method = leaf("[^ ]++", expected="a method")
    line = c.seq(c.field("time", time), " ", _logger, " ", c.field("method", method))
    return Format("java.util.logging", line)


def plain(where: Where) -> Format:
    """Time, level and message, whoever wrote them; perhaps with the name of a logger."""
    name = c.field("logger", leaf(r"[A-Za-z_$][A-Za-z0-9_$./-]*+(?=: )", expected="a logger"))
    time = c.alt(plain_time(where), slash_time(where))
    any_level = leaf(rf"(?i:{LEVELS}|ERR|CRIT|DBG|WRN|INF)(?![A-Za-z])", expected="a level")
    line = c.seq(
        *(
            c.opt("["),
            c.field("time", time),
            c.opt("]"),
            leaf(r" ++(?:[-|] )?", expected="a space"),
        ),
        leaf(r"[\[(<|]?", expected="a bracket"),
        c.field("level", any_level),
        leaf(r"[\])>|]?(?: ++-|:)?(?: ++|\Z)", expected="a space"),
        c.opt(c.seq(name, ": ")),
        _message,
    )
    return Format("app", line)


def glog(where: Where) -> Format:
    """Google's glog, and klog of Kubernetes."""
    words = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}
    time = c.alt(
        c.glog_time(where.zone, where.now),
        leaf(
            r"[0-9]{8} [0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:\.[0-9]{1,9}+)?+",
            _compact(where),
            expected="20261010 13:55:36.123456",
            kind="timestamp",
        ),
    )
    line = c.seq(
        c.field("level", leaf("[IWEF](?=[0-9])", words.__getitem__, expected="I, W, E or F")),
        *(c.field("time", time), _spaces, c.field("thread", c.integer), " "),
        *(c.field("file", leaf(r"[^:\] ]++", expected="a file")), ":", c.field("line", c.integer)),
        *("]", c.opt(" "), _message),
    )
    return Format("glog", line)


def _compact(where: Where) -> Callable[[str], datetime]:
    read = _times.iso(where.zone)

    def moment(text: str) -> datetime:
        return read(f"{text[:4]}-{text[4:6]}-{text[6:]}")

    return _times.remembering(moment)


def go_log(where: Where) -> Format:
    """Go's ``log`` package, perhaps with the file; ``slog`` through it, with a level."""
    place = c.seq(
        c.field("file", leaf(r"[^ :]++(?<=\.go)(?=:)", expected="a file")),
        *(":", c.field("line", c.integer), ": "),
    )
    slog = leaf(r"(?:DEBUG|INFO|WARN|ERROR)(?:[+-][0-9]{1,4})?+(?= )", expected="a level")
    line = c.seq(
        *(c.field("time", slash_time(where)), " ", c.opt(place)),
        *(c.opt(c.seq(c.field("level", slog), " ")), _message),
    )
    return Format("go.log", line)


def go_zap(where: Where) -> Format:
    """Zap's console encoder: columns with tabs between them."""
    column = leaf(r"[^\t]*+", expected="a text")
    caller = c.field("caller", leaf(r"[^\t :]++:[0-9]{1,6}+(?=\t)", expected="a caller"))
    name = c.field("logger", leaf(r"[A-Za-z0-9_.-]++(?=\t[^\t :]++:[0-9])", expected="a logger"))
    line = c.seq(
        *(c.field("time", plain_time(where)), "\t"),
        c.field("level", leaf("(?i:debug|info|warn|error|dpanic|panic|fatal)", expected="a level")),
        *("\t", c.opt(c.seq(name, "\t")), c.opt(c.seq(caller, "\t"))),
        *(c.field("message", column), c.opt(c.seq("\t", c.field("data", c.json_value)))),
    )
    return Format("go.zap", line)
