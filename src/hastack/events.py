"""Typed events that every package emits and anybody may watch.

An event class is declared with its topic. Code that emits looks at ``topic.subscribers`` first,
so that without subscribers no event object is ever built::

    if REJECTED.subscribers:
        REJECTED.publish(RequestRejected(...))

Subscribing to a class brings its subclasses too, declared before or after the subscription;
`Event` itself brings everything.

Example:
    >>> import attrs
    >>> from hastack import events
    >>> @attrs.frozen(kw_only=True)
    ... class Restocked(events.Event):
    ...     shelf: str
    >>> RESTOCKED = events.topic(Restocked)
    >>> with events.record(Restocked) as seen:
    ...     if RESTOCKED.subscribers:
    ...         RESTOCKED.publish(Restocked(shelf="A3"))
    >>> [event.shelf for event in seen]
    ['A3']
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final, overload

import attrs

from ._core._errors import InvalidArgument
from ._core._event_queue import Queue
from ._core._validate import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = ("Event", "Queue", "Topic", "record", "subscribe", "topic")


@attrs.frozen(kw_only=True)
class Event:
    """Base of every event.

    Attributes:
        at: Monotonic time in seconds at which it happened.
    """

    at: float = attrs.field(factory=time.monotonic)


E = TypeVar("E", bound=Event)


@final
class Topic(Generic[E]):
    """All subscribers of one event class. Get it from `topic`.

    Attributes:
        event_type: The class of the events published here.
        subscribers: Who listens now; empty when nobody does. Read it before building an event.
    """

    __slots__ = ("event_type", "subscribers")

    def __init__(self, event_type: type[E]) -> None:
        self.event_type = event_type
        # Replaced whole, never changed in place: a publish under way keeps the tuple it began
        # with, whoever subscribes or leaves meanwhile.
        self.subscribers: tuple[Callable[[E], object], ...] = ()

    def publish(self, event: E) -> None:
        """Hand ``event`` to each subscriber, in the order of subscription.

        One that raises is reported once, through the logger ``hastack.events``, and kept; the
        others and the caller never notice. `KeyboardInterrupt` and `SystemExit` pass through.
        """
        for subscriber in self.subscribers:
            try:
                subscriber(event)
            except BaseException as error:
                if not _is_failure(error):
                    raise
                _report(self, subscriber, error)

    def __repr__(self) -> str:
        name = f"{self.event_type.__module__}.{self.event_type.__qualname__}"
        return f"<Topic {name}, {len(self.subscribers)} subscribers>"


@final
class _Subscription:
    """One call of `subscribe`. Held by identity: a subscriber need not be hashable."""

    __slots__ = ("event_types", "reported", "subscriber")

    def __init__(
        self, subscriber: Callable[[Any], object], event_types: tuple[type[Event], ...]
    ) -> None:
        self.subscriber = subscriber
        self.event_types = event_types
        # Topics on which it failed before: bounded by the number of topics, freed with it.
        self.reported: set[Topic[Any]] = set()


# Reentrant because a finalizer may unsubscribe while this thread is inside; `_changes` tells
# the outer call that it has to look again.
_lock = threading.RLock()
_changes = 0
_topics: dict[type[Event], Topic[Any]] = {}
_subscriptions: dict[int, _Subscription] = {}
_numbers = itertools.count()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it
    _rebuild()


os.register_at_fork(after_in_child=_after_fork_in_child)


def topic(event_type: type[E]) -> Topic[E]:
    """The topic of ``event_type``, made on first use and kept for the life of the process.

    Args:
        event_type: A subclass of `Event`.

    Raises:
        InvalidArgument: It is not one.
    """
    _check_event_type(event_type)
    with _lock:
        found = _topics.get(event_type)
        if found is None:
            found = _topics[event_type] = Topic(event_type)
            _rebuild()
        return found


def subscribe(subscriber: Callable[[Any], object], *event_types: type[Event]) -> Callable[[], None]:
    """Call ``subscriber`` with each event of the given classes and of their subclasses.

    It runs on the thread that emits, before the emitting call returns, and must be quick: put
    a `Queue` here when the work is slow or belongs to an event loop. Subscribing the same
    object twice delivers twice. An event that is being published reaches those who were
    subscribed when it was.

    Args:
        subscriber: A plain callable; what it returns is ignored.
        *event_types: Subclasses of `Event`; none means every event.

    Returns:
        A function that ends this subscription; calling it again does nothing. hastack holds
        no reference to the subscriber afterwards.

    Raises:
        InvalidArgument: ``subscriber`` cannot be called or is a coroutine function, or one of
            the classes is not an event class.
    """
    _check_subscriber(subscriber)
    for event_type in event_types:
        _check_event_type(event_type)
    number = next(_numbers)
    with _lock:
        _subscriptions[number] = _Subscription(subscriber, event_types or (Event,))
        _rebuild()
    del subscriber

    def unsubscribe() -> None:
        with _lock:
            if _subscriptions.pop(number, None) is not None:
                _rebuild()

    return unsubscribe


@overload
def record(event_type: type[E], /, *, limit: int = ...) -> AbstractContextManager[list[E]]: ...
@overload
def record(*event_types: type[Event], limit: int = ...) -> AbstractContextManager[list[Any]]: ...


@contextmanager
def record(*event_types: type[Event], limit: int = 100_000) -> Iterator[list[Any]]:
    """Collect the events published inside the ``with`` block, from every thread; for tests.

    Args:
        *event_types: Subclasses of `Event`; none means every event.
        limit: Events kept at most. Leaving the block warns when there were more.

    Yields:
        The list of events, in order of arrival; it stays valid after the block.

    Raises:
        InvalidArgument: A class is not an event class, or ``limit`` is below 1.
    """
    integer("limit", limit)
    seen: list[Any] = []
    missed = itertools.count()

    def keep(event: Event) -> None:
        if len(seen) < limit:
            seen.append(event)
        else:
            next(missed)

    unsubscribe = subscribe(keep, *event_types)
    try:
        yield seen
    finally:
        unsubscribe()
    lost = next(missed)
    if lost:
        warnings.warn(f"{lost} events after the first {limit} were not recorded", stacklevel=3)


def _rebuild() -> None:
    """Give every topic its tuple of subscribers again; called with the lock held."""
    global _changes
    _changes += 1
    while True:
        before = _changes
        current = list(_subscriptions.values())
        for each in list(_topics.values()):
            each.subscribers = tuple(
                s.subscriber for s in current if issubclass(each.event_type, s.event_types)
            )
        if _changes == before:
            return


def _check_event_type(event_type: object) -> None:
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise InvalidArgument("event_type", event_type, "a subclass of hastack.events.Event")


def _check_subscriber(subscriber: object) -> None:
    import inspect

    call = getattr(subscriber, "__call__", None)  # noqa: B004  # its kind matters, not only its presence
    if call is None or isinstance(subscriber, type):
        raise InvalidArgument("subscriber", subscriber, "a callable that takes one event")
    if inspect.iscoroutinefunction(subscriber) or inspect.iscoroutinefunction(call):
        raise InvalidArgument(
            "subscriber", subscriber, "a plain callable; use events.Queue to await events"
        )


def _is_failure(error: BaseException) -> bool:
    """Whether the subscriber is to blame, rather than the process being told to end.

    asyncio's CancelledError is no Exception, but out of a plain call it can only come from the
    subscriber's own futures. asyncio is not imported to find out.
    """
    asyncio_errors = sys.modules.get("asyncio.exceptions")
    cancelled = getattr(asyncio_errors, "CancelledError", ())
    return isinstance(error, (Exception, cancelled))


def _report(where: Topic[Any], subscriber: object, error: BaseException) -> None:
    mine = [s for s in list(_subscriptions.values()) if s.subscriber is subscriber]
    with _lock:
        if mine and all(where in s.reported for s in mine):
            return
        for subscription in mine:
            subscription.reported.add(where)
    try:
        import logging

        logging.getLogger("hastack.events").error(
            "event subscriber %r raised on %s (reported once)",
            subscriber,
            where.event_type.__qualname__,
            exc_info=error,
        )
    except RecursionError:
        # Too deep to say anything: the publish further out has room for the report.
        for subscription in mine:
            subscription.reported.discard(where)
        raise
    except Exception:  # noqa: S110  # a repr or a log handler that fails must not reach the emitter
        pass
