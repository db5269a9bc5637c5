"""Series as OpenTelemetry's ``MetricsData``, which every encoder and exporter takes."""

from __future__ import annotations

import time
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource

    from ._mapped_format import Descriptor
    from ._series import Exemplar, Series


def metrics_data(series: Iterable[Series], resource: Resource | None, started: int) -> MetricsData:
    """Build it.

    Args:
        series: In any order.
        resource: Whose they are; by default what the environment says.
        started: Since when they count, in nanoseconds since the epoch.
    """
    export: Any = require("opentelemetry.sdk.metrics.export", extra="otel")
    scopes: Any = require("opentelemetry.sdk.util.instrumentation", extra="otel")
    whose: Any = resource
    if whose is None:
        whose = require("opentelemetry.sdk.resources", extra="otel").Resource.create()
    build = _Builder(export, started, time.time_ns())
    ordered = sorted(series, key=lambda each: (each.descriptor.scope, each.descriptor.name))
    data: MetricsData = export.MetricsData(
        [
            export.ResourceMetrics(
                whose,
                [
                    export.ScopeMetrics(
                        scopes.InstrumentationScope(*scope),
                        [
                            build.metric(descriptor, list(of_metric))
                            for descriptor, of_metric in groupby(
                                of_scope, key=lambda each: each.descriptor
                            )
                        ],
                        "",
                    )
                    for scope, of_scope in groupby(ordered, key=lambda each: each.descriptor.scope)
                ],
                whose.schema_url,
            )
        ]
    )
    return data


class _Builder:
    def __init__(self, export: Any, started: int, now: int) -> None:
        self._export = export
        self._exemplar: Any = require("opentelemetry.sdk.metrics", extra="otel").Exemplar
        self._started = started
        self._now = now

    def metric(self, descriptor: Descriptor, series: list[Series]) -> Any:
        export = self._export
        cumulative = export.AggregationTemporality.CUMULATIVE
        data: Any
        if descriptor.kind == "histogram":
            data = export.Histogram([self._histogram(each) for each in series], cumulative)
        elif descriptor.kind == "gauge":
            data = export.Gauge([self._number(each, None) for each in series])
        else:
            points = [self._number(each, self._started) for each in series]
            data = export.Sum(points, cumulative, descriptor.kind == "counter")
        return export.Metric(descriptor.name, descriptor.description, descriptor.unit, data)

    def _number(self, series: Series, started: int | None) -> Any:
        return self._export.NumberDataPoint(
            dict(series.attributes),
            started,
            self._now,
            _whole(series.numbers[0]),
            self._exemplars(series.exemplars),
        )

    def _histogram(self, series: Series) -> Any:
        total, least, largest, *counts = series.numbers
        buckets = [int(count) for count in counts]
        empty = least == inf
        return self._export.HistogramDataPoint(
            attributes=dict(series.attributes),
            start_time_unix_nano=self._started,
            time_unix_nano=self._now,
            count=sum(buckets),
            sum=_whole(total),
            bucket_counts=buckets,
            explicit_bounds=list(series.descriptor.bounds),
            min=inf if empty else _whole(least),
            max=-inf if empty else _whole(largest),
            exemplars=self._exemplars(series.exemplars),
        )

    def _exemplars(self, exemplars: Sequence[Exemplar | None]) -> list[Any]:
        return [
            self._exemplar({}, _whole(value), stamp, span_id, trace_id)
            for value, stamp, trace_id, span_id in filter(None, exemplars)
        ]


def _whole(value: float) -> float:
    """A count that came out of a file as 3.0 is 3."""
    return int(value) if value.__class__ is float and value.is_integer() else value
