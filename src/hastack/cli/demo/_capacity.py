"""How a dependency of limited capacity behaves: workers, a bounded queue, a brown-out."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from ._workload import Plan

T = TypeVar("T")


class Capacity(Generic[T]):
    """The queueing model; calls are whatever the shell uses to answer them.

    A call occupies one of ``plan.workers`` for a random time around ``plan.service_time``
    (between half and one and a half of it). In the brown-out a call takes
    ``1 / sick_capacity`` times as long and fails with probability ``sick_errors``. Work that
    nobody waits for any more is done all the same, as in a real database.

    Args:
        plan: The experiment.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rng = random.Random(f"dependency-{plan.seed}")
        self._waiting: deque[T] = deque()
        self.busy = 0

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return len(self._waiting)

    def arrive(self, call: T, at: float) -> float | None:
        """Take in a call at time ``at``.

        Returns:
            The seconds after which to call `finish` when it starts at once, 0.0 when it waits,
            ``None`` when the queue is full and the call is refused.
        """
        if self.busy < self._plan.workers:
            self.busy += 1
            return self._service_time(at)
        if len(self._waiting) >= self._plan.queue:
            return None
        self._waiting.append(call)
        return 0.0

    def finish(self, at: float) -> tuple[bool, tuple[T, float] | None]:
        """A worker ends its call at time ``at``.

        Returns:
            Whether that call succeeded, and the waiting call that starts now with its service
            time, if there is one.
        """
        ok = not (self._plan.sick(at) and self._rng.random() < self._plan.sick_errors)
        if not self._waiting:
            self.busy -= 1
            return ok, None
        return ok, (self._waiting.popleft(), self._service_time(at))

    def _service_time(self, at: float) -> float:
        mean = self._plan.service_time
        if self._plan.sick(at):
            mean /= self._plan.sick_capacity
        return mean * (0.5 + self._rng.random())
