"""The result as one JSON document; the HTML page is drawn from it, so both always agree."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs

from ._verdict import HEADLINES, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._run import Result
    from ._workload import Plan


def document(plan: Plan, results: Sequence[Result], *, source: str) -> dict[str, Any]:
    """Everything that was measured.

    Args:
        plan: The experiment.
        results: One per strategy.
        source: Where the arrival times come from, for people.

    Returns:
        JSON-ready values. Times are seconds from the start of the load, rates per second;
        a latency equal to ``plan.patience`` means "at least".
    """
    start, end = plan.brownout
    scores = {result.strategy.name: result.score for result in results}
    return {
        "hastack": _version(),
        "python": platform.python_version(),
        "source": source,
        "plan": {**plan.to_dict(), "capacity": plan.capacity, "grace": plan.beat},
        "brownout": [start, end],
        "strategies": [_strategy(result) for result in results],
        "headlines": [
            {
                "baseline": headline.baseline,
                "title": headline.title,
                "aim": _ratios(headline),
                "measured": None if ours is None else _ratios(ours),
            }
            for headline in HEADLINES
            for ours in [compare(headline, scores)]
        ],
    }


def _version() -> str:
    try:
        return metadata.version("hastack")
    except metadata.PackageNotFoundError:
        return "not installed, run from its source"


def _ratios(ratios: Any) -> dict[str, float | None]:
    """The three numbers; JSON knows no infinity, so a division by zero is ``None``."""
    pairs = {"goodput": ratios.goodput, "p99": ratios.p99, "points": ratios.points}
    return {name: None if value == float("inf") else value for name, value in pairs.items()}


def _strategy(result: Result) -> dict[str, Any]:
    strategy, score = result.strategy, result.score
    return {
        "name": strategy.name,
        "title": strategy.title,
        "summary": strategy.summary,
        "unit": strategy.unit,
        "score": {
            **attrs.asdict(score, recurse=False),
            "accuracy": {**attrs.asdict(score.accuracy), "share": score.accuracy.share},
        },
        "series": result.series,
        "ticks": [list(tick) for tick in result.ticks],
    }
