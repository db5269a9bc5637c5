"""What a store holds and says: keys, revisions, watch batches, transactions.

The data model is that of etcd v3: one counter, the revision, moves with every transaction that
changes anything; a key knows the revision at which it was created and last changed. Every store
that discovery runs on, etcd or the embedded one, speaks in these records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from hastack._core._errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "Batch",
    "ClusterId",
    "Compare",
    "Delete",
    "DeleteResult",
    "Get",
    "Key",
    "KeyValue",
    "Op",
    "OpResult",
    "Put",
    "PutResult",
    "RangeResult",
    "TxnResult",
    "WatchEvent",
    "as_bytes",
    "prefix_end",
)

Key: TypeAlias = str | bytes
"""A key or value as users may give it; text is UTF-8."""


def as_bytes(parameter: str, value: object) -> bytes:
    """``value`` as bytes, or an error that names ``parameter``."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise InvalidArgument(parameter, value, "bytes or str")


def _key(value: Key) -> bytes:
    return as_bytes("key", value)


def _value(value: Key) -> bytes:
    return as_bytes("value", value)


def prefix_end(prefix: bytes) -> bytes:
    r"""The first key after all that begin with ``prefix``; ``b"\0"`` means: to the last key."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


@attrs.frozen
class KeyValue:
    """One key at one revision.

    Attributes:
        key: The key.
        value: Its value; empty in a delete event.
        create_revision: The revision at which this life of the key began; 0 in a delete event.
            Unique to the creating transaction, so it serves as a fencing token.
        mod_revision: The revision of its last change; in a delete event, that of the deletion.
        version: Changes in this life of the key, counted from 1; 0 in a delete event.
        lease: The lease it hangs on; 0 for none.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@attrs.frozen
class ClusterId:
    """Which cluster answered, and how far it had come.

    Attributes:
        cluster: Identity of the data; a new cluster, or one restored from a backup, differs.
        revision: The newest revision at that moment.
    """

    cluster: int
    revision: int


@attrs.frozen
class RangeResult:
    """Answer to a range request.

    Attributes:
        kvs: Keys in order.
        count: How many keys the whole range has, whatever the limit.
        more: Whether the limit left some out.
        revision: The newest revision of the store when it answered.
    """

    kvs: tuple[KeyValue, ...]
    count: int
    more: bool
    revision: int


@attrs.frozen
class PutResult:
    """Answer to a put.

    Attributes:
        revision: The revision that the put made.
        prev: What the key held before, when asked for.
    """

    revision: int
    prev: KeyValue | None = None


@attrs.frozen
class DeleteResult:
    """Answer to a delete.

    Attributes:
        deleted: How many keys are gone.
        revision: The revision of the store afterwards.
        prev: What was deleted, when asked for.
    """

    deleted: int
    revision: int
    prev: tuple[KeyValue, ...] = ()


@attrs.frozen
class Put:
    """Set a key inside a transaction. ``lease`` 0 hangs it on none."""

    key: bytes = attrs.field(converter=_key)
    value: bytes = attrs.field(converter=_value)
    lease: int = 0
    prev: bool = False


@attrs.frozen
class Delete:
    """Delete a key, or with ``end`` all keys in ``[key, end)``, inside a transaction."""

    key: bytes = attrs.field(converter=_key)
    end: bytes | None = None
    prev: bool = False


@attrs.frozen
class Get:
    """Read a key, or with ``end`` all keys in ``[key, end)``, inside a transaction."""

    key: bytes = attrs.field(converter=_key)
    end: bytes | None = None
    limit: int = 0


Op: TypeAlias = Put | Delete | Get
OpResult: TypeAlias = "PutResult | DeleteResult | RangeResult | TxnResult"
"""Of a transaction inside a transaction it is a `TxnResult`; only etcd has those."""
Target: TypeAlias = Literal["version", "create_revision", "mod_revision", "value", "lease"]
Relation: TypeAlias = Literal["==", "!=", "<", ">"]


@attrs.frozen
class Compare:
    """One condition of a transaction: ``target`` of ``key`` stands in ``relation`` to ``value``.

    A key that is not there has version, revisions and lease 0.

    Example:
        >>> from hastack.discovery import Compare
        >>> Compare.absent("/locks/a")
        Compare(key=b'/locks/a', target='version', relation='==', value=0)
        >>> Compare("/config", "mod_revision", "==", 42).relation
        '=='
    """

    key: bytes = attrs.field(converter=_key)
    target: Target
    relation: Relation
    value: int | bytes

    def __attrs_post_init__(self) -> None:
        if self.target not in {"version", "create_revision", "mod_revision", "value", "lease"}:
            raise InvalidArgument(
                "target", self.target, "version, create_revision, mod_revision, value or lease"
            )
        if self.relation not in {"==", "!=", "<", ">"}:
            raise InvalidArgument("relation", self.relation, "==, !=, < or >")
        wanted = bytes if self.target == "value" else int
        if not isinstance(self.value, wanted) or isinstance(self.value, bool):
            raise InvalidArgument("value", self.value, f"{wanted.__name__}, as {self.target} is")

    @classmethod
    def absent(cls, key: Key) -> Compare:
        """The key does not exist."""
        return cls(key, "version", "==", 0)

    @classmethod
    def present(cls, key: Key) -> Compare:
        """The key exists."""
        return cls(key, "version", ">", 0)


@attrs.frozen
class TxnResult:
    """Answer to a transaction.

    Attributes:
        succeeded: Whether all conditions held, that is, which branch ran.
        results: One per operation of that branch, in order.
        revision: The revision of the store afterwards.
    """

    succeeded: bool
    results: tuple[OpResult, ...]
    revision: int


@attrs.frozen
class WatchEvent:
    """One key changed.

    Attributes:
        kind: ``"put"`` or ``"delete"``.
        kv: The key as it is now; for a delete, its key and the revision of the deletion.
        prev: What it held before, when asked for and still known.
    """

    kind: Literal["put", "delete"]
    kv: KeyValue
    prev: KeyValue | None = None


@attrs.frozen
class Batch:
    """What a watch hands over at once: whole revisions, in order, each exactly once.

    Attributes:
        events: The changes. Of a resync, the exact difference between what this subscriber had
            been given and the state at ``revision``.
        revision: Everything up to and including it has now been handed over.
        resync: This difference was computed from a listing: the first batch of a watch that
            began with a snapshot, or the history in between was compacted, dropped for a slow
            subscriber, or replaced by a restored backup.
        reason: Why a resync happened: ``"snapshot"``, ``"compacted"``, ``"overflow"``,
            ``"restored"`` or ``"gap"``; empty otherwise.
    """

    events: Sequence[WatchEvent]
    revision: int
    resync: bool = False
    reason: str = ""
