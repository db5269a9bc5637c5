"""The cancel tree: contexts with a deadline, a cause and values, and no event loop in sight.

The semantics are those of Go's ``context`` package. What differs is that almost nothing happens
until somebody asks: a context is linked into its parent only while it has callbacks, and a
deadline costs a timer only while somebody waits to be called. `Context.err` finds out the rest by
looking at the ancestors and at the clock.

Every decision about the past is made by time stamps, so it does not matter when it is looked at:
a context whose deadline lay before its parent's cancellation reports the deadline, even when the
first look comes after both.
"""

from __future__ import annotations

import os
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self, final

from ._clock import SYSTEM_CLOCK
from ._errors import Cancelled, ContextError, DeadlineExceeded, InvalidArgument
from ._latch import Latch
from ._validate import optional_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import ModuleType, TracebackType

    from hastack.typing import Clock

    from ._delivery import Delivery

# One lock for all trees: it is held for a few dictionary operations, never while a callback runs,
# and never together with a clock's lock. It is reentrant because a signal handler or a finalizer
# may cancel a context while its own thread is in here; each critical section below first makes
# its change visible and then looks whether the context has ended, and so tolerates that.
_lock = threading.RLock()


def _lock_before_fork() -> None:
    _lock.acquire()


def _unlock_after_fork() -> None:
    _lock.release()


def _fresh_lock_in_child() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(
    before=_lock_before_fork,
    after_in_parent=_unlock_after_fork,
    after_in_child=_fresh_lock_in_child,
)


@final
class End:
    """How and when a context ended. One record is shared by every context that it ends."""

    __slots__ = ("at", "cause", "expired", "message")

    def __init__(
        self, message: str, cause: BaseException | None, at: float, *, expired: bool = False
    ) -> None:
        self.message = message
        self.cause = cause
        self.at = at
        self.expired = expired

    def error(self) -> ContextError:
        """A new error: a shared one would collect the tracebacks of every raise."""
        if not self.expired:
            return Cancelled(self.message, cause=self.cause)
        error = DeadlineExceeded(self.message)
        error.__cause__ = self.cause
        return error


# Leaving a scope needs no record of its own: a descendant that is looked at later reports the
# exit rather than its own deadline, because its work had lost its scope by then.
_EXITED = End("context cancelled: its scope was left", None, float("-inf"))


@final
class _Live:
    """What a context has only while somebody wants to be told about its end."""

    __slots__ = ("callbacks", "children", "timer")

    def __init__(self) -> None:
        self.callbacks: dict[object, Callable[[], object]] = {}
        self.children: dict[Context, None] = {}
        self.timer: Callable[[], None] | None = None


class Context:
    """A deadline, a cancellation and values that flow with a call.

    Contexts are made by the functions of `hastack.context`, never directly. A context is its own
    scope: ``with ctx:`` and ``async with ctx:`` make it current and, on the way out, end it if it
    was made by ``timeout``, ``deadline`` or ``with_cancel``. One context can be entered once at a
    time.

    All methods are safe from every thread and from signal handlers, and none of them touches an
    event loop except `wait_async` and ``async with``.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_deadline",
        "_deadline_cause",
        "_delivery",
        "_end",
        "_expiry",
        "_live",
        "_parent",
        "_token",
        "_values",
    )

    _owned = True  # whether leaving the scope ends the context

    def __init__(
        self,
        parent: Context | None,
        clock: Clock,
        values: tuple[Any, ...] | None,
        at: float | None = None,
        cause: BaseException | None = None,
    ) -> None:
        self._parent = parent
        self._clock = clock
        self._values = values
        self._end: End | None = None
        self._live: _Live | None = None
        self._token: Token[Context] | None = None
        self._delivery: Delivery | None = None
        self._deadline_cause = cause
        self._deadline = at
        self._expiry: Context | None = None  # whose deadline it is; None for its own
        if parent is not None:
            self._end = parent._end
            above = parent._deadline
            if above is not None and (at is None or above <= at):
                self._deadline = above
                self._expiry = parent._expiry or parent

    # What it says

    @property
    def deadline(self) -> float | None:
        """When this context ends, as a reading of its `clock`; ``None`` without a deadline."""
        return self._deadline

    @property
    def clock(self) -> Clock:
        """The clock that the deadline refers to; all contexts of one tree share it."""
        return self._clock

    def remaining(self) -> float | None:
        """Seconds until the deadline, never below zero; ``None`` (not ``inf``) without one."""
        if self._deadline is None:
            return None
        left = self._deadline - self._clock.monotonic()
        return max(0.0, left)

    @property
    def done(self) -> bool:
        """Whether this context was cancelled or its deadline passed. It never turns back."""
        return self._end is not None or self._look() is not None

    def err(self) -> ContextError | None:
        """Why this context ended, as a new error; ``None`` while it has not ended."""
        end = self._end or self._look()
        return None if end is None else end.error()

    def cause(self) -> BaseException | None:
        """The reason that was given for the end, else the same as `err`."""
        end = self._end or self._look()
        if end is None:
            return None
        return end.error() if end.cause is None else end.cause

    def check(self) -> None:
        """Return at once while this context lives.

        Raises:
            Cancelled: It was cancelled.
            DeadlineExceeded: Its deadline passed.
        """
        end = self._end or self._look()
        if end is not None:
            raise end.error()

    def value(self, key: object, default: Any = None) -> Any:
        """The value that this context or its nearest ancestor carries under ``key``."""
        values = self._values
        while values is not None:
            name, value, values = values
            if name is key or name == key:
                return value
        return default

    # What it does

    def cancel(self, cause: BaseException | str | None = None) -> bool:
        """End this context and everything below it.

        Callbacks run on this thread before `cancel` returns.

        Args:
            cause: Why; an exception, or a text that becomes a `Cancelled`.

        Returns:
            Whether this call ended it: false when it had ended before, and for a background.
        """
        text = "context cancelled"
        if cause is not None:
            text = f"{text}: {cause}" if str(cause) else f"{text}: {type(cause).__name__}"
            if isinstance(cause, str):
                cause = Cancelled(cause)
        with _lock:
            ended = self._end is not None or self._look() is not None
            if not ended:
                self._end = End(text, cause, self._clock.monotonic())
        self._flush()
        return not ended

    def after_func(self, callback: Callable[[], object]) -> Callable[[], bool]:
        """Call ``callback()`` once when this context ends.

        It runs on the thread that ends the context: the one that calls `cancel` or leaves the
        scope, the clock's timer thread when the deadline passes, or, when the context has ended
        already, the calling thread before this returns. It must be short. What it raises is
        reported through `sys.unraisablehook`.

        Returns:
            ``stop``: forgets the callback and says whether that came in time.
        """
        stop = self._watch(callback)
        if self._deadline is not None:
            self._arm()
        return stop

    def wait(self, timeout: float | None = None) -> bool:
        """Block until this context ends or ``timeout`` seconds passed; say whether it ended."""
        timeout = optional_seconds("timeout", timeout, zero=True)
        if self._end is not None or self._look() is not None:
            return True
        latch = Latch()
        stop = self._watch(latch.set)
        try:
            # The bound is computed here, so that waiting needs no timer thread.
            left = self.remaining()
            if left is not None and (timeout is None or left <= timeout):
                while not self._clock.wait(latch, left) and not self.done:
                    left = self.remaining()
                return True
            self._clock.wait(latch, timeout)
        finally:
            stop()
        return self.done

    async def wait_async(self, timeout: float | None = None) -> bool:
        """Like `wait`, on the running asyncio loop."""
        from ._delivery import wait_async

        return await wait_async(self, optional_seconds("timeout", timeout, zero=True))

    # Scopes

    def __enter__(self) -> Self:
        if self._token is not None:
            raise InvalidArgument("ctx", self, "a context that is not entered already; see using()")
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        token = self._token
        self._token = None
        if token is not None:
            try:
                _current.reset(token)
            except ValueError:
                restore(token, self)
        if self._owned:
            self._leave()

    def _leave(self) -> None:
        """End this context because its scope is left."""
        if self._end is None and (
            (self._parent is None and self._deadline is None) or self._look() is None
        ):
            with _lock:
                if self._end is None:
                    self._end = _EXITED
        if self._live is not None:
            self._flush()

    async def __aenter__(self) -> Self:
        global _delivery
        if _delivery is None:
            from . import _delivery as module

            _delivery = module
        if self._token is not None:
            raise InvalidArgument("ctx", self, "a context that is not entered already; see using()")
        _delivery.enter(self)
        self._token = _current.set(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        delivery = self._delivery
        assert delivery is not None
        error = delivery.leave(exc)
        self.__exit__(None, None, None)
        if error is not None:
            raise error from (error.__cause__ or exc)

    def __repr__(self) -> str:
        end = self._end or self._look()
        if end is not None:
            return f"<Context ended: {end.message}>"
        left = self.remaining()
        return "<Context>" if left is None else f"<Context, {left:.3g} s left>"

    # The tree

    def _look(self) -> End | None:
        """The end of this context if it has come by now; recorded when first seen.

        Callbacks are left to whoever ends the context: a reader must not run foreign code.
        """
        end = self._end
        node = self._parent
        while end is None and node is not None:
            end = node._end
            node = node._parent
        deadline = self._deadline
        if end is None:
            if deadline is None or self._clock.monotonic() < deadline:
                return None
            return self._expire()
        # At the same reading the ancestor was first: this context may be younger than its end.
        if deadline is not None and deadline < end.at:
            return self._expire()
        with _lock:
            if self._end is None:
                self._end = end
            return self._end

    def _expire(self) -> End:
        """Record that the deadline passed, here and on the context that it belongs to."""
        owner = self._expiry or self
        with _lock:
            if self._end is None:
                end = owner._end
                if end is None:
                    assert owner._deadline is not None
                    end = owner._end = End(
                        "deadline exceeded", owner._deadline_cause, owner._deadline, expired=True
                    )
                self._end = end
            return self._end

    def _watch(self, callback: Callable[[], object]) -> Callable[[], bool]:
        """`after_func` without the timer, for those who watch the deadline themselves."""
        key = object()
        with _lock:
            live = self._live
            if live is None:
                live = self._live = _Live()
            live.callbacks[key] = callback
            self._link()
        # Only now, visible to everybody who could end it, it is asked whether it has ended.
        if self._end is not None or self._look() is not None:
            self._flush()

        def stop() -> bool:
            with _lock:
                live = self._live
                if live is None or live.callbacks.pop(key, None) is None:
                    return False
                timer = None
                if not live.callbacks:
                    timer, live.timer = live.timer, None
                    self._prune()
            if timer is not None:
                timer()
            return True

        return stop

    def _link_delivery(self) -> None:
        with _lock:
            self._link()

    def _unlink_delivery(self) -> None:
        with _lock:
            self._prune()

    def _link(self) -> None:
        """Make the ancestors know of this context; the lock is held."""
        child, parent = self, self._parent
        while parent is not None:
            live = parent._live
            if live is None:
                live = parent._live = _Live()
            elif child in live.children:
                return
            live.children[child] = None
            child, parent = parent, parent._parent

    def _prune(self) -> None:
        """Make the ancestors forget contexts that nobody watches; the lock is held."""
        node = self
        while node._delivery is None:
            live = node._live
            if live is not None:
                if live.callbacks or live.children:
                    return
                node._live = None
            parent = node._parent
            if parent is None or parent._live is None:
                return
            parent._live.children.pop(node, None)
            node = parent

    def _arm(self) -> None:
        """Have the clock call when the deadline passes."""
        live = self._live
        if live is None or live.timer is not None:
            return
        assert self._deadline is not None
        timer = self._clock.call_at(self._deadline, self._ring)
        with _lock:
            live = self._live  # may be gone, or armed by another thread, by now
            unused = live is None or live.timer is not None or not live.callbacks
            if live is not None and not unused:
                live.timer = timer
        if unused:
            timer()
        elif self.done:
            # A manual clock may have been moved past the deadline in between.
            self._flush()

    def _ring(self) -> None:
        self._expire()
        self._flush()

    def _flush(self) -> None:
        """Take the callbacks of this ended context and of all below it, and run them."""
        due: list[Callable[[], object]] = []
        with _lock:
            nodes: list[Context] = [self]
            for node in nodes:  # grows while it is walked: parents come before children
                if node._end is None:
                    node._look()
                if node._delivery is not None:
                    due.append(node._delivery.ended)
                live = node._live
                if live is not None:
                    node._live = None
                    due += live.callbacks.values()
                    nodes += live.children
                    if live.timer is not None:
                        due.append(live.timer)
            if self._parent is not None and self._parent._live is not None:
                self._parent._live.children.pop(self, None)
                self._parent._prune()
        if due:
            _run_all(due)


def _run_all(callbacks: list[Callable[[], object]]) -> None:
    """Run each one whatever the others do; an interrupt is raised after the last."""
    interrupt: BaseException | None = None
    for callback in callbacks:
        try:
            callback()
        except Exception as error:
            report(error, callback)
        except BaseException as error:
            interrupt = interrupt or error
    if interrupt is not None:
        raise interrupt


def report(error: BaseException, callback: object) -> None:
    """Show an error that has no caller to go to."""
    fields: dict[str, Any] = {
        "exc_type": type(error),
        "exc_value": error,
        "exc_traceback": error.__traceback__,
        "err_msg": "callback of a context raised",
        "object": callback,
    }
    args: Any = type("UnraisableHookArgs", (), fields)()
    sys.unraisablehook(args)


@final
class Carrier(Context):
    """A context whose scope may be left while it goes on: it only carries values."""

    __slots__ = ()
    _owned = False


@final
class Background(Context):
    """A root: it never ends, and nothing is kept for its end."""

    __slots__ = ()
    _owned = False

    def __init__(self, clock: Clock) -> None:
        super().__init__(None, clock, None)

    def _look(self) -> End | None:
        return None

    def cancel(self, cause: BaseException | str | None = None) -> bool:
        return False

    def after_func(self, callback: Callable[[], object]) -> Callable[[], bool]:
        waiting = [callback]

        def stop() -> bool:
            stopped = bool(waiting)
            waiting.clear()
            return stopped

        return stop

    _watch = after_func

    def __enter__(self) -> Self:
        raise InvalidArgument("ctx", self, "a context made from a background; see using()")

    async def __aenter__(self) -> Self:
        return self.__enter__()

    def __repr__(self) -> str:
        return "<Context background>"


def restore(token: Token[Context], ctx: Context) -> None:
    """Undo a ``set`` from another contextvars.Context, as a generator's clean-up may have to.

    What is current here is not ours to change, unless it is this very context.
    """
    if _current.get() is ctx:
        old = token.old_value
        _current.set(old if isinstance(old, Context) else BACKGROUND)


BACKGROUND = Background(SYSTEM_CLOCK)
_current: ContextVar[Context] = ContextVar("hastack.context", default=BACKGROUND)
_delivery: ModuleType | None = None  # asyncio comes in with the first ``async with``

Context.__module__ = "hastack.context"
