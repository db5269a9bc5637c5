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


def _plain(plan: Plan, limiter: ratelimit.Guard, limit: Callable[[], float | None]) -> Guarded:
    """A baseline: the plain breaker, its limiter, and the client's deadline as timeout."""
    breaker = PlainBreaker(failures=FAILURES, open_for=plan.beat)
    guard = ratelimit.compose(breaker, limiter, ratelimit.Timeout(plan.deadline))
    return Guarded(guard=guard, state=lambda: breaker.state, limit=limit)


def _unprotected(plan: Plan) -> Guarded:
    return Guarded(guard=None, state=lambda: "closed", limit=lambda: None)


STRATEGIES = (
    Strategy(
        name="unprotected",
        title="Unprotected",
        summary="No guard at all.",
        unit="",
        build=_unprotected,
    ),
)


def by_name(name: str) -> Strategy:
    """The strategy called ``name``."""
    return next(strategy for strategy in STRATEGIES if strategy.name == name)
