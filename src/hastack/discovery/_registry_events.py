"""Events of the registry."""

from __future__ import annotations

from typing import Literal

import attrs

from hastack.events import Event, topic

from ._instance import Instance  # noqa: TC001  # attrs.resolve_types() wants it here

__all__ = (
    "InstanceContested",
    "InstanceDeregistered",
    "InstanceEvicted",
    "InstanceRegistered",
    "InstanceRestored",
    "InstanceSettled",
    "MalformedEntry",
    "WatchFresh",
    "WatchStale",
)


@attrs.frozen(kw_only=True)
class InstanceRegistered(Event):
    """The store holds an instance of this process for the first time.

    Attributes:
        instance: The instance.
    """

    instance: Instance


@attrs.frozen(kw_only=True)
class InstanceDeregistered(Event):
    """An instance of this process left on its own will.

    Attributes:
        instance: The instance as it was last.
        clean: Whether the store has confirmed it; otherwise it goes with its lease.
    """

    instance: Instance
    clean: bool


@attrs.frozen(kw_only=True)
class InstanceEvicted(Event):
    """An instance of this process is no longer offered, although its block goes on.

    Attributes:
        instance: The instance.
        reason: ``"unhealthy"``, or ``"lost"`` when the store is known not to hold it, or to be
            out of reach for longer than the lease.
        error: What the last probe, or the store, said.
    """

    instance: Instance
    reason: Literal["unhealthy", "lost"]
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class InstanceRestored(Event):
    """An evicted instance is offered again.

    Attributes:
        instance: The instance.
        reason: Why it had been evicted.
        after: Seconds it was away.
    """

    instance: Instance
    reason: Literal["unhealthy", "lost"]
    after: float


@attrs.frozen(kw_only=True)
class WatchStale(Event):
    """What this process knows of a service may be out of date.

    Attributes:
        service: The service.
        namespace: Its namespace.
        age: Seconds since it was last certain to be current.
        error: What the store said last, if anything.
    """

    service: str
    namespace: str
    age: float
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class WatchFresh(Event):
    """What this process knows of a service is current again.

    Attributes:
        service: The service.
        namespace: Its namespace.
        after: Seconds it was not.
    """

    service: str
    namespace: str
    after: float


@attrs.frozen(kw_only=True)
class MalformedEntry(Event):
    """A key in the store holds no instance; it counts as absent. Told once per change of the key.

    Attributes:
        key: The key.
        problem: What is wrong with it.
        revision: The revision that wrote it.
    """

    key: bytes
    problem: str
    revision: int


@attrs.frozen(kw_only=True)
class InstanceContested(Event):
    """Several clusters of a federation claim one instance, or claim it otherwise than before.

    Somebody registers one id in two places, or moves a service and leaves the old one running.
    The registry goes on with the claim that wins.

    Attributes:
        service: The service.
        namespace: Its namespace.
        id: The instance's id.
        origins: The clusters that claim it, in the order of their names.
        winner: The one whose claim counts here.
    """

    service: str
    namespace: str
    id: str
    origins: tuple[str, ...]
    winner: str


@attrs.frozen(kw_only=True)
class InstanceSettled(Event):
    """An instance that was contested has one claim left, or none.

    Attributes:
        service: The service.
        namespace: Its namespace.
        id: The instance's id.
        origin: The cluster that still claims it; empty when none does.
    """

    service: str
    namespace: str
    id: str
    origin: str


REGISTERED = topic(InstanceRegistered)
DEREGISTERED = topic(InstanceDeregistered)
EVICTED = topic(InstanceEvicted)
RESTORED = topic(InstanceRestored)
STALE = topic(WatchStale)
FRESH = topic(WatchFresh)
MALFORMED = topic(MalformedEntry)
CONTESTED = topic(InstanceContested)
SETTLED = topic(InstanceSettled)
