"""hastack against two baselines, beside the ratios that were aimed at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._score import Score

OURS = "hastack"
"""Name of the strategy that is compared."""


@attrs.frozen(kw_only=True)
class Ratios:
    """One strategy against another.

    Attributes:
        goodput: Ratio of goodputs; above 1 is better.
        p99: Ratio of 99th percentiles; below 1 is better.
        points: Difference of breaker accuracies in percentage points; above 0 is better.
    """

    goodput: float
    p99: float
    points: float


@attrs.frozen(kw_only=True)
class Headline(Ratios):
    """What was aimed at against one baseline.

    Attributes:
        baseline: Name of the strategy.
        title: For people.
    """

    baseline: str
    title: str


HEADLINES = (
    Headline(baseline="fixed-window", title="fixed window", goodput=1.51, p99=0.48, points=18.0),
    Headline(baseline="token-bucket", title="static bucket", goodput=1.33, p99=0.66, points=13.0),
)
"""The project's aims. They came without a workload, so other workloads give other ratios."""


def compare(headline: Headline, scores: Mapping[str, Score]) -> Ratios | None:
    """Our ratios against that baseline; ``None`` when either strategy did not run."""
    ours, theirs = scores.get(OURS), scores.get(headline.baseline)
    if ours is None or theirs is None:
        return None
    return Ratios(
        goodput=_ratio(ours.goodput, theirs.goodput),
        p99=_ratio(ours.p99, theirs.p99),
        points=100.0 * (ours.accuracy.share - theirs.accuracy.share),
    )


def _ratio(ours: float, theirs: float) -> float:
    if theirs == 0.0:
        return 1.0 if ours == 0.0 else float("inf")
    return ours / theirs
