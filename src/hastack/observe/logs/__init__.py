"""Log lines as typed records: of known formats, or of those that users describe.

Everything needs ``hastack[logs]`` when it is first used.

Example:
    >>> from hastack.observe import logs
    >>> logs.parse("level=info took=7")
    {'level': 'info', 'took': 7}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Eagerly, so that a configuration with a `logs` table can be read from now on.
from ._settings import LogsConfig

if TYPE_CHECKING:
    from ._follow import Follow
    from ._framing import Lines
    from ._live import LiveParser
    from ._multiline import Folder, fold
    from ._syslog_listener import SyslogListener
    from ._where import Where, WhereMistake
    from .engine import Account, Batching, Engine, Parsed
    from .parser import Batch, Counts, Explanation, Format, Parser, Reject, parse
    from .redaction import Redactor
    from .schema import (
        Applied,
        FieldChange,
        Schema,
        SchemaCache,
        SchemaDiff,
        SchemaField,
        Schemas,
        fingerprint,
        infer,
    )
    from .sinks import Arrow, JsonLines, Objects, OtelLogs
    from .templates import TemplateMiner
    from .tracking import SchemaChanged, SchemaTracker

_HOMES: dict[str, tuple[str, ...]] = {
    "_follow": ("Follow",),
    "_framing": ("Lines",),
    "_live": ("LiveParser",),
    "_multiline": ("Folder", "fold"),
    "_syslog_listener": ("SyslogListener",),
    "_where": ("Where", "WhereMistake"),
    "engine": ("Account", "Batching", "Engine", "Parsed"),
    "parser": ("Batch", "Counts", "Explanation", "Format", "Parser", "Reject", "parse"),
    "redaction": ("Redactor",),
    "schema": (
        "Applied",
        "FieldChange",
        "Schema",
        "SchemaCache",
        "SchemaDiff",
        "SchemaField",
        "Schemas",
        "fingerprint",
        "infer",
    ),
    "sinks": ("Arrow", "JsonLines", "Objects", "OtelLogs"),
    "templates": ("TemplateMiner",),
    "tracking": ("SchemaChanged", "SchemaTracker"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
_MODULES: tuple[str, ...] = (
    "combinators",
    "engine",
    "formats",
    "grok",
    "redaction",
    "schema",
    "sinks",
    "sources",
    "templates",
    "tracking",
)

__all__ = (
    "Account",
    "Applied",
    "Arrow",
    "Batch",
    "Batching",
    "Counts",
    "Engine",
    "Explanation",
    "FieldChange",
    "Folder",
    "Follow",
    "Format",
    "JsonLines",
    "Lines",
    "LiveParser",
    "LogsConfig",
    "Objects",
    "OtelLogs",
    "Parsed",
    "Parser",
    "Redactor",
    "Reject",
    "Schema",
    "SchemaCache",
    "SchemaChanged",
    "SchemaDiff",
    "SchemaField",
    "SchemaTracker",
    "Schemas",
    "SyslogListener",
    "TemplateMiner",
    "Where",
    "WhereMistake",
    "fingerprint",
    "fold",
    "infer",
    "parse",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
