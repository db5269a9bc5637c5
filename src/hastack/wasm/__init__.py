"""WebAssembly plugins: hostile code on the hot path, in a sandbox with limits that hold.

Example:
    >>> from hastack import wasm
    >>> code = wasm.wat('''(module
    ...   (memory (export "memory") 1)
    ...   (func (export "on_http_request") (param i32 i32 i32) (result i32)
    ...     (i32.ne (local.get 2) (i32.const 6))))''')  # no path of 6 bytes
    >>> policy = wasm.load(code, trust=wasm.Unsigned(), limits=wasm.Limits(deadline=0.5))
    >>> policy.allow(b"GET", b"/admin"), policy.allow(b"GET", b"/")
    (False, True)

Everything loads on first use; wasmtime comes in with the first module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._events import PluginActivated as PluginActivated
    from ._events import PluginCompiled as PluginCompiled
    from ._events import PluginEvent as PluginEvent
    from ._events import PluginRefused as PluginRefused
    from ._events import PluginTrapped as PluginTrapped
    from ._host import HostFunction as HostFunction
    from ._host import host as host
    from ._limits import Limits as Limits
    from ._memory import Memory as Memory
    from ._plugin import Plugin as Plugin
    from ._plugin import load as load
    from ._plugin import wat as wat
    from ._reader import Export as Export
    from ._reader import Facts as Facts
    from ._reader import Import as Import
    from ._reader import inspect as inspect
    from ._trust import Unsigned as Unsigned

_HOMES = {
    "_events": (
        *("PluginActivated", "PluginCompiled", "PluginEvent", "PluginRefused", "PluginTrapped"),
    ),
    "_host": ("HostFunction", "host"),
    "_limits": ("Limits",),
    "_memory": ("Memory",),
    "_plugin": ("Plugin", "load", "wat"),
    "_reader": ("Export", "Facts", "Import", "inspect"),
    "_trust": ("Unsigned",),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = (
    "Export",
    "Facts",
    "HostFunction",
    "Import",
    "Limits",
    "Memory",
    "Plugin",
    "PluginActivated",
    "PluginCompiled",
    "PluginEvent",
    "PluginRefused",
    "PluginTrapped",
    "Unsigned",
    "host",
    "inspect",
    "load",
    "wat",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
