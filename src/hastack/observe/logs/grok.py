r"""Grok patterns, as Logstash and its relatives have them, imported as formats.

A pattern becomes a grammar of combinators: it reads in time that is bound by the line, says where a
line does not match, and is refused with the reason if it cannot be bound.

Example:
    >>> from hastack.observe.logs import grok
    >>> late = grok.compile("shop.late", "%{WORD:shop} took %{NUMBER:took:float}s: %{GREEDYDATA:why}")
    >>> late.try_parse("berlin took 1.5s: no baker")
    {'shop': 'berlin', 'took': 1.5, 'why': 'no baker'}
"""

from __future__ import annotations

import re
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

from . import _times
from ._atomic import compile_regex
from ._grok_build import Builder
from ._grok_library import LIBRARY
from ._grok_syntax import Refused
from .combinators import _now
from .formats import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, tzinfo
    from os import PathLike

__all__ = ("LIBRARY", "Refused", "compile", "load")

_LINE = re.compile(r"(\w{1,128})[ \t]+(\S.*)")


def compile(  # noqa: A001  # `grok.compile`, like `re.compile`
    name: str,
    pattern: str,
    *,
    patterns: Mapping[str, str] | None = None,
    rest: str | None = None,
    zone: tzinfo = UTC,
    now: Callable[[], datetime] | None = None,
) -> Format:
    r"""A format of a grok pattern.

    ``%{NAME:field:type}`` refers to a pattern of `LIBRARY` or of ``patterns``. Values are text unless
    a type is named: ``int``, ``float``, ``bool``, ``timestamp``, ``duration``, ``size``, ``hex``.
    ``[a][b]`` as a field is ``a.b``. A line has to match as a whole.

    Nothing that matched is tried again, except that a repeated character (``.*``, ``\S+``) leaves
    what the text after it needs. A pattern that lives on more than that does not match what it did;
    `Format.explain` shows where.

    Args:
        name: What the format is called.
        pattern: The pattern.
        patterns: More patterns by name, see `load`; they come before those of the library.
        rest: The field for what follows the pattern on the line; without it, nothing may.
        zone: Of timestamps that name none.
        now: Asked for the present, where a timestamp has no year.

    Raises:
        InvalidArgument: The pattern is wrong, refers to one that does not exist, has no field, or
            something of it cannot be imported.
        Unbounded: Its time is not bound by the length of the line.
    """
    builder = Builder({**LIBRARY, **(patterns or {})}, _moment(zone, now or _now))
    try:
        grammar = builder.grammar(_validate.text("pattern", pattern), rest)
    except Refused as error:
        raise InvalidArgument("pattern", pattern, f"a grok pattern; refused is {error}") from None
    return Format(name, grammar)


def load(path: str | PathLike[str]) -> dict[str, str]:
    r"""The patterns of a file: a name, spaces, a pattern on each line; ``#`` begins a comment.

    Raises:
        InvalidArgument: A line is none of these.
        OSError: The file cannot be read.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        pattern = _LINE.fullmatch(text)
        if pattern is None:
            raise InvalidArgument("path", f"{path}, line {number}", "a name and a pattern")
        found[pattern[1]] = pattern[2]
    return found


def _moment(zone: tzinfo, now: Callable[[], datetime]) -> Callable[[str], datetime]:
    shapes: tuple[tuple[str, Callable[[str], datetime]], ...] = (
        (_times.ISO, _times.iso(zone)),
        (_times.CLF, _times.clf),
        (_times.HTTP, _times.http),
        (_times.SYSLOG, _times.syslog(zone, now)),
        (_times.CTIME, _times.ctime(zone)),
        (_times.EPOCH, _times.epoch),
        (_times.GLOG, _times.glog(zone, now)),
    )

    def moment(text: str) -> datetime:
        for pattern, read in shapes:
            if compile_regex(rf"(?:{pattern})\Z").match(text) is not None:
                return read(text)
        raise ValueError(text)

    return moment
