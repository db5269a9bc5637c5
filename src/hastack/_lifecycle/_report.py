"""What a shutdown did, as data."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class ShutdownReport:
    """How a service ended.

    Attributes:
        cause: Why: `ShutdownRequested`, what was given to `Lifecycle.shutdown`, or the error of
            the component that did not start.
        aborted: Whether a second signal (or `Lifecycle.abort`) cut it short.
        start_failed: Name of the component that did not start, or ``None``.
        stopped: Names of the components that stopped, in that order.
        not_drained: Names of those that were still draining when the drain time was over.
        not_stopped: Names of those that were not stopped at the end.
        errors: ``(component, step, error)`` for each step that raised.
        lame_duck: Seconds spent serving while not ready.
        drain: Seconds spent draining.
        stop: Seconds spent stopping.
        budget: Seconds that all of it was allowed to take.
    """

    cause: BaseException
    aborted: bool = False
    start_failed: str | None = None
    stopped: tuple[str, ...] = ()
    not_drained: tuple[str, ...] = ()
    not_stopped: tuple[str, ...] = ()
    errors: tuple[tuple[str, str, BaseException], ...] = ()
    lame_duck: float = 0.0
    drain: float = 0.0
    stop: float = 0.0
    budget: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything drained, stopped and raised nothing."""
        return not (self.aborted or self.not_drained or self.not_stopped or self.errors)

    @property
    def duration(self) -> float:
        """Seconds from the request to the end."""
        return self.lame_duck + self.drain + self.stop

    def __str__(self) -> str:
        text = (
            f"{'aborted' if self.aborted else 'stopped'} after {self.duration:.2f} s of "
            f"{self.budget:g} s (lame duck {self.lame_duck:.2f}, drain {self.drain:.2f}, "
            f"stop {self.stop:.2f}): {self.cause}"
        )
        if self.not_drained:
            text += f"; did not drain: {', '.join(self.not_drained)}"
        if self.not_stopped:
            text += f"; did not stop: {', '.join(self.not_stopped)}"
        for name, step, error in self.errors:
            text += f"; {name}.{step} raised {type(error).__name__}: {error}"
        return text
