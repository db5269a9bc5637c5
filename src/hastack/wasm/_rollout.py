"""How a new version proves itself: beside the old one, then on a share of calls, then on all."""

from __future__ import annotations

from typing import Final

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

__all__ = ("Plan", "Rollout")

SHADOW: Final = "shadow"
CANARY: Final = "canary"
TRIAL: Final = "trial"
GOOD: Final = "good"
BAD: Final = "bad"


def _count(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    _validate.integer(attribute.name, value, minimum=0)


@attrs.frozen(kw_only=True)
class Plan:
    """What a new version has to get through before it is the one.

    Attributes:
        shadow: Calls that it answers as well, after the active version, whose answer counts.
        differences: How many of these answers may differ.
        canary: Calls in the phase in which it answers a share; 0 leaves it out.
        share: That share, above 0 and at most 1.
        trial: Calls that it answers alone, while the active version stands by.
        failures: How many of its calls may fail; the active version answers those.

    Raises:
        InvalidArgument: A number is outside of its range.

    Example:
        >>> from hastack import wasm
        >>> wasm.Plan(shadow=100, canary=1000, share=0.05).trial
        0
    """

    shadow: int = attrs.field(default=0, validator=_count)
    differences: int = attrs.field(default=0, validator=_count)
    canary: int = attrs.field(default=0, validator=_count)
    share: float = 0.1
    trial: int = attrs.field(default=0, validator=_count)
    failures: int = attrs.field(default=0, validator=_count)

    def __attrs_post_init__(self) -> None:
        _validate.fraction("share", self.share)
        if self.canary and self.canary * self.share < 1.0:
            raise InvalidArgument("canary", self.canary, "enough calls for one in the share")


class Rollout:
    """Where a new version is on its plan. Not safe for threads: whoever owns it locks.

    Attributes:
        phase: ``shadow``, ``canary`` or ``trial``; then ``good`` or ``bad``.
        reason: Why it is bad.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._calls = 0
        self.phase = SHADOW
        self.reason = ""
        self.differences = 0
        self.failures = 0
        self._pass_on()

    @property
    def over(self) -> bool:
        """Whether it is known how it ends."""
        return self.phase in {GOOD, BAD}

    def route(self) -> str:
        """What to do with the next call: ``"active"``, ``"candidate"``, or ``"both"``."""
        if self.over:
            return "active"
        self._calls += 1
        if self.phase == SHADOW:
            return "both"
        if self.phase == TRIAL:
            return "candidate"
        share = self._plan.share
        # Spread evenly: the first call of which the share has come to one more whole call.
        return (
            "candidate" if int(self._calls * share) > int((self._calls - 1) * share) else "active"
        )

    def answered(self, *, differs: bool = False) -> None:
        """A call of this phase is over; whether the two answers differ, when both were asked."""
        if differs and not self.over:
            self.differences += 1
            if self.differences > self._plan.differences:
                self.fail(f"{self.differences} answers differ")
        self._pass_on()

    def failed(self, why: str) -> None:
        """The new version failed a call."""
        if self.over:
            return
        self.failures += 1
        if self.failures > self._plan.failures:
            self.fail(f"{self.failures} calls failed, the last with: {why}")
        self._pass_on()

    def fail(self, why: str) -> None:
        """It is bad, for whatever reason."""
        self.phase, self.reason = BAD, why

    def _pass_on(self) -> None:
        """To the next phase, when this one has had its calls."""
        plan = self._plan
        for phase, calls, following in (
            (SHADOW, plan.shadow, CANARY),
            (CANARY, plan.canary, TRIAL),
            (TRIAL, plan.trial, GOOD),
        ):
            if self.phase == phase and self._calls >= calls:
                self.phase, self._calls = following, 0
