"""Log lines as typed records. Importing `combinators` needs ``hastack[logs]``.

Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from .tracking import SchemaChanged, SchemaTracker

_HOMES: dict[str, tuple[str, ...]] = {
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
    "tracking": ("SchemaChanged", "SchemaTracker"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
_MODULES: tuple[str, ...] = ("combinators", "redaction", "schema", "tracking")

__all__ = (
    "Applied",
    "FieldChange",
    "Redactor",
    "Schema",
    "SchemaCache",
    "SchemaChanged",
    "SchemaDiff",
    "SchemaField",
    "SchemaTracker",
    "Schemas",
    "fingerprint",
    "infer",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
