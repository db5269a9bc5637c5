"""The data points of ``MetricsData`` in order, under what they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GAUGE: Final = "Gauge"
SUM: Final = "Sum"
HISTOGRAM: Final = "Histogram"
EXPONENTIAL: Final = "ExponentialHistogram"
UNKNOWN: Final = ""

KINDS: Final = frozenset((GAUGE, SUM, HISTOGRAM, EXPONENTIAL))

NOTHING: Final = (None,)
"""Stands for the points of data that is of no known kind and has none: it counts as one unit."""


def kind_of(data: object) -> str:
    """Which kind of data this is, by the name that the SDK gives its class."""
    name = type(data).__name__
    if name in KINDS:
        return name
    for each in type(data).__mro__[1:]:
        if each.__name__ in KINDS:
            return each.__name__
    return UNKNOWN


def points_of(metric: Any) -> Sequence[Any]:
    """The points of a metric; `NOTHING` if they cannot be read."""
    try:
        points = metric.data.data_points
        return points if type(points) is list else list(points)
    except Exception:
        return NOTHING


def children(item: object, name: str) -> Sequence[Any]:
    """The sequence ``item.name``; empty if there is none."""
    try:
        return list(getattr(item, name))
    except Exception:
        return ()


def walk(items: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Resource, scope and metric of each metric in ``items``."""
    for data in items:
        for above in children(data, "resource_metrics"):
            resource = getattr(above, "resource", None)
            for within in children(above, "scope_metrics"):
                scope = getattr(within, "scope", None)
                for metric in children(within, "metrics"):
                    yield resource, scope, metric


def count_points(items: Sequence[Any]) -> int:
    """All data points."""
    return sum([len(points_of(metric)) for _, _, metric in walk(items)])
