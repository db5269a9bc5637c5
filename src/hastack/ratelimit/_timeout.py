"""Bound the time that a call may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack import context
from hastack._core._validate import seconds as _seconds

from ._guard import Guard

if TYPE_CHECKING:
    from hastack._core._validate import Seconds
    from hastack.context import Context

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
        current, timeout = context.current, context.timeout

        def limited(*args: Any, **kwargs: Any) -> Any:
            parent = current()
            parent.check()
            with timeout(seconds, parent=parent):
                return call(*args, **kwargs)

        return limited

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        seconds = self._seconds
        current, timeout = context.current, context.timeout

        async def limited(*args: Any, **kwargs: Any) -> Any:
            parent = current()
            parent.check()
            async with timeout(seconds, parent=parent):
                return await call(*args, **kwargs)

        return limited

    def _enter(self) -> Context:
        parent = context.current()
        parent.check()
        return context.timeout(self._seconds, parent=parent).__enter__()

    def _exit(self, state: Context, error: BaseException | None) -> None:
        state.__exit__(type(error) if error else None, error, None)

    async def _enter_async(self) -> Context:
        parent = context.current()
        parent.check()
        return await context.timeout(self._seconds, parent=parent).__aenter__()

    async def _exit_async(self, state: Context, error: BaseException | None) -> None:
        await state.__aexit__(type(error) if error else None, error, None)
