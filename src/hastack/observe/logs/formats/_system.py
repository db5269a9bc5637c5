"""A Debian machine's own logs: dpkg, apt, alternatives, the journal, the kernel."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hastack.observe.logs import _times
from hastack.observe.logs import combinators as c
from hastack.observe.logs._atomic import compile_regex

from ._format import Format
from ._leaves import Where, leaf, plain_time, word

if TYPE_CHECKING:
    from ._format import Record

__all__ = ("alternatives", "apt", "dpkg", "journal", "kernel", "read_journal")


def _package() -> c.Parser:
    name = leaf("[a-z0-9][a-z0-9+.-]*+", expected="a package")
    arch = c.opt(c.seq(":", c.field("arch", leaf("[a-z0-9-]++|<none>", expected="amd64"))))
    return c.seq(c.field("package", name), arch)


def dpkg(where: Where) -> Format:
    """``/var/log/dpkg.log``."""
    version = word("<none>", "a version")
    action = leaf(
        "install|upgrade|configure|trigproc|disappear|remove|purge", expected="what was done"
    )
    line = c.seq(
        *(c.field("time", plain_time(where, expected="2026-10-10 13:55:36")), " "),
        c.alt(
            c.seq(
                *(c.field("action", c.lit("startup")), " ", c.field("type", word()), " "),
                c.field("command", word()),
            ),
            c.seq(
                *(c.field("action", c.lit("status")), " ", c.field("state", word()), " "),
                *(_package(), " ", c.field("version", version)),
            ),
            c.seq(
                *(c.field("action", c.lit("conffile")), " "),
                c.field("file", word(None, "a file")),
                *(" ", c.field("decision", leaf("install|keep", expected="install or keep"))),
            ),
            c.seq(
                *(c.field("action", action), " ", _package(), " "),
                *(c.field("previous", version), " ", c.field("version", version)),
            ),
        ),
    )
    return Format("dpkg", line)


def alternatives(where: Where) -> Format:
    """``/var/log/alternatives.log``."""
    line = c.seq(
        *("update-alternatives ", c.field("time", plain_time(where)), ": "),
        c.alt(
            c.seq("run with ", c.field("arguments", c.rest)),
            c.seq(
                *("link group ", c.field("group", word()), " updated to point to "),
                c.field("target", c.rest),
            ),
            c.field("message", c.rest),
        ),
    )
    return Format("alternatives", line)


_PACKAGE = re.compile(r"([^\s:,()]+)(?::([^\s,()]+))? \(([^()]*)\)")
_APT_KEYS = {
    **dict.fromkeys(("Start-Date", "End-Date"), "timestamp"),
    **dict.fromkeys(("Commandline", "Requested-By", "Error", "Comment"), "str"),
    **dict.fromkeys(("Install", "Reinstall", "Upgrade", "Downgrade", "Remove", "Purge"), "json"),
}
_APT_FIELDS = {key.lower().replace("-", "_"): kind for key, kind in _APT_KEYS.items()}
_APT_LINE = re.compile(rf"({'|'.join(_APT_KEYS)}): ?(.*)")


def _packages(text: str) -> list[Record]:
    found = []
    for name, arch, inside in _PACKAGE.findall(text):
        versions = inside.split(", ")
        automatic = versions[-1] == "automatic"
        if automatic:
            versions.pop()
        found.append(
            {
                "package": name,
                "arch": arch or None,
                "version": versions[-1] if versions else None,
                "previous": versions[0] if len(versions) > 1 else None,
                "automatic": automatic,
            }
        )
    return found


def apt(where: Where) -> Format:
    """``/var/log/apt/history.log``: a run of apt is a text of several lines, folded."""
    moment = _times.iso(where.zone)

    def read(text: str) -> Record | None:
        record: Record = dict.fromkeys(_APT_FIELDS)
        for line in text.rstrip("\n").split("\n"):
            found = _APT_LINE.fullmatch(line)
            if found is None:
                return None
            key, value = found.groups()
            kind = _APT_KEYS[key]
            name = key.lower().replace("-", "_")
            if kind == "timestamp":
                record[name] = moment(value.strip().replace("  ", " "))
            else:
                record[name] = _packages(value) if kind == "json" else value
        return record

    marks = [f"{key}: " for key in _APT_KEYS if key not in {"Error", "Comment"}]
    return Format("apt.history", read, fields=_APT_FIELDS, marks=marks, block=True)


# What the journal calls it, what other formats call it, and how it is read.
_JOURNAL = {
    "__REALTIME_TIMESTAMP": ("time", "timestamp"),
    "MESSAGE": ("message", "str"),
    "PRIORITY": ("severity", "int"),
    "_HOSTNAME": ("host", "str"),
    "SYSLOG_IDENTIFIER": ("app", "str"),
    "_PID": ("pid", "int"),
    **{name: (name, "int") for name in ("_UID", "_GID", "SYSLOG_FACILITY", "CODE_LINE", "ERRNO")},
    **{name: (name, "int") for name in ("__MONOTONIC_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP")},
}
_NAME = compile_regex("[A-Z_][A-Z0-9_]{0,63}+")


def _journal_value(name: str, value: bytes) -> tuple[str, Any]:
    text = value.decode("utf-8", "replace")
    known = _JOURNAL.get(name)
    if known is None or known[1] == "str":
        return known[0] if known is not None else name, text
    if not text.isdecimal() or len(text) > 19:
        return known[0], None
    if known[1] == "timestamp":
        return known[0], datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(text))
    return known[0], int(text)


def read_journal(data: bytes) -> Record | None:
    """One entry of the journal export format; a field that comes again makes a list."""
    record: Record = {name: None for name, _ in _JOURNAL.values() if not name.startswith("_")}
    at, end = 0, len(data)
    while at < end:
        stop = data.find(b"\n", at)
        stop = end if stop < 0 else stop
        line = data[at:stop]
        if not line:
            break  # the empty line after an entry
        name, equals, value = line.partition(b"=")
        if not equals:
            # Binary: after the name's line its size in 8 bytes, the value, a line feed.
            size = int.from_bytes(data[stop + 1 : stop + 9], "little")
            start = stop + 9
            if start + size > end:
                return None
            value, stop = data[start : start + size], start + size
        if _NAME.fullmatch(name.decode("ascii", "replace")) is None:
            return None
        _put(record, *_journal_value(name.decode(), value))
        at = stop + 1
    return record if record["time"] is not None else None


def _put(record: Record, name: str, value: Any) -> None:
    have = record.get(name)
    if have is None:
        record[name] = value
    elif isinstance(have, list):
        have.append(value)
    else:
        record[name] = [have, value]


def journal(where: Where) -> Format:
    """An entry of ``journalctl -o export``: a text of several lines, folded."""

    def read(text: str) -> Record | None:
        return read_journal(text.encode("utf-8", "surrogateescape"))

    fields = dict(_JOURNAL.values())
    return Format("journal.export", read, fields=fields, marks=("__CURSOR=",), block=True, raw=True)


def kernel(where: Where) -> Format:
    """``dmesg``: seconds since the machine was started."""
    since = leaf(r" *+[0-9]{1,9}+\.[0-9]{6}", float, expected="seconds", kind="duration")
    line = c.seq(
        *("[", c.field("uptime", since), "] "),
        c.opt(
            c.seq(
                c.field(
                    "subsystem", leaf(r"[A-Za-z0-9_ ./-]{1,48}+(?=: )", expected="a subsystem")
                ),
                ": ",
            )
        ),
        c.field("message", c.rest),
    )
    return Format("kernel", line)
