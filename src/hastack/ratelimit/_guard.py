"""Guards: objects that stand around a call, and the two shapes they come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

from hastack._core._clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hastack.typing import Clock

    Call: TypeAlias = Callable[..., Any]
    AsyncCall: TypeAlias = Callable[..., Awaitable[Any]]

P = ParamSpec("P")
R = TypeVar("R")


class Guard:
    """Base of every policy: decorates any callable, composes with other guards.

    Subclasses are either an `Admission` or implement `_around` and `_around_async`.

    Attributes:
        name: Appears in errors and events.
    """

    name: str
    _clock: Clock = SYSTEM_CLOCK

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function, coroutine function, generator, async generator or method."""
        from ._wrap import decorate

        return decorate(self, fn)

    def _around(self, call: Call) -> Call:
        """``call`` with this guard around it, for synchronous code."""
        raise NotImplementedError

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        """``call`` with this guard around it, for asynchronous code."""
        raise NotImplementedError


class Admission(Guard):
    """A guard that says yes or no before the call and may learn the outcome afterwards.

    Consecutive admissions in a plan become one flat step that reads each clock once.
    """

    _settles: bool = False
    """Whether `_settle` wants to know the outcome; plans skip it otherwise."""

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
        raise NotImplementedError

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Like `_admit`, but wait up to this guard's ``max_wait`` and the context's deadline."""
        raise NotImplementedError

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Like `_admit_waiting`, on the running event loop."""
        raise NotImplementedError

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        """Record the outcome of an admitted call exactly once; never raises.

        Args:
            permit: What `_admit` returned.
            now: Reading of this guard's clock after the call.
            error: What the call raised (cancellation included), or ``None``.
            result: What it returned when ``error`` is ``None``.
        """
