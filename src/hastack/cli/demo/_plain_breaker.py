"""The baselines' breaker: consecutive failures, one probe. The common textbook rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from hastack.errors import CircuitOpen, Rejected
from hastack.ratelimit import Admission

if TYPE_CHECKING:
    from hastack.typing import Clock


class ConsecutiveFailures:
    """The decisions: open after ``failures`` in a row, one probe after ``open_for`` seconds.

    A probe that succeeds closes the breaker, one that fails opens it anew. Results that arrive
    while it is open change nothing. Which phase a call was admitted in is not recorded, so a
    late result may be taken for the probe's, as in most implementations of this rule.

    Args:
        failures: Consecutive failures that open it.
        open_for: Seconds until a probe is let through.
    """

    def __init__(self, *, failures: int, open_for: float) -> None:
        self._limit = failures
        self._open_for = open_for
        self._failed = 0
        self._until = 0.0
        self.state = "closed"

    def admit(self, now: float) -> bool:
        """Whether a call may go ahead at ``now``."""
        if self.state == "closed":
            return True
        if self.state == "open" and now >= self._until:
            self.state = "half-open"
            return True
        return False

    def succeed(self) -> None:
        """A call succeeded."""
        if self.state != "open":
            self._failed = 0
            self.state = "closed"

    def fail(self, now: float) -> None:
        """A call failed at ``now``."""
        if self.state == "open":
            return
        self._failed += 1
        if self.state == "half-open" or self._failed >= self._limit:
            self.state = "open"
            self._until = now + self._open_for
            self._failed = 0

    def abandon(self, now: float) -> None:
        """An admitted call never ran; if it was the probe, the next call may be it."""
        if self.state == "half-open":
            self.state = "open"
            self._until = now

    def retry_after(self, now: float) -> float:
        """Seconds until a probe is let through."""
        return max(0.0, self._until - now)


@final
class PlainBreaker(Admission):
    """`ConsecutiveFailures` as a guard. For one event loop; it takes no lock.

    Args:
        failures: Consecutive failures that open it.
        open_for: Seconds until a probe is let through.
        name: Appears in errors.
        clock: Source of time.
    """

    _settles = True

    def __init__(
        self,
        *,
        failures: int,
        open_for: float,
        name: str = "plain-breaker",
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        if clock is not None:
            self._clock = clock
        self._core = ConsecutiveFailures(failures=failures, open_for=open_for)

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return self._core.state

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._core.admit(now):
            raise CircuitOpen(self.name, retry_after=self._core.retry_after(now))

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        if error is None:
            self._core.succeed()
        elif isinstance(error, Rejected) or not isinstance(error, Exception):
            self._core.abandon(now)
        else:
            self._core.fail(now)
