"""Which guards stand before the dependency, strategy by strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hastack import ratelimit

from ._plain_breaker import PlainBreaker

if TYPE_CHECKING:
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


_PLAIN = (
    f"Plain breaker: open after {FAILURES} failures in a row for 0.5 s, one probe. "
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
)


def by_name(name: str) -> Strategy:
    """The strategy called ``name``."""
    return next(strategy for strategy in STRATEGIES if strategy.name == name)
