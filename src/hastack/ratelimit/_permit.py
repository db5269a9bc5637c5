"""A permit whose outcome is reported by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final

if TYPE_CHECKING:
    from hastack.typing import Clock


class _Reported(Protocol):
    """What a permit needs of the guard that gave it."""

    _clock: Clock

    def _settle(
        self, permit: Any, now: float, error: BaseException | None, result: Any
    ) -> None: ...

    def _fail(self, permit: Any, now: float) -> None: ...

    def _release(self, permit: Any, now: float) -> None: ...


@final
class Permit:
    """Answer of `CircuitBreaker.try_acquire` and `AdaptiveLimit.try_acquire`; truthy when allowed.

    Report the outcome exactly once with `success`, `failure` or `release`; further reports
    change nothing, and neither does any report on a refusal.

    Attributes:
        allowed: Whether the call may go ahead.
        retry_after: Seconds until a refused call may be tried again; ``None`` when nobody knows,
            0.0 when allowed.
    """

    __slots__ = ("_guard", "_permit", "allowed", "retry_after")

    def __init__(self, guard: _Reported, permit: Any, retry_after: float | None) -> None:
        self._guard = guard
        self._permit = permit
        self.allowed = permit is not None
        self.retry_after = retry_after

    @classmethod
    def passed(cls, guard: _Reported) -> Permit:
        """A yes that ``guard`` knows nothing of: no report on it changes anything."""
        permit = cls(guard, None, 0.0)
        permit.allowed = True
        return permit

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        return f"Permit(allowed={self.allowed}, retry_after={self.retry_after})"

    def success(self, result: object = None) -> None:
        """The call returned ``result``; a guard that judges results still does."""
        permit, self._permit = self._permit, None
        if permit is not None:
            self._guard._settle(permit, self._guard._clock.monotonic(), None, result)

    def failure(self, error: BaseException | None = None) -> None:
        """The call raised ``error``, judged like any error; without one it simply failed."""
        permit, self._permit = self._permit, None
        if permit is None:
            return
        now = self._guard._clock.monotonic()
        if error is None:
            self._guard._fail(permit, now)
        else:
            self._guard._settle(permit, now, error, None)

    def release(self) -> None:
        """The call was given up and says nothing."""
        permit, self._permit = self._permit, None
        if permit is not None:
            self._guard._release(permit, self._guard._clock.monotonic())
