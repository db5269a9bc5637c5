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

# Eagerly, so that a configuration with a `wasm` table can be read from now on.
from ._settings import PluginConfig as PluginConfig
from ._settings import WasmConfig as WasmConfig

if TYPE_CHECKING:
    from ._abi._wasi import Directory as Directory
    from ._abi._wasi import Output as Output
    from ._abi._wasi import Wasi as Wasi
    from ._audit import Audit as Audit
    from ._audit import audit_verify as audit_verify
    from ._cache import Cache as Cache
    from ._chain import Checked as Checked
    from ._events import PluginActivated as PluginActivated
    from ._events import PluginCompiled as PluginCompiled
    from ._events import PluginEvent as PluginEvent
    from ._events import PluginRefused as PluginRefused
    from ._events import PluginRolledBack as PluginRolledBack
    from ._events import PluginSwapped as PluginSwapped
    from ._events import PluginTrapped as PluginTrapped
    from ._events import PluginVerified as PluginVerified
    from ._filter import filter as filter  # noqa: A004  # see there
    from ._floors import Floors as Floors
    from ._host import HostFunction as HostFunction
    from ._host import host as host
    from ._keys import PrivateKey as PrivateKey
    from ._keys import PublicKey as PublicKey
    from ._limits import Limits as Limits
    from ._live import live as live
    from ._manifest import Manifest as Manifest
    from ._manifest import manifest_of as manifest_of
    from ._manifest import with_manifest as with_manifest
    from ._memory import Memory as Memory
    from ._offer import Offer as Offer
    from ._plugin import Plugin as Plugin
    from ._plugin import load as load
    from ._plugin import wat as wat
    from ._reader import Export as Export
    from ._reader import Facts as Facts
    from ._reader import Import as Import
    from ._reader import inspect as inspect
    from ._revocation import Revocations as Revocations
    from ._revocation import revoke as revoke
    from ._rollout import Plan as Plan
    from ._signature import attach as attach
    from ._signature import detach as detach
    from ._swap import Swap as Swap
    from ._trust import Signer as Signer
    from ._trust import Trust as Trust
    from ._trust import Unsigned as Unsigned
    from ._trust import Verified as Verified
    from ._trust import sign as sign

_HOMES = {
    "_abi._wasi": ("Directory", "Output", "Wasi"),
    "_audit": ("Audit", "audit_verify"),
    "_cache": ("Cache",),
    "_chain": ("Checked",),
    "_events": (
        *("PluginActivated", "PluginCompiled", "PluginEvent", "PluginRefused", "PluginTrapped"),
        *("PluginRolledBack", "PluginSwapped", "PluginVerified"),
    ),
    "_filter": ("filter",),
    "_floors": ("Floors",),
    "_host": ("HostFunction", "host"),
    "_keys": ("PrivateKey", "PublicKey"),
    "_limits": ("Limits",),
    "_live": ("live",),
    "_manifest": ("Manifest", "manifest_of", "with_manifest"),
    "_memory": ("Memory",),
    "_offer": ("Offer",),
    "_plugin": ("Plugin", "load", "wat"),
    "_reader": ("Export", "Facts", "Import", "inspect"),
    "_revocation": ("Revocations", "revoke"),
    "_rollout": ("Plan",),
    "_signature": ("attach", "detach"),
    "_swap": ("Swap",),
    "_trust": ("Signer", "Trust", "Unsigned", "Verified", "sign"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = (
    "Audit",
    "Cache",
    "Checked",
    "Directory",
    "Export",
    "Facts",
    "Floors",
    "HostFunction",
    "Import",
    "Limits",
    "Manifest",
    "Memory",
    "Offer",
    "Output",
    "Plan",
    "Plugin",
    "PluginActivated",
    "PluginCompiled",
    "PluginConfig",
    "PluginEvent",
    "PluginRefused",
    "PluginRolledBack",
    "PluginSwapped",
    "PluginTrapped",
    "PluginVerified",
    "PrivateKey",
    "PublicKey",
    "Revocations",
    "Signer",
    "Swap",
    "Trust",
    "Unsigned",
    "Verified",
    "Wasi",
    "WasmConfig",
    "attach",
    "audit_verify",
    "detach",
    "filter",
    "host",
    "inspect",
    "live",
    "load",
    "manifest_of",
    "revoke",
    "sign",
    "wat",
    "with_manifest",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
