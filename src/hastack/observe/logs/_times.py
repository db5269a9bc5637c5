"""Timestamps of logs: how they look and which moment they name. All results know their zone.

Logs repeat themselves: many lines of a second carry the same text, so each reader remembers what
it made of the last texts.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "CLF",
    "CTIME",
    "EPOCH",
    "GLOG",
    "HTTP",
    "ISO",
    "SYSLOG",
    "remembering",
)

K = TypeVar("K")
T = TypeVar("T")

_TIME = r"[0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_ZONE = r"[+-][0-2][0-9]:?[0-5][0-9]"

ISO = rf"[0-9]{{4}}-[01][0-9]-[0-3][0-9][Tt ]{_TIME}(?:[.,][0-9]{{1,9}}+)?+(?: ?(?:[Zz]|{_ZONE}))?+"
CLF = rf"[0-3][0-9]/{_MONTH}/[0-9]{{4}}:{_TIME} {_ZONE}"
HTTP = rf"{_DAY}, [0-3][0-9] {_MONTH} [0-9]{{4}} {_TIME} GMT"
SYSLOG = rf"{_MONTH} [ 0-3]?[0-9] {_TIME}(?:\.[0-9]{{1,9}}+)?+"
CTIME = rf"{_DAY} {_MONTH} [ 0-3][0-9] {_TIME}(?:\.[0-9]{{1,9}}+)?+ [0-9]{{4}}"
GLOG = rf"[01][0-9][0-3][0-9] {_TIME}(?:\.[0-9]{{1,9}}+)?+"
EPOCH = r"[0-9]{9,19}+(?:\.[0-9]{1,9}+)?+"

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
        start=1,
    )
}
_REMEMBERED = 1024
_zones: dict[str, tzinfo] = {"Z": UTC, "z": UTC, "GMT": UTC}


class _Memory(dict[Any, Any]):
    """A dict that makes what it does not have: to look something up costs no Python call."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: Any) -> Any:
        found = self._read(text)
        if len(self) >= _REMEMBERED:
            self.clear()
        self[text] = found
        return found


def remembering(read: Callable[[K], T]) -> Callable[[K], T]:
    """``read`` with a memory of what it made of the last thousand texts."""
    return _Memory(read).__getitem__


def _zone(text: str) -> tzinfo:
    found = _zones.get(text)
    if found is None:
        offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
        found = _zones[text] = timezone(-offset if text[0] == "-" else offset)
    return found


def _moment(
    year: int, month: int, day: int, clock: str, zone: tzinfo, fraction: str = ""
) -> datetime:
    """Put together; the 60th second is the first of the next minute."""
    second = int(clock[6:8])
    micro = int(f"{fraction:0<6}"[:6]) if fraction else 0
    found = datetime(
        year, month, day, int(clock[0:2]), int(clock[3:5]), min(second, 59), micro, zone
    )
    return found + timedelta(seconds=1) if second == 60 else found


def iso(zone: tzinfo) -> Callable[[str], datetime]:
    """RFC 3339 and its relatives: a space or ``T``, a point or comma, with or without a zone.

    Args:
        zone: Of timestamps that name none.
    """

    def read(text: str) -> datetime:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:  # the 60th second, small letters: rare
            return read_slowly(text)
        return found if found.tzinfo is not None else found.replace(tzinfo=zone)

    def read_slowly(text: str) -> datetime:
        rest = text[19:]
        fraction = ""
        if rest[:1] in {".", ","}:
            digits = len(rest[1:]) - len(rest[1:].lstrip("0123456789"))
            fraction, rest = rest[1 : digits + 1], rest[digits + 1 :]
        where = _zone(rest.strip()) if rest else zone
        year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
        return _moment(year, month, day, text[11:19], where, fraction)

    return read


def clf(text: str) -> datetime:
    """``10/Oct/2000:13:55:36 -0700``, the date of NCSA's common log format."""
    month = _MONTHS[text[3:6]]
    try:  # several times faster than what follows
        return datetime.fromisoformat(
            f"{text[7:11]}-{month:02}-{text[0:2]}T{text[12:20]}{text[21:]}"
        )
    except ValueError:  # the 60th second, or no date at all
        pass
    return _moment(int(text[7:11]), month, int(text[0:2]), text[12:20], _zone(text[21:]))


def http(text: str) -> datetime:
    """``Sun, 06 Nov 1994 08:49:37 GMT``, RFC 9110's preferred date."""
    return _moment(int(text[12:16]), _MONTHS[text[8:11]], int(text[5:7]), text[17:25], UTC)


def ctime(zone: tzinfo) -> Callable[[str], datetime]:
    """``Thu Oct 11 22:14:15.123456 2000``, as Apache's error log has it."""

    def read(text: str) -> datetime:
        clock, _, fraction = text[11:-5].partition(".")
        month, day = _MONTHS[text[4:7]], int(text[8:10])
        return _moment(int(text[-4:]), month, day, clock, zone, fraction)

    return read


def syslog(zone: tzinfo, now: Callable[[], datetime]) -> Callable[[str], datetime]:
    """``Oct 11 22:14:15`` of RFC 3164, which does not say the year.

    Args:
        zone: Of the machine that wrote it.
        now: Asked for the present. The year is the one that brings the date closest to it from
            below; up to a day ahead counts as now.
    """

    def read(text: str) -> datetime:
        month, rest = _MONTHS[text[0:3]], text[4:].lstrip()
        day, _, clock = rest.partition(" ")
        clock, _, fraction = clock.partition(".")
        return _with_year(month, int(day), clock, fraction, zone, now())

    return read


def glog(zone: tzinfo, now: Callable[[], datetime]) -> Callable[[str], datetime]:
    """``1011 22:14:15.123456`` of glog and klog, without a year; see `syslog`."""

    def read(text: str) -> datetime:
        clock, _, fraction = text[5:].partition(".")
        return _with_year(int(text[0:2]), int(text[2:4]), clock, fraction, zone, now())

    return read


def _with_year(
    month: int, day: int, clock: str, fraction: str, zone: tzinfo, now: datetime
) -> datetime:
    latest = now.astimezone(zone) + timedelta(days=1)
    # The 29th of February needs a leap year: at most eight years ago (1896 to 1904).
    for year in range(latest.year, latest.year - 9, -1):
        try:
            found = _moment(year, month, day, clock, zone, fraction)
        except ValueError:
            continue
        if found <= latest:
            return found
    raise ValueError(f"{month}/{day} is in no year")


def epoch(text: str) -> datetime:
    """Seconds, milli-, micro- or nanoseconds since 1970, told apart by the number of digits."""
    whole, _, fraction = text.partition(".")
    unit = 10 ** max(0, (len(whole) - 9) // 3 * 3) if len(whole) > 11 else 1
    micros = int(whole) * 1_000_000 // unit
    if fraction and unit == 1:
        micros += int(f"{fraction:0<6}"[:6])
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
