"""What forwarders tell those who listen."""

from __future__ import annotations

import attrs

from hastack.events import Event, topic

from ._origin import OriginState  # noqa: TC001  # attrs.resolve_types() wants it here


@attrs.frozen(kw_only=True)
class OriginChanged(Event):
    """A forwarded cluster is live, stale, drained or revoked now.

    Attributes:
        origin: The cluster.
        before: How it stood; ``None`` at the start.
        after: How it stands.
        silence: Seconds since it was last certain to be as it was forwarded.
    """

    origin: str
    before: OriginState | None
    after: OriginState
    silence: float


@attrs.frozen(kw_only=True)
class OriginRelisted(Event):
    """A source was listed in full and the mirror compared with it.

    Attributes:
        origin: The cluster.
        reason: ``"first"`` for an empty mirror; ``"compacted"``, ``"overflow"``, ``"gap"`` when
            its history was gone; ``"replaced"``, ``"epoch"``, ``"restored"`` when it is another
            history; ``"selection"`` when other namespaces are forwarded; ``"incomplete"`` when an
            earlier listing was not finished; ``"returned"`` after a drain or revocation;
            ``"room"`` when instances turned away fit in again.
        revision: The source's revision that was listed.
        changes: Differences found.
        took: Seconds.
    """

    origin: str
    reason: str
    revision: int
    changes: int
    took: float


@attrs.frozen(kw_only=True)
class EvictionFrozen(Event):
    """A large share of an origin vanished while it was in doubt: nothing is deleted for now.

    Attributes:
        origin: The cluster.
        missing: Instances that have vanished.
        held: Deletions that are held back.
        population: Instances in the mirror.
        thaws_in: Seconds until the freeze ends if the origin stays in reach.
    """

    origin: str
    missing: int
    held: int
    population: int
    thaws_in: float


@attrs.frozen(kw_only=True)
class EvictionThawed(Event):
    """A freeze of eviction has ended.

    Attributes:
        origin: The cluster.
        population: Instances in the mirror, those that are now deleted included.
    """

    origin: str
    population: int


@attrs.frozen(kw_only=True)
class ForwarderSuperseded(Event):
    """Two forwarders of one origin met in one destination, and this one stepped back.

    Attributes:
        origin: The cluster.
        writer: The one that goes on.
    """

    origin: str
    writer: str


@attrs.frozen(kw_only=True)
class ForwarderFailed(Event):
    """A forwarder lost a store, or could not reach it; it tries again.

    Attributes:
        origin: The cluster.
        part: ``"source"`` or ``"destination"``.
        error: What happened.
        retry_in: Seconds until the next try.
    """

    origin: str
    part: str
    error: BaseException
    retry_in: float


ORIGIN_CHANGED = topic(OriginChanged)
ORIGIN_RELISTED = topic(OriginRelisted)
EVICTION_FROZEN = topic(EvictionFrozen)
EVICTION_THAWED = topic(EvictionThawed)
FORWARDER_SUPERSEDED = topic(ForwarderSuperseded)
FORWARDER_FAILED = topic(ForwarderFailed)
