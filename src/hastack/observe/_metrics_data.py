"""Series and cells as OpenTelemetry's ``MetricsData``, which every encoder and exporter takes."""

from __future__ import annotations

import dataclasses
import time
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource

    from ._cells import Cell
    from ._mapped_format import Descriptor
    from ._series import Exemplar, Identity, Series

_FIELDS = ("attributes", "start_time_unix_nano", "time_unix_nano", "value", "exemplars")


class Builder:
    """Builds the data of one `Metrics`, and keeps from one collection to the next what stays.

    Scopes and attributes are the same objects each time, so that encoders find again what they made
    of them.
    """

    def __init__(self) -> None:
        self._export: Any = require("opentelemetry.sdk.metrics.export", extra="otel")
        self._exemplar: Any = require("opentelemetry.sdk.metrics", extra="otel").Exemplar
        instrumentation = require("opentelemetry.sdk.util.instrumentation", extra="otel")
        self._scope: Any = instrumentation.InstrumentationScope
        self._scopes: dict[tuple[str, str], Any] = {}
        self._environment: Any = None
        self._plain = _is_plain(self._export.NumberDataPoint)

    def points(self, series: Iterable[Series], started: int) -> dict[Descriptor, list[Any]]:
        """The points of ``series``, by metric.

        Args:
            series: In any order.
            started: Since when they count, in nanoseconds since the epoch.
        """
        now = time.time_ns()
        # By identity first: equal descriptors are mostly one object, and hashing them takes long.
        groups: dict[int, tuple[Descriptor, list[Series]]] = {}
        for each in series:
            descriptor = each.identity.descriptor
            group = groups.get(id(descriptor))
            if group is None:
                group = groups[id(descriptor)] = (descriptor, [])
            group[1].append(each)
        found: dict[Descriptor, list[Any]] = {}
        for descriptor, members in groups.values():
            start = None if descriptor.kind == "gauge" else started
            if descriptor.kind == "histogram":
                made = [self._histogram(each, start, now) for each in members]
            else:
                made = self._numbers(
                    [(each.identity, each.numbers[0], each.exemplars[0]) for each in members],
                    start,
                    now,
                )
            found.setdefault(descriptor, []).extend(made)
        return found

    def points_of_cells(
        self, descriptor: Descriptor, cells: Sequence[Cell], started: int
    ) -> list[Any]:
        """The same straight from cells in memory, all of one metric."""
        if descriptor.kind == "histogram":
            series = [cell._series() for cell in cells]
            return [point for group in self.points(series, started).values() for point in group]
        start = None if descriptor.kind == "gauge" else started
        # One number is read at once, so no lock is needed.
        numbers = [(cell.identity, cell._numbers[0], cell._exemplars[0]) for cell in cells]
        return self._numbers(numbers, start, time.time_ns())

    def _numbers(
        self,
        numbers: Iterable[tuple[Identity, float, Exemplar | None]],
        started: int | None,
        now: int,
    ) -> list[Any]:
        kind: Any = self._export.NumberDataPoint
        plain = self._plain
        new = object.__new__
        found = []
        for identity, value, seen in numbers:
            if value.__class__ is float and value.is_integer():
                value = int(value)  # noqa: PLW2901  # a count that came out of a file as 3.0
            exemplars = () if seen is None else self._exemplars((seen,))
            if not plain:
                found.append(kind(identity.mapping, started, now, value, exemplars))
                continue
            # A frozen dataclass takes twice as long to set its five fields as all the rest.
            point = new(kind)
            fields = point.__dict__
            fields["attributes"] = identity.mapping
            fields["start_time_unix_nano"] = started
            fields["time_unix_nano"] = now
            fields["value"] = value
            fields["exemplars"] = exemplars
            found.append(point)
        return found

    def data(
        self, points: Iterable[tuple[Descriptor, list[Any]]], resource: Resource | None
    ) -> MetricsData:
        """Everything together.

        Args:
            points: By metric, each once.
            resource: Whose they are; by default what the environment says.
        """
        whose: Any = resource
        if whose is None:
            if self._environment is None:
                resources: Any = require("opentelemetry.sdk.resources", extra="otel")
                self._environment = resources.Resource.create()
            whose = self._environment
        export = self._export
        ordered = sorted(points, key=lambda each: (each[0].scope, each[0].name))
        scopes = [
            export.ScopeMetrics(self._scope_of(scope), [self._metric(*each) for each in group], "")
            for scope, group in groupby(ordered, key=lambda each: each[0].scope)
        ]
        data: MetricsData = export.MetricsData(
            [export.ResourceMetrics(whose, scopes, whose.schema_url)]
        )
        return data

    def _scope_of(self, scope: tuple[str, str]) -> Any:
        found = self._scopes.get(scope)
        if found is None:
            found = self._scopes[scope] = self._scope(*scope)
        return found

    def _metric(self, descriptor: Descriptor, points: list[Any]) -> Any:
        export = self._export
        cumulative = export.AggregationTemporality.CUMULATIVE
        data: Any
        if descriptor.kind == "histogram":
            data = export.Histogram(points, cumulative)
        elif descriptor.kind == "gauge":
            data = export.Gauge(points)
        else:
            data = export.Sum(points, cumulative, descriptor.kind == "counter")
        return export.Metric(descriptor.name, descriptor.description, descriptor.unit, data)

    def _histogram(self, series: Series, started: int | None, now: int) -> Any:
        total, least, largest, *counts = series.numbers
        buckets = [int(count) for count in counts]
        empty = least == inf
        return self._export.HistogramDataPoint(
            attributes=series.identity.mapping,
            start_time_unix_nano=started,
            time_unix_nano=now,
            count=sum(buckets),
            sum=_whole(total),
            bucket_counts=buckets,
            explicit_bounds=series.descriptor.bounds,
            min=inf if empty else _whole(least),
            max=-inf if empty else _whole(largest),
            exemplars=self._exemplars(series.exemplars),
        )

    def _exemplars(self, exemplars: Sequence[Exemplar | None]) -> list[Any]:
        return [
            self._exemplar({}, _whole(value), stamp, span_id, trace_id)
            for value, stamp, trace_id, span_id in filter(None, exemplars)
        ]


def _is_plain(kind: type[Any]) -> bool:
    """Whether making such a point is nothing but setting its fields."""
    return (
        dataclasses.is_dataclass(kind)
        and tuple(field.name for field in dataclasses.fields(kind)) == _FIELDS
        and not hasattr(kind, "__post_init__")
        and not hasattr(kind, "__slots__")
    )


def _whole(value: float) -> float:
    """A count that came out of a file as 3.0 is 3."""
    return int(value) if value.__class__ is float and value.is_integer() else value
