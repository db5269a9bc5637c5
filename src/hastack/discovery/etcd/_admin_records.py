"""What etcd says about itself."""

from __future__ import annotations

import attrs

__all__ = ("Alarm", "LeaseInfo", "Member", "Permission", "Status")


@attrs.frozen
class Member:
    """One member of the cluster.

    Attributes:
        id: Its identity.
        name: Its name; empty until it has started.
        peer_urls: Where other members reach it.
        client_urls: Where clients reach it; empty until it has started.
        learner: It receives the data and has no vote.
    """

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool


@attrs.frozen
class Status:
    """The state of the member behind one endpoint.

    Attributes:
        endpoint: The endpoint.
        version: Version of the server.
        member: Identity of the member.
        leader: Identity of the leader that it knows; 0 for none.
        revision: The newest revision that it has.
        db_size: Bytes of its file.
        db_size_in_use: Bytes of it that hold data; defragmenting gives back the rest.
        raft_index: Index of the last entry it knows to be committed.
        raft_applied_index: Index of the last entry it has applied.
        raft_term: Current term.
        errors: What it complains about: alarms, a missing leader.
        learner: It has no vote.
    """

    endpoint: str
    version: str
    member: int
    leader: int
    revision: int
    db_size: int
    db_size_in_use: int
    raft_index: int
    raft_applied_index: int
    raft_term: int
    errors: tuple[str, ...]
    learner: bool


@attrs.frozen
class Alarm:
    """Something is wrong with a member until somebody says that it is not.

    Attributes:
        member: Identity of the member.
        kind: ``"nospace"`` (the quota is used up: no more writes) or ``"corrupt"``.
    """

    member: int
    kind: str


@attrs.frozen
class LeaseInfo:
    """What is left of a lease.

    Attributes:
        id: Its id.
        ttl: Seconds left; -1 when there is no such lease.
        granted: Seconds it was granted for.
        keys: Keys on it, when asked for; those outside of the client's namespace are left out.
    """

    id: int
    ttl: int
    granted: int
    keys: tuple[bytes, ...] = ()


@attrs.frozen
class Permission:
    r"""What a role may do.

    Attributes:
        kind: ``"read"``, ``"write"`` or ``"readwrite"``.
        key: First key, as the server knows it, without regard to the client's namespace.
        end: First key after the range; empty for the one key, ``b"\0"`` for no end.
    """

    kind: str
    key: bytes
    end: bytes
