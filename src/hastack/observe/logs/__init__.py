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

if TYPE_CHECKING:
    from .parser import Batch, Counts, Explanation, Format, Parser, Reject, parse
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
    from .tracking import SchemaChanged, SchemaTracker

_HOMES: dict[str, tuple[str, ...]] = {
    "parser": ("Batch", "Counts", "Explanation", "Format", "Parser", "Reject", "parse"),
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
    "tracking": ("SchemaChanged", "SchemaTracker"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
_MODULES: tuple[str, ...] = ("combinators", "formats", "schema", "tracking")

__all__ = (
    "Applied",
    "Batch",
    "Counts",
    "Explanation",
    "FieldChange",
    "Format",
    "Parser",
    "Reject",
    "Schema",
    "SchemaCache",
    "SchemaChanged",
    "SchemaDiff",
    "SchemaField",
    "SchemaTracker",
    "Schemas",
    "fingerprint",
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
