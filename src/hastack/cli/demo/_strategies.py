"""Which guards stand before the dependency, strategy by strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hastack import ratelimit
from hastack._core._clock import SYSTEM_CLOCK

from ._plain_breaker import PlainBreaker

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from ._workload import Plan


@attrs.frozen(kw_only=True)
class Guarded:
    """The guards of one strategy, and how to look inside.

    Attributes:
        guard: Stands around the handler; ``None`` leaves it bare.
        state: The breaker's state now: ``closed``, ``open`` or ``half-open``.
        limit: The limit now, in the strategy's unit; ``None`` without one.
    """

    guard: ratelimit.Guard | None
    state: Callable[[], str]
    limit: Callable[[], float | None]


@attrs.frozen(kw_only=True)
class Strategy:
    """One way to protect the service.

    Attributes:
        name: As given to ``--strategy``.
        title: For people.
        summary: Its configuration in one sentence.
        unit: Of the limit: ``requests/s`` or ``calls in flight``; empty without one.
        build: Makes fresh guards for a plan.
    """

    name: str
    title: str
    summary: str
    unit: str
    build: Callable[[Plan], Guarded]


FAILURES = 5
"""Consecutive failures that open the baselines' breaker; the default of pybreaker."""

COMPRESSION = 10.0
"""The nine seconds of a standard run stand for an episode of ninety: every default time constant
of a guard (windows, periods, open times) is divided by this, for all strategies alike."""


def _time(plan: Plan, seconds: float) -> float:
    """A guard's default time constant, compressed like the episode."""
    return seconds / COMPRESSION * plan.beat


def _baseline(plan: Plan, limiter: ratelimit.Guard, limit: Callable[[], float | None]) -> Guarded:
    """The plain breaker, a limiter, and the client's deadline as timeout."""
    breaker = PlainBreaker(failures=FAILURES, open_for=_time(plan, 5.0))
    guard = ratelimit.compose(breaker, limiter, ratelimit.Timeout(plan.deadline))
    return Guarded(guard=guard, state=lambda: breaker.state, limit=limit)


class _FastClock:
    """A clock that runs ``factor`` times as fast; for guards whose times cannot be set."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() * self._factor

    def call_at(self, when: float, callback: Callable[[], None], /) -> Callable[[], None]:
        return SYSTEM_CLOCK.call_at(when / self._factor, callback)

    def wait(self, event: threading.Event, timeout: float | None = None, /) -> bool:
        return SYSTEM_CLOCK.wait(event, None if timeout is None else timeout / self._factor)


def _unprotected(plan: Plan) -> Guarded:
    return Guarded(guard=None, state=lambda: "closed", limit=lambda: None)


def _fixed_window(plan: Plan) -> Guarded:
    limiter = ratelimit.FixedWindow(f"{plan.capacity:.0f}/s", name="fixed-window")
    return _baseline(plan, limiter, lambda: plan.capacity)


def _token_bucket(plan: Plan) -> Guarded:
    # A burst of two calls per worker: enough to keep them busy, too little for a standing queue.
    burst = 2.0 * plan.workers
    limiter = ratelimit.TokenBucket(plan.capacity, burst=burst, name="token-bucket")
    return _baseline(plan, limiter, lambda: plan.capacity)


def _step_rule(plan: Plan) -> Guarded:
    # The rule's times are fixed, so it gets a faster clock: in its seconds there are fewer
    # requests per second, and latencies are longer.
    factor = 1.0 / _time(plan, 1.0)
    bucket = ratelimit.TokenBucket(
        plan.capacity / factor,
        burst=2.0 * plan.workers,
        name="step-rule",
        clock=_FastClock(factor),
    )
    rule = ratelimit.StepRule(bucket, max_p95=0.5 * plan.deadline * factor)
    return _baseline(plan, rule, lambda: rule.rate * factor)


def _hastack(plan: Plan) -> Guarded:
    breaker = ratelimit.CircuitBreaker(
        window=_time(plan, 10.0),
        open_for=_time(plan, 5.0),
        open_factor=1.0,  # as steady as the baselines'
        half_open_calls=5,
    )
    limit = ratelimit.AdaptiveLimit()
    return Guarded(
        guard=ratelimit.compose(breaker, limit, ratelimit.Timeout(plan.deadline)),
        state=lambda: breaker.state.value,
        limit=lambda: float(limit.limit),
    )


_PLAIN = (
    f"Plain breaker: open after {FAILURES} failures in a row for half a second, one probe. "
    "Timeout at the client's deadline."
)

STRATEGIES = (
    Strategy(
        name="unprotected",
        title="Unprotected",
        summary="No guard at all.",
        unit="",
        build=_unprotected,
    ),
    Strategy(
        name="fixed-window",
        title="Fixed window",
        summary=f"As many requests in each second as the nominal capacity. {_PLAIN}",
        unit="requests/s",
        build=_fixed_window,
    ),
    Strategy(
        name="token-bucket",
        title="Token bucket",
        summary=f"Static rate at the nominal capacity, burst of two per worker. {_PLAIN}",
        unit="requests/s",
        build=_token_bucket,
    ),
    Strategy(
        name="step-rule",
        title="Step rule",
        summary=(
            "A bucket whose rate begins at the nominal capacity: two periods in a row with a P95 "
            "above half the deadline or under 95 % success make it x 0.8, else x 1.1, at most "
            f"150 %. {_PLAIN}"
        ),
        unit="requests/s",
        build=_step_rule,
    ),
    Strategy(
        name="hastack",
        title="hastack",
        summary=(
            "Knows nothing of the capacity. CircuitBreaker: half of the calls of the last second "
            "failed opens it for half a second, five probes. AdaptiveLimit with its defaults. "
            "Timeout at the client's deadline."
        ),
        unit="calls in flight",
        build=_hastack,
    ),
)


def by_name(name: str) -> Strategy:
    """The strategy called ``name``."""
    return next(strategy for strategy in STRATEGIES if strategy.name == name)
