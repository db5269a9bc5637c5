"""Which cluster is believed when several claim one instance.

A revision counts only inside the cluster that made it: across clusters "the highest revision"
would mean "the busiest cluster, for ever". So claims are merged in two steps.

`join` keeps, of each origin, the claim with the highest revision. It is commutative, associative
and idempotent: whatever order and however often claims arrive, the same ones remain.

`rank` then orders what remains, of different origins. First in order wins:

1. an origin that is live, before one whose forwarder has lost it;
2. the origin that the instance itself calls its home;
3. the later incarnation, by the hybrid logical clock of the process that registered; one that is
   more than half a second ahead of the reader's clock counts as none;
4. the origin whose name is smaller;
5. where one origin's name is met both registered here and mirrored, what is registered here.

That is a total order, so all readers who know the same claims choose the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

from ._hlc import MAX_AHEAD, ahead, believed
from ._instance import Instance  # noqa: TC001  # attrs.resolve_types() wants it here

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

__all__ = ("Claim", "Claims", "Rank", "choose", "join", "rank", "settles_at")

Rank: TypeAlias = tuple[bool, bool, int, str, bool]
"""Place of a claim among its rivals: the smallest wins."""


def rank(
    instance: Instance,
    *,
    live: bool,
    wall: float,
    registered: bool = False,
    max_ahead: float = MAX_AHEAD,
) -> Rank:
    """Place of one claim in the order of the module's docstring; the smallest wins.

    Args:
        instance: What is claimed, and by which `Instance.origin`.
        live: Whether that origin is within reach.
        wall: The reader's wall clock, in seconds since the epoch.
        registered: Whether it is registered here, not mirrored.
        max_ahead: Seconds that an incarnation may be ahead of ``wall`` and still count.
    """
    incarnation = instance.incarnation
    if not believed(incarnation, wall, max_ahead=max_ahead):
        incarnation = 0
    at_home = bool(instance.home) and instance.home == instance.origin
    return (not live, not at_home, -incarnation, instance.origin, not registered)


@attrs.frozen
class Claim:
    """What one origin says about an instance, and when it said so.

    Attributes:
        revision: Of the store in which it was found; compares only within one origin.
        instance: The instance; ``None`` when the origin has withdrawn it.
    """

    revision: int
    instance: Instance | None


Claims: TypeAlias = "Mapping[str, Claim]"
"""The newest claim of each origin to one instance."""


def join(left: Claims, right: Claims) -> dict[str, Claim]:
    """The newest claim of each origin out of both.

    Commutative, associative and idempotent, as long as one origin does not say two things at
    one revision; even then both sides agree on one of them.
    """
    joined = dict(left)
    for origin, claim in right.items():
        known = joined.get(origin)
        if known is None or _age(known) < _age(claim):
            joined[origin] = claim
    return joined


def _age(claim: Claim) -> tuple[int, bool, bytes]:
    instance = claim.instance
    if instance is None:
        return claim.revision, True, b""  # a withdrawal stands against a claim of the same time
    return claim.revision, False, instance.to_bytes()


def choose(
    claims: Claims, *, stale: Container[str] = (), wall: float, max_ahead: float = MAX_AHEAD
) -> Instance | None:
    """The claim that is believed; ``None`` when all are withdrawn.

    Args:
        claims: The newest claim of each origin.
        stale: Origins that are out of reach.
        wall: The reader's wall clock, in seconds since the epoch.
        max_ahead: Seconds that an incarnation may be ahead of ``wall`` and still count.

    Example:
        >>> from hastack.discovery import Instance
        >>> from hastack.discovery._merge import Claim, choose
        >>> old = Instance(service="db", id="1", address="a:1", origin="east", incarnation=5)
        >>> new = Instance(service="db", id="1", address="b:1", origin="west", incarnation=9)
        >>> claims = {"east": Claim(700, old), "west": Claim(3, new)}
        >>> choose(claims, wall=0.0).address
        'b:1'
        >>> choose(claims, stale={"west"}, wall=0.0).address
        'a:1'
    """
    standing = [claim.instance for claim in claims.values() if claim.instance is not None]
    return min(
        standing,
        key=lambda each: rank(each, live=each.origin not in stale, wall=wall, max_ahead=max_ahead),
        default=None,
    )


def settles_at(
    instances: Iterable[Instance], *, wall: float, max_ahead: float = MAX_AHEAD
) -> float | None:
    """When a choice among these must be made anew because a disbelieved clock has been caught up.

    Returns:
        A reading of the wall clock, in seconds; ``None`` when time alone changes nothing.
    """
    # The extra millisecond is for what floats round away.
    waiting = (
        wall + ahead(each.incarnation, wall) - max_ahead + 0.001
        for each in instances
        if each.incarnation > 0 and not believed(each.incarnation, wall, max_ahead=max_ahead)
    )
    return min(waiting, default=None)
