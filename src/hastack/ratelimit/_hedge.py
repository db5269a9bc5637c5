"""Ask again before the first answer is there, and take whichever comes first."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, final

from hastack import context
from hastack._core._errors import ContextError, InvalidArgument
from hastack._core._validate import integer
from hastack._core._validate import seconds as _seconds

from ._failures import failures
from ._guard import Guard
from ._policy_events import HEDGE_STARTED, HedgeStarted
from ._retry import RetryBudget
from ._workers import Workers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from hastack._core._validate import Seconds
    from hastack.context import Context

    from ._failures import Failures
    from ._guard import AsyncCall, Call


class Hedge(Guard):
    """Starts another attempt when the first is slow; the first success wins.

    Another attempt starts each time ``delay`` seconds passed without an answer, until ``attempts``
    are made. An attempt that fails leaves the race to those that run; when none is left, the
    caller gets the error that came first, with a note for each of the others. No attempt is
    started because one failed: that is work for a `Retry` and its budget. An error that ``on``
    does not cover, and every context error, ends the race at once.

    Coroutine functions run as tasks: the losers are cancelled and awaited before the result is
    handed out, and so are all attempts when the caller is cancelled. Plain functions run on at
    most ``max_threads`` daemon threads: the context of a loser is cancelled with a cause, so that
    everything in it that looks at its context stops early; what does not look runs to its end
    unobserved. When all threads are busy, calls run unhedged on the thread of their caller.

    Each attempt sees a copy of the caller's context variables. Only give it calls that may run
    twice at the same time, and keep ``delay`` near the 95th percentile of their latency, so that
    hedges add about 5 % load: Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013.

    Args:
        delay: Seconds before each further attempt; 0 starts all attempts at once.
        attempts: Attempts in all, the first included; at least 2.
        on: Error classes, or a predicate that takes the error, that the other attempts may make
            good. By default every `Exception` except `InvalidArgument`.
        budget: Shared allowance for the further attempts, which also counts the calls of this
            guard. Give hedges a budget of their own, not the one of their retries.
        max_threads: Bound on the threads of this guard, for plain functions only.
        name: Appears in notes, events and the names of threads.

    Raises:
        InvalidArgument: An argument is out of its range.

    Example:
        >>> import asyncio
        >>> from hastack import ratelimit
        >>> pauses = [60.0, 0.0]
        >>> @ratelimit.Hedge(delay=0.01)
        ... async def fetch() -> str:
        ...     await asyncio.sleep(pauses.pop(0))
        ...     return "got it"
        >>> asyncio.run(fetch())
        'got it'
    """

    def __init__(
        self,
        delay: Seconds,
        *,
        attempts: int = 2,
        on: Failures | None = None,
        budget: RetryBudget | None = None,
        max_threads: int = 32,
        name: str = "hedge",
    ) -> None:
        if budget is not None and not isinstance(budget, RetryBudget):
            raise InvalidArgument("budget", budget, "a RetryBudget, or None")
        self.name = name
        self.budget = budget
        self._delay = _seconds("delay", delay, zero=True)
        self._attempts = integer("attempts", attempts, minimum=2)
        self._on = failures("on", on, never=ContextError)
        self._workers = Workers(integer("max_threads", max_threads, minimum=2), name)

    def __repr__(self) -> str:
        return f"Hedge(delay={self._delay:g}, attempts={self._attempts}, name={self.name!r})"

    def _around(self, call: Call) -> Call:
        def hedged(*args: Any, **kwargs: Any) -> Any:
            return _ThreadRace(self, call, args, kwargs).run()

        return hedged

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        async def hedged(*args: Any, **kwargs: Any) -> Any:
            return await _TaskRace(self, call, args, kwargs).run()

        return hedged

    def _would_act(self, took: float, error: BaseException | None, result: Any) -> str | None:
        failed = isinstance(error, Exception) and not self._on(error)
        return "hedge" if took > self._delay and not failed else None


class _Race:
    """What both kinds of race decide in the same way; ``now`` is a reading of their clock."""

    def __init__(
        self, hedge: Hedge, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.hedge = hedge
        self.call = call
        self.args = args
        self.kwargs = kwargs
        self.ctx = context.current()
        self.ctx.check()
        self.attempts = hedge._attempts
        self.started = 0
        self.next_start = float("-inf")
        self.failed: list[Exception] = []
        if hedge.budget is not None:
            hedge.budget.count_call()

    def is_due(self, now: float) -> bool:
        """Whether another attempt is to be started now."""
        if self.started == self.attempts or now < self.next_start:
            return False
        budget = self.hedge.budget
        if self.started and budget is not None and not budget.try_spend():
            self.attempts = self.started
            return False
        return True

    def start(self, now: float) -> Context:
        """The context of the attempt that starts now."""
        self.started += 1
        self.next_start = now + self.hedge._delay
        if self.started > 1 and HEDGE_STARTED.subscribers:
            HEDGE_STARTED.publish(HedgeStarted(name=self.hedge.name, attempt=self.started))
        return context.with_cancel(self.ctx)

    def pause(self, now: float) -> float | None:
        """Seconds to wait for an outcome at most."""
        left = self.ctx.remaining()
        if self.started == self.attempts:
            return left
        due = max(0.0, self.next_start - now)
        return due if left is None else min(left, due)

    def lost(self, error: BaseException) -> None:
        """Keep ``error`` and go on, or raise what ends the race."""
        if not isinstance(error, Exception) or not self.hedge._on(error):
            raise error
        self.failed.append(error)
        if len(self.failed) == self.started:
            first = self.failed[0]
            for rank, other in enumerate(self.failed[1:], 2):
                first.add_note(f"{self.hedge.name}: failure {rank} of {self.started}: {other!r}")
            raise first


@final
class _TaskRace(_Race):
    async def run(self) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        tasks: dict[asyncio.Future[Any], Context] = {}
        ended: asyncio.Future[None] = loop.create_future()
        stop = self.ctx._watch(lambda: _wake(loop, ended))
        waiting: set[asyncio.Future[Any]] = {ended}
        try:
            while True:
                now = loop.time()
                while self.is_due(now):
                    ctx = self.start(now)
                    task = loop.create_task(self.attempt(ctx))
                    tasks[task] = ctx
                    waiting.add(task)
                done, waiting = await asyncio.wait(
                    waiting, timeout=self.pause(now), return_when=asyncio.FIRST_COMPLETED
                )
                self.judge([task for task in tasks if task in done])
                winner = self.winner
                if winner is not None:
                    return winner.result()
                self.ctx.check()
        finally:
            stop()
            self.failed.clear()
            await _end(tasks)

    winner: asyncio.Future[Any] | None = None

    def judge(self, done: list[asyncio.Future[Any]]) -> None:
        """Look for a success first: a failure at the same moment does not matter then."""
        errors = [_error_of(task) for task in done]
        if None in errors:
            self.winner = done[errors.index(None)]
            return
        for error in errors:
            assert error is not None
            self.lost(error)

    async def attempt(self, ctx: Context) -> Any:
        with context.using(ctx):
            return await self.call(*self.args, **self.kwargs)


def _wake(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    def wake() -> None:
        if not ended.done():
            ended.set_result(None)

    try:
        loop.call_soon_threadsafe(wake)
    except RuntimeError:
        pass  # the loop is closed, and nobody waits on it


def _error_of(task: asyncio.Future[Any]) -> BaseException | None:
    import asyncio

    if task.cancelled():
        return asyncio.CancelledError("a hedged attempt was cancelled from within")
    return task.exception()


async def _end(tasks: dict[asyncio.Future[Any], Context]) -> None:
    """Cancel what still runs and see it end, whatever happens to the caller meanwhile."""
    import asyncio

    for task, ctx in tasks.items():
        if not task.done():
            ctx.cancel(_LOST)
            task.cancel()
    running = {task for task in tasks if not task.done()}
    interrupt: asyncio.CancelledError | None = None
    while running:
        try:
            _, running = await asyncio.wait(running)
        except asyncio.CancelledError as error:
            interrupt = error
            running = {task for task in running if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: no "exception was never retrieved" for a loser
    if interrupt is not None:
        raise interrupt


_LOST = "another attempt of the hedge was first"


@final
class _ThreadRace(_Race):
    def run(self) -> Any:
        self.turn = threading.Event()
        self.outcomes: deque[tuple[Context, BaseException | None, Any]] = deque()
        running: set[Context] = set()
        clock = self.ctx.clock
        stop = self.ctx._watch(self.turn.set)
        try:
            while True:
                now = clock.monotonic()
                while self.is_due(now):
                    ctx = self.begin(now)
                    if ctx is not None:
                        running.add(ctx)
                if not running:
                    return self.call(*self.args, **self.kwargs)
                clock.wait(self.turn, self.pause(now))
                self.turn.clear()
                while self.outcomes:
                    ctx, error, result = self.outcomes.popleft()
                    running.discard(ctx)
                    if error is None:
                        return result
                    self.lost(error)
                self.ctx.check()
        finally:
            stop()
            self.failed.clear()
            for ctx in running:
                ctx.cancel(_LOST)

    def begin(self, now: float) -> Context | None:
        """Start an attempt on a thread; with none free, this race has all the attempts it gets."""
        ctx = self.start(now)
        variables = copy_context()
        if self.hedge._workers.submit(lambda: variables.run(self.attempt, ctx)):
            return ctx
        self.started -= 1
        self.attempts = self.started
        return None

    def attempt(self, ctx: Context) -> None:
        error: BaseException | None = None
        result = None
        try:
            with context.using(ctx):
                result = self.call(*self.args, **self.kwargs)
        except BaseException as raised:
            error = raised
        self.outcomes.append((ctx, error, result))
        self.turn.set()
