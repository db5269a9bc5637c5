"""Put guards in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack._core._errors import InvalidArgument

from ._guard import Guard
from ._plan import around, around_async

if TYPE_CHECKING:
    from ._guard import AsyncCall, Call


class Pipeline(Guard):
    """Guards in a row, outermost first; itself a guard. Made by `compose`.

    Attributes:
        guards: The guards in order; pipelines among them are already laid flat.
    """

    def __init__(self, guards: tuple[Guard, ...]) -> None:
        self.guards = guards
        self.name = " > ".join(guard.name for guard in guards)

    def __repr__(self) -> str:
        return f"compose({', '.join(map(repr, self.guards))})"

    def _flat(self) -> tuple[Guard, ...]:
        return self.guards

    def _around(self, call: Call) -> Call:
        return around(self.guards, call)

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        return around_async(self.guards, call)

    def _enter(self) -> list[tuple[Guard, Any]]:
        entered: list[tuple[Guard, Any]] = []
        try:
            for guard in self.guards:
                entered.append((guard, guard._enter()))  # noqa: PERF401  # the except needs it
        except BaseException as error:
            self._exit(entered, error)
            raise
        return entered

    def _exit(self, state: list[tuple[Guard, Any]], error: BaseException | None) -> None:
        outcome = error
        while state:
            guard, inner = state.pop()
            try:
                guard._exit(inner, outcome)
            except BaseException as raised:  # a scope turns one error into another
                outcome = raised
        if outcome is not error and outcome is not None:
            raise outcome

    async def _enter_async(self) -> list[tuple[Guard, Any]]:
        entered: list[tuple[Guard, Any]] = []
        try:
            for guard in self.guards:
                entered.append((guard, await guard._enter_async()))  # noqa: PERF401  # as above
        except BaseException as error:
            await self._exit_async(entered, error)
            raise
        return entered

    async def _exit_async(
        self, state: list[tuple[Guard, Any]], error: BaseException | None
    ) -> None:
        outcome = error
        while state:
            guard, inner = state.pop()
            try:
                await guard._exit_async(inner, outcome)
            except BaseException as raised:
                outcome = raised
        if outcome is not error and outcome is not None:
            raise outcome


def compose(*guards: Guard) -> Pipeline:
    """Put ``guards`` around one call, the outermost first.

    Composition is associative: ``compose(compose(a, b), c)`` is ``compose(a, b, c)``. When an
    inner guard refuses, those outside of it learn that outcome once, like any other error.
    The order that most services want is fallback, retry, breaker, limits, timeout.

    Args:
        *guards: Any guards, pipelines included. With none, calls pass through unchanged.

    Returns:
        A guard that decorates, and works as ``with`` and ``async with`` when all its members do.

    Raises:
        InvalidArgument: One of ``guards`` is not a guard.

    Example:
        >>> from hastack import ratelimit
        >>> guard = ratelimit.compose(
        ...     ratelimit.Fallback(value="unknown"), ratelimit.TokenBucket("1/hour", burst=1)
        ... )
        >>> @guard
        ... def name() -> str:
        ...     return "ada"
        >>> name(), name()
        ('ada', 'unknown')
    """
    flat: list[Guard] = []
    for guard in guards:
        if not isinstance(guard, Guard):
            raise InvalidArgument("guards", guard, "guards such as TokenBucket(...) or Retry(...)")
        flat += guard._flat()
    return Pipeline(tuple(flat))
