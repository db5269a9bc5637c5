"""Kinds of lines: those that are built in, and how to add one.

Example:
    >>> from hastack.observe.logs import formats
    >>> access = formats.get("nginx.combined")
    >>> access.try_parse(
    ...     '10.0.0.7 - ada [10/Oct/2026:13:55:36 +0200] "GET /order HTTP/1.1" 200 2326 "-" "curl"'
    ... )["status"]
    200
    >>> "syslog.rfc5424" in formats.names()
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._format import Format, Record
from ._registry import get, known, names, register, unregister

if TYPE_CHECKING:
    from ._log_format import apache, nginx

__all__ = ("Format", "Record", "apache", "get", "known", "names", "nginx", "register", "unregister")


def __getattr__(name: str) -> Any:
    if name in {"apache", "nginx"}:
        from . import _log_format  # combinators come with it

        return getattr(_log_format, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
