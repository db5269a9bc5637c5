"""Differences made totals: delta temporality for receivers that know cumulative metrics only.

The rules are those of the OpenTelemetry data model. A point that begins where the last one of its
series ended, or later, is added; one that begins or ends before has been counted, at least in part,
and is left out. What has to be known of each series is kept for a time and up to a number of series;
a series that was forgotten begins anew, with a start time that says so, which for Prometheus is a
reset like any other.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import attrs

from ._exponential import HIGHEST_SCHEMA, Side
from ._metrics_walk import EXPONENTIAL, HISTOGRAM, KINDS, SUM, children, kind_of, points_of
from ._otlp_values import entries

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

DELTA: Final = 1
CUMULATIVE: Final = 2

SERIES: Final = 50_000
"""Series whose totals are kept."""

BUCKETS: Final = 320
"""Buckets of each sign of an exponential histogram; the SDK makes at most half as many."""

STALE: Final = 3_600_000_000_000
"""Nanoseconds without a point after which a series is forgotten."""


@attrs.frozen
class Cumulated:
    """What became of one collection.

    Args:
        data: ``MetricsData`` without delta temporality, but for what cannot be added up.
        left_out: Points whose time had been counted already, or that are none.
    """

    data: Any
    left_out: int = 0


class _Stream:
    """The total of one series."""

    __slots__ = ("last_start", "point", "seen")

    def __init__(self, point: Any) -> None:
        self.point = point  # cumulative
        self.last_start: int = point.start_time_unix_nano
        self.seen = True  # in the collection of now


class _Metric:
    """One metric with delta temporality, and where it stands in the data."""

    __slots__ = ("metric", "resource", "scope", "streams")

    def __init__(self, resource: Any, scope: Any, metric: Any) -> None:
        self.resource = resource  # the ResourceMetrics, ScopeMetrics and Metric to copy from
        self.scope = scope
        self.metric = metric
        self.streams: dict[Hashable, _Stream] = {}


class Accumulator:
    """Adds up differences, series by series.

    Args:
        series: How many it keeps; of more, those are forgotten that had no point for longest.
        stale: Nanoseconds without a point after which a series is forgotten.
    """

    __slots__ = ("_metrics", "_newest", "_recent", "_series", "_stale", "forgotten")

    def __init__(self, *, series: int = SERIES, stale: int = STALE) -> None:
        self._series = series
        self._stale = stale
        self._metrics: dict[Hashable, _Metric] = {}
        self._recent: dict[tuple[Hashable, Hashable], None] = {}  # least recent first
        self._newest = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._recent)

    def add(self, data: Any) -> Cumulated:
        """The totals after ``data``: every series that is kept is in them, also the idle ones.

        What has other temporality, or is not made of dataclasses like the SDK's, is handed on as it
        is.

        Args:
            data: ``MetricsData``, or ``None``.
        """
        if not self._metrics and not _has_delta(data):
            return Cumulated(data)
        left_out = 0
        rest = []
        for resource in children(data, "resource_metrics"):
            scopes, taken = [], False
            for scope in children(resource, "scope_metrics"):
                metrics = children(scope, "metrics")
                others = []
                for metric in metrics:
                    count = self._take(resource, scope, metric) if _is_delta(metric) else None
                    if count is None:
                        others.append(metric)
                    else:
                        left_out += count
                taken = taken or len(others) < len(metrics)
                if others:
                    whole = len(others) == len(metrics)
                    scopes.append(scope if whole else replace(scope, metrics=others))
            if scopes:
                rest.append(replace(resource, scope_metrics=scopes) if taken else resource)
        self._forget()
        found = [*rest, *self._totals()]
        if data is None or not is_dataclass(data) or isinstance(data, type):
            return Cumulated(_Data(found), left_out)
        return Cumulated(replace(data, resource_metrics=found), left_out)

    def _take(self, resource: Any, scope: Any, metric: Any) -> int | None:
        """Add the points of one metric: how many were left out; ``None`` if it cannot be added up."""
        if not all(map(is_dataclass, (resource, scope, metric, metric.data))):
            return None
        data = metric.data
        key = (
            _text(getattr(resource.resource, "attributes", None)),
            getattr(scope.scope, "name", ""),
            getattr(scope.scope, "version", ""),
            _text(getattr(scope.scope, "attributes", None)),
            metric.name,
            metric.unit,
            kind_of(data),
            getattr(data, "is_monotonic", None),
        )
        found = self._metrics.get(key)
        if found is None:
            found = _Metric(resource, scope, metric)
        else:
            found.resource, found.scope, found.metric = resource, scope, metric
        left_out = 0
        for point in points_of(metric):
            try:
                left_out += not self._point(key, found, point)
            except Exception:  # it lacks something, or holds no numbers
                left_out += 1
        if found.streams:
            self._metrics[key] = found
        return left_out

    def _point(self, key: Hashable, metric: _Metric, point: Any) -> bool:
        """Add one point; whether it was in time."""
        whose = _text(point.attributes)
        stream = metric.streams.get(whose)
        end: int = point.time_unix_nano
        start: int = point.start_time_unix_nano or 0
        self._newest = max(self._newest, end)
        if stream is None:
            metric.streams[whose] = _Stream(point)
        else:
            before = stream.point.time_unix_nano
            if end == before and start == stream.last_start:
                stream.seen = True  # the same once more: it is in already
                return True
            if start < before or end <= before:
                return False
            stream.point = _sum(kind_of(metric.metric.data), stream.point, point)
            stream.last_start = start
            stream.seen = True
        self._recent.pop((key, whose), None)
        self._recent[key, whose] = None
        return True

    def _forget(self) -> None:
        oldest = self._newest - self._stale
        for key, whose in list(self._recent):
            streams = self._metrics[key].streams
            if len(self._recent) <= self._series and streams[whose].point.time_unix_nano >= oldest:
                break
            del self._recent[key, whose], streams[whose]
            self.forgotten += 1
            if not streams:
                del self._metrics[key]

    def _totals(self) -> Iterator[Any]:
        """Each metric that is kept, in the same containers that it came in."""
        for each in self._metrics.values():
            data = each.metric.data
            whole = replace(
                data,
                data_points=[self._shown(stream) for stream in each.streams.values()],
                aggregation_temporality=type(data.aggregation_temporality)(CUMULATIVE),
            )
            scope = replace(each.scope, metrics=[replace(each.metric, data=whole)])
            yield replace(each.resource, scope_metrics=[scope])

    def _shown(self, stream: _Stream) -> Any:
        if stream.seen:
            stream.seen = False
            return stream.point
        # An idle one is what it was, now; its exemplars were shown.
        return replace(stream.point, time_unix_nano=self._newest, exemplars=[])


class _Data:
    """Stands for ``MetricsData`` where there is none."""

    def __init__(self, resource_metrics: list[Any]) -> None:
        self.resource_metrics = resource_metrics


def _is_delta(metric: Any) -> bool:
    try:
        data = metric.data
        temporality = data.aggregation_temporality
        return kind_of(data) in KINDS and getattr(temporality, "value", temporality) == DELTA
    except Exception:
        return False


def _has_delta(data: Any) -> bool:
    return any(
        _is_delta(metric)
        for resource in children(data, "resource_metrics")
        for scope in children(resource, "scope_metrics")
        for metric in children(scope, "metrics")
    )


def _text(attributes: Any) -> Hashable:
    """What tells attributes apart, in whatever order they are written; 1 and True differ."""
    try:
        return tuple(sorted([(str(key), repr(value)) for key, value in entries(attributes)]))
    except Exception:  # none of the SDK's
        return repr(attributes)


def _sum(kind: str, before: Any, point: Any) -> Any:
    """The total after ``point``; the point alone if the two cannot be added, which begins anew."""
    if kind == SUM:
        return replace(
            point,
            start_time_unix_nano=before.start_time_unix_nano,
            value=before.value + point.value,
        )
    if kind == HISTOGRAM and list(before.explicit_bounds) == list(point.explicit_bounds):
        counts = [
            one + other
            for one, other in zip(before.bucket_counts, point.bucket_counts, strict=True)
        ]
        return replace(point, **_shared(before, point), bucket_counts=counts)
    return _exponential(before, point) if kind == EXPONENTIAL else point


def _shared(before: Any, point: Any) -> dict[str, Any]:
    """What both kinds of histogram have."""
    return {
        "start_time_unix_nano": before.start_time_unix_nano,
        "count": before.count + point.count,
        "sum": None if None in {before.sum, point.sum} else before.sum + point.sum,
        "min": _extreme(min, before.min, point.min),
        "max": _extreme(max, before.max, point.max),
    }


def _extreme(which: Any, one: Any, other: Any) -> Any:
    return which(one, other) if one is not None and other is not None else None


def _exponential(before: Any, point: Any) -> Any:
    # Prometheus knows no finer scale, and a coarser one keeps the sides short.
    scale = min(before.scale, point.scale, HIGHEST_SCHEMA)
    sides = {
        name: [_side(each, name, scale) for each in (before, point)]
        for name in ("positive", "negative")
    }
    while max(_length(*pair) for pair in sides.values()) > BUCKETS:
        scale -= 1
        sides = {name: [side.coarser(1) for side in pair] for name, pair in sides.items()}
    joined = {}
    for name, (one, other) in sides.items():
        side = one.joined(other)
        joined[name] = replace(
            getattr(point, name), offset=side.offset, bucket_counts=list(side.counts)
        )
    return replace(
        point,
        **_shared(before, point),
        **joined,
        scale=scale,
        zero_count=before.zero_count + point.zero_count,
    )


def _side(point: Any, name: str, scale: int) -> Side:
    buckets = getattr(point, name)
    side = Side(buckets.offset, tuple(buckets.bucket_counts)).trimmed()
    return side.coarser(point.scale - scale)


def _length(one: Side, other: Side) -> int:
    """Buckets that the two together take."""
    filled = [side for side in (one, other) if side.counts]
    ends = [side.offset + len(side.counts) for side in filled]
    return max(ends) - min(side.offset for side in filled) if filled else 0
