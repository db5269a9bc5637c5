"""Service discovery: an etcd client, a registry, client-side balancing and federation.

Submodules load on first use; grpc comes in with the first connection to etcd.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import balance as balance
    from . import election as election
    from . import etcd as etcd
    from . import lock as lock
    from . import memory as memory
    from . import registry as registry
    from ._instance import Instance as Instance
    from ._records import Batch as Batch
    from ._records import ClusterId as ClusterId
    from ._records import Compare as Compare
    from ._records import Delete as Delete
    from ._records import DeleteResult as DeleteResult
    from ._records import Get as Get
    from ._records import Key as Key
    from ._records import KeyValue as KeyValue
    from ._records import Op as Op
    from ._records import Put as Put
    from ._records import PutResult as PutResult
    from ._records import RangeResult as RangeResult
    from ._records import TxnResult as TxnResult
    from ._records import WatchEvent as WatchEvent
    from ._store import Kept as Kept
    from ._store import Lease as Lease
    from ._store import Store as Store
    from ._store import Watch as Watch
    from .registry import Change as Change
    from .registry import GrpcHealth as GrpcHealth
    from .registry import Health as Health
    from .registry import Http as Http
    from .registry import Registration as Registration
    from .registry import Registry as Registry
    from .registry import Resolved as Resolved
    from .registry import ServiceWatch as ServiceWatch
    from .registry import Tcp as Tcp
    from .registry import connect as connect

_HOMES = {
    "_instance": ("Instance",),
    "_records": (
        *("Batch", "ClusterId", "Compare", "Delete", "DeleteResult", "Get", "Key", "KeyValue"),
        *("Op", "Put", "PutResult", "RangeResult", "TxnResult", "WatchEvent"),
    ),
    "_store": ("Kept", "Lease", "Store", "Watch"),
    "registry": (
        *("Change", "GrpcHealth", "Health", "Http", "Registration", "Registry", "Resolved"),
        *("ServiceWatch", "Tcp", "connect"),
    ),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
_MODULES: tuple[str, ...] = (
    *("balance", "election", "etcd", "federation", "lock", "memory"),
    "registry",
)

__all__ = (
    "Batch",
    "Change",
    "ClusterId",
    "Compare",
    "Delete",
    "DeleteResult",
    "Get",
    "GrpcHealth",
    "Health",
    "Http",
    "Instance",
    "Kept",
    "Key",
    "KeyValue",
    "Lease",
    "Op",
    "Put",
    "PutResult",
    "RangeResult",
    "Registration",
    "Registry",
    "Resolved",
    "ServiceWatch",
    "Store",
    "Tcp",
    "TxnResult",
    "Watch",
    "WatchEvent",
    "connect",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
