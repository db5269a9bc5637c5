"""Contexts on AnyIO: level-triggered cancellation on asyncio and trio, respecting shields.

``async with ctx`` of `hastack.context` is asyncio's own, edge-triggered kind: a task is
interrupted once. The scopes here are AnyIO cancel scopes that follow a context: once it has
ended, every checkpoint inside raises, except under ``CancelScope(shield=True)``, and the
deadline is visible to `anyio.current_effective_deadline`.

Example:
    >>> import anyio
    >>> from hastack.contrib.anyio import fail_after
    >>> async def main():
    ...     with fail_after(0.01):
    ...         await anyio.sleep(60)
    >>> anyio.run(main)
    Traceback (most recent call last):
        ...
    hastack.errors.DeadlineExceeded: deadline exceeded
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, final

from hastack import context
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import InvalidArgument
from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import anyio

    from hastack._core._validate import Seconds
else:
    anyio = require("anyio", extra="anyio")

__all__ = ("fail_after", "scope", "sleep")

_TICK = 0.01  # seconds; how much earlier than the context's clock a loop may see a deadline pass


@final
class scope:  # noqa: N801  # reads as a statement, like anyio.fail_after
    """Run a block under ``ctx``: make it current and cancel the block when it ends.

    The outermost scope whose context ended raises the context's error; shields are respected.

    Args:
        ctx: The current context by default. Leaving the block does not end it.

    Raises:
        Cancelled: The context was cancelled (on leaving the block).
        DeadlineExceeded: Its deadline passed.

    Example:
        >>> import anyio
        >>> from hastack import context
        >>> from hastack.contrib.anyio import scope
        >>> async def main():
        ...     with scope(context.timeout(60.0)):
        ...         return anyio.current_effective_deadline() - anyio.current_time()
        >>> 59.0 < anyio.run(main) <= 60.0
        True
    """

    __slots__ = ("_cancel_scope", "_ctx", "_owned", "_stop", "_using")

    def __init__(self, ctx: context.Context | None = None, *, _owned: bool = False) -> None:
        self._ctx = context.current() if ctx is None else ctx
        self._owned = _owned
        self._cancel_scope: anyio.CancelScope | None = None

    def __enter__(self) -> context.Context:
        if self._cancel_scope is not None:
            raise InvalidArgument("scope", self, "a scope that was not entered before")
        ctx = self._ctx
        cancel_scope = anyio.CancelScope()
        left = ctx.remaining()
        same = _same_time(ctx)
        if left is not None and same:
            cancel_scope.deadline = anyio.current_time() + left
        cancel = _on_this_loop(cancel_scope.cancel)
        self._cancel_scope = cancel_scope
        cancel_scope.__enter__()
        # On another clock than the loop's, that clock has to ring.
        self._stop = ctx._watch(cancel) if same else ctx.after_func(cancel)
        self._using = context.using(ctx)
        self._using.__enter__()
        return ctx

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        ctx, cancel_scope = self._ctx, self._cancel_scope
        assert cancel_scope is not None
        self._using.__exit__(None, None, None)
        self._stop()
        try:
            swallowed = bool(cancel_scope.__exit__(exc_type, exc, trace))
            if not cancel_scope.cancelled_caught:
                return swallowed
            if not ctx.done and (ctx.remaining() or 0.0) < _TICK:
                ctx._ring()  # the loop saw the deadline pass a moment before the clock did
            ctx.check()
            return swallowed
        finally:
            if self._owned:
                ctx._leave()


def fail_after(seconds: Seconds | None, *, parent: context.Context | None = None) -> scope:
    """A block that ends after ``seconds``, or with its parent context if that is earlier.

    Args:
        seconds: Seconds >= 0, as a number or a timedelta; ``None`` adds no deadline.
        parent: The current context by default.

    Raises:
        InvalidArgument: ``seconds`` is negative or not a finite number.
        Cancelled: The context was cancelled (on leaving the block).
        DeadlineExceeded: The deadline passed.
    """
    return scope(context.timeout(seconds, parent=parent), _owned=True)


async def sleep(seconds: Seconds, *, ctx: context.Context | None = None) -> None:
    """`anyio.sleep` that also honours ``ctx`` (default: the current context).

    Raises:
        Cancelled: The context was cancelled before or meanwhile.
        DeadlineExceeded: Its deadline passed before or meanwhile.
    """
    from hastack._core._validate import seconds as valid_seconds

    pause = valid_seconds("seconds", seconds, zero=True)
    with scope(ctx) as inner:
        inner.check()
        await anyio.sleep(pause)


def _same_time(ctx: context.Context) -> bool:
    if ctx.clock is SYSTEM_CLOCK:
        return True
    return abs(anyio.current_time() - ctx.clock.monotonic()) < 1.0


def _on_this_loop(callback: Callable[[], object]) -> Callable[[], None]:
    """``callback``, to be run by the running event loop, from any thread, if it still exists."""
    run: Callable[[Callable[[], object]], Any]
    trio = sys.modules.get("trio")
    token = None
    if trio is not None:
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass  # imported, but this is not one of its tasks
    if token is not None:
        run = token.run_sync_soon
    else:
        import asyncio

        run = asyncio.get_running_loop().call_soon_threadsafe

    def call() -> None:
        try:
            run(callback)
        except RuntimeError:
            pass  # the loop is gone and the task with it (trio.RunFinishedError is one, too)

    return call
