"""``MetricsData`` as the body of a remote write to Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hastack._core._errors import InvalidArgument

from ._encoding import REQUEST_LIMIT, Encoded, WireFormat
from ._metrics_walk import (
    EXPONENTIAL,
    HISTOGRAM,
    NOTHING,
    count_points,
    kind_of,
    points_of,
    walk,
)
from ._otlp_lenient import read
from ._otlp_resource import keepable
from ._otlp_values import Tally
from ._prometheus_kinds import COUNTER, HISTOGRAMS, identify, prometheus_kind, text_of
from ._prometheus_labels import labels_of, scope_labels
from ._prometheus_names import STRATEGIES, Translation
from ._remote_forms import Family, Form, written
from ._remote_series import MetricSeries, Series, target_info, target_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KEPT: Final = 4096
"""Metrics whose labels are kept."""


_TARGET: Final = Family("target_info", "gauge", "Target metadata", "")


class RemoteWrite:
    """Encodes ``MetricsData`` for remote write; see `hastack.observe._encoding.Encoder`.

    A unit is a data point, whatever number of series it becomes; the series of one point are in
    one request.

    Args:
        version: 1, or 2 for a receiver that knows ``io.prometheus.write.v2.Request``.
        native_histograms: Whether exponential histograms become native ones; otherwise they
            become classic buckets.
        custom_buckets: Whether histograms with explicit bounds become native ones with custom
            buckets: one series instead of one for each bucket. Version 2 only.
        strategy: How names are translated, as `hastack.observe.PrometheusText` takes it.
        scope_labels: Whether series carry ``otel_scope_name`` and the like.
        target_info: Whether each resource is a series ``target_info``.
        resource_labels: Resource attributes that each series carries as well.

    Raises:
        InvalidArgument: An unknown version or strategy, or custom buckets with version 1.
    """

    __slots__ = (
        "_custom",
        "_form",
        "_format",
        "_kept",
        "_native",
        "_resource_labels",
        "_scope_labels",
        "_target_info",
        "_translation",
    )

    def __init__(
        self,
        *,
        version: int = 1,
        native_histograms: bool = True,
        custom_buckets: bool = False,
        strategy: str = "UnderscoreEscapingWithSuffixes",
        scope_labels: bool = True,
        target_info: bool = True,
        resource_labels: Iterable[str] = (),
    ) -> None:
        if version not in {1, 2}:
            raise InvalidArgument("version", version, "1 or 2")
        if strategy not in STRATEGIES:
            raise InvalidArgument("strategy", strategy, f"one of {', '.join(STRATEGIES)}")
        self._format, self._form = written(version)
        if custom_buckets and version == 1:
            raise InvalidArgument("custom_buckets", custom_buckets, "False with version 1")
        self._native = native_histograms
        self._custom = custom_buckets
        self._translation = Translation.named(strategy)
        self._scope_labels = scope_labels
        self._target_info = target_info
        self._resource_labels = frozenset(resource_labels)
        self._kept: dict[tuple[Any, ...], _Metric] = {}

    @property
    def format(self) -> WireFormat:
        """Content type and headers of the version."""
        return self._format

    def count(self, items: Sequence[Any]) -> int:
        """Data points in ``items``."""
        return count_points(items)

    def encode(
        self,
        items: Sequence[Any],
        out: bytearray,
        *,
        max_bytes: int = REQUEST_LIMIT,
        start: int = 0,
    ) -> Encoded:
        """Append one request body; see `hastack.observe._encoding.Encoder.encode`.

        Two points that would be one series at one time are one too many: the second is left out
        and counted as unsupported.
        """
        body = _Body(self._form(), max_bytes)
        passed = 0
        for resource, scope, metric in walk(items):
            points = points_of(metric)
            skipped = start - passed if start > passed else 0
            passed += len(points)
            if skipped >= len(points):
                continue
            kind = prometheus_kind(read(metric, "data", body.tally), body.tally)
            if not kind or points is NOTHING:
                body.taken += len(points) - skipped
                continue
            known = self._metric(resource, scope, metric, kind, body.tally)
            known.series.began(len(points))
            description = text_of(read(metric, "description", body.tally), body.tally)
            family = Family(known.sample, kind, description, known.unit)
            units = body.units
            full = not body.add(known.points(kind_of(metric.data), kind), family, points, skipped)
            if self._target_info and body.units > units:
                body.targets[id(resource)] = resource
            if full:
                break
        for resource in body.targets.values():
            body.add_target(target_info(resource, self._translation, body.time, body.tally))
        size = len(out)
        body.form.write(body.series, out)
        size = len(out) - size
        left_out = body.taken - body.units - body.oversized
        return Encoded(body.taken, body.units, size, body.oversized, left_out, body.tally.repaired)

    def _metric(self, resource: Any, scope: Any, metric: Any, kind: str, tally: Tally) -> _Metric:
        key = (
            id(resource),
            id(scope),
            text_of(read(metric, "name", tally), tally),
            text_of(read(metric, "unit", tally), tally),
            kind,
        )
        found = self._kept.get(key)
        if found is None:
            repaired = tally.repaired
            found = self._new(resource, scope, metric, kind, tally)
            if tally.repaired == repaired and keepable(resource) and keepable(scope):
                if len(self._kept) >= KEPT:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def _new(self, resource: Any, scope: Any, metric: Any, kind: str, tally: Tally) -> _Metric:
        translation = self._translation
        identity = identify(metric, kind, translation, "allow-utf-8", tally, openmetrics=False)
        labels = target_labels(resource, tally)
        if self._scope_labels:
            labels += scope_labels(scope, translation, "allow-utf-8", tally)
        if self._resource_labels:
            attributes = read(resource, "attributes", tally)
            found = labels_of(attributes, translation, "allow-utf-8", tally)
            labels += [each for each in found if each[1] in self._resource_labels]
        series = MetricSeries(
            identity.sample,
            labels,
            translation,
            native=self._native,
            custom=self._custom,
            histogram=kind == HISTOGRAMS,
        )
        return _Metric(identity.sample, identity.unit, series, (resource, scope))


class _Metric:
    """One metric of one scope."""

    __slots__ = ("_alive", "sample", "series", "unit")

    def __init__(self, sample: str, unit: str, series: MetricSeries, alive: object) -> None:
        self.sample = sample
        self.unit = unit
        self.series = series
        self._alive = alive  # resource and scope: they are known by their ids

    def points(self, data: str, kind: str) -> Callable[[Any, Tally], list[Series]]:
        """What turns a point into series."""
        if data == HISTOGRAM:
            return self.series.histogram
        if data == EXPONENTIAL:
            return self.series.exponential
        return self.series.counter if kind == COUNTER else self.series.gauge


class _Body:
    """One request body in the making, and what came of the points so far."""

    __slots__ = (
        "_max",
        "_seen",
        "_size",
        "form",
        "oversized",
        "series",
        "taken",
        "tally",
        "targets",
        "time",
        "units",
    )

    def __init__(self, form: Form, max_bytes: int) -> None:
        self.form = form
        self.tally = Tally()
        self.series: list[bytes] = []
        self.taken = self.units = self.oversized = 0
        self._max = max_bytes
        self._size = 0
        self._seen: set[tuple[Any, int]] = set()
        self.targets: dict[int, Any] = {}  # resources with points in the body
        self.time = 0  # of the latest point, in milliseconds

    def add(
        self,
        turn: Callable[[Any, Tally], list[Series]],
        family: Family,
        points: Sequence[Any],
        start: int,
    ) -> bool:
        """Put ``points[start:]`` into the body; false if it is full before their end."""
        for position in range(start, len(points)):
            found = turn(points[position], self.tally)
            keys = {(series.key, series.time) for series in found}
            if keys and not keys & self._seen:
                mark = self.form.mark()
                fields = [self.form.series(series, family) for series in found]
                size = sum(map(len, fields))
                if self._size + size + self.form.cost() > self._max:
                    self.form.undo(mark)
                    if self.units:
                        return False  # it may fit into a body of its own
                    self.oversized += 1
                else:
                    self.series += fields
                    self._size += size
                    self._seen |= keys
                    self.units += 1
                    self.time = max(self.time, found[0].time)
            self.taken += 1
        return True

    def add_target(self, series: Series | None) -> None:
        """Put ``target_info`` of a resource into the body if there is one, and room for it."""
        if series is not None and (series.key, series.time) not in self._seen:
            self._seen.add((series.key, series.time))
            field = self.form.series(series, _TARGET)
            if self._size + len(field) + self.form.cost() <= self._max:
                self.series.append(field)
                self._size += len(field)
