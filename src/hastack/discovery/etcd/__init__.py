"""A client of etcd v3. grpc and protobuf come in with the first connection."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._admin import Auth as Auth
    from ._admin import Cluster as Cluster
    from ._admin import Maintenance as Maintenance
    from ._admin_records import Alarm as Alarm
    from ._admin_records import LeaseInfo as LeaseInfo
    from ._admin_records import Member as Member
    from ._admin_records import Permission as Permission
    from ._admin_records import Status as Status
    from ._client import Client as Client
    from ._client import connect as connect
    from ._codec import Txn as Txn
    from ._lease import Lease as Lease
    from ._lease_events import KeepaliveInterrupted as KeepaliveInterrupted
    from ._lease_events import KeyContested as KeyContested
    from ._lease_events import KeyDown as KeyDown
    from ._lease_events import KeyRestored as KeyRestored
    from ._lease_events import LeaseEnded as LeaseEnded
    from ._lease_events import LeaseGranted as LeaseGranted
    from ._lease_kept import Kept as Kept
    from ._options import TLS as TLS
    from ._sync import SyncAuth as SyncAuth
    from ._sync import SyncClient as SyncClient
    from ._sync import SyncCluster as SyncCluster
    from ._sync import SyncKept as SyncKept
    from ._sync import SyncLease as SyncLease
    from ._sync import SyncMaintenance as SyncMaintenance
    from ._sync import SyncWatch as SyncWatch
    from ._watch_events import WatchOverflowed as WatchOverflowed
    from ._watch_events import WatchResynced as WatchResynced
    from ._watch_events import WatchStreamLost as WatchStreamLost
    from ._watch_events import WatchStreamOpened as WatchStreamOpened

_HOMES = {
    "_admin": ("Auth", "Cluster", "Maintenance"),
    "_admin_records": ("Alarm", "LeaseInfo", "Member", "Permission", "Status"),
    "_client": ("Client", "connect"),
    "_codec": ("Txn",),
    "_lease": ("Lease",),
    "_lease_events": (
        *("KeepaliveInterrupted", "KeyContested", "KeyDown", "KeyRestored"),
        *("LeaseEnded", "LeaseGranted"),
    ),
    "_lease_kept": ("Kept",),
    "_options": ("TLS",),
    "_sync": (
        *("SyncAuth", "SyncClient", "SyncCluster", "SyncKept", "SyncLease"),
        *("SyncMaintenance", "SyncWatch"),
    ),
    "_watch_events": (
        *("WatchOverflowed", "WatchResynced", "WatchStreamLost", "WatchStreamOpened"),
    ),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = (  # noqa: RUF022  # plainly sorted, as everywhere
    "Alarm",
    "Auth",
    "Client",
    "Cluster",
    "KeepaliveInterrupted",
    "Kept",
    "KeyContested",
    "KeyDown",
    "KeyRestored",
    "Lease",
    "LeaseEnded",
    "LeaseGranted",
    "LeaseInfo",
    "Maintenance",
    "Member",
    "Permission",
    "Status",
    "SyncAuth",
    "SyncClient",
    "SyncCluster",
    "SyncKept",
    "SyncLease",
    "SyncMaintenance",
    "SyncWatch",
    "TLS",
    "Txn",
    "WatchOverflowed",
    "WatchResynced",
    "WatchStreamLost",
    "WatchStreamOpened",
    "connect",
)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
