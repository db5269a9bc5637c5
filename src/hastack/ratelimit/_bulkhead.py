"""How many calls are inside, per key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import ClosedError, InvalidArgument, InvalidKey

from ._decision import Decision, decision
from ._keyed import KeyTable

if TYPE_CHECKING:
    from collections.abc import Callable

_UNKNOWN = float("inf")
"""Nobody knows when a call will end: whoever waits is served when one does."""


def _never(state: float) -> float:
    return _UNKNOWN


@final
class Bulkhead:
    """The same face as `Gcra`; permits come back through `charge`, not with time.

    A key is in the table for as long as it has calls inside, so nothing is ever evicted.

    Args:
        name: Of the limiter, for errors.
        limit: Most permits out at once, per key.
        max_keys: Most keys with calls inside.
        admit_when_full: What happens to a new key beyond that.
    """

    def __init__(self, name: str, limit: float, *, max_keys: int, admit_when_full: bool) -> None:
        self.name = name
        self.limit = limit
        self.closed = False
        self.waiting = False
        self.table = KeyTable(max_keys, _never)
        self._inside: dict[Any, float] = self.table.young
        self._max_keys = max_keys
        self._admit_when_full = admit_when_full

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
        refused = self.admit(key, cost, 0.0) != 0.0
        level = self.limit - self._inside.get(key, 0.0)
        if refused and not quiet and self._topic.subscribers:
            self._report(key, cost, None)
        return decision(not refused, level, 0.0, 0.0)

    def admit(self, key: Any, cost: Any, now: float) -> float:
        """0.0 is a yes, inf a no."""
        if cost != 1.0:  # 1 is within every limit
            self.check(key, cost)
        amount: float = cost
        self._acquire()
        try:
            if not self.waiting and not self.closed:
                inside: float | None = self._inside.get(key)
                if inside is not None and inside + amount <= self.limit:
                    self._inside[key] = inside + amount
                    return 0.0
            return self.ask(key, amount, now)
        except TypeError:
            self.check(key, cost)
            raise
        finally:
            self._release()

    def leave(self, key: Any, cost: float) -> None:
        """`charge` with the lock: calls have left."""
        self._acquire()
        try:
            self.charge(key, -cost, 0.0)
        finally:
            self._release()

    def peek(self, key: Any = None, cost: Any = 1.0) -> Decision:
        """What `take` would answer; takes nothing."""
        self.check(key, cost)
        inside = self._inside.get(key, 0.0)
        fits = inside + cost <= self.limit and not (self.waiting and self._ahead(key) > 0.0)
        return decision(fits, self.limit - inside, 0.0, 0.0)

    def check(self, key: Any, cost: Any) -> None:
        """Raise what any method raises for a closed limiter, a bad cost or a bad key."""
        if self.closed:
            raise ClosedError(self.name)
        try:
            hash(key)
        except TypeError:
            raise InvalidKey("key", key, "a hashable value") from None
        if not isinstance(cost, (int, float)) or not 0.0 < cost <= self.limit:
            raise InvalidArgument("cost", cost, f"a number in (0, {self.limit:g}], the limit")

    # -- with the lock held ---------------------------------------------------------------

    def ask(self, key: Any, cost: float, now: float) -> float:
        """Nobody overtakes those who wait for the same key."""
        if self.closed:
            raise ClosedError(self.name)
        if self.waiting and self._ahead(key) > 0.0:
            return _UNKNOWN
        return self.take_or_wait(key, cost, now)

    def take_or_wait(self, key: Any, cost: float, now: float) -> float:
        """Take, or say that it cannot be known when to come back."""
        inside = self._inside.get(key)
        if inside is None:
            if len(self._inside) >= self._max_keys:
                self.table.turned_away += 1
                return 0.0 if self._admit_when_full else _UNKNOWN
            inside = 0.0
        if inside + cost > self.limit:
            return _UNKNOWN
        self._inside[key] = inside + cost
        return 0.0

    def largest(self) -> float:
        """The largest cost that can ever be taken."""
        return self.limit

    def slot_in(self, key: Any, ahead: float, cost: float, now: float) -> float:
        """Unknown."""
        return 0.0

    def mark(self, key: Any, cost: float, now: float) -> None:
        """Nothing: permits do not grow with time."""

    def charge(self, key: Any, cost: float, now: float, mark: object = None) -> None:
        """Negative: calls have left. More leaving than are inside is none inside."""
        inside = self._inside.get(key, 0.0) + cost
        if inside > 0.0:
            self._inside[key] = inside
        else:
            self._inside.pop(key, None)

    def reset(self, key: Any, now: float) -> None:
        """Forget who is inside."""
        self._inside.pop(key, None)

    def reset_all(self) -> None:
        """Forget who is inside, everywhere."""
        self._inside.clear()
