"""The generic cell rate algorithm (GCRA): a token bucket kept as one number per key.

The number is the theoretical arrival time (TAT) of ITU-T I.371 and ATM Forum TM 4.0: the moment
at which the bucket would be full again. A call of cost ``c`` moves it ``c * interval`` seconds
into the future and is allowed while it stays within ``burst * interval`` of now.

Float seconds, not integer nanoseconds: `time.monotonic` already answers in float seconds, whose
resolution stays below 2 ns for more than 100 days of uptime (2**23 s), floats need no division
by 10**9 on the way in and out, and compiled code keeps them unboxed. `SLACK` is what rounding may
take away: without it, a caller that waits exactly ``retry_after`` could be told to wait 1e-16 s
more. It lets a call in at most one nanosecond early.

TATs live on a virtual time ``v`` that runs at speed 1 until the limit is changed. The time a
bucket takes to fill is fixed in ``v``; a change of rate or burst changes the speed of ``v`` and
the ``v`` that one permit costs. So each key keeps the share of its bucket that it had, and a
change costs the same for one key as for a million. Warming up is a speed that grows.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any, Final, final

from hastack._core._errors import ClosedError, InvalidArgument, InvalidKey

from ._decision import Decision, decision
from ._keyed import KeyTable

if TYPE_CHECKING:
    from collections.abc import Callable

SLACK: Final = 1e-9
_LONG_AGO: Final = 1e300
COLD: Final = 1.0 / 3.0
"""Share of the rate at which a warm-up begins; the cold factor 3 that Guava made usual."""


@final
class Gcra:
    """Keyed GCRA, fused with its lock and its clock reading because calls are what costs here.

    Args:
        name: Of the limiter, for errors.
        rate: Permits per second.
        burst: Size of the bucket in permits.
        max_keys: Bound of the key table.
        admit_when_full: What happens to a new key when every slot of the table is in use.
        monotonic: The clock; read inside the lock, so readings arrive in order.
        empty: Start with empty buckets instead of full ones.
        warm_up: Seconds over which the speed grows from `COLD` to 1, or 0.

    Attributes:
        locking: Whether `take` and `admit` always lock. Cleared by the owner only when this
            module is compiled and runs under the GIL, from Python 3.12 on: from the lookup of a
            key to its update no Python code can then run, and no other thread with it, as long
            as hashing and comparing the key runs none. That is known of str, int and None; other
            keys still lock, and so do new ones, whose entry may push out a key with a finaliser.
        detour: Set while the fast path does not apply (see `refresh`).
        closed: Set by the owner, which then calls `refresh`.
        waiting: Whether anybody waits; set by the owner, which then calls `refresh`.
    """

    def __init__(
        self,
        name: str,
        rate: float,
        burst: float,
        *,
        max_keys: int,
        admit_when_full: bool,
        monotonic: Callable[[], float],
        empty: bool = False,
        warm_up: float = 0.0,
    ) -> None:
        self.name = name
        self.rate = rate
        self.burst = burst
        self.locking = True
        self.closed = False
        self.waiting = False
        self.detour = False
        self.table = KeyTable(max_keys, float)
        self._young: dict[Any, float] = self.table.young
        self._admit_when_full = admit_when_full
        self._monotonic = monotonic
        # In virtual seconds:
        self._fill = burst / rate
        self._roof = self._fill + SLACK
        self._interval = 1.0 / rate
        self._speed = 1.0
        self._since = 0.0  # real time at which _base was the virtual time
        self._base = 0.0
        self._warm_until = 0.0
        self._warm_up = warm_up
        # A key that is not in the table has this TAT: long ago, unless buckets start empty.
        self._origin = 0.0
        now = monotonic()
        if warm_up > 0.0:
            self._warm_until = now + warm_up
        self._origin = self.virtual(now) + self._fill if empty or warm_up > 0.0 else -_LONG_AGO
        self.refresh()

    def bind(
        self,
        acquire: Callable[[], Any],
        release: Callable[[], None],
        ahead: Callable[[Any], float],
        topic: Any,
        report: Callable[[Any, float, float | None], None],
    ) -> None:
        """Connect the shell; done again after a fork.

        Args:
            acquire: Takes the lock, which is reentrant: a signal handler or a finaliser may ask
                the same limiter while its thread is inside.
            release: Frees the lock.
            ahead: Permits queued for a key before a new caller.
            topic: Whoever listens to rejections.
            report: Tells them: key, cost, retry_after.
        """
        self._acquire = acquire
        self._release = release
        self._ahead = ahead
        self._topic = topic
        self._report = report

    def refresh(self) -> None:
        """Work out anew whether the fast path applies."""
        self.detour = (
            self.closed
            or self.waiting
            or self._speed != 1.0
            or self._base != self._since
            or self._warm_until > 0.0
        )

    # -- asking ---------------------------------------------------------------------------

    def take(self, key: Any = None, cost: Any = 1.0, quiet: bool = False) -> Decision:
        """Decide about one call now; never waits. ``quiet`` reports no rejection."""
        # Read without the lock: whoever sets it meanwhile comes after this call.
        if self.detour:
            return self._take_detour(key, cost, quiet)
        try:
            amount: float = cost
            need = self._interval
            if amount != 1.0:  # 1 is within every burst
                need = self._need(amount)
            guarded = self.locking or not (type(key) is str or key is None or type(key) is int)
            if guarded:
                self._acquire()
            try:
                now = self._monotonic()
                found: float | None = self._young.get(key)
                tat = self._recall(key, now) if found is None else found
                if tat < now:  # a call of max() costs more than all of this
                    tat = now
                left = now + self._roof - tat - need
                if left >= 0.0:
                    self._young[key] = tat + need
            finally:
                if guarded:
                    self._release()
        except TypeError as error:
            raise self._explain(key, cost, error) from None
        # From here on the lock is free: nobody waits for an allocation or a subscriber.
        answer = Decision()
        if left >= 0.0:
            answer.allowed = True
            answer.level = left * self.rate
            answer.retry_after = 0.0
            answer.reset_after = tat + need - now
            return answer
        if left != left:  # noqa: PLR0124  # only NaN differs from itself; see `_recall`
            return decision(True, self.burst - amount, 0.0, 0.0)
        answer.allowed = False
        answer.level = (left + need) * self.rate
        answer.retry_after = SLACK - left
        answer.reset_after = tat - now
        if self._topic.subscribers and not quiet:
            self._report(key, amount, SLACK - left)
        return answer

    def admit(self, key: Any, cost: Any, now: float) -> float:
        """`take` for guards, which only want to know how long to wait; 0.0 is a yes."""
        if self.detour:
            self.check(key, cost)
            self._acquire()
            try:
                return self.ask(key, cost, now)
            finally:
                self._release()
        try:
            amount: float = cost
            need = self._interval
            if amount != 1.0:
                need = self._need(amount)
            guarded = self.locking or not (type(key) is str or key is None or type(key) is int)
            if guarded:
                self._acquire()
            try:
                found: float | None = self._young.get(key)
                tat = self._recall(key, now) if found is None else found
                if tat < now:  # a call of max() costs more than all of this
                    tat = now
                left = now + self._roof - tat - need
                if left >= 0.0:
                    self._young[key] = tat + need
                    return 0.0
            finally:
                if guarded:
                    self._release()
        except TypeError as error:
            raise self._explain(key, cost, error) from None
        return 0.0 if left != left else SLACK - left  # noqa: PLR0124  # NaN, see `_recall`

    def peek(self, key: Any = None, cost: Any = 1.0) -> Decision:
        """What `take` would answer; takes nothing."""
        self.check(key, cost)
        self._acquire()
        try:
            now = self._monotonic()
            v = self.virtual(now)
            tat = self._tat(key, v)
            if self.waiting:
                ahead = self._ahead(key)
                if ahead > 0.0:
                    wait = self.slot_in(key, ahead, cost, now)
                    return decision(False, 0.0, wait, self._real(tat, v, now))
            left = v + self._fill - tat - cost * self._interval
            level = (v + self._fill - tat) / self._interval
            reset_after = self._real(tat, v, now)
            if left >= -SLACK:
                return decision(True, level, 0.0, reset_after)
            return decision(False, level, self._real(v - left, v, now), reset_after)
        finally:
            self._release()

    def check(self, key: Any, cost: Any) -> None:
        """Raise what any method raises for a closed limiter, a bad cost or a bad key."""
        if self.closed:
            raise ClosedError(self.name)
        try:
            hash(key)
            if not 0.0 < cost <= self.burst:
                raise self._bad_cost(cost)
        except TypeError as error:
            raise self._explain(key, cost, error) from None

    # -- with the lock held ---------------------------------------------------------------

    def take_or_wait(self, key: Any, cost: float, now: float) -> float:
        """Take, or say in how many seconds to come back. For the head of a queue."""
        v = self.virtual(now)
        found: float | None = self._young.get(key)
        tat = self._recall(key, v) if found is None else found
        if tat < v:
            tat = v
        need = cost * self._interval
        left = v + self._fill - tat - need
        if left >= -SLACK:
            self._young[key] = tat + need
            return 0.0
        return 0.0 if left != left else self._real(v - left, v, now)  # noqa: PLR0124  # NaN

    def largest(self) -> float:
        """The largest cost that can ever be taken."""
        return self.burst

    def slot_in(self, key: Any, ahead: float, cost: float, now: float) -> float:
        """Seconds until ``cost`` permits are there after ``ahead`` others were handed out."""
        v = self.virtual(now)
        tat = self._tat(key, v)
        slot = tat + (ahead + cost) * self._interval - self._fill
        return self._real(slot, v, now) if slot > v else 0.0

    def mark(self, key: Any, cost: float, now: float) -> float:
        """The TAT right after ``cost`` was taken, for the `charge` that may give it back."""
        return self._tat(key, self.virtual(now))

    def charge(self, key: Any, cost: float, now: float, mark: float | None = None) -> None:
        """Take ``cost`` whatever the level; negative gives back. Never fails.

        Permits that are out do not stop the bucket from filling. What it gained only because
        they were missing must not come on top of them: without the taking it would have been
        full since ``mark`` less what comes back, and would have gained nothing from then on.
        """
        v = self.virtual(now)
        if self.table.find(key) is None and (cost <= 0.0 or not self._make_room(v)):
            return
        tat = self._tat(key, v)
        change = cost * self._interval
        if mark is not None and cost < 0.0:
            change = min(0.0, change + max(0.0, v - mark - change))
        self.table.forget(key)
        self._young[key] = tat + change

    def change(self, rate: float, burst: float, now: float) -> None:
        """Go on with another rate or burst; every key keeps the share of its bucket."""
        v = self.virtual(now)
        self.rate = rate
        self.burst = burst
        self._interval = self._fill / burst
        self._speed = self._fill * rate / burst
        self._since = now
        self._base = v - self._lag(now)
        self.refresh()

    def reset(self, key: Any, now: float) -> None:
        """Give ``key`` its full allowance."""
        self.table.forget(key)
        v = self.virtual(now)
        if self._origin > v and self._make_room(v):
            self._young[key] = v

    def reset_all(self) -> None:
        """Give every key its full allowance."""
        self.table.clear()
        self._origin = -_LONG_AGO

    # -- inside ---------------------------------------------------------------------------

    def virtual(self, now: float) -> float:
        """The virtual time at ``now``."""
        return self._base + (now - self._since) * self._speed + self._lag(now)

    def _lag(self, now: float) -> float:
        """What a warm-up that is not over adds: the integral of the missing speed."""
        if now >= self._warm_until:
            if self._warm_until > 0.0:
                self._warm_until = 0.0
                self.refresh()
            return 0.0
        ahead = self._warm_until - now
        return self._speed * (1.0 - COLD) / (2.0 * self._warm_up) * ahead * ahead

    def _real(self, target: float, v: float, now: float) -> float:
        """Seconds from ``now``, where the virtual time is ``v``, until it is ``target``."""
        if now >= self._warm_until:
            return (target - v) / self._speed
        # Solve virtual(warm_until - d) = target for d; see `_lag`.
        end = self._warm_until
        gap = (self._base + (end - self._since) * self._speed - target) / self._speed
        if gap <= 0.0:
            return end - gap - now
        bend = 2.0 * (1.0 - COLD) / self._warm_up
        return end - 2.0 * gap / (1.0 + sqrt(1.0 - bend * gap)) - now

    def _recall(self, key: Any, v: float) -> float:
        """The TAT of a key that is not at hand; a new one gets its place in the table.

        A key that finds the table full gets NaN, which compares false with everything and so
        reaches the slow end of `take` without being stored, or a TAT that denies it until the
        first of the others is idle.
        """
        self._acquire()
        try:
            tat: float | None = self._young.get(key)
            if tat is None:
                tat = self.table.recall(key)
            if tat is not None:
                return tat
            if self._make_room(v):
                self._young[key] = self._origin
                return self._origin
            return float("nan") if self._admit_when_full else self.table.soonest + self._fill
        finally:
            self._release()

    def _make_room(self, v: float) -> bool:
        room = self.table.make_room(v)
        self._young = self.table.young  # the hand may have begun a new round
        return room

    def _take_detour(self, key: Any, cost: Any, quiet: bool) -> Decision:
        self.check(key, cost)
        self._acquire()
        try:
            now = self._monotonic()
            wait = self.ask(key, cost, now)
            v = self.virtual(now)
            tat = self._tat(key, v)
            level = (v + self._fill - tat) / self._interval
            answer = decision(wait == 0.0, level, wait, self._real(tat, v, now))
        finally:
            self._release()
        if wait > 0.0 and not quiet and self._topic.subscribers:
            self._report(key, cost, wait)
        return answer

    def _tat(self, key: Any, v: float) -> float:
        """The TAT of any key as it counts at ``v``; stores nothing."""
        found: float | None = self.table.find(key)
        return max(self._origin if found is None else found, v)

    def _need(self, cost: float) -> float:
        """Virtual seconds that ``cost`` permits take, or the error for a cost that never fits."""
        # One comparison finds zero, negative, too large and NaN.
        if not 0.0 < cost <= self.burst:
            raise self._bad_cost(cost)
        return cost * self._interval

    def ask(self, key: Any, cost: Any, now: float) -> float:
        """Nobody overtakes those who wait for the same key."""
        if self.closed:
            raise ClosedError(self.name)
        if self.waiting:
            ahead = self._ahead(key)
            if ahead > 0.0:
                return self.slot_in(key, ahead, cost, now)
        return self.take_or_wait(key, cost, now)

    def _bad_cost(self, cost: object) -> InvalidArgument:
        return InvalidArgument("cost", cost, f"a number in (0, {self.burst:g}], the burst")

    def _explain(self, key: object, cost: object, error: TypeError) -> Exception:
        try:
            hash(key)
        except TypeError:
            return InvalidKey("key", key, "a hashable value")
        return error if isinstance(cost, (int, float)) else self._bad_cost(cost)
