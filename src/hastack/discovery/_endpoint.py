"""What a balancer knows of one instance, and of all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._instance import Instance

__all__ = ("Chooser", "Endpoint", "Policy", "merged", "open_share")

Random: TypeAlias = "Callable[[], float]"
"""Numbers in [0, 1)."""


class Endpoint:
    """One instance that calls may go to.

    Attributes:
        instance: The instance as the registry knows it now.
        in_flight: Calls that have not ended.
        ejected: Set aside because its calls fail.
    """

    __slots__ = ("ejected", "in_flight", "instance")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.in_flight = 0
        self.ejected = False

    def __repr__(self) -> str:
        state = ", ejected" if self.ejected else ""
        return f"<Endpoint {self.instance.address}, {self.in_flight} in flight{state}>"


class Chooser(Protocol):
    """Decides between the endpoints it was made for. Not thread-safe: the balancer locks."""

    def choose(self, key: bytes | None, avoid: frozenset[str]) -> Endpoint | None:
        """The endpoint for the next call; ``None`` when every one is ejected or avoided.

        Args:
            key: What the call is about, for policies that keep a key at one endpoint.
            avoid: Ids of instances that this call has tried already.
        """
        ...

    def refresh(self) -> None:
        """Endpoints were ejected, or came back."""
        ...


class Policy(Protocol):
    """Makes a chooser whenever the membership changes."""

    def chooser(self, endpoints: Sequence[Endpoint], rng: Random) -> Chooser:
        """A chooser between ``endpoints``, all of a weight above 0; there is at least one."""
        ...


def usable(endpoint: Endpoint, avoid: frozenset[str]) -> bool:
    """Whether a call may go there."""
    return not endpoint.ejected and endpoint.instance.id not in avoid


def merged(known: dict[str, Endpoint], instances: Iterable[Instance]) -> dict[str, Endpoint]:
    """The endpoints of ``instances``, by id: what was known of each one stays.

    An instance that moved to another address, or began another life, is a new endpoint.
    Draining instances and those of weight 0 take no new calls, so they are none.
    """
    found: dict[str, Endpoint] = {}
    for instance in instances:
        if instance.draining or instance.weight <= 0.0:
            continue
        endpoint = known.get(instance.id)
        if endpoint is None or not _same_life(endpoint.instance, instance):
            endpoint = Endpoint(instance)
        else:
            endpoint.instance = instance
        found[instance.id] = endpoint
    return found


def _same_life(old: Instance, new: Instance) -> bool:
    return old.address == new.address and old.incarnation == new.incarnation


def open_share(endpoints: Iterable[Endpoint]) -> float:
    """Share of the weight that is not ejected; 0.0 without endpoints."""
    total = usable_weight = 0.0
    for endpoint in endpoints:
        weight = endpoint.instance.weight
        total += weight
        if not endpoint.ejected:
            usable_weight += weight
    return usable_weight / total if total else 0.0
