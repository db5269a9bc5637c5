"""Decisions of the limiters that keep an object per key: windows and shaping."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, final

from hastack._core._errors import ClosedError, InvalidArgument, InvalidKey

from ._decision import Decision, decision
from ._keyed import KeyTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._window_log import WindowLimit


class KeyState(Protocol):
    """What is kept per key; a new one stands for a key never seen."""

    busy_until: float

    def wait(self, cost: float, now: float) -> float: ...
    def take(self, cost: float, now: float) -> None: ...
    def give_back(self, cost: float, now: float) -> None: ...
    def level(self, now: float) -> float: ...
    def reset_after(self, now: float) -> float: ...
    def slot_in(self, ahead: float, cost: float, now: float) -> float: ...


@final
class StateCore:
    """The same face as `Gcra`, over any `KeyState`.

    Args:
        name: Of the limiter, for errors.
        limit: Shared by all states.
        new: Makes the state of a new key.
        largest: Largest cost, or ``None`` for the limit's permits.
        max_keys: Bound of the key table.
        admit_when_full: What happens to a new key when every slot of the table is in use.
        monotonic: The clock; read inside the lock.
    """

    def __init__(
        self,
        name: str,
        limit: WindowLimit,
        new: Callable[[WindowLimit], KeyState],
        *,
        largest: float | None = None,
        max_keys: int,
        admit_when_full: bool,
        monotonic: Callable[[], float],
    ) -> None:
        self.name = name
        self.limit = limit
        self.closed = False
        self.waiting = False
        self.table = KeyTable(max_keys, attrgetter("busy_until"))
        self._new = new
        self._largest = largest
        self._admit_when_full = admit_when_full
        self._monotonic = monotonic
        self._blank = new(limit)  # answers for keys without a state; never taken from

    def bind(
        self,
        acquire: Callable[[], Any],
        release: Callable[[], None],
        ahead: Callable[[Any], float],
        topic: Any,
        report: Callable[[Any, float, float | None], None],
    ) -> None:
        """Connect the shell; see `Gcra.bind`."""
        self._acquire = acquire
        self._release = release
        self._ahead = ahead
        self._topic = topic
        self._report = report

    def refresh(self) -> None:
        """Nothing is derived from ``closed`` and ``waiting`` here."""

    def take(self, key: Any = None, cost: Any = 1.0, quiet: bool = False) -> Decision:
        """Decide about one call now; never waits. ``quiet`` reports no rejection."""
        self.check(key, cost)
        self._acquire()
        try:
            now = self._monotonic()
            wait = self.ask(key, cost, now)
            state = self._find(key)
            answer = decision(wait == 0.0, state.level(now), wait, state.reset_after(now))
        finally:
            self._release()
        if wait > 0.0 and not quiet and self._topic.subscribers:
            self._report(key, cost, wait)
        return answer

    def admit(self, key: Any, cost: Any, now: float) -> float:
        """`take` for guards, which only want to know how long to wait; 0.0 is a yes."""
        self.check(key, cost)
        self._acquire()
        try:
            return self.ask(key, cost, now)
        finally:
            self._release()

    def peek(self, key: Any = None, cost: Any = 1.0) -> Decision:
        """What `take` would answer; takes nothing."""
        self.check(key, cost)
        self._acquire()
        try:
            now = self._monotonic()
            state = self._find(key)
            ahead = self._ahead(key) if self.waiting else 0.0
            wait = state.slot_in(ahead, cost, now) if ahead > 0.0 else state.wait(cost, now)
            return decision(wait == 0.0, state.level(now), wait, state.reset_after(now))
        finally:
            self._release()

    def check(self, key: Any, cost: Any) -> None:
        """Raise what any method raises for a closed limiter, a bad cost or a bad key."""
        if self.closed:
            raise ClosedError(self.name)
        try:
            hash(key)
        except TypeError:
            raise InvalidKey("key", key, "a hashable value") from None
        largest = self.largest()
        if not isinstance(cost, (int, float)) or not 0.0 < cost <= largest:
            raise InvalidArgument("cost", cost, f"a number in (0, {largest:g}]")

    # -- with the lock held ---------------------------------------------------------------

    def ask(self, key: Any, cost: float, now: float) -> float:
        """Nobody overtakes those who wait for the same key."""
        if self.closed:
            raise ClosedError(self.name)
        if self.waiting:
            ahead = self._ahead(key)
            if ahead > 0.0:
                return self.slot_in(key, ahead, cost, now)
        return self.take_or_wait(key, cost, now)

    def take_or_wait(self, key: Any, cost: float, now: float) -> float:
        """Take, or say in how many seconds to come back. For the head of a queue."""
        state: KeyState | None = self.table.young.get(key)
        if state is None:
            state = self.table.recall(key)
            if state is None:
                if not self.table.make_room(now):
                    return 0.0 if self._admit_when_full else self.table.soonest - now
                state = self._new(self.limit)
                self.table.young[key] = state
        wait = state.wait(cost, now)
        if wait == 0.0:
            state.take(cost, now)
        return wait

    def largest(self) -> float:
        """The largest cost that can ever be taken."""
        return self.limit.permits if self._largest is None else self._largest

    def slot_in(self, key: Any, ahead: float, cost: float, now: float) -> float:
        """Seconds until ``cost`` permits are there after ``ahead`` others were handed out."""
        return self._find(key).slot_in(ahead, cost, now)

    def mark(self, key: Any, cost: float, now: float) -> None:
        """Nothing: a window gives back by when things were taken."""

    def charge(self, key: Any, cost: float, now: float, mark: object = None) -> None:
        """Take ``cost`` whatever the level; negative gives back. Never fails."""
        state: KeyState | None = self.table.find(key)
        if state is None:
            if cost <= 0.0 or not self.table.make_room(now):
                return
            state = self._new(self.limit)
            self.table.young[key] = state
        if cost < 0.0:
            state.give_back(-cost, now)
        else:
            state.take(cost, now)

    def reset(self, key: Any, now: float) -> None:
        """Give ``key`` its full allowance."""
        self.table.forget(key)

    def reset_all(self) -> None:
        """Give every key its full allowance."""
        self.table.clear()

    def _find(self, key: Any) -> KeyState:
        state: KeyState | None = self.table.find(key)
        return self._blank if state is None else state
