"""One background asyncio loop per process: where sync faces and background streams run.

The thread is a daemon that starts with the first call. A forked child has no such thread and
starts its own when it first needs one; what the parent had begun stays the parent's. At interpreter
exit the loop's tasks are cancelled and given a moment, then the thread ends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from ._cancel import Background, Context, _current
from ._clock import SYSTEM_CLOCK
from ._errors import Cancelled
from ._latch import Latch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")

_GRACE = 5.0  # seconds that a cancelled coroutine has for its clean-up before nobody waits for it
_ROUNDS = 3
_NAP = 0.5  # seconds that the main thread sleeps at once
_AT_EXIT = 1.0  # seconds that all tasks together have when the interpreter exits

# Loops of the parent, in a forked child. A loop that is collected closes its selector, and an epoll
# set is shared with the parent: taking the wake-up pipe out of it would deafen the parent's loop.
_forgotten: list[object] = []


@final
class Handle(Generic[T]):
    """A coroutine on the portal's loop, seen from any thread."""

    __slots__ = (
        "_callbacks",
        "_cancelled",
        "_coroutine",
        "_lock",
        "_loop",
        "_name",
        "_pid",
        "_task",
        "_variables",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T],
        variables: contextvars.Context,
        name: str | None,
    ) -> None:
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, T] | None = coroutine
        self._name = name
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False
        self._callbacks: list[Callable[[], object]] = []
        self._variables: contextvars.Context | None = variables

    def __repr__(self) -> str:
        return f"<Handle {self._name or ''} {'done' if self.done else 'running'}>"

    def _schedule(self) -> None:
        """Have the loop start it. Apart from making it, so that an interrupt finds it made."""
        variables, self._variables = self._variables, None
        assert variables is not None
        try:
            self._loop.call_soon_threadsafe(self._start, variables)
        except RuntimeError:  # the loop is closed
            self._variables = variables
            raise

    def _start(self, variables: contextvars.Context) -> None:
        coroutine, self._coroutine = self._coroutine, None
        assert coroutine is not None
        with self._lock:
            self._task = task = self._loop.create_task(
                coroutine, name=self._name, context=variables
            )
            cancelled = self._cancelled
        task.add_done_callback(self._finished)
        if cancelled:
            task.cancel()

    def _finished(self, task: asyncio.Task[T]) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _when_done(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once it has ended: on the portal's thread, or here if it has."""
        with self._lock:
            if self._task is None or not self._task.done():
                self._callbacks.append(callback)
                return
        callback()

    @property
    def done(self) -> bool:
        """Whether the coroutine has ended."""
        return self._task is not None and self._task.done()

    def cancel(self) -> None:
        """Ask the coroutine to end; safe from every thread."""
        self._check_process()
        with self._lock:
            self._cancelled = True
            task = self._task
        if task is not None and not task.done():
            try:
                self._loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # the loop has ended, and the task with it

    def join(self, timeout: float | None = None) -> T:
        """Wait until the coroutine has ended, and hand out its result or raise its error.

        Args:
            timeout: Seconds; ``None`` for as long as it takes.

        Raises:
            TimeoutError: It goes on.
            asyncio.CancelledError: It was cancelled.
            RuntimeError: Called on the portal's own loop, or in a forked child of its process.
        """
        self._check_process()
        if threading.current_thread() is PORTAL._thread:
            raise RuntimeError("join() on the portal's own loop would never return; await it")
        latch = Latch()
        self._when_done(latch.set)
        if not latch.wait(timeout):
            raise TimeoutError(f"{self!r} did not end within {timeout} s")
        return self._result()

    def _end(self, seconds: float) -> None:
        """Cancel it, and wait until it has ended or ``seconds`` passed."""
        if self._variables is not None:  # interrupted before it was scheduled
            assert self._coroutine is not None
            self._coroutine.close()
            return
        self.cancel()
        latch = Latch()
        self._when_done(latch.set)
        latch.wait(seconds)

    def _result(self) -> T:
        assert self._task is not None
        return self._task.result()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(f"{self!r} belongs to the parent process, from before a fork")

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        """Wait on the running loop; cancelling the waiter cancels the coroutine and awaits that."""
        self._check_process()
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._task is not None:
            return await self._task
        ended: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(_resolve, ended)
            except RuntimeError:
                pass  # the waiter's loop is closed, and the waiter with it

        self._when_done(tell)
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError as error:
                if cancelled is not None:
                    raise  # asked twice: no more patience
                cancelled = error
                self.cancel()
        assert self._task is not None
        if cancelled is not None:
            # What it came to is nobody's any more; looking at it keeps the loop from reporting it.
            if not self._task.cancelled():
                self._task.exception()
            raise cancelled
        return self._result()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@final
class Portal:
    """The process's background loop. Use `PORTAL`.

    Example:
        >>> import asyncio
        >>> from hastack._core._portal import PORTAL
        >>> PORTAL.call(asyncio.sleep, 0.0, "done")
        'done'
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._exiting = False
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._stop)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, started if it was not running."""
        loop = self._loop
        return self._start() if loop is None else loop

    def call(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        timeout: float | None = None,
        ctx: Context | None = None,
    ) -> T:
        """Run ``await function(*args)`` on the portal's loop and block this thread meanwhile.

        The caller's context variables come along. When the context ends or the time is up, the
        coroutine is cancelled and has five seconds to clean up.

        Args:
            function: Coroutine function.
            args: Its positional arguments.
            timeout: Seconds at most; ``None`` leaves it to the context.
            ctx: The context to honour; the current one by default.

        Raises:
            ContextError: The context ended, or ``timeout`` passed, first.
            RuntimeError: This thread runs an asyncio loop, which the call would stop: use the
                asynchronous face, or `asyncio.to_thread`.
        """
        # Also catches a call from the portal's own loop, which would wait for itself.
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "a blocking call would stop the event loop that runs in this thread: "
                "await the asynchronous face instead, or use asyncio.to_thread()"
            )
        if ctx is None:
            ctx = _current.get()
        if timeout is not None:
            at = ctx._clock.monotonic() + timeout
            above = None if ctx.__class__ is Background else ctx
            ctx = Context(above, ctx._clock, ctx._values, at)
        ctx.check()
        variables = contextvars.copy_context()
        variables.run(_current.set, ctx)
        loop = self.loop
        latch = Latch()

        def wake() -> None:
            try:
                latch.set()
            except RuntimeError:
                pass  # both came at once, from two threads

        handle = Handle(loop, function(*args), variables, None)
        stop = _nothing
        try:
            handle._schedule()
            handle._when_done(wake)
            stop = ctx._watch(wake)
            while not handle.done and not ctx.done:
                ctx._clock.wait(latch, _patience(ctx))
        finally:
            stop()
            if not handle.done:
                handle._end(_GRACE)
        task = handle._task
        if task is not None and task.done() and not task.cancelled():
            return task.result()  # also when it was just in time: what it did is not lost
        raise ctx.err() or Cancelled("context cancelled: the background loop has ended")

    async def run(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> T:
        """Await ``coroutine`` on the portal's loop, from any loop.

        The caller's context variables come along. Cancelling the waiter cancels the coroutine and
        returns when it has ended; a coroutine that is cancelled there cancels the waiter.
        """
        if asyncio.get_running_loop() is self._loop:
            return await coroutine
        return await self.spawn(coroutine, name=name)

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> Handle[T]:
        """Start ``coroutine`` on the portal's loop and go on.

        An error that nobody joins for is reported the way asyncio reports lost errors of tasks.
        """
        try:
            handle = Handle(self.loop, coroutine, contextvars.copy_context(), name)
            handle._schedule()
            return handle
        except BaseException:
            coroutine.close()
            raise

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is not None:
                return self._loop
            if self._exiting:
                # A thread that starts now may never run, and whoever waits for it never return.
                raise RuntimeError("the background loop has ended: the interpreter is exiting")
            loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_serve, args=(loop,), name="hastack-portal", daemon=True
            )
            try:
                thread.start()
            except BaseException:
                loop.close()
                raise
            self._thread = thread
            self._loop = loop
            return loop

    def _stop(self) -> None:
        """Cancel all tasks, give them a moment, end the thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self._exiting = True
        if loop is None or thread is None or thread is threading.current_thread():
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(_AT_EXIT), loop)
        thread.join(_AT_EXIT * 2)

    def _forget(self) -> None:
        if self._loop is not None:
            _forgotten.append(self._loop)
        self._lock = threading.Lock()
        self._loop = None
        self._thread = None
        self._exiting = False


def _patience(ctx: Context) -> float | None:
    """How long to sleep at once.

    A signal that arrives just before the main thread falls asleep does not wake it, so it looks up
    now and then.
    """
    remaining = ctx.remaining()
    if ctx._clock is not SYSTEM_CLOCK or threading.current_thread() is not threading.main_thread():
        return remaining
    return _NAP if remaining is None else min(remaining, _NAP)


def _nothing() -> bool:
    return False


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _cancel_all(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    try:
        # What ends lets go of asynchronous generators, and closing each of these is a task again.
        for _ in range(_ROUNDS):
            if not await _cancel_round(max(0.0, ends - loop.time())):
                break
            async with asyncio.timeout_at(ends):
                await loop.shutdown_asyncgens()
                await asyncio.sleep(0.0)
    except TimeoutError:
        pass
    finally:
        loop.stop()


async def _cancel_round(seconds: float) -> bool:
    """Cancel all tasks, and say whether they ended."""
    me = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not me]
    for task in tasks:
        task.cancel()
    if not tasks:
        return True
    _, stubborn = await asyncio.wait(tasks, timeout=seconds)
    for task in stubborn:
        # The interpreter is going: nobody can do anything about the message any more.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch
    return not stubborn


PORTAL = Portal()
