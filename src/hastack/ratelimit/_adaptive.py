"""The calls in flight under an adaptive limit. Pure; the shell holds the lock."""

from __future__ import annotations

from math import inf
from typing import Any, final

from ._gradient import GradientController, GradientRules


@final
class AdaptiveCore:
    """Counts calls in and out, and lets the controller learn from each that leaves.

    Attributes:
        inflight: Calls admitted that have not left.
        waiting: Whether callers stand in line; nobody may overtake them.
    """

    def __init__(self, rules: GradientRules, now: float) -> None:
        self.controller: GradientController = GradientController(rules, now)
        self.inflight: int = 0
        self.waiting: bool = False
        self.epoch: int = 0

    def admit(self) -> bool:
        """Let one call in now, or not."""
        if self.waiting or self.inflight >= self.controller.limit:
            return False
        self.inflight += 1
        return True

    def leave(self, epoch: int, started: float, now: float, outcome: int) -> None:
        """A call admitted under ``epoch`` ended."""
        if epoch != self.epoch:
            return  # it came in before a fork, in the parent's count
        self.controller.observe(now, now - started, outcome, self.inflight)
        self.inflight -= 1

    def forget_callers(self) -> None:
        """In a forked child: the calls in flight belong to the parent."""
        self.inflight = 0
        self.epoch += 1

    # What the waiting room asks for. Costs are always 1.

    def take_or_wait(self, key: Any, cost: float, now: float) -> float:
        """Let the head of the line in (0.0), or have it come back when a call leaves (inf)."""
        if self.inflight >= self.controller.limit:
            return inf
        self.inflight += 1
        return 0.0

    def slot_in(self, key: Any, ahead: float, cost: float, now: float) -> float:
        """Unknown: it depends on when calls leave."""
        return 0.0

    def mark(self, key: Any, cost: float, now: float) -> None:
        """Nothing: places do not grow with time."""

    def charge(self, key: Any, cost: float, now: float, mark: object = None) -> None:
        """Give back the place of a caller that did not live to use it."""
        self.inflight += round(cost)

    def refresh(self) -> None:
        """``waiting`` changed; `admit` reads it each time."""
