"""The path of one call through a circuit breaker: admit, then settle.

Pure: the lock comes in from outside. In the closed state neither step takes it, unless the
outcome is a failure, a slow call, or the first of a new time slot. No code of a user ever runs
under the lock: errors and results are judged before, events are published after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import Cancelled, Rejected

from ._breaker import ABANDONED, FAILURE, IGNORED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ._breaker import BreakerCore, Change
    from ._outcome_window import Epoch


@final
class Verdicts:
    """Which errors and results count as failures.

    Args:
        failures: Classes of errors that count as failures.
        failure_if: Predicate on errors; used in place of ``failures`` when given.
        ignore: Classes of errors that count as nothing at all.
        result_failure: Predicate on results, or ``None``.
        report: Told about a predicate that raised.
        overdue: Says whether the deadline of the current context has passed.
    """

    def __init__(
        self,
        failures: tuple[type[BaseException], ...],
        failure_if: Callable[[BaseException], object] | None,
        ignore: tuple[type[BaseException], ...],
        result_failure: Callable[[Any], object] | None,
        report: Callable[[object, Exception], None],
        overdue: Callable[[], bool],
    ) -> None:
        self.failures: tuple[type[BaseException], ...] = failures
        self.failure_if: Callable[[BaseException], object] | None = failure_if
        # A guard further in refused: the dependency was not even asked.
        self.ignore: tuple[type[BaseException], ...] = (*ignore, Rejected)
        self.result_failure: Callable[[Any], object] | None = result_failure
        self.report: Callable[[object, Exception], None] = report
        self.overdue: Callable[[], bool] = overdue

    def of_error(self, error: BaseException) -> int:
        """Outcome of a call that raised ``error``."""
        if isinstance(error, self.ignore):
            return IGNORED
        if isinstance(error, Cancelled):
            return ABANDONED
        if not isinstance(error, Exception):
            # asyncio's and trio's cancellation, and whatever else is no ordinary error. These
            # three end the program or a generator and say nothing about the time a call took.
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                return IGNORED
            # A deadline further out shows up in here as a cancellation.
            return FAILURE if self.overdue() else ABANDONED
        predicate = self.failure_if
        if predicate is None:
            return FAILURE if isinstance(error, self.failures) else SUCCESS
        try:
            return FAILURE if predicate(error) else SUCCESS
        except Exception as mistake:
            self.report(predicate, mistake)
            return FAILURE

    def of_result(self, result: Any) -> int:
        """Outcome of a call that returned ``result``."""
        predicate = self.result_failure
        if predicate is None:
            return SUCCESS
        try:
            return FAILURE if predicate(result) else SUCCESS
        except Exception as mistake:
            self.report(predicate, mistake)
            return FAILURE


@final
class Gate:
    """Admits calls and takes their outcomes.

    Args:
        core: The state machine.
        verdicts: How outcomes are judged.
        lock: Serialises the slow paths; replaced in a forked child.
        announce: Called with each transition, after the lock is released.
        refuse: Makes the error for a call refused at a time.
    """

    def __init__(
        self,
        core: BreakerCore,
        verdicts: Verdicts,
        lock: AbstractContextManager[Any, Any],
        announce: Callable[[Change, float], None],
        refuse: Callable[[float], Exception],
    ) -> None:
        self.core: BreakerCore = core
        self.verdicts: Verdicts = verdicts
        self.lock: AbstractContextManager[Any, Any] = lock
        self.announce: Callable[[Change, float], None] = announce
        self.refuse: Callable[[float], Exception] = refuse
        self.slow_call: float = core.rules.slow_call
        self.judges_results: bool = verdicts.result_failure is not None

    def admit(self, now: float, args: object, kwargs: object) -> tuple[Epoch, float]:
        """A permit for a call that starts at ``now`` or the error of `refuse`."""
        epoch = self.core.epoch
        if epoch is None:
            epoch = self._ask(now)
            if epoch is None:
                raise self.refuse(now)
        return epoch, now

    def request(self, now: float) -> Epoch | None:
        """Like `admit`, with ``None`` for a refusal."""
        epoch = self.core.epoch
        return self._ask(now) if epoch is None else epoch

    def _ask(self, now: float) -> Epoch | None:
        core = self.core
        if core.shut_from <= now < core.shut_until:
            return None
        with self.lock:
            change = core.wake(now)
            epoch = core.grant(now)
        if change is not None:
            self.announce(change, now)
        return epoch

    def settle(
        self, permit: tuple[Epoch, float], now: float, error: BaseException | None, result: Any
    ) -> None:
        """Take the outcome of the call that ``permit`` was given for."""
        epoch, start = permit
        if error is not None:
            outcome = self.verdicts.of_error(error)
        elif self.judges_results:
            outcome = self.verdicts.of_result(result)
        else:
            outcome = SUCCESS
        if outcome == SUCCESS and now < epoch.calm_until and now - start <= self.slow_call:
            epoch.total = epoch.tick()
        else:
            self.record(epoch, start, now, outcome)

    def record(self, epoch: Epoch, start: float, now: float, outcome: int) -> None:
        """Take an outcome that was judged already."""
        with self.lock:
            change = self.core.record(epoch, start, now, outcome)
        if change is not None:
            self.announce(change, now)

    def fire(self, signal: Any, now: float) -> None:
        """Take the transition for ``signal``, if there is one."""
        with self.lock:
            change = self.core.fire(signal, now)
        if change is not None:
            self.announce(change, now)
