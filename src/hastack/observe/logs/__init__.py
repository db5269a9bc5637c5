"""Log lines as typed records. Importing `combinators` needs ``hastack[logs]``.

Everything loads when it is first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._follow import Follow
    from .engine import Account, Batching, Engine, Parsed
    from .sinks import Arrow, JsonLines, Objects, OtelLogs

_HOMES: dict[str, tuple[str, ...]] = {
    "_follow": ("Follow",),
    "engine": ("Account", "Batching", "Engine", "Parsed"),
    "sinks": ("Arrow", "JsonLines", "Objects", "OtelLogs"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
_MODULES: tuple[str, ...] = ("combinators", "engine", "sinks", "sources")

__all__ = (
    "Account",
    "Arrow",
    "Batching",
    "Engine",
    "Follow",
    "JsonLines",
    "Objects",
    "OtelLogs",
    "Parsed",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
