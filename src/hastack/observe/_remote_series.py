"""Data points as Prometheus's series: labels, a sample or a native histogram, exemplars."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any, Final

import attrs

from ._attribute_memory import Memory
from ._attribute_text import attribute_text
from ._exponential import (
    CUSTOM_BUCKETS,
    HIGHEST_SCHEMA,
    LOWEST_SCHEMA,
    SCALES,
    ZERO_THRESHOLD,
    NativeBuckets,
    classic,
    native_buckets,
    sparse,
)
from ._otlp_lenient import number, read, real, sequence
from ._otlp_values import entries
from ._prometheus_exemplars import exemplar_labels, exemplars_of
from ._prometheus_labels import labels_of, merged, without_le
from ._prometheus_numbers import bound_text
from ._prometheus_series import CLASSIC, rising, side_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._exponential import Side
    from ._otlp_values import Tally
    from ._prometheus_names import Translation

Pairs = tuple[tuple[str, str], ...]
"""Labels with ``__name__`` among them, sorted by name, none empty."""

STALE: Final = b"\x02\x00\x00\x00\x00\x00\xf0\x7f"
"""The NaN that ends a series, as a little-endian double."""

_IDENTIFYING: Final = ("service.namespace", "service.name", "service.instance.id")

_MILLISECOND: Final = 1_000_000


class Key:
    """The labels of a series, and their encoding once there is one."""

    __slots__ = ("_hash", "encoded", "pairs")

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.encoded = b""
        self._hash = hash(pairs)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.pairs == other.pairs


@attrs.frozen
class Native:
    """A native histogram with integer counts."""

    schema: int
    count: int
    total: float
    stale: bool
    zero_count: int
    zero_threshold: float
    positive: NativeBuckets
    negative: NativeBuckets
    bounds: tuple[float, ...] = ()  # of custom buckets


@attrs.frozen
class Exemplar:
    """An exemplar of a series; times in milliseconds, 0 for an unknown one."""

    pairs: Pairs
    value: float
    time: int


class Series:
    """What one data point adds to one series; times in milliseconds."""

    __slots__ = ("exemplars", "key", "start", "time", "value")

    def __init__(
        self,
        key: Key,
        value: float | Native,
        time: int,
        start: int,
        exemplars: Sequence[Exemplar] = (),
    ) -> None:
        self.key = key
        self.value = value
        self.time = time
        self.start = start
        self.exemplars = exemplars


class _Known:
    """A series of a metric, by its attributes."""

    __slots__ = ("keys", "pairs")

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.keys: dict[str | float, Key] = {}

    def key(self, name: str) -> Key:
        """The labels under one name."""
        return self.keys.get(name) or self._keep(name, [("__name__", name), *self.pairs])

    def bucket(self, name: str, bound: float) -> Key:
        """The labels of a bucket."""
        found = self.keys.get(bound)
        if found is None:
            pairs = [*self.pairs, ("__name__", f"{name}_bucket"), ("le", bound_text(bound))]
            found = self._keep(bound, pairs)
        return found

    def _keep(self, under: str | float, pairs: list[tuple[str, str]]) -> Key:
        if len(self.keys) >= KEYS:
            self.keys.clear()
        found = self.keys[under] = Key(tuple(sorted(pairs)))
        return found


KEYS: Final = 512
"""Labels that one set of attributes keeps: the bounds of an exponential histogram move."""


class MetricSeries:
    """Turns the points of one metric into series; keeps labels from one request to the next.

    Args:
        name: Of its samples; a histogram's without their suffixes.
        labels: Of the scope and the resource: name, original key, value.
        translation: How names change.
        native: Whether exponential histograms become native ones.
        custom: Whether those with explicit bounds do, with custom buckets.
        histogram: Whether it is one.
    """

    __slots__ = ("_custom", "_histogram", "_known", "_labels", "_name", "_native", "_translation")

    def __init__(
        self,
        name: str,
        labels: Sequence[tuple[str, str, str]],
        translation: Translation,
        *,
        native: bool,
        custom: bool,
        histogram: bool,
    ) -> None:
        self._name = name
        self._labels = labels
        self._translation = translation
        self._native = native
        self._custom = custom
        self._histogram = histogram
        self._known = Memory[_Known]()

    def began(self, points: int) -> None:
        """So many points follow."""
        self._known.began(points)

    def gauge(self, point: Any, tally: Tally) -> list[Series]:
        """The series of a number."""
        value = real(read(point, "value", tally), tally)
        key = self._find(point, tally).key(self._name)
        return [Series(key, value, _time(point, tally), 0)]

    def counter(self, point: Any, tally: Tally) -> list[Series]:
        """The series of a number that has a start, and exemplars."""
        value = real(read(point, "value", tally), tally)
        key = self._find(point, tally).key(self._name)
        exemplars = self._exemplars(point, tally)
        return [Series(key, value, _time(point, tally), _start(point, tally), exemplars)]

    def histogram(self, point: Any, tally: Tally) -> list[Series]:
        """The series of a histogram; none if its bounds do not rise."""
        bounds = sequence(read(point, "explicit_bounds", tally), tally)
        if not rising(bounds):
            return []
        counts = [
            number(n, 64, tally) for n in sequence(read(point, "bucket_counts", tally), tally)
        ]
        if not counts:
            counts = [number(read(point, "count", tally), 64, tally)]
        if self._custom:
            return self._with_custom_buckets(point, bounds, counts, tally)
        return self._classic(point, bounds, counts, tally)

    def _with_custom_buckets(
        self, point: Any, bounds: Sequence[float], counts: Sequence[int], tally: Tally
    ) -> list[Series]:
        """A native histogram whose buckets are those of the instrument; the last is implied."""
        bounds = tuple([real(bound, tally) for bound in bounds if bound < inf])
        # Buckets above the last count that is there are empty, those above the last bound one.
        counts = [*counts[: len(bounds)], sum(counts[len(bounds) :])]
        return self._native_series(
            point,
            Native(
                schema=CUSTOM_BUCKETS,
                count=sum(counts),
                total=self._total(point, tally),
                stale=self._stale(point, tally),
                zero_count=0,
                zero_threshold=0.0,
                positive=sparse(0, counts),
                negative=NativeBuckets((), ()),
                bounds=bounds,
            ),
            tally,
        )

    def exponential(self, point: Any, tally: Tally) -> list[Series]:
        """A native histogram, or classic buckets; none if its scale is out of range."""
        scale = read(point, "scale", tally)
        if scale not in SCALES:
            return []
        positive = side_of(read(point, "positive", tally), tally)
        negative = side_of(read(point, "negative", tally), tally)
        zero = number(read(point, "zero_count", tally), 64, tally)
        count = number(read(point, "count", tally), 64, tally)
        if not self._native:
            found = classic(scale, positive, negative, zero, most=CLASSIC)
            steps = [0, *[total for _, total in found]]
            steps.append(max(count, steps[-1]))
            counts = [after - before for before, after in pairwise(steps)]
            return self._classic(point, [bound for bound, _ in found], counts, tally)
        if scale < LOWEST_SCHEMA:
            return []
        steps_down = max(0, scale - HIGHEST_SCHEMA)
        threshold = read(point, "zero_threshold", tally)
        return self._native_series(
            point,
            Native(
                schema=scale - steps_down,
                count=count,
                total=self._total(point, tally),
                stale=self._stale(point, tally),
                zero_count=zero,
                zero_threshold=real(threshold, tally) if threshold else ZERO_THRESHOLD,
                positive=_buckets(positive, steps_down),
                negative=_buckets(negative, steps_down),
            ),
            tally,
        )

    def _native_series(self, point: Any, native: Native, tally: Tally) -> list[Series]:
        key = self._find(point, tally).key(self._name)
        exemplars = self._exemplars(point, tally)
        return [Series(key, native, _time(point, tally), _start(point, tally), exemplars)]

    @staticmethod
    def _total(point: Any, tally: Tally) -> float:
        total = read(point, "sum", tally)
        return real(total, tally) if total is not None else 0.0

    @staticmethod
    def _stale(point: Any, tally: Tally) -> bool:
        return bool(number(read(point, "flags", tally), 32, tally) & 1)

    def _classic(
        self, point: Any, bounds: Sequence[float], counts: Sequence[int], tally: Tally
    ) -> list[Series]:
        """Series of buckets, count and sum, each exemplar with the bucket that it fell into."""
        known = self._find(point, tally)
        time = _time(point, tally)
        start = _start(point, tally)
        exemplars = self._exemplars(point, tally)
        found: list[Series] = []
        total = 0
        before = -inf
        if not bounds or bounds[-1] < inf:
            bounds = [*bounds, inf]
        for place, bound in enumerate(bounds):
            if place < len(counts):
                total += counts[place]
            within = [each for each in exemplars if before < each.value <= bound]
            key = known.bucket(self._name, bound)
            found.append(Series(key, float(total), time, start, within))
            before = bound
        found.append(Series(known.key(f"{self._name}_count"), float(total), time, start))
        # A sum that can fall is none to Prometheus.
        least = read(point, "min", tally)
        falls = bounds[0] < 0 or (isinstance(least, (int, float)) and least < 0)
        value = read(point, "sum", tally)
        if value is not None and not falls:
            key = known.key(f"{self._name}_sum")
            found.append(Series(key, real(value, tally), time, start))
        return found

    def _find(self, point: Any, tally: Tally) -> _Known:
        attributes = read(point, "attributes", tally) or _NONE
        known = self._known.find(attributes)
        if known is not None:
            return known
        repaired = tally.repaired
        own = labels_of(attributes, self._translation, "allow-utf-8", tally)
        labels = [*self._labels, *own]
        found = merged(without_le(labels) if self._histogram else labels)
        pairs = [(name, value) for name, value in found if value]
        known = _Known(tuple(pairs))
        if tally.repaired == repaired:
            self._known.keep(attributes, known)
        return known

    def _exemplars(self, point: Any, tally: Tally) -> list[Exemplar]:
        found = []
        for each in exemplars_of(point, tally):
            labels = exemplar_labels(each, self._translation, "allow-utf-8", tally)
            pairs = tuple(sorted([(name, value) for name, value in labels if value]))
            time = number(read(each, "time_unix_nano", tally), 63, tally) // _MILLISECOND
            found.append(Exemplar(pairs, real(each.value, tally), time))
        return sorted(found, key=_exemplar_time)


_NONE: Final[dict[str, Any]] = {}


def _exemplar_time(exemplar: Exemplar) -> int:
    return exemplar.time


def _time(point: Any, tally: Tally) -> int:
    return number(read(point, "time_unix_nano", tally), 63, tally) // _MILLISECOND


def _start(point: Any, tally: Tally) -> int:
    return number(read(point, "start_time_unix_nano", tally), 63, tally) // _MILLISECOND


def _buckets(side: Side, steps: int) -> NativeBuckets:
    return native_buckets(side.coarser(steps).trimmed())


def target_labels(resource: Any, tally: Tally) -> list[tuple[str, str, str]]:
    """The labels ``job`` and ``instance`` that tell targets apart."""
    try:
        found = dict(entries(read(resource, "attributes", tally)))
    except Exception:  # counted where they are encoded
        found = {}
    space, name, instance = [attribute_text(found.get(key), tally) for key in _IDENTIFYING]
    job = f"{space}/{name}" if space and name else name
    labels = [("job", "job", job), ("instance", "instance", instance)]
    return [each for each in labels if each[2]]


def target_info(resource: Any, translation: Translation, time: int, tally: Tally) -> Series | None:
    """The series that carries the resource's other attributes; ``None`` without any."""
    attributes = read(resource, "attributes", tally)
    found = labels_of(attributes, translation, "allow-utf-8", tally)
    labels = [each for each in found if each[1] not in _IDENTIFYING and each[2]]
    if not labels:
        return None
    labels += target_labels(resource, tally)
    pairs = [("__name__", "target_info"), *merged(labels)]
    return Series(Key(tuple(sorted(pairs))), 1.0, time, 0)
