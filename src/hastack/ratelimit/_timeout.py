"""Bound the time that a call may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack._core._cancel import _EXITED, Background, Context, _current
from hastack._core._validate import seconds as _seconds

from ._guard import Guard

if TYPE_CHECKING:
    from hastack._core._validate import Seconds

    from ._guard import AsyncCall, Call


class Timeout(Guard):
    """Gives each call its own deadline, or that of the context around it if that is earlier.

    A coroutine function is cancelled when the time is over, and its caller gets
    `DeadlineExceeded`. Plain functions cannot be interrupted: whatever waits inside (hastack's
    limiters, retries, ``context.sleep``) gives up at the deadline, long computations call
    ``context.current().check()``, and clients are given ``context.current().remaining()``. A
    plain function that returns late has done its work, so its result counts.

    A call that begins after the deadline of its context does not run at all. Works as ``with``
    and ``async with``, with the same difference. Generators cannot have a timeout, since time
    also passes while their consumer works: put the deadline around the loop.

    Args:
        seconds: Seconds above zero, or a timedelta.
        name: Appears in descriptions of a pipeline.

    Raises:
        InvalidArgument: ``seconds`` is not above zero.

    Example:
        >>> import asyncio
        >>> from hastack import ratelimit
        >>> @ratelimit.Timeout(0.01)
        ... async def slow() -> None:
        ...     await asyncio.sleep(60)
        >>> asyncio.run(slow())
        Traceback (most recent call last):
        hastack.errors.DeadlineExceeded: deadline exceeded
    """

    def __init__(self, seconds: Seconds, *, name: str = "timeout") -> None:
        self._seconds = _seconds("seconds", seconds)
        self.name = name

    def __repr__(self) -> str:
        return f"Timeout({self._seconds:g})"

    @property
    def seconds(self) -> float:
        """How long each call may take."""
        return self._seconds

    def _around(self, call: Call) -> Call:
        seconds = self._seconds

        def limited(*args: Any, **kwargs: Any) -> Any:
            ctx = _child(seconds)
            ctx._token = _current.set(ctx)
            try:
                return call(*args, **kwargs)
            finally:
                _leave(ctx)

        return limited

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        from ._timeout_queue import DeadlineQueue, leave

        seconds = self._seconds
        queue = DeadlineQueue(None)

        async def limited(*args: Any, **kwargs: Any) -> Any:
            nonlocal queue
            ctx = _child(seconds)
            queue = queue.enter(ctx)
            ctx._token = _current.set(ctx)
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                await ctx.__aexit__(type(error), error, None)
                raise
            delivery = ctx._delivery
            assert delivery is not None
            leave(delivery)
            _leave(ctx)
            return result

        return limited

    def _would_act(self, took: float, error: BaseException | None, result: Any) -> str | None:
        return "timeout" if took > self._seconds else None

    def _enter(self) -> Context:
        return _child(self._seconds).__enter__()

    def _exit(self, state: Context, error: BaseException | None) -> None:
        state.__exit__(type(error) if error else None, error, None)

    async def _enter_async(self) -> Context:
        return await _child(self._seconds).__aenter__()

    async def _exit_async(self, state: Context, error: BaseException | None) -> None:
        await state.__aexit__(type(error) if error else None, error, None)


# What follows is ``with context.timeout(seconds)``, in the parts that it is made of: every guarded
# call pays for it, and the statement costs nearly twice as much.


def _child(seconds: float) -> Context:
    """A context below the current one, which must not have ended."""
    parent = _current.get()
    clock = parent._clock
    if parent.__class__ is Background:
        return Context(None, clock, parent._values, clock.monotonic() + seconds)
    parent.check()
    return Context(parent, clock, parent._values, clock.monotonic() + seconds)


def _leave(ctx: Context) -> None:
    """End ``ctx`` and make its parent current again."""
    deadline, token = ctx._deadline, ctx._token
    if (
        ctx._parent is not None
        or ctx._end is not None
        or deadline is None
        or deadline <= ctx._clock.monotonic()
        or token is None
    ):
        ctx.__exit__(None, None, None)
        return
    # Nothing but this exit has ended it. No lock: whoever ends it at this very moment would only
    # have had another reason, and a watcher that comes now sees the end it looks for afterwards.
    _current.reset(token)
    ctx._token = None
    ctx._end = _EXITED
    if ctx._live is not None:
        ctx._flush()
