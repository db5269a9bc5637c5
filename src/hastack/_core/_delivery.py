"""How the end of a context reaches an asyncio task. Imported with the first ``async with``.

The accounting is that of `asyncio.timeout`: one ``task.cancel()`` per delivery, taken back with
``task.uncancel()`` at the scope's exit, and converted into the context's error only when no other
cancellation is pending. On top of it, one end interrupts a task once: where several open scopes
of the task have ended, the outermost gets the delivery and raises.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, final

from ._errors import ContextError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._cancel import Context

# Orders entries and deliveries, so that a scope knows which deliveries its body has seen.
_step = itertools.count(1).__next__

_TICK = 0.001  # seconds; how early a loop may ring (uvloop counts in milliseconds)


@final
class Delivery:
    """One open ``async with`` scope: the task it belongs to and what was sent to it."""

    __slots__ = ("cancelling", "closed", "ctx", "disarm", "entered", "loop", "sent", "task")

    def __init__(
        self, ctx: Context, task: asyncio.Task[object], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.ctx = ctx
        self.task = task
        self.loop = loop
        self.cancelling = task.cancelling()
        self.entered = _step()
        self.sent = 0  # step at which the task was cancelled on behalf of this scope
        self.closed = False
        self.disarm: Callable[[], object] | None = None

    def arm(self, at: float, now: float) -> None:
        """Have somebody call when the context's clock, which reads ``now``, reads ``at``."""
        self.disarm = _call_at(self.ctx, self.loop, at, now, self.ring)

    def ring(self) -> None:
        """The deadline has passed, says the loop or the context's clock."""
        if self.closed:
            return
        at, now = self.ctx._deadline, self.ctx._clock.monotonic()
        assert at is not None
        # Loops ring up to one clock tick early. More than that, and the clock was set back.
        if at - now > _TICK and not self.ctx.done:
            self.arm(at, now)
        else:
            self.ctx._ring()

    def ended(self) -> None:
        """The context ended, on whatever thread; the task may be cancelled on its own only."""
        try:
            self.loop.call_soon_threadsafe(self.deliver)
        except RuntimeError:
            pass  # the loop is closed, and the task with it

    def deliver(self) -> None:
        """Cancel the task, which is suspended inside this scope's body."""
        if self.closed or self.sent:
            return
        top = self
        for outer in self.enclosing():
            if not outer.sent:
                top = outer
            elif outer.sent > self.entered:
                return  # this body was interrupted for the same reason already
        top.sent = _step()
        self.task.cancel()

    def enclosing(self) -> list[Delivery]:
        """The open scopes of this task around this one that have ended, innermost first."""
        found = []
        node = self.ctx._parent
        while node is not None:
            delivery = node._delivery
            if delivery is not None and delivery.task is self.task and node.done:
                found.append(delivery)
            node = node._parent
        return found

    def leave(self, exc: BaseException | None) -> ContextError | None:
        """Close this scope; hands out the error to raise in place of ``exc``, if any."""
        self.closed = True
        self.ctx._delivery = None
        if self.ctx._parent is not None:
            self.ctx._unlink_delivery()
        if self.disarm is not None:
            self.disarm()
        if not self.sent:
            return None
        ours = exc is not None and _is_delivery(exc)
        if ours:
            outer = next((o for o in reversed(self.enclosing()) if not o.sent), None)
            if outer is not None:
                # It ended too but was not served yet: hand over the cancellation instead of
                # counting it down here and up again there.
                outer.sent = _step()
                return None
        if self.task.uncancel() > self.cancelling or not ours or self.enclosing():
            return None
        return self.ctx.err()


def _is_delivery(exc: BaseException) -> bool:
    """Whether ``exc`` is a cancellation, or a group of nothing but tasks that a context ended.

    A context's error on its own is none: the body has raised it, and it passes unchanged.
    """
    if isinstance(exc, BaseExceptionGroup):
        return exc.split((ContextError, asyncio.CancelledError))[1] is None
    return isinstance(exc, asyncio.CancelledError)


def enter(ctx: Context) -> None:
    """Open ``ctx`` as a scope of the running task.

    Raises:
        RuntimeError: There is no running asyncio task; on trio use `hastack.contrib.anyio`.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("async with a context: must be inside a task")
    ctx._delivery = delivery = Delivery(ctx, task, task.get_loop())
    if ctx._parent is not None:
        ctx._link_delivery()
    deadline = ctx._deadline
    if deadline is not None:
        now = ctx._clock.monotonic()
        if deadline > now:
            if not _rung_from_above(ctx, delivery):
                delivery.arm(deadline, now)
        else:
            ctx._expire()
    # Only now, visible to everybody who could end it, it is asked whether it has ended.
    if ctx._end is not None or (ctx._parent is not None and ctx._look() is not None):
        delivery.ended()


def _rung_from_above(ctx: Context, delivery: Delivery) -> bool:
    """Whether an enclosing scope on this loop rings for the same deadline already."""
    if ctx._expiry is None:
        return False
    owner = ctx._expiry._delivery
    return owner is not None and owner.disarm is not None and owner.loop is delivery.loop


def _call_at(
    ctx: Context,
    loop: asyncio.AbstractEventLoop,
    at: float,
    now: float,
    callback: Callable[[], None],
) -> Callable[[], object]:
    """Run ``callback`` when the context's clock, which reads ``now``, reads ``at``."""
    ahead = loop.time() - now
    if -1.0 < ahead < 1.0:  # one timeline: the loop's timer is the cheap one
        return loop.call_at(at + ahead, callback).cancel
    return ctx._clock.call_at(at, callback)


async def wait_async(ctx: Context, timeout: float | None) -> bool:
    """Wait on the running loop until ``ctx`` ends or ``timeout`` seconds of its clock passed."""
    loop = asyncio.get_running_loop()
    if ctx.done or timeout == 0.0:
        await asyncio.sleep(0)
        return ctx.done
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    def ended() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits on it

    now, at = ctx._clock.monotonic(), ctx._deadline
    if timeout is not None and (at is None or now + timeout < at):
        at = now + timeout
    stop = ctx._watch(ended)
    disarm = None if at is None else _call_at(ctx, loop, at, now, ended)
    try:
        await future
    finally:
        stop()
        if disarm is not None:
            disarm()
    if at is not None and at == ctx._deadline and not ctx.done:
        if at - ctx._clock.monotonic() > _TICK:
            return await wait_async(ctx, timeout)  # the clock was set back
        ctx._ring()  # the loop rang a tick early
    return ctx.done
