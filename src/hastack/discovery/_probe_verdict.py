"""When a probed instance counts as healthy: hysteresis, so that one lost probe moves nothing."""

from __future__ import annotations

from typing import Self, final

import attrs

from hastack._core import _validate

__all__ = ("Thresholds", "Verdict")


@final
@attrs.frozen(kw_only=True)
class Thresholds:
    """How many answers in a row turn the verdict.

    Attributes:
        fail_after: Failures in a row until a healthy instance is unhealthy.
        recover_after: Successes in a row until an unhealthy one is healthy again.

    Raises:
        InvalidArgument: One of them is below 1.
    """

    fail_after: int = attrs.field(default=3)
    recover_after: int = attrs.field(default=2)

    def __attrs_post_init__(self) -> None:
        _validate.integer("fail_after", self.fail_after)
        _validate.integer("recover_after", self.recover_after)


@final
@attrs.frozen
class Verdict:
    """What the probes so far amount to.

    Attributes:
        healthy: ``None`` before the first answer, which decides at once.
        against: Answers in a row that speak against ``healthy``.
    """

    healthy: bool | None = None
    against: int = 0

    def after(self, ok: bool, thresholds: Thresholds) -> Self:
        """The verdict with one more answer."""
        if self.healthy is None:
            return attrs.evolve(self, healthy=ok)
        if ok == self.healthy:
            return attrs.evolve(self, against=0) if self.against else self
        against = self.against + 1
        needed = thresholds.fail_after if self.healthy else thresholds.recover_after
        if against >= needed:
            return attrs.evolve(self, healthy=ok, against=0)
        return attrs.evolve(self, against=against)
