"""Looking after a cluster: its members, its data files, its users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from hastack._config._secret import Secret
from hastack._core._errors import InvalidArgument
from hastack.discovery._records import as_bytes, prefix_end

from . import _wire
from ._admin_records import Alarm, LeaseInfo, Member, Permission, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from hastack.discovery._records import Key

    from ._client import Client

__all__ = ("Auth", "Cluster", "Maintenance")

_KINDS = ("read", "write", "readwrite")
_ALARMS = ("none", "nospace", "corrupt")


class _Face:
    """Some of a client's calls under one name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _call(
        self,
        method: str,
        request: Any,
        timeout: float | None,
        *,
        idempotent: bool = False,
        endpoint: str | None = None,
    ) -> Any:
        return await self._client._transport().call(
            method, request, timeout=timeout, idempotent=idempotent, endpoint=endpoint
        )


@final
class Cluster(_Face):
    """The members of the cluster: ``client.cluster``."""

    async def members(self, *, timeout: float | None = None) -> tuple[Member, ...]:
        """All members."""
        request = _wire.MemberListRequest(linearizable=True)
        answer = await self._call(
            "/etcdserverpb.Cluster/MemberList", request, timeout, idempotent=True
        )
        return tuple(map(_member, answer.members))

    async def add(
        self, peer_urls: Iterable[str], *, learner: bool = False, timeout: float | None = None
    ) -> Member:
        """Announce a member that is about to start; as a learner it has no vote yet."""
        request = _wire.MemberAddRequest(peerURLs=list(peer_urls), isLearner=learner)
        answer = await self._call("/etcdserverpb.Cluster/MemberAdd", request, timeout)
        return _member(answer.member)

    async def remove(self, member: int, *, timeout: float | None = None) -> tuple[Member, ...]:
        """Remove a member; hands out those that stay."""
        request = _wire.MemberRemoveRequest(ID=member)
        answer = await self._call("/etcdserverpb.Cluster/MemberRemove", request, timeout)
        return tuple(map(_member, answer.members))

    async def update(
        self, member: int, peer_urls: Iterable[str], *, timeout: float | None = None
    ) -> tuple[Member, ...]:
        """Change where a member is reached by the others."""
        request = _wire.MemberUpdateRequest(ID=member, peerURLs=list(peer_urls))
        answer = await self._call("/etcdserverpb.Cluster/MemberUpdate", request, timeout)
        return tuple(map(_member, answer.members))

    async def promote(self, member: int, *, timeout: float | None = None) -> tuple[Member, ...]:
        """Give a learner its vote; refused while it lags behind."""
        request = _wire.MemberPromoteRequest(ID=member)
        answer = await self._call("/etcdserverpb.Cluster/MemberPromote", request, timeout)
        return tuple(map(_member, answer.members))


def _member(found: Any) -> Member:
    return Member(
        found.ID, found.name, tuple(found.peerURLs), tuple(found.clientURLs), found.isLearner
    )


@final
class Maintenance(_Face):
    """The data of the cluster and of single members: ``client.maintenance``.

    Calls with ``endpoint`` are about the member behind it; by default it is the client's first.
    """

    def _endpoint(self, endpoint: str | None) -> str:
        return endpoint or self._client._shared.endpoints.first()

    async def status(self, endpoint: str | None = None, *, timeout: float | None = None) -> Status:
        """The state of one member."""
        endpoint = self._endpoint(endpoint)
        found = await self._call(
            _wire.STATUS, _wire.StatusRequest(), timeout, idempotent=True, endpoint=endpoint
        )
        return Status(
            endpoint=endpoint,
            version=found.version,
            member=found.header.member_id,
            leader=found.leader,
            revision=found.header.revision,
            db_size=found.dbSize,
            db_size_in_use=found.dbSizeInUse,
            raft_index=found.raftIndex,
            raft_applied_index=found.raftAppliedIndex,
            raft_term=found.raftTerm,
            errors=tuple(found.errors),
            learner=found.isLearner,
        )

    async def compact(
        self, revision: int, *, physical: bool = False, timeout: float | None = None
    ) -> None:
        """Forget what was before ``revision``.

        Args:
            revision: The oldest revision that can be read afterwards.
            physical: Return when the data is gone from the file as well.
            timeout: Seconds; the client's by default.

        Raises:
            Compacted: It was compacted to that or a later revision before.
        """
        request = _wire.CompactionRequest(revision=revision, physical=physical)
        await self._call(_wire.COMPACT, request, timeout)

    async def defragment(
        self, endpoint: str | None = None, *, timeout: float | None = None
    ) -> None:
        """Give unused space of one member's file back. The member answers nobody meanwhile."""
        await self._call(
            "/etcdserverpb.Maintenance/Defragment",
            _wire.DefragmentRequest(),
            timeout,
            endpoint=self._endpoint(endpoint),
        )

    async def hash_kv(
        self, revision: int = 0, endpoint: str | None = None, *, timeout: float | None = None
    ) -> tuple[int, int]:
        """Hash of one member's keys up to ``revision`` (0: its newest), and what it compacted to.

        Members that agree on the data, and were compacted to the same revision, agree on the hash.
        """
        answer = await self._call(
            "/etcdserverpb.Maintenance/HashKV",
            _wire.HashKVRequest(revision=revision),
            timeout,
            idempotent=True,
            endpoint=self._endpoint(endpoint),
        )
        return answer.hash, answer.compact_revision

    async def alarms(self, *, timeout: float | None = None) -> tuple[Alarm, ...]:
        """The alarms that are on."""
        answer = await self._call(
            "/etcdserverpb.Maintenance/Alarm", _wire.AlarmRequest(), timeout, idempotent=True
        )
        return tuple(Alarm(each.memberID, _ALARMS[each.alarm]) for each in answer.alarms)

    async def disarm(self, alarm: Alarm, *, timeout: float | None = None) -> None:
        """Switch an alarm off, its cause being gone."""
        if alarm.kind not in _ALARMS[1:]:
            raise InvalidArgument("alarm", alarm, "an alarm of kind nospace or corrupt")
        request = _wire.AlarmRequest(
            action=2, memberID=alarm.member, alarm=_ALARMS.index(alarm.kind)
        )
        await self._call("/etcdserverpb.Maintenance/Alarm", request, timeout, idempotent=True)

    async def move_leader(self, member: int, *, timeout: float | None = None) -> None:
        """Make ``member`` the leader. Only the present leader takes this call."""
        leader = await self._leader_endpoint(timeout)
        await self._call(
            "/etcdserverpb.Maintenance/MoveLeader",
            _wire.MoveLeaderRequest(targetID=member),
            timeout,
            endpoint=leader,
        )

    async def _leader_endpoint(self, timeout: float | None) -> str:
        for endpoint in self._client._shared.endpoints.addresses:
            status = await self.status(endpoint, timeout=timeout)
            if status.leader == status.member:
                return endpoint
        raise InvalidArgument("endpoints", self._client, "a client that knows the leader's")

    async def snapshot(
        self, endpoint: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[bytes]:
        """A backup of one member's data, piece by piece; ``etcdctl snapshot restore`` reads it.

        Args:
            endpoint: Whose.
            timeout: Seconds for the whole of it; the context's deadline alone bounds it by
                default.
        """
        pieces = self._client._transport().download(
            _wire.SNAPSHOT, _wire.SnapshotRequest(), self._endpoint(endpoint), timeout=timeout
        )
        async for piece in pieces:
            yield piece.blob

    async def save_snapshot(
        self,
        path: str | os.PathLike[str],
        endpoint: str | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Write a `snapshot` to ``path``, which appears when it is whole; hands out its size."""
        import asyncio

        target = Path(path)
        unfinished = target.with_name(f"{target.name}.part")
        size = 0
        try:
            # Opened here: a file that a thread opens for a cancelled task stays open.
            with unfinished.open("wb") as file:  # as the line above says
                async for piece in self.snapshot(endpoint, timeout=timeout):
                    size += len(piece)
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(_sync_to_disk, file)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return size

    async def leases(self, *, timeout: float | None = None) -> tuple[int, ...]:
        """The ids of all leases of the cluster."""
        answer = await self._call(
            _wire.LEASE_LEASES, _wire.LeaseLeasesRequest(), timeout, idempotent=True
        )
        return tuple(each.ID for each in answer.leases)

    async def lease_info(
        self, lease: int, *, keys: bool = False, timeout: float | None = None
    ) -> LeaseInfo:
        """What is left of a lease, and with ``keys`` what hangs on it."""
        request = _wire.LeaseTimeToLiveRequest(ID=lease, keys=keys)
        found = await self._call(_wire.LEASE_TIME_TO_LIVE, request, timeout, idempotent=True)
        codec = self._client._codec
        own = tuple(codec.inner(key) for key in found.keys if key.startswith(codec.namespace))
        return LeaseInfo(lease, found.TTL, found.grantedTTL, own)


def _sync_to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


@final
class Auth(_Face):
    """Users and roles: ``client.auth``.

    Keys of permissions are the server's: the client's namespace is not added, since who grants is
    rarely who uses.
    """

    async def enable(self, *, timeout: float | None = None) -> None:
        """Ask for passwords from now on. A user ``root`` with the role ``root`` must be there."""
        await self._call("/etcdserverpb.Auth/AuthEnable", _wire.AuthEnableRequest(), timeout)

    async def disable(self, *, timeout: float | None = None) -> None:
        """Let everybody in."""
        await self._call("/etcdserverpb.Auth/AuthDisable", _wire.AuthDisableRequest(), timeout)

    async def add_user(
        self, name: str, password: str | Secret | None = None, *, timeout: float | None = None
    ) -> None:
        """Add a user; one without a password comes with a certificate whose common name it is."""
        request = _wire.AuthUserAddRequest(name=name, password=_revealed(password))
        if password is None:
            request.options.no_password = True
        await self._call("/etcdserverpb.Auth/UserAdd", request, timeout)

    async def delete_user(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a user."""
        request = _wire.AuthUserDeleteRequest(name=name)
        await self._call("/etcdserverpb.Auth/UserDelete", request, timeout)

    async def change_password(
        self, name: str, password: str | Secret, *, timeout: float | None = None
    ) -> None:
        """Give a user another password; tokens of the old one end."""
        request = _wire.AuthUserChangePasswordRequest(name=name, password=_revealed(password))
        await self._call("/etcdserverpb.Auth/UserChangePassword", request, timeout)

    async def users(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """Names of all users."""
        answer = await self._call(
            "/etcdserverpb.Auth/UserList", _wire.AuthUserListRequest(), timeout, idempotent=True
        )
        return tuple(answer.users)

    async def roles_of(self, user: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Names of the roles that a user has."""
        request = _wire.AuthUserGetRequest(name=user)
        answer = await self._call("/etcdserverpb.Auth/UserGet", request, timeout, idempotent=True)
        return tuple(answer.roles)

    async def grant_role(self, user: str, role: str, *, timeout: float | None = None) -> None:
        """Give a user a role."""
        request = _wire.AuthUserGrantRoleRequest(user=user, role=role)
        await self._call("/etcdserverpb.Auth/UserGrantRole", request, timeout)

    async def revoke_role(self, user: str, role: str, *, timeout: float | None = None) -> None:
        """Take a role from a user."""
        request = _wire.AuthUserRevokeRoleRequest(name=user, role=role)
        await self._call("/etcdserverpb.Auth/UserRevokeRole", request, timeout)

    async def add_role(self, name: str, *, timeout: float | None = None) -> None:
        """Add a role that may do nothing yet."""
        await self._call("/etcdserverpb.Auth/RoleAdd", _wire.AuthRoleAddRequest(name=name), timeout)

    async def delete_role(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a role."""
        await self._call(
            "/etcdserverpb.Auth/RoleDelete", _wire.AuthRoleDeleteRequest(role=name), timeout
        )

    async def roles(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """Names of all roles."""
        answer = await self._call(
            "/etcdserverpb.Auth/RoleList", _wire.AuthRoleListRequest(), timeout, idempotent=True
        )
        return tuple(answer.roles)

    async def permissions(
        self, role: str, *, timeout: float | None = None
    ) -> tuple[Permission, ...]:
        """What a role may do."""
        request = _wire.AuthRoleGetRequest(role=role)
        answer = await self._call("/etcdserverpb.Auth/RoleGet", request, timeout, idempotent=True)
        return tuple(
            Permission(_KINDS[each.permType], each.key, each.range_end) for each in answer.perm
        )

    async def grant(
        self,
        role: str,
        kind: Literal["read", "write", "readwrite"],
        key: Key,
        *,
        prefix: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Let a role read or write a key, or with ``prefix`` all keys that begin with it."""
        if kind not in _KINDS:
            raise InvalidArgument("kind", kind, "read, write or readwrite")
        first, end = _key_range(key, prefix=prefix)
        request = _wire.AuthRoleGrantPermissionRequest(
            name=role,
            perm=_wire.Permission(permType=_KINDS.index(kind), key=first, range_end=end),
        )
        await self._call("/etcdserverpb.Auth/RoleGrantPermission", request, timeout)

    async def revoke(
        self, role: str, key: Key, *, prefix: bool = False, timeout: float | None = None
    ) -> None:
        """Take a permission back, by the key or prefix that it was granted for."""
        first, end = _key_range(key, prefix=prefix)
        request = _wire.AuthRoleRevokePermissionRequest(role=role, key=first, range_end=end)
        await self._call("/etcdserverpb.Auth/RoleRevokePermission", request, timeout)


def _key_range(key: Key, *, prefix: bool) -> tuple[bytes, bytes]:
    first = as_bytes("key", key)
    return (first or b"\0", prefix_end(first)) if prefix else (first, b"")


def _revealed(password: str | Secret | None) -> str:
    if isinstance(password, Secret):
        return password.reveal()
    return password or ""
