"""One timer of the loop for all running calls of one `Timeout`.

Calls that get the same number of seconds have deadlines in the order of their beginnings, so only
the earliest needs a timer, and a call that ends in time never touches it. Setting and cancelling
a timer for each call would cost more than all the rest of the guard.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, final

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._delivery import Delivery, enter

if TYPE_CHECKING:
    from hastack._core._cancel import Context as Scope

_TICK = 0.001  # seconds; how early a loop may ring


@final
class DeadlineQueue:
    """The open scopes of one guarded function on one loop, the earliest deadline first.

    Scopes that were left stay until they come to the front, but never more than 64 of them and
    as many again as were open when they were last sorted out.
    """

    __slots__ = ("armed", "bound", "loop", "scopes", "variables")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self.scopes: deque[Delivery] = deque()
        self.bound = 64
        self.armed = False
        self.variables = Context()  # a timer would keep those of the call that sets it

    def enter(self, ctx: Scope) -> DeadlineQueue:
        """Open ``ctx`` as a scope of the running task, as ``async with ctx`` does.

        Returns:
            The queue for the next call: a new one when this task runs on another loop.
        """
        task = asyncio.current_task()
        if task is None or ctx._expiry is not None or ctx._clock is not SYSTEM_CLOCK:
            # Not in the order of the others (the deadline is a parent's), or not in their time.
            enter(ctx)
            return self
        loop = task.get_loop()
        queue = self if loop is self.loop else DeadlineQueue(loop)  # each serves its loop
        ctx._delivery = delivery = Delivery(ctx, task, loop)
        queue.scopes.append(delivery)
        if not queue.armed:
            queue.arm(delivery)
        elif len(queue.scopes) > queue.bound:
            queue.sort_out()
        if ctx._parent is not None:
            ctx._link_delivery()
            # Only now, visible to everybody who could end it, it is asked whether it has ended.
            if ctx._look() is not None:
                delivery.ended()
        return queue

    def sort_out(self) -> None:
        """Drop the scopes that were left."""
        self.scopes = deque(scope for scope in self.scopes if not scope.closed)
        self.bound = 2 * len(self.scopes) + 64

    def arm(self, first: Delivery) -> None:
        """Have the loop ring for ``first``."""
        assert self.loop is not None
        assert first.ctx._deadline is not None
        self.armed = True
        self.loop.call_later(
            first.ctx._deadline - SYSTEM_CLOCK.monotonic(), self.ring, context=self.variables
        )

    def ring(self) -> None:
        """Serve every deadline that has passed, and wait for the next."""
        self.armed = False
        scopes = self.scopes
        while scopes:
            first = scopes[0]
            if not first.closed:
                assert first.ctx._deadline is not None
                if first.ctx._deadline - SYSTEM_CLOCK.monotonic() > _TICK:
                    self.arm(first)
                    return
            scopes.popleft()
            first.ring()
        self.loop = None  # idle: do not keep it alive


def leave(delivery: Delivery) -> None:
    """Leave a scope whose body did not raise, and keep nothing of the call alive in the queue."""
    delivery.leave(None)
    del delivery.ctx, delivery.task
