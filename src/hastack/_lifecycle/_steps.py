"""Carrying out one step of a component: on its own thread, or as a task on a loop."""

from __future__ import annotations

import inspect
import threading
import weakref
from typing import TYPE_CHECKING, Any

from hastack import context
from hastack._core._errors import Cancelled

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from hastack.context import Context

    Ended = Callable[[BaseException | None, object], None]


class Steps:
    """Runs callables; knows the loop on which the asynchronous ones belong.

    Args:
        loop: The running loop of the service; without one, a loop thread of our own starts with
            the first coroutine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._lock = threading.Lock()

    def run(
        self, call: Callable[[], Any], ended: Ended, *, label: str, ctx: Context, own: bool
    ) -> Callable[[], None]:
        """Begin ``call`` and return at once; ``ended(error, result)`` follows, on any thread.

        Args:
            call: Synchronous or asynchronous, decided by what it returns.
            ended: Told the outcome exactly once.
            label: Name of the thread or task, for people.
            ctx: The context that is current in the step.
            own: Whether ``ctx`` is for this step alone: it then ends with the step, and a task
                is cancelled when it ends.

        Returns:
            A function that cancels the step as far as possible: a task is cancelled, a thread
            only learns of it through its context.
        """
        cancel: list[Callable[[], None]] = []
        if is_async(call):
            self._spawn(call, ended, label, ctx, own, cancel)
        else:

            def body() -> None:
                try:
                    with ctx if own else context.using(ctx):
                        result = call()
                except BaseException as error:  # a thread has nobody else to tell
                    ended(error, None)
                    return
                if inspect.isawaitable(result):
                    # A plain function that returned a coroutine: go on where those belong.
                    self._spawn(lambda: result, ended, label, ctx, own, cancel)
                else:
                    ended(None, result)

            threading.Thread(target=body, name=f"hastack-{label}", daemon=True).start()

        def cancel_all() -> None:
            for each in cancel:
                each()

        return cancel_all

    def close(self) -> None:
        """End our own loop thread, if there is one; so does dropping this object."""
        if self._finalizer is not None:
            self._finalizer()

    def _spawn(
        self,
        call: Callable[[], Awaitable[Any]],
        ended: Ended,
        label: str,
        ctx: Context,
        own: bool,
        cancel: list[Callable[[], None]],
    ) -> None:
        import asyncio

        loop = self._ensure_loop()
        task: asyncio.Task[None] | None = None

        async def body() -> None:
            try:
                if own:
                    async with ctx:
                        result = await call()
                else:
                    with context.using(ctx):
                        result = await call()
            except asyncio.CancelledError as error:
                ended(Cancelled("given up", cause=error), None)
                raise
            except (SystemExit, KeyboardInterrupt) as error:
                # Raised on, these would tear down the whole loop in the middle of a shutdown.
                ended(error, None)
            except BaseException as error:
                ended(error, None)
            else:
                ended(None, result)

        def begin() -> None:
            nonlocal task
            task = loop.create_task(body(), name=f"hastack-{label}")

        def stop() -> None:
            if task is not None:
                loop.call_soon_threadsafe(task.cancel)

        try:
            loop.call_soon_threadsafe(begin)
        except RuntimeError as error:  # the loop is closed: nothing of it is left to run
            ended(error, None)
            return
        cancel.append(_quiet(stop))

    def _ensure_loop(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_serve, args=(self.loop,), name="hastack-loop", daemon=True
                )
                self._finalizer = weakref.finalize(self, _end, self.loop, thread)
                self._finalizer.atexit = False  # the thread is a daemon
                thread.start()
            return self.loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        _cancel_rest(loop)
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    try:
        loop.call_soon_threadsafe(loop.stop)
    except RuntimeError:  # closed already
        return
    if thread is not threading.current_thread():
        thread.join(1.0)


def is_async(call: Callable[..., Any]) -> bool:
    """Whether calling gives a coroutine, as far as can be told without calling."""
    import functools

    while isinstance(call, functools.partial):
        call = call.func
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004  # not a test for callability
    )


def _quiet(stop: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        try:
            stop()
        except RuntimeError:  # the loop closed in between, and its tasks with it
            pass

    return call


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
