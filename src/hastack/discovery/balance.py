"""Client-side balancing: which instance takes the next call.

A `Balancer` follows a service, knows the calls it has sent and how they ended, and answers `pick`.

Example:
    >>> from hastack.discovery import Instance, balance
    >>> orders = balance.Balancer("orders", policy=balance.RoundRobin())
    >>> orders.update(
    ...     Instance(service="orders", id=f"o{n}", address=f"10.0.0.{n}:80") for n in (1, 2)
    ... )
    >>> with orders.pick() as first, orders.pick() as second:
    ...     sorted([first.address, second.address])
    ['10.0.0.1:80', '10.0.0.2:80']
"""

from __future__ import annotations

import random
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol, final

import attrs

from hastack import events
from hastack._core import _validate
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import InvalidArgument, NoInstance
from hastack._core._fork import renew_in_child
from hastack.ratelimit import BreakerChanged, BreakerState, CircuitBreaker

from ._endpoint import Chooser, Endpoint, Policy, merged
from ._outlier import may_eject
from ._pick_hash import ConsistentHash, as_key
from ._pick_load import LeastLoaded
from ._pick_turns import RoundRobin, WeightedRoundRobin
from ._pick_zone import LocalityFirst

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import TracebackType
    from typing import Self

    from hastack.typing import Clock

    from ._instance import Instance

__all__ = (
    "Balancer",
    "Chooser",
    "ConsistentHash",
    "Endpoint",
    "EndpointEjected",
    "EndpointReturned",
    "LeastLoaded",
    "LocalityFirst",
    "Outlier",
    "Pick",
    "Policy",
    "RoundRobin",
    "WeightedRoundRobin",
)

_NOBODY: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class EndpointEjected(events.Event):
    """An instance is set aside because its calls fail.

    Attributes:
        service: Name of the service.
        instance: Id of the instance.
        address: Where it is.
        ejected: How many of the service are set aside now.
        known: How many there are.
    """

    service: str
    instance: str
    address: str
    ejected: int
    known: int


@attrs.frozen(kw_only=True)
class EndpointReturned(EndpointEjected):
    """An instance that was set aside takes calls again: for a probe, or because it is well."""


_EJECTED = events.topic(EndpointEjected)
_RETURNED = events.topic(EndpointReturned)


class Feed(Protocol):
    """What a balancer follows: `hastack.discovery.Registry` is one."""

    def subscribe(
        self, service: str, callback: Callable[[Collection[Instance]], object], /
    ) -> Callable[[], None]:
        """Call back with all instances of ``service``, now and after each change."""
        ...


def _breaker(name: str) -> CircuitBreaker:
    return CircuitBreaker(name=name, window=10.0, min_calls=5, failure_rate=0.5, open_for=5.0)


@attrs.frozen(kw_only=True)
class Outlier:
    """How instances whose calls fail are found and set aside.

    Each instance has a circuit breaker, told of every outcome. Its `BreakerChanged` events eject
    the instance while it is open, and let it back in for the probes of its half-open state.

    Args:
        breaker: Makes the breaker of an instance from a name, ``"orders/o1"``. Which outcomes are
            failures, how many, and for how long to stay away is its business.
        max_ejected: Most of a service's instances, as a share, that are set aside at one time.
            At least one of two or more can be, and the last one never is.

    Raises:
        InvalidArgument: ``max_ejected`` is no share.
    """

    breaker: Callable[[str], CircuitBreaker] = _breaker
    max_ejected: float = 0.5

    def __attrs_post_init__(self) -> None:
        _validate.fraction("max_ejected", self.max_ejected)


@final
class Pick:
    """One call to one instance: use it as a ``with`` or ``async with`` block, or report by hand.

    Report exactly once, with `done` or `release`; further reports change nothing.

    Attributes:
        instance: Where the call goes.
    """

    __slots__ = ("_balancer", "_endpoint", "_permit", "instance")

    def __init__(self, balancer: Balancer, endpoint: Endpoint, permit: Any) -> None:
        self._balancer: Balancer | None = balancer
        self._endpoint = endpoint
        self._permit = permit
        self.instance = endpoint.instance

    @property
    def address(self) -> str:
        """The instance's address."""
        return self.instance.address

    def done(self, error: BaseException | None = None, result: object = None) -> None:
        """The call ended: with ``error``, or with ``result``. The breaker judges either."""
        permit = self._end()
        if permit is None:
            return
        if error is None:
            permit.success(result)
        else:
            permit.failure(error)

    def release(self) -> None:
        """The call was given up and says nothing of the instance."""
        permit = self._end()
        if permit is not None:
            permit.release()

    def _end(self) -> Any:
        balancer, self._balancer = self._balancer, None
        permit, self._permit = self._permit, None
        if balancer is not None:
            balancer._ended(self._endpoint)
        return permit

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.done(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.done(error)

    def __del__(self) -> None:
        if self._balancer is not None:
            self.release()

    def __repr__(self) -> str:
        return f"<Pick {self.instance.service}/{self.instance.id} at {self.address}>"


@final
class Balancer:
    """Chooses instances of one service for calls, from any number of threads and event loops.

    Args:
        service: Name of the service, in errors and events.
        policy: How to choose: `LeastLoaded`, `RoundRobin`, `WeightedRoundRobin`,
            `ConsistentHash`, any of them inside `LocalityFirst`, or one of your own.
        outlier: How failing instances are set aside; ``None``: never.
        clock: Source of time.
        rng: Source of numbers in [0, 1).

    Raises:
        InvalidArgument: ``service`` is empty.
    """

    def __init__(
        self,
        service: str,
        *,
        policy: Policy | None = None,
        outlier: Outlier | None = Outlier(),  # frozen
        clock: Clock = SYSTEM_CLOCK,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.service = _validate.text("service", service)
        self._policy: Policy = LeastLoaded() if policy is None else policy
        self._outlier = outlier
        self._clock = clock
        self._rng = rng
        # Reentrant: asking a breaker may publish its change, which comes back in here.
        self._lock = threading.RLock()
        self._endpoints: dict[str, Endpoint] = {}
        self._breakers: dict[str, CircuitBreaker] = {}
        self._due: dict[str, float] = {}  # when an ejected one may be probed
        self._chooser: Chooser | None = None
        self._stop_feed: Callable[[], None] | None = None
        self._stop_events = _listen(self) if outlier is not None else None
        renew_in_child(self)

    # -- membership -----------------------------------------------------------------------

    def follow(self, feed: Feed) -> Self:
        """Take the service's instances from ``feed`` until `close`.

        Raises:
            InvalidArgument: This balancer follows one already.
        """
        if self._stop_feed is not None:
            raise InvalidArgument("feed", feed, "to be followed by a balancer that has none yet")
        self._stop_feed = feed.subscribe(self.service, self.update)
        return self

    def update(self, instances: Iterable[Instance]) -> None:
        """These are the instances now. What is known of those that stay, stays known."""
        with self._lock:
            before = self._endpoints
            self._endpoints = merged(before, instances)
            for name, endpoint in before.items():
                if self._endpoints.get(name) is not endpoint:
                    self._breakers.pop(name, None)
                    self._due.pop(name, None)
            present = tuple(self._endpoints.values())
            self._chooser = self._policy.chooser(present, self._rng) if present else None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Those that calls may go to, as they are now."""
        with self._lock:
            return tuple(self._endpoints.values())

    def close(self) -> None:
        """Follow nothing any more. `pick` goes on with what is known."""
        for stop in (self._stop_feed, self._stop_events):
            if stop is not None:
                stop()
        self._stop_feed = self._stop_events = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Balancer {self.service!r}, {len(self._endpoints)} endpoints, {self._policy!r}>"

    # -- calls ----------------------------------------------------------------------------

    def pick(self, *, key: str | bytes | int | None = None, avoid: Collection[str] = ()) -> Pick:
        """Choose the instance for one call; never waits.

        Args:
            key: What the call is about; `ConsistentHash` keeps it at one instance.
            avoid: Ids of instances that were tried already, of which one is taken only when there
                is no other.

        Raises:
            NoInstance: None is known, or all are draining or of weight 0.
            InvalidArgument: ``key`` is something else.
        """
        hashed = None if key is None else as_key(key)
        tried = frozenset(avoid) if avoid else _NOBODY
        with self._lock:
            if self._due:
                self._let_back()
            endpoint, permit = self._choose(hashed, tried)
            endpoint.in_flight += 1
        return Pick(self, endpoint, permit)

    def _choose(self, key: bytes | None, avoid: frozenset[str]) -> tuple[Endpoint, Any]:
        chooser = self._chooser
        if chooser is None:
            raise NoInstance(self.service)
        passed = avoid
        while True:
            endpoint = chooser.choose(key, passed)
            if endpoint is None:
                break
            permit = self._permit(endpoint)
            if permit is not None:
                return endpoint, permit
            passed |= {endpoint.instance.id}
        # Nothing better is left: one that was tried, or whose probes are all taken.
        endpoint = chooser.choose(key, _NOBODY) or next(iter(self._endpoints.values()))
        return endpoint, None

    def _permit(self, endpoint: Endpoint) -> Any:
        """Leave to call; ``None`` when it is being probed by others. ``_FREE``: not counted."""
        if self._outlier is None:
            return _FREE
        breaker = self._breaker_of(endpoint, self._outlier)
        permit = breaker.try_acquire()
        if permit.allowed:
            return permit
        # Open and yet not ejected: too many are out already.
        return None if breaker.state is BreakerState.HALF_OPEN else _FREE

    def _breaker_of(self, endpoint: Endpoint, outlier: Outlier) -> CircuitBreaker:
        name = endpoint.instance.id
        found = self._breakers.get(name)
        if found is None:
            found = self._breakers[name] = outlier.breaker(f"{self.service}/{name}")
        return found

    def _ended(self, endpoint: Endpoint) -> None:
        with self._lock:
            if endpoint.in_flight > 0:  # a fork forgot the parent's calls
                endpoint.in_flight -= 1

    # -- ejection -------------------------------------------------------------------------

    def _changed(self, event: BreakerChanged) -> None:
        """A breaker changed its state: perhaps one of ours."""
        service, slash, name = event.name.rpartition("/")
        if service != self.service or not slash:
            return
        with self._lock:
            breaker, endpoint = self._breakers.get(name), self._endpoints.get(name)
            if breaker is None or endpoint is None or breaker.state is not event.new:
                return
            if event.new in {BreakerState.OPEN, BreakerState.FORCED_OPEN}:
                self._eject(name, endpoint, breaker)
            elif endpoint.ejected:
                self._return(name, endpoint)

    def _eject(self, name: str, endpoint: Endpoint, breaker: CircuitBreaker) -> None:
        assert self._outlier is not None
        if endpoint.ejected or not may_eject(self._endpoints.values(), self._outlier.max_ejected):
            return
        endpoint.ejected = True
        retry_after = breaker.snapshot().retry_after
        if retry_after is not None:
            self._due[name] = self._clock.monotonic() + retry_after
        self._moved(_EJECTED, EndpointEjected, endpoint)

    def _return(self, name: str, endpoint: Endpoint) -> None:
        endpoint.ejected = False
        self._due.pop(name, None)
        self._moved(_RETURNED, EndpointReturned, endpoint)

    def _let_back(self) -> None:
        """Those whose open time is over get their share of calls again: their breaker's probes."""
        now = self._clock.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            self._return(name, self._endpoints[name])

    def _moved(self, topic: Any, kind: type[EndpointEjected], endpoint: Endpoint) -> None:
        if self._chooser is not None:
            self._chooser.refresh()
        if topic.subscribers:
            topic.publish(
                kind(
                    service=self.service,
                    instance=endpoint.instance.id,
                    address=endpoint.instance.address,
                    ejected=sum(each.ejected for each in self._endpoints.values()),
                    known=len(self._endpoints),
                )
            )

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        for endpoint in self._endpoints.values():
            endpoint.in_flight = 0


@final
class _Free:
    """A permit that counts nothing."""

    def success(self, result: object = None) -> None: ...
    def failure(self, error: BaseException | None = None) -> None: ...
    def release(self) -> None: ...


_FREE = _Free()


def _listen(balancer: Balancer) -> Callable[[], None]:
    """Subscribe without keeping the balancer alive."""
    reference = weakref.ref(balancer)

    def changed(event: BreakerChanged) -> None:
        found = reference()
        if found is not None:
            found._changed(event)

    stop = events.subscribe(changed, BreakerChanged)
    weakref.finalize(balancer, stop)
    return stop
