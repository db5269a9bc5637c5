"""Guards: objects that stand around a call, and the two shapes they come in."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import HastackError, InvalidArgument, Rejected
from hastack._core._validate import text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from types import TracebackType
    from typing import Self

    from hastack.typing import Clock

    Call: TypeAlias = Callable[..., Any]
    AsyncCall: TypeAlias = Callable[..., Awaitable[Any]]

P = ParamSpec("P")
R = TypeVar("R")


class Refusal(NamedTuple):
    """A no that nobody was told; the fields are those of `ShadowRejected`."""

    key: Hashable
    cost: Any
    reason: str
    retry_after: float | None
    error: Exception | None = None


class Guard:
    """Base of every policy: decorates any callable, composes with other guards.

    Subclasses are either an `Admission`, or implement `_around` and `_around_async`, and `_enter`
    with its three companions where a ``with`` block makes sense.

    Attributes:
        name: Appears in errors and events.
    """

    name: str
    _clock: Clock = SYSTEM_CLOCK

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function, coroutine function, generator, async generator or method.

        Raises:
            InvalidArgument: ``fn`` is not callable, is a class, or is a generator around which
                this guard cannot stand.
        """
        from ._wrap import decorate

        return decorate(self, fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``fn`` with this guard around that one call.

        Key and cost functions see ``args`` and ``kwargs`` as they see those of a decorated
        function. Decorating is cheaper for a function that is called again and again.

        Raises:
            InvalidArgument: ``fn`` is not a plain function.
        """
        from ._wrap import guarded

        return cast("R", guarded(self, fn)(*args, **kwargs))

    async def call_async(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await ``fn(*args, **kwargs)`` with this guard around it.

        ``fn`` may be anything that returns an awaitable, so also a lambda that calls a
        coroutine function.

        Raises:
            InvalidArgument: It returned something else.
        """
        from hastack._core._callables import Kind, kind_of

        from ._plan import around_async

        if kind_of(fn) is not Kind.COROUTINE:
            fn = _awaitable(fn)
        return cast("R", await around_async(self._flat(), fn)(*args, **kwargs))

    def __enter__(self) -> Self:
        _opened(self, self._enter())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit(_taken(self), error)

    async def __aenter__(self) -> Self:
        _opened(self, await self._enter_async())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit_async(_taken(self), error)

    def _flat(self) -> tuple[Guard, ...]:
        """The guards that this one stands for, outermost first."""
        return (self,)

    def _around(self, call: Call) -> Call:
        """``call`` with this guard around it, for synchronous code."""
        raise self._unfit("a guard for synchronous calls")

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        """``call`` with this guard around it, for asynchronous code; a coroutine function."""
        raise self._unfit("a guard for asynchronous calls")

    def _enter(self) -> Any:
        """Begin a ``with`` block; the result goes into `_exit`."""
        raise self._unfit(
            "a guard that can hold a with block (limiters, breakers, Timeout); this one has to "
            "run the code itself: decorate a function or use .call()"
        )

    def _exit(self, state: Any, error: BaseException | None) -> None:
        """End the block that began with ``state``; may raise another error in its place."""

    async def _enter_async(self) -> Any:
        """`_enter` for ``async with``."""
        return self._enter()

    async def _exit_async(self, state: Any, error: BaseException | None) -> None:
        """`_exit` for ``async with``."""
        self._exit(state, error)

    def _adopt(self, fresh: Any) -> None:
        """Take over what can change live of the settings of ``fresh``, a guard of this class.

        What was counted stays counted. Used by `live`.
        """
        raise self._unfit("a guard whose settings can change live")

    def _would_act(self, took: float, error: BaseException | None, result: Any) -> str | None:
        """What this policy would have done about a call that it was not around, or ``None``.

        Asked by `Shadow` for guards that are no `Admission`.

        Args:
            took: Seconds that the call took.
            error: What it raised, or ``None``.
            result: What it returned.
        """
        return None

    def _unfit(self, accepted: str) -> InvalidArgument:
        return InvalidArgument("guard", self, accepted)


def _awaitable(fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """``fn`` with an error that says what to do when its result cannot be awaited."""
    from inspect import isawaitable

    async def awaiting(*args: P.args, **kwargs: P.kwargs) -> R:
        result = fn(*args, **kwargs)
        if not isawaitable(result):
            raise InvalidArgument("fn", fn, "a function that returns an awaitable; see .call()")
        return await result

    return awaiting


class Admission(Guard):
    """A guard that says yes or no before the call and may learn the outcome afterwards.

    Consecutive admissions in a plan become one flat step that reads each clock once.
    """

    _settles: bool = False
    """Whether `_settle` wants to know the outcome; plans skip it otherwise."""

    _hears_answers: bool = False
    """Whether the outcome is wanted with the head of a response, before its body was read."""

    _waits: bool = False
    """Whether entering may wait; plans then call `_admit_waiting` / `_admit_waiting_async`."""

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Admit the call at time ``now`` without waiting, or raise `Rejected`.

        Args:
            now: Reading of this guard's clock.
            args: Positional arguments of the guarded call, for key and cost functions.
            kwargs: Its keyword arguments.

        Returns:
            A permit that goes back in through `_settle`.
        """
        raise self._unfit("an admission with _admit")

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        """What `_admit` does, with the no as a value and without its event; see `Shadow`.

        Guards that publish something about a refusal have their own.
        """
        try:
            return self._admit(now, args, kwargs), None
        except Rejected as error:
            return None, Refusal(None, 1.0, "limited", error.retry_after)

    def _try_quietly(self, *asked: Any, **named: Any) -> tuple[Any, Refusal | None]:
        """What `try_acquire` does, without an event; the answer is made a yes."""
        raise self._unfit("a guard that can be asked directly")

    def _reserve_quietly(self, key: Hashable, cost: Any) -> tuple[Any, Refusal | None]:
        """What `reserve` does without waiting; in place of a no, a reservation of nothing."""
        raise self._unfit("a limiter")

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Like `_admit`, but wait up to this guard's ``max_wait`` and the context's deadline."""
        return self._admit(self._clock.monotonic(), args, kwargs)

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Like `_admit_waiting`, on the running event loop."""
        return self._admit(self._clock.monotonic(), args, kwargs)

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        """Record the outcome of an admitted call exactly once; never raises.

        Args:
            permit: What `_admit` returned.
            now: Reading of this guard's clock after the call.
            error: What the call raised (cancellation included), or ``None``. A generator that
                its consumer leaves early ends with `GeneratorExit`.
            result: What it returned when ``error`` is ``None``.
        """

    def _enter(self) -> Any:
        if self._waits:
            return self._admit_waiting((), {})
        return self._admit(self._clock.monotonic(), (), {})

    async def _enter_async(self) -> Any:
        if self._waits:
            return await self._admit_waiting_async((), {})
        return self._admit(self._clock.monotonic(), (), {})

    def _exit(self, state: Any, error: BaseException | None) -> None:
        if self._settles:
            self._settle(state, self._clock.monotonic(), error, None)


class _Entry:
    """One ``with`` block that is open on a guard."""

    __slots__ = ("below", "guard", "left", "state")

    def __init__(self, guard: Guard, state: Any, below: _Entry | None) -> None:
        self.guard = guard
        self.state = state
        self.below = below
        self.left = False


# The blocks that are open in this thread or task, innermost first. One shared guard is entered by
# many of them at once, and `__exit__` is told nothing about which entry it ends.
_entries: ContextVar[_Entry | None] = ContextVar("hastack_entries", default=None)


def _opened(guard: Guard, state: Any) -> None:
    entry = _Entry(guard, state, _open_entry(_entries.get()))
    _entries.set(entry)
    guard.__dict__.setdefault("_blocks", {})[entry] = None


def _open_entry(entry: _Entry | None) -> _Entry | None:
    while entry is not None and entry.left:
        entry = entry.below
    return entry


def _taken(guard: Guard) -> Any:
    """The state of the block that ends here, which is taken exactly once."""
    blocks: dict[_Entry, None] = guard.__dict__.get("_blocks", {})
    entry = _open_entry(_entries.get())
    while entry is not None and entry.guard is not guard:
        entry = _open_entry(entry.below)
    while True:
        if entry is None:
            # An abandoned async generator is closed in another context than it ran in. The
            # permits of one guard are alike, so end its oldest block: if that one belongs to
            # somebody else, they will end this one in exchange, and none is lost.
            entry = next(iter(tuple(blocks)), None)
            if entry is None:
                raise HastackError(f"{guard!r} was left more often than it was entered")
        if blocks.pop(entry, entry) is None:
            entry.left = True
            _entries.set(_open_entry(_entries.get()))
            return entry.state
        entry = None


def checked_name(guard: Guard, name: str | None) -> str:
    """The name that ``guard`` is to have: its class's, or ``name`` when that is one."""
    return type(guard).__name__ if name is None else text("name", name)
