"""Typed events that every package emits and anybody may watch.

An event class is declared with its topic. Code that emits looks at ``topic.subscribers`` first,
so that without subscribers no event object is ever built::

    if REJECTED.subscribers:
        REJECTED.publish(RequestRejected(...))
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Event", "Topic", "subscribe", "topic")


@attrs.frozen(kw_only=True)
class Event:
    """Base of every event.

    Attributes:
        at: Monotonic time in seconds at which it happened.
    """

    at: float = attrs.field(factory=time.monotonic)


E = TypeVar("E", bound=Event)

_lock = threading.Lock()
_topics: dict[type[Event], Topic[Any]] = {}
_everything: tuple[Callable[[Event], object], ...] = ()


@final
class Topic(Generic[E]):
    """All subscribers of one event class. Get it from `topic`.

    Attributes:
        subscribers: Who listens now; empty when nobody does. Read it before building an event.
    """

    __slots__ = ("event_type", "reported", "subscribers")

    def __init__(self, event_type: type[E]) -> None:
        self.event_type = event_type
        self.subscribers: tuple[Callable[[E], object], ...] = ()
        self.reported: set[object] = set()

    def publish(self, event: E) -> None:
        """Hand ``event`` to each subscriber. One that raises is reported once and kept."""
        for subscriber in self.subscribers:
            try:
                subscriber(event)
            except Exception as error:
                self._report(subscriber, error)

    def _report(self, subscriber: object, error: Exception) -> None:
        if subscriber in self.reported:
            return
        self.reported.add(subscriber)
        sys.unraisablehook(
            type(
                "UnraisableHookArgs",
                (),
                {
                    "exc_type": type(error),
                    "exc_value": error,
                    "exc_traceback": error.__traceback__,
                    "err_msg": "event subscriber raised (reported once)",
                    "object": subscriber,
                },
            )()
        )


def topic(event_type: type[E]) -> Topic[E]:
    """The topic of ``event_type``, made on first use."""
    with _lock:
        found = _topics.get(event_type)
        if found is None:
            found = _topics[event_type] = Topic(event_type)
            found.subscribers = _everything
        return found


def subscribe(subscriber: Callable[[Any], object], *event_types: type[Event]) -> Callable[[], None]:
    """Call ``subscriber`` with each event of the given classes; with none given, of all.

    It runs on the thread that emits and must be quick.

    Returns:
        A function that ends the subscription; calling it again does nothing.
    """
    global _everything
    wanted = [topic(event_type) for event_type in event_types]
    with _lock:
        if not wanted:
            _everything = (*_everything, subscriber)
            wanted = list(_topics.values())
        for each in wanted:
            each.subscribers = (*each.subscribers, subscriber)

    def unsubscribe() -> None:
        global _everything
        with _lock:
            if not event_types:
                _everything = tuple(s for s in _everything if s is not subscriber)
            for each in _topics.values() if not event_types else wanted:
                each.subscribers = tuple(s for s in each.subscribers if s is not subscriber)

    return unsubscribe
