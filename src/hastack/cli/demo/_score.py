"""From samples and ticks to the numbers that are reported."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._workload import Plan

OK = "ok"
SHED = "shed"
FAILED = "failed"
LATE = "late"
OUTCOMES = (OK, LATE, FAILED, SHED)
"""Every request ends as exactly one of these."""

ACCEPTED = frozenset({OK, LATE})
"""The outcomes whose latency counts."""

BINS = 36
"""Points of every chart."""


class Sample(NamedTuple):
    """What became of one request.

    Attributes:
        due: When it arrived, in seconds from the start of the load.
        latency: From that time to its end, in seconds.
        outcome: ``ok`` (answered within the deadline), ``shed`` (refused by a guard),
            ``late`` (anything else after the deadline, or never answered) or ``failed`` (an
            error within it).
    """

    due: float
    latency: float
    outcome: str


class Tick(NamedTuple):
    """One look at the guards.

    Attributes:
        at: Seconds from the start of the load.
        state: ``closed``, ``open`` or ``half-open``.
        limit: The limit in its own unit, or ``None``.
    """

    at: float
    state: str
    limit: float | None


@attrs.frozen(kw_only=True)
class Accuracy:
    """How often the breaker agreed with the oracle.

    Attributes:
        judged: Ticks outside of the grace after a change.
        false_open: Of them, those with a breaker not closed while the dependency was healthy.
        missed_open: Those with a breaker closed while it was sick.
        share: Right ones among the judged ones; 1.0 when none was judged.
    """

    judged: int
    false_open: int
    missed_open: int

    @property
    def share(self) -> float:
        """Right ticks among the judged ones; 1.0 when none was judged."""
        if not self.judged:
            return 1.0
        return 1.0 - (self.false_open + self.missed_open) / self.judged


@attrs.frozen(kw_only=True)
class Score:
    """The numbers of one strategy; times in seconds, rates per second.

    Attributes:
        sent: Requests sent: the sum of the next four.
        ok: Answered with success within the deadline.
        late: Not answered within the deadline.
        failed: Answered within the deadline, with an error that was not a refusal.
        shed: Refused by a guard.
        goodput: ``ok`` per second of load.
        p50: Median latency of the accepted, that is of ``ok`` and ``late``: how soon an error
            came says nothing. Cut off at the client's patience; 0.0 when there were none.
        p99: Their 99th percentile.
        accuracy: Breaker against oracle.
        lag_p99: How late the generator itself sent, at the 99th percentile.
    """

    sent: int
    ok: int
    late: int
    failed: int
    shed: int
    goodput: float
    p50: float
    p99: float
    accuracy: Accuracy
    lag_p99: float


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; 0.0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def accuracy(plan: Plan, ticks: Iterable[Tick]) -> Accuracy:
    """Judge the ticks. Half-open counts as not closed: it still refuses most calls."""
    judged = [tick for tick in ticks if plan.judged(tick.at)]
    false_open = sum(t.state != "closed" and not plan.sick(t.at) for t in judged)
    missed_open = sum(t.state == "closed" and plan.sick(t.at) for t in judged)
    return Accuracy(judged=len(judged), false_open=false_open, missed_open=missed_open)


def score(
    plan: Plan, samples: Sequence[Sample], ticks: Iterable[Tick], lag: Iterable[float]
) -> Score:
    """All numbers of one run."""
    count: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    for sample in samples:
        count[sample.outcome] += 1
    accepted = [sample.latency for sample in samples if sample.outcome in ACCEPTED]
    return Score(
        sent=len(samples),
        ok=count[OK],
        late=count[LATE],
        failed=count[FAILED],
        shed=count[SHED],
        goodput=count[OK] / plan.duration,
        p50=percentile(accepted, 0.50),
        p99=percentile(accepted, 0.99),
        accuracy=accuracy(plan, ticks),
        lag_p99=percentile(lag, 0.99),
    )


def series(plan: Plan, samples: Iterable[Sample]) -> dict[str, list[Any]]:
    """Chart data by arrival time: outcomes per second, and latencies of the accepted.

    Returns:
        ``at`` (middle of each bin), one list of rates per outcome, and ``p50`` / ``p99`` with
        ``None`` for bins in which nothing was accepted.
    """
    width = plan.duration / BINS
    counts = {outcome: [0] * BINS for outcome in OUTCOMES}
    latencies: list[list[float]] = [[] for _ in range(BINS)]
    for sample in samples:
        number = min(BINS - 1, int(sample.due / width))
        counts[sample.outcome][number] += 1
        if sample.outcome in ACCEPTED:
            latencies[number].append(sample.latency)
    result: dict[str, list[Any]] = {"at": [(number + 0.5) * width for number in range(BINS)]}
    for outcome in OUTCOMES:
        result[outcome] = [count / width for count in counts[outcome]]
    result["p50"] = [percentile(each, 0.50) if each else None for each in latencies]
    result["p99"] = [percentile(each, 0.99) if each else None for each in latencies]
    return result
