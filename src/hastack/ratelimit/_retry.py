"""Try again, within the attempts, the deadline and the budget that there are."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING, Any, final

from hastack import context
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import (
    ContextError,
    DeadlineExceeded,
    InvalidArgument,
    RetryBudgetExhausted,
)
from hastack._core._validate import fraction, integer, number, seconds

from ._backoff import Backoff, Stop
from ._budget import BudgetWindow
from ._failures import failures
from ._guard import Guard
from ._policy_events import RETRY_SCHEDULED, RetryScheduled
from ._retry_after import said_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from hastack._core._validate import Seconds
    from hastack.typing import Clock

    from ._failures import Failures
    from ._guard import AsyncCall, Call


class Retry(Guard):
    """Calls again after a failure, with exponential backoff and full jitter.

    What a caller gets in the end is the outcome of the last try itself: its result, or its very
    error with a note that says how many tries were made and why there was no further one.

    Never retried, whatever ``retry_on`` says: the end of the context (see ``attempt_timeouts``),
    task cancellation, ``KeyboardInterrupt``, ``GeneratorExit`` and everything else that is no
    `Exception`. No retry is begun that would have to wait past the deadline of the current
    context: the last error is raised at once instead. Waiting is done on the clock of that
    context, and on the running loop in coroutine functions.

    Only give it calls that may be repeated. Generators cannot be retried, and a ``with`` block
    cannot either.

    Args:
        attempts: Tries in all, the first included.
        base: Seconds; the longest delay before the second try.
        cap: Seconds; the longest delay at all, not counting what the other side asks for.
        factor: Growth of the longest delay from one try to the next, at least 1.
        jitter: Draw each delay evenly from zero to the longest. Without it, clients that failed
            together come back together.
        retry_on: Error classes or a predicate that takes the error. By default every
            `Exception` except `InvalidArgument`.
        retry_result: Predicate over results; one that is true asks for another try. When no
            try is left, the last result is returned as it is.
        retry_after: Gets the error, or the result that asked for a retry, and says how many
            seconds the other side wants to be left alone, or ``None``. The default reads the
            attribute ``retry_after``, which hastack's rejections have; `http_retry_after`
            understands HTTP responses.
        max_retry_after: Seconds. When more is asked for, there is no further try.
        attempt_timeouts: Retry a `DeadlineExceeded` too, which a `Timeout` inside of this guard
            raises, as long as the context around this guard goes on.
        budget: Shared allowance for retries; see `RetryBudget`.
        name: Appears in notes and events.
        rng: Random numbers in [0, 1) for the jitter.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> from hastack import ratelimit
        >>> tries = []
        >>> @ratelimit.Retry(attempts=3, base=0.001, retry_on=ConnectionError)
        ... def fetch() -> str:
        ...     tries.append(1)
        ...     if len(tries) < 3:
        ...         raise ConnectionError
        ...     return "got it"
        >>> fetch()
        'got it'
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        base: Seconds = 0.1,
        cap: Seconds = 10.0,
        factor: float = 2.0,
        jitter: bool = True,
        retry_on: Failures | None = None,
        retry_result: Callable[[Any], bool] | None = None,
        retry_after: Callable[[Any], float | None] = said_by,
        max_retry_after: Seconds = 60.0,
        attempt_timeouts: bool = False,
        budget: RetryBudget | None = None,
        name: str = "retry",
        rng: Callable[[], float] = random.random,
    ) -> None:
        for parameter, value in (("retry_after", retry_after), ("rng", rng)):
            if not callable(value):
                raise InvalidArgument(parameter, value, "a callable")
        if retry_result is not None and not callable(retry_result):
            raise InvalidArgument("retry_result", retry_result, "a predicate, or None")
        if budget is not None and not isinstance(budget, RetryBudget):
            raise InvalidArgument("budget", budget, "a RetryBudget, or None")
        if not isinstance(jitter, bool):
            raise InvalidArgument("jitter", jitter, "True (full jitter) or False (none)")
        if seconds("cap", cap, zero=True) < seconds("base", base, zero=True):
            raise InvalidArgument("cap", cap, f"seconds >= base={base}")
        self.name = name
        self.budget = budget
        self._backoff = Backoff(
            attempts=integer("attempts", attempts),
            base=seconds("base", base, zero=True),
            cap=seconds("cap", cap, zero=True),
            factor=number("factor", factor, "a finite number >= 1", valid=lambda v: v >= 1.0),
            jitter=jitter,
            max_retry_after=seconds("max_retry_after", max_retry_after, zero=True),
        )
        self._retry_on = failures("retry_on", retry_on, never=ContextError)
        self._attempt_timeouts = attempt_timeouts
        self._retry_result = retry_result
        self._retry_after = retry_after
        self._rng = rng

    def __repr__(self) -> str:
        return f"Retry(attempts={self._backoff.attempts}, name={self.name!r})"

    def _around(self, call: Call) -> Call:
        budget = self.budget
        count_call = None if budget is None else budget._window.count_call
        read = SYSTEM_CLOCK.monotonic if budget is None else budget._read
        unsatisfied = self._retry_result

        def retried(*args: Any, **kwargs: Any) -> Any:
            if count_call is not None:
                count_call(read())
            try:
                result = call(*args, **kwargs)
            except Exception as error:
                return self._again(call, args, kwargs, error, None)
            if unsatisfied is not None and unsatisfied(result):
                return self._again(call, args, kwargs, None, result)
            return result

        return retried

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        budget = self.budget
        count_call = None if budget is None else budget._window.count_call
        read = SYSTEM_CLOCK.monotonic if budget is None else budget._read
        unsatisfied = self._retry_result

        async def retried(*args: Any, **kwargs: Any) -> Any:
            if count_call is not None:
                count_call(read())
            try:
                result = await call(*args, **kwargs)
            except Exception as error:
                return await self._again_async(call, args, kwargs, error, None)
            if unsatisfied is not None and unsatisfied(result):
                return await self._again_async(call, args, kwargs, None, result)
            return result

        return retried

    def _would_act(self, took: float, error: BaseException | None, result: Any) -> str | None:
        if self._backoff.attempts == 1:
            return None
        if isinstance(error, Exception):
            timed_out = self._attempt_timeouts and isinstance(error, DeadlineExceeded)
            return "retry" if timed_out or self._retry_on(error) else None
        unsatisfied = self._retry_result
        return "retry" if error is None and unsatisfied and unsatisfied(result) else None

    def _again(
        self,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        error: Exception | None,
        result: Any,
    ) -> Any:
        """Go on after the first try, whose outcome asks for another."""
        tries = 1
        try:
            while (delay := self._delay_after(tries, error, result)) is not None:
                context.sleep(delay)
                tries += 1
                try:
                    result = call(*args, **kwargs)
                    error = None
                except Exception as raised:
                    error = raised
            if error is not None:
                raise error
            return result
        finally:
            del error  # this frame and the error's traceback would keep each other alive

    async def _again_async(
        self,
        call: AsyncCall,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        error: Exception | None,
        result: Any,
    ) -> Any:
        tries = 1
        try:
            while (delay := self._delay_after(tries, error, result)) is not None:
                await context.sleep_async(delay)
                tries += 1
                try:
                    result = await call(*args, **kwargs)
                    error = None
                except Exception as raised:
                    error = raised
            if error is not None:
                raise error
            return result
        finally:
            del error

    def _delay_after(self, tries: int, error: Exception | None, result: Any) -> float | None:
        """Seconds until the next try; ``None`` when this outcome is the final one."""
        if error is not None:
            timed_out = self._attempt_timeouts and isinstance(error, DeadlineExceeded)
            if not timed_out and not self._retry_on(error):
                return None
        elif self._retry_result is None or not self._retry_result(result):
            return None
        ctx = context.current()
        verdict: float | Stop = Stop.ENDED
        if not ctx.done:
            verdict = self._backoff.next_delay(
                tries,
                drawn=self._rng(),
                retry_after=self._retry_after(result if error is None else error),
                remaining=ctx.remaining(),
            )
        if (
            not isinstance(verdict, Stop)
            and self.budget is not None
            and not self.budget.try_spend()
        ):
            verdict = Stop.BUDGET
        if isinstance(verdict, Stop):
            if error is not None:
                error.add_note(f"{self.name}: gave up after try {tries}: {verdict.value}")
            return None
        if RETRY_SCHEDULED.subscribers:
            RETRY_SCHEDULED.publish(
                RetryScheduled(name=self.name, attempt=tries + 1, delay=verdict, error=error)
            )
        return verdict


# One for all budgets, since it is held for so short a time and only to spend: a lock per budget
# would each have to be renewed in a forked child.
_lock = threading.RLock()


def _fresh_lock() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_fresh_lock)


@final
class RetryBudget:
    """An allowance for retries that many calls share, so that retries cannot become the outage.

    In every window, ``ratio`` times the number of calls plus ``min_per_second`` times the window
    may be retries. A retry is taken out of the budget before its backoff begins, so retries that
    are still waiting count as well. When the budget is used up, `Retry` raises the error of the
    call itself, with a note; loops of your own use `try_spend` or `spend`.

    One budget belongs to one dependency, however many functions call it. All methods are safe
    from every thread. The rule and its defaults come from Finagle's and Linkerd's retry budgets.

    Args:
        ratio: Retries per call, in (0, 1].
        min_per_second: Retries per second that are allowed whatever the number of calls, so
            that rare callers may retry too; 0 or more.
        window: Seconds over which calls and retries are counted.
        name: Appears in errors.
        clock: Source of time; the process clock by default.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> from hastack import ratelimit
        >>> budget = ratelimit.RetryBudget(0.5, min_per_second=0.0)
        >>> budget.count_call(); budget.try_spend()
        False
        >>> budget.count_call(); budget.try_spend()
        True
    """

    def __init__(
        self,
        ratio: float = 0.2,
        *,
        min_per_second: float = 10.0,
        window: Seconds = 10.0,
        name: str = "retry budget",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self._read = clock.monotonic
        self._window = BudgetWindow(
            ratio=fraction("ratio", ratio),
            min_per_second=_least(min_per_second),
            window=seconds("window", window),
        )

    def __repr__(self) -> str:
        return f"RetryBudget(name={self.name!r}, remaining={self.remaining})"

    @property
    def remaining(self) -> int:
        """Retries that are left right now."""
        return max(0, int(self._window.left(self._read())))

    def update(self, *, ratio: float | None = None, min_per_second: float | None = None) -> None:
        """Change the allowance live; the calls and retries of the window stay counted.

        Args:
            ratio: Retries per call, in (0, 1]; default: as it is.
            min_per_second: Retries per second that are always allowed; default: as it is.
        """
        share = None if ratio is None else fraction("ratio", ratio)
        least = None if min_per_second is None else _least(min_per_second)
        with _lock:
            self._window.change(share, least)

    def count_call(self) -> None:
        """Count one call; `Retry` does it for the calls that it guards."""
        self._window.count_call(self._read())

    def try_spend(self) -> bool:
        """Take one retry out of the budget if there is one."""
        with _lock:
            return self._window.spend(self._read())

    def spend(self) -> None:
        """Take one retry out of the budget.

        Raises:
            RetryBudgetExhausted: There is none left.
        """
        if not self.try_spend():
            raise RetryBudgetExhausted(self.name)


def _least(value: object) -> float:
    return number("min_per_second", value, "a finite number >= 0", valid=lambda v: v >= 0.0)
