"""The blocking face of the client: the same calls, for threads.

Nothing is written twice: each method here is the coroutine function of the same name, run on the
process's background loop while the calling thread waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from hastack.discovery._sync import (
    Face,
    StoreFace,
    SyncKept,
    SyncLease,
    SyncWatch,
    blocking,
    pull,
)

from ._admin import Auth, Cluster, Maintenance
from ._client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = (
    "SyncAuth",
    "SyncClient",
    "SyncCluster",
    "SyncKept",
    "SyncLease",
    "SyncMaintenance",
    "SyncWatch",
)


@final
class SyncCluster(Face[Cluster]):
    """`Cluster`, blocking."""

    members = blocking(Cluster.members)
    add = blocking(Cluster.add)
    remove = blocking(Cluster.remove)
    update = blocking(Cluster.update)
    promote = blocking(Cluster.promote)


@final
class SyncMaintenance(Face[Maintenance]):
    """`Maintenance`, blocking."""

    status = blocking(Maintenance.status)
    compact = blocking(Maintenance.compact)
    defragment = blocking(Maintenance.defragment)
    hash_kv = blocking(Maintenance.hash_kv)
    alarms = blocking(Maintenance.alarms)
    disarm = blocking(Maintenance.disarm)
    move_leader = blocking(Maintenance.move_leader)
    save_snapshot = blocking(Maintenance.save_snapshot)
    leases = blocking(Maintenance.leases)
    lease_info = blocking(Maintenance.lease_info)

    def snapshot(
        self, endpoint: str | None = None, *, timeout: float | None = None
    ) -> Iterator[bytes]:
        """See `Maintenance.snapshot`."""
        return pull(self._face.snapshot(endpoint, timeout=timeout))


@final
class SyncAuth(Face[Auth]):
    """`Auth`, blocking."""

    enable = blocking(Auth.enable)
    disable = blocking(Auth.disable)
    add_user = blocking(Auth.add_user)
    delete_user = blocking(Auth.delete_user)
    change_password = blocking(Auth.change_password)
    users = blocking(Auth.users)
    roles_of = blocking(Auth.roles_of)
    grant_role = blocking(Auth.grant_role)
    revoke_role = blocking(Auth.revoke_role)
    add_role = blocking(Auth.add_role)
    delete_role = blocking(Auth.delete_role)
    roles = blocking(Auth.roles)
    permissions = blocking(Auth.permissions)
    grant = blocking(Auth.grant)
    revoke = blocking(Auth.revoke)


@final
class SyncClient(StoreFace[Client]):
    """A client for threads: ``client.sync``. Every call blocks and honours the current context.

    It shares everything with the client that it belongs to, and closing one closes both. Inside a
    running event loop its calls raise `RuntimeError`, since they would stop that loop.
    """

    get = blocking(Client.get)
    range = blocking(Client.range)
    put = blocking(Client.put)
    delete = blocking(Client.delete)
    txn = blocking(Client.txn)
    identity = blocking(Client.identity)
    close = blocking(Client.aclose)

    def _check_open(self) -> None:
        self._face._check_open()

    @property
    def cluster(self) -> SyncCluster:
        """The members of the cluster."""
        return SyncCluster(self._face.cluster)

    @property
    def maintenance(self) -> SyncMaintenance:
        """The data of the cluster and of single members."""
        return SyncMaintenance(self._face.maintenance)

    @property
    def auth(self) -> SyncAuth:
        """Users and roles."""
        return SyncAuth(self._face.auth)
