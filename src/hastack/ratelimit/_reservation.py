"""Take an estimate now, pay the true cost later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack._core._validate import number

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import TracebackType


@final
class Reservation:
    """Permits taken ahead of a call whose true cost is known only afterwards.

    Made by ``limiter.reserve(key, cost)``. The first `settle` or `cancel` counts, later ones do
    nothing. As a context manager: leaving the block without having settled keeps the estimate,
    leaving it with an exception gives everything back.

    Attributes:
        key: Whom the permits belong to.
        cost: The estimate that was taken.

    Example:
        >>> from hastack import ratelimit
        >>> tokens = ratelimit.TokenBucket("90_000/day", name="llm tokens")
        >>> with tokens.reserve(cost=1200) as estimate:
        ...     used = 950  # what the answer says it cost
        ...     estimate.settle(used)
        >>> tokens.peek().remaining
        89050
    """

    __slots__ = ("_charge", "_keeps", "cost", "key")

    def __init__(
        self,
        key: Hashable,
        cost: float,
        charge: Callable[[Hashable, float], Any],
        *,
        keeps: bool = True,
    ) -> None:
        self.key = key
        self.cost = cost
        self._keeps = keeps  # False: permits are held, not spent; they all come back
        self._charge: list[Callable[[Hashable, float], Any]] = [charge]

    def settle(self, actual: float) -> None:
        """Correct the estimate to ``actual``, in either direction.

        A higher cost is taken even when the limit does not have it: the key then owes it, and
        its next calls wait longer.

        Args:
            actual: The true cost, a finite number >= 0.

        Raises:
            InvalidArgument: ``actual`` is not such a number.
        """
        actual = number("actual", actual, "a finite number >= 0", valid=lambda v: v >= 0.0)
        try:
            charge = self._charge.pop()  # atomic: two threads cannot both settle
        except IndexError:
            return
        if not self._keeps:
            actual = 0.0
        if actual != self.cost:
            charge(self.key, actual - self.cost)

    def cancel(self) -> None:
        """Give everything back: the call did not happen."""
        self.settle(0.0)

    @property
    def settled(self) -> bool:
        """Whether the true cost is known."""
        return not self._charge

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.settle(self.cost if error is None else 0.0)

    async def __aenter__(self) -> Reservation:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)
