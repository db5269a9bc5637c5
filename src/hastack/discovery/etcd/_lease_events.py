"""Events of leases and of the keys that are kept on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hastack.events import Event, topic

if TYPE_CHECKING:
    from ._lease_reconcile import Loss

__all__ = (
    "KeepaliveInterrupted",
    "KeyContested",
    "KeyDown",
    "KeyRestored",
    "LeaseEnded",
    "LeaseGranted",
)


@attrs.frozen(kw_only=True)
class LeaseGranted(Event):
    """A lease was granted, and is kept alive from now on.

    Attributes:
        lease: Its id.
        ttl: Its TTL in seconds, as the store granted it.
    """

    lease: int
    ttl: float


@attrs.frozen(kw_only=True)
class LeaseEnded(Event):
    """A lease is kept alive no longer.

    Attributes:
        lease: Its id.
        reason: ``"left"`` (and revoked), ``"not revoked"`` (left, and the store could not be told:
            it ends with its TTL), ``"gone"`` (the store says that it does not exist),
            ``"unreachable"`` (no keepalive was answered in time) or ``"closed"`` (the client was).
    """

    lease: int
    reason: str


@attrs.frozen(kw_only=True)
class KeepaliveInterrupted(Event):
    """The stream of keepalives ended; it is opened again, elsewhere if possible.

    Attributes:
        endpoint: Who was on the other end; empty when none could be reached.
        reason: What happened, in words.
        leases: How many leases depend on it.
    """

    endpoint: str
    reason: str
    leases: int


@attrs.frozen(kw_only=True)
class KeyDown(Event):
    """A key that is kept has gone away. It is put back.

    Attributes:
        key: The key.
        loss: How: ``"deleted"``, ``"overwritten"`` or ``"lease lost"``.
    """

    key: bytes
    loss: Loss


@attrs.frozen(kw_only=True)
class KeyRestored(Event):
    """A key that had gone away is back.

    Attributes:
        key: The key.
        after: Seconds since its absence was noticed.
    """

    key: bytes
    after: float


@attrs.frozen(kw_only=True)
class KeyContested(Event):
    """Somebody takes a kept key away again and again, so it is put back more and more slowly.

    Usually two processes keep the same key.

    Attributes:
        key: The key.
        loss: What they do.
        losses: How often in a row.
        rival: The lease that the key was found on; 0 for none.
        pause: Seconds until it is put back.
    """

    key: bytes
    loss: Loss
    losses: int
    rival: int
    pause: float


LEASE_GRANTED = topic(LeaseGranted)
LEASE_ENDED = topic(LeaseEnded)
KEEPALIVE_INTERRUPTED = topic(KeepaliveInterrupted)
KEY_DOWN = topic(KeyDown)
KEY_RESTORED = topic(KeyRestored)
KEY_CONTESTED = topic(KeyContested)
