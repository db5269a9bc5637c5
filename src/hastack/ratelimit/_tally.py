"""How many calls a limiter let through, counted only while somebody asks for it.

A limiter keeps no such count: it would cost every call. Whoever wants one puts a counting core in
front of the limiter's own, and takes it away again.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._adaptive_limit import AdaptiveLimit
    from ._all_of import AllOf
    from ._decision import Decision
    from ._limiter import RateLimiter

__all__ = ("Tally", "tallied", "untallied")


@final
class Tally:
    """A count that any thread, signal handler or finaliser may step; no lock.

    Example:
        >>> tally = Tally()
        >>> tally.step(); tally.step(); tally.total()
        0
        1
        2
    """

    __slots__ = ("_looks", "step")

    def __init__(self) -> None:
        # One step of `itertools.count` is atomic. Reading it takes a step too, which is taken off.
        self.step: Callable[[], int] = count().__next__
        self._looks = 0

    def total(self) -> int:
        """Steps so far; one thread at a time may look."""
        seen = self.step() - self._looks
        self._looks += 1
        return seen


class _Counting:
    """The core of a limiter with a count of what it let through; the rest passes straight on.

    Args:
        core: The limiter's own.
        tally: What is stepped.
    """

    __slots__ = ("_core", "_take_or_wait", "_tally", "leave")

    def __init__(self, core: Any, tally: Tally) -> None:
        # What each call of a limiter reads has a place or a property here: a look-up that fails
        # first, and only then goes on to the core, costs several times as much.
        self._put("_core", core)
        self._put("leave", getattr(core, "leave", None))
        self._put("_tally", tally)
        self._put("_take_or_wait", core.take_or_wait)

    def _put(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._core, name, value)

    @property
    def waiting(self) -> Any:
        """Whether anybody waits, as the core knows it."""
        return self._core.waiting

    def take_or_wait(self, key: Any, cost: Any, now: float) -> float:
        """`WaitedOn.take_or_wait`, counted: whoever waited has its turn."""
        wait: float = self._take_or_wait(key, cost, now)
        if wait == 0.0:
            self._tally.step()
        return wait


@final
class _CountingKeys(_Counting):
    """In front of the core of a rate or concurrency limiter."""

    __slots__ = ("_admit", "_take")

    def __init__(self, core: Any, tally: Tally) -> None:
        super().__init__(core, tally)
        self._put("_take", core.take)
        self._put("_admit", core.admit)

    def take(self, key: Any = None, cost: Any = 1.0, quiet: bool = False) -> Decision:
        """`LimiterCore.take`, counted."""
        answer: Decision = self._take(key, cost, quiet)
        if answer.allowed:
            self._tally.step()
        return answer

    def admit(self, key: Any, cost: Any, now: float) -> float:
        """`LimiterCore.admit`, counted."""
        wait: float = self._admit(key, cost, now)
        if wait == 0.0:
            self._tally.step()
        return wait


@final
class _CountingAll(_Counting):
    """In front of the core of an `AllOf`, which answers with the limits that refuse."""

    __slots__ = ()

    def ask(self, ask: Any) -> Any:
        """`_AllCore.ask`, counted."""
        refused = self._core.ask(ask)
        if not refused:
            self._tally.step()
        return refused


@final
class _CountingPlaces(_Counting):
    """In front of the core of an `AdaptiveLimit`."""

    __slots__ = ("_admit", "controller")

    def __init__(self, core: Any, tally: Tally) -> None:
        super().__init__(core, tally)
        self._put("_admit", core.admit)
        self._put("controller", core.controller)

    def admit(self) -> bool:
        """`AdaptiveCore.admit`, counted."""
        admitted: bool = self._admit()
        if admitted:
            self._tally.step()
        return admitted


def tallied(limiter: RateLimiter | AllOf | AdaptiveLimit) -> Tally:
    """Count what ``limiter`` lets through from now on; decorated functions included.

    Everybody who asks gets the same tally; `untallied` as many times ends it.

    Example:
        >>> from hastack.ratelimit import TokenBucket
        >>> api = TokenBucket("1/s")
        >>> tally = tallied(api)
        >>> bool(api.try_acquire()), bool(api.try_acquire()), tally.total()
        (True, False, 1)
        >>> untallied(api)
    """
    with limiter._room.lock:
        core: Any = limiter._core
        if isinstance(core, _Counting):
            tally: Tally = core._tally
        else:
            tally = Tally()
            kind: type[_Counting] = _CountingKeys if hasattr(core, "take") else _CountingPlaces
            if hasattr(core, "members"):
                kind = _CountingAll
            _put(limiter, kind(core, tally))
        limiter.__dict__["_tallies"] = limiter.__dict__.get("_tallies", 0) + 1
    return tally


def untallied(limiter: RateLimiter | AllOf | AdaptiveLimit) -> None:
    """Undo one `tallied`; the last one takes the counting away."""
    with limiter._room.lock:
        left = limiter.__dict__.get("_tallies", 0) - 1
        limiter.__dict__["_tallies"] = max(left, 0)
        core: Any = limiter._core
        if left == 0 and isinstance(core, _Counting):
            _put(limiter, core._core)


def _put(limiter: Any, core: Any) -> None:
    limiter._core = core
    limiter._room._limiter = core
    if "_bulkhead" in limiter.__dict__:
        limiter._bulkhead = core
    if "try_acquire" in limiter.__dict__:
        limiter.try_acquire = core.take
