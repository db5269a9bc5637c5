"""Is the service alive, started, ready? Decided from memory and the time, nothing else."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Status(enum.Enum):
    """A verdict in one word."""

    PASS = "pass"  # noqa: S105  # not a password
    DEGRADED = "degraded"
    FAIL = "fail"


@attrs.frozen(kw_only=True)
class CheckResult:
    """What is known of one check.

    Attributes:
        name: The check.
        ok: Whether it counts as good, after hysteresis; ``None`` before the first result.
        critical: Whether it decides readiness; otherwise it only degrades.
        detail: Why it failed, or what it had to say.
        age: Seconds since the last result.
        took: Seconds the last run took.
        streak: How many results in a row were as the last one.
    """

    name: str
    ok: bool | None
    critical: bool
    detail: str = ""
    age: float | None = None
    took: float | None = None
    streak: int = 0


@attrs.frozen(kw_only=True)
class Verdict:
    """The answer to one question about the service's health; truthy unless it failed.

    Attributes:
        status: In one word.
        failing: ``name: why`` for everything that speaks against it.
        checks: Every check that was looked at.
    """

    status: Status
    failing: tuple[str, ...] = ()
    checks: tuple[CheckResult, ...] = ()

    def __bool__(self) -> bool:
        return self.status is not Status.FAIL


@attrs.define
class CheckState:
    """Results of one check over time, with hysteresis.

    The first result decides; from then on it takes ``failures`` bad results in a row to turn
    bad and ``successes`` good ones to turn good again, so that one lost packet changes nothing.
    """

    name: str
    critical: bool = True
    failures: int = 2
    successes: int = 1
    ttl: float = 1.0
    good: bool | None = None
    last_ok: bool = False
    streak: int = 0
    detail: str = ""
    at: float | None = None
    took: float | None = None

    def fresh(self, now: float) -> bool:
        """Whether the last result is young enough to be given again."""
        # A clock that went backwards makes no result fresh forever.
        return self.at is not None and 0.0 <= now - self.at < self.ttl

    def record(self, now: float, ok: bool, detail: str = "", took: float | None = None) -> bool:
        """Take one result in; says whether good turned bad or bad good."""
        self.streak = self.streak + 1 if self.at is not None and ok == self.last_ok else 1
        self.last_ok, self.detail, self.at, self.took = ok, detail, now, took
        needed = self.successes if ok else self.failures
        if self.good is not ok and (self.good is None or self.streak >= needed):
            self.good = ok
            return True
        return False

    def result(self, now: float) -> CheckResult:
        """What is known now."""
        return CheckResult(
            name=self.name,
            ok=self.good,
            critical=self.critical,
            detail=self.detail,
            age=None if self.at is None else max(now - self.at, 0.0),
            took=self.took,
            streak=self.streak,
        )


def judge(checks: Iterable[CheckResult], against: Iterable[str] = ()) -> Verdict:
    """One verdict from many checks.

    Args:
        checks: What is known; a critical check without any result speaks against.
        against: Further reasons to fail, each ``name: why``.
    """
    results = tuple(checks)
    failing = list(against)
    fatal = bool(failing)
    for each in results:
        if each.ok is True:
            continue
        why = "not checked yet" if each.ok is None else each.detail or "failed"
        failing.append(f"{each.name}: {why}")
        fatal = fatal or each.critical
    status = Status.FAIL if fatal else Status.DEGRADED if failing else Status.PASS
    return Verdict(status=status, failing=tuple(failing), checks=results)


@attrs.define
class Pulse:
    """The last sign of life of a loop or thread."""

    name: str
    max_age: float
    last: float
    mirror: Callable[[float], None] | None = None

    def beat(self, now: float) -> None:
        """A sign of life, told to ``mirror`` as well."""
        self.last = now
        if self.mirror is not None:
            self.mirror(now)

    def against(self, now: float) -> str | None:
        """Why this speaks against being alive, or ``None``."""
        age = now - self.last
        if age <= self.max_age:
            return None
        return f"{self.name}: no sign of life for {age:.2f} s (limit {self.max_age:g} s)"
