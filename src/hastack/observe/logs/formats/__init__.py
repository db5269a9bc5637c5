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

from ._format import Format, Record
from ._registry import get, known, names, register, unregister

__all__ = ("Format", "Record", "get", "known", "names", "register", "unregister")
