"""Counters, gauges and histograms that cost a service next to nothing.

Bind an instrument to its attributes once and count on what you get: `BoundCounter.add` is a
comparison, a lock and an addition. What was counted comes out as OpenTelemetry's own
``MetricsData``, for any exporter.

Example:
    >>> from hastack.observe import instruments
    >>> metrics = instruments.Metrics()
    >>> requests = metrics.meter("shop").counter("shop.requests", unit="{request}")
    >>> ok = requests.bind({"http.response.status_code": 200})
    >>> ok.add()
    >>> requests.add(2, {"http.response.status_code": 500})
    >>> [(dict(each.attributes), each.numbers[0]) for each in metrics.series()]
    [({'http.response.status_code': 200}, 1), ({'http.response.status_code': 500}, 2)]

Processes that serve together (gunicorn, multiprocessing) share a directory, ``Metrics(directory=
"/run/shop")``: each counts in a file of its own, mapped into memory, and each can tell the totals of all.
"""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

import attrs

from hastack import events
from hastack._core import _validate
from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child

from ._cells import BoundCounter, BoundGauge, BoundHistogram, BoundUpDownCounter, Cell
from ._mapped_format import Descriptor, Malformed
from ._series import Identities, Series, merge
from ._worker_file import WorkerFile
from ._workers import WorkerDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource

    from ._cells import Slots, Trace
    from ._mapped_format import Attributes
    from ._metrics_data import Builder
    from ._series import Identity

    AttributeValue: TypeAlias = (
        str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
    )
    Observed: TypeAlias = Iterable[tuple[float, Mapping[str, AttributeValue]]]

__all__ = (
    "BoundCounter",
    "BoundGauge",
    "BoundHistogram",
    "BoundUpDownCounter",
    "CellNotShared",
    "Counter",
    "Gauge",
    "Histogram",
    "Instrument",
    "Meter",
    "Metrics",
    "SeriesOverflowed",
    "UpDownCounter",
)

DEFAULT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds; OpenTelemetry's advice for the durations of HTTP requests."""

OVERFLOW: Attributes = (("otel.metric.overflow", True),)

CellT = TypeVar("CellT", bound=Cell)
InstrumentT = TypeVar("InstrumentT", bound="Instrument[Any]")


@attrs.frozen(kw_only=True)
class SeriesOverflowed(events.Event):
    """An instrument has as many sets of attributes as it may; new ones count together. Sent once.

    Attributes:
        name: The instrument.
        limit: How many it may have.
        attributes: The first that had no place.
    """

    name: str
    limit: int
    attributes: Attributes


@attrs.frozen(kw_only=True)
class CellNotShared(events.Event):
    """A set of attributes found no room in the worker file: only this process knows its numbers.

    Attributes:
        name: The instrument, or the directory in which a forked child could make no file.
        reason: What the file said.
    """

    name: str
    reason: str


_OVERFLOWED = events.topic(SeriesOverflowed)
_NOT_SHARED = events.topic(CellNotShared)


class Instrument(Generic[CellT]):
    """What counters, gauges and histograms have in common. Made by a `Meter`."""

    _cell: type[CellT]

    def __init__(self, meter: Meter, descriptor: Descriptor) -> None:
        self._meter = meter
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._cells: dict[Attributes, CellT] = {}
        # The same attributes in the order in which callers wrote them: no need to sort again.
        self._written: dict[Any, CellT] = {}
        self._overflow: CellT | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self._descriptor.name

    def bind(self, attributes: Mapping[str, AttributeValue] | None = None) -> CellT:
        """The cell for ``attributes``: keep it and count on it.

        An instrument has a limit of sets of attributes; what is beyond counts together, under
        ``otel.metric.overflow``.

        Args:
            attributes: Names to text, booleans, numbers or sequences of one of these.

        Raises:
            InvalidArgument: An attribute is something else.
        """
        if not attributes:
            return self._cell_of(())
        try:
            return self._written[tuple(attributes.items())]
        except (KeyError, TypeError, AttributeError):
            pass
        cell = self._cell_of(_canonical(attributes))
        written: Any = tuple((name, _frozen(value)) for name, value in attributes.items())
        if cell is not self._overflow and len(self._written) < 4 * self._meter._limit:
            self._written[written] = cell
        return cell

    def _cell_of(self, attributes: Attributes) -> CellT:
        cell = self._cells.get(attributes)
        if cell is not None:
            return cell
        with self._lock:
            cell = self._cells.get(attributes)
            if cell is None:
                # The last place is that of the overflow.
                if len(self._cells) >= self._meter._limit - 1:
                    return self._overflowed(attributes)
                cell = self._cells[attributes] = self._make(attributes)
            return cell

    def _overflowed(self, attributes: Attributes) -> CellT:
        if self._overflow is None:
            self._overflow = self._make(OVERFLOW)
            if _OVERFLOWED.subscribers:
                _OVERFLOWED.publish(
                    SeriesOverflowed(
                        name=self.name, limit=self._meter._limit, attributes=attributes
                    )
                )
        return self._overflow

    def _make(self, attributes: Attributes) -> CellT:
        metrics = self._meter._metrics
        identity = metrics._identities.of(self._descriptor, attributes)
        return self._cell(identity, metrics._slots(identity), metrics._trace)

    def _all(self) -> list[CellT]:
        with self._lock:
            cells = list(self._cells.values())
            return cells if self._overflow is None else [*cells, self._overflow]

    def _series(self, *, shared: bool) -> list[Series]:
        """The cells of this process; without those in the worker file if ``shared``."""
        return [cell._series() for cell in self._all() if not shared or cell._slots is None]

    def _renew(self) -> None:
        """In a forked child."""
        self._lock = threading.Lock()
        for cell in self._all():
            cell._renew(self._meter._metrics._slots(cell.identity))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {len(self._cells)} sets of attributes>"


@final
class Counter(Instrument[BoundCounter]):
    """Counts upwards."""

    _cell = BoundCounter

    def add(
        self, amount: float = 1, attributes: Mapping[str, AttributeValue] | None = None
    ) -> None:
        """Count ``amount`` more under ``attributes``; `bind` once is cheaper.

        Raises:
            InvalidArgument: ``amount`` is negative or not finite, or an attribute is of no
                accepted type.
        """
        self.bind(attributes).add(amount)


@final
class UpDownCounter(Instrument[BoundUpDownCounter]):
    """Counts up and down: what is open, queued, in use."""

    _cell = BoundUpDownCounter

    def add(
        self, amount: float = 1, attributes: Mapping[str, AttributeValue] | None = None
    ) -> None:
        """Count ``amount`` more, or less, under ``attributes``."""
        self.bind(attributes).add(amount)


@final
class Gauge(Instrument[BoundGauge]):
    """A value that is set."""

    _cell = BoundGauge

    def set(self, value: float, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """This is the value now, under ``attributes``."""
        self.bind(attributes).set(value)


@final
class Histogram(Instrument[BoundHistogram]):
    """Counts values into buckets."""

    _cell = BoundHistogram

    def record(self, value: float, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Count ``value`` into its bucket, under ``attributes``."""
        self.bind(attributes).record(value)


@final
class Meter:
    """Makes the instruments of one library or service. Made by `Metrics.meter`.

    Asking for an instrument again gives the same one.
    """

    def __init__(self, metrics: Metrics, scope: tuple[str, str]) -> None:
        self._metrics = metrics
        self._scope = scope
        self._limit = metrics._limit
        self._instruments: dict[str, Instrument[Any] | None] = {}  # None: an observed one

    def counter(self, name: str, *, unit: str = "", description: str = "") -> Counter:
        """A counter.

        Args:
            name: As OpenTelemetry's conventions name it: ``"http.server.requests"``.
            unit: UCUM, ``"s"``, ``"By"``, ``"{request}"``.
            description: For people.

        Raises:
            InvalidArgument: ``name`` is empty, or another instrument's.
        """
        return self._instrument(Counter, self._described(name, "counter", unit, description))

    def up_down_counter(self, name: str, *, unit: str = "", description: str = "") -> UpDownCounter:
        """An up-down counter; see `counter`."""
        return self._instrument(UpDownCounter, self._described(name, "updown", unit, description))

    def gauge(
        self, name: str, *, unit: str = "", description: str = "", across: str = "sum"
    ) -> Gauge:
        """A gauge; see `counter`.

        Args:
            name: See `counter`.
            unit: See `counter`.
            description: See `counter`.
            across: What the gauges of several processes come to: their ``sum``, ``max`` or
                ``min``, the one set ``last``, or ``each`` for itself, with its ``process.pid``.

        Raises:
            InvalidArgument: ``across`` is something else, or see `counter`.
        """
        if across not in {"sum", "max", "min", "last", "each"}:
            raise InvalidArgument("across", across, "sum, max, min, last or each")
        return self._instrument(Gauge, self._described(name, "gauge", unit, description, across))

    def histogram(
        self,
        name: str,
        *,
        unit: str = "",
        description: str = "",
        bounds: Sequence[float] = DEFAULT_BOUNDS,
    ) -> Histogram:
        """A histogram; see `counter`.

        Args:
            name: See `counter`.
            unit: See `counter`.
            description: See `counter`.
            bounds: Upper bounds of the buckets but the last, ascending.

        Raises:
            InvalidArgument: ``bounds`` are not ascending finite numbers, or see `counter`.
        """
        checked = tuple(bounds)
        ascending = all(low < high for low, high in pairwise(checked))
        if not ascending or not all(map(isfinite, checked)):
            raise InvalidArgument("bounds", bounds, "finite numbers in ascending order")
        descriptor = self._described(name, "histogram", unit, description)
        return self._instrument(Histogram, attrs.evolve(descriptor, bounds=checked))

    def observe(
        self,
        name: str,
        callback: Callable[[], float | Observed],
        *,
        kind: str = "gauge",
        unit: str = "",
        description: str = "",
    ) -> None:
        """Ask ``callback`` at each collection.

        Args:
            name: See `counter`.
            callback: Returns a number, or pairs of a number and its attributes. One that raises
                says nothing that time, and is reported once to the logger ``hastack.observe``.
            kind: ``gauge``, ``counter`` or ``updown``: what the numbers are.
            unit: See `counter`.
            description: See `counter`.

        Raises:
            InvalidArgument: ``kind`` is something else, ``callback`` cannot be called, or see
                `counter`.
        """
        if kind not in {"gauge", "counter", "updown"}:
            raise InvalidArgument("kind", kind, "gauge, counter or updown")
        if not callable(callback):
            raise InvalidArgument("callback", callback, "a callable")
        descriptor = self._described(name, kind, unit, description)
        with self._metrics._lock:
            if name in self._instruments:
                raise InvalidArgument("name", name, "a name that no other instrument has")
            self._instruments[name] = None
            self._metrics._observed.append((descriptor, callback))

    def _made(self) -> list[Instrument[Any]]:
        return [each for each in self._instruments.values() if each is not None]

    def _described(
        self, name: str, kind: str, unit: str, description: str, across: str = "sum"
    ) -> Descriptor:
        _validate.text("name", name)
        return Descriptor(name, kind, unit, description, self._scope, (), across)

    def _instrument(self, cls: type[InstrumentT], descriptor: Descriptor) -> InstrumentT:
        with self._metrics._lock:
            if descriptor.name not in self._instruments:
                self._instruments[descriptor.name] = cls(self, descriptor)
            found = self._instruments[descriptor.name]
            if not isinstance(found, cls) or found._descriptor != descriptor:
                raise InvalidArgument(
                    "name", descriptor.name, f"a name that is not that of {found!r}"
                )
            return found


@final
class Metrics:
    """All meters of a process, and of those it serves together with.

    Args:
        directory: Shared by the processes of a service on one machine; ``None`` when there is only
            this one. Empty it before the service as a whole starts anew.
        limit: Sets of attributes that one instrument may have in one process, the overflow
            included.
        exemplars: Names the trace and span (as integers) under which something is counted, or
            ``None``; asked at each `add` and `record`. `current_trace` asks OpenTelemetry.

    Raises:
        InvalidArgument: ``limit`` is below 2.
        OSError: The directory cannot be used.
    """

    def __init__(
        self,
        *,
        directory: str | Path | None = None,
        limit: int = 2000,
        exemplars: Callable[[], tuple[int, int] | None] | None = None,
    ) -> None:
        self._limit = _validate.integer("limit", limit, minimum=2)
        self._trace: Trace | None = exemplars
        self._lock = threading.RLock()
        self._meters: dict[tuple[str, str], Meter] = {}
        self._observed: list[tuple[Descriptor, Callable[[], float | Observed]]] = []
        self._reported: set[int] = set()
        self._collecting = threading.Lock()
        self._builder: Builder | None = None
        self._identities = Identities()
        self._workers = (
            None if directory is None else WorkerDirectory(Path(directory), self._identities)
        )
        self._file = None if self._workers is None else WorkerFile(self._workers.path)
        self.started = time.time_ns()
        renew_in_child(self)

    def meter(self, name: str, version: str = "") -> Meter:
        """The meter of a library or service, the same one each time.

        Raises:
            InvalidArgument: ``name`` is empty.
        """
        scope = (_validate.text("name", name), version)
        with self._lock:
            found = self._meters.get(scope)
            if found is None:
                found = self._meters[scope] = Meter(self, scope)
            return found

    def series(self) -> list[Series]:
        """What was counted, of all processes if they share a directory.

        Raises:
            OSError: The directory cannot be read.
        """
        with self._collecting:
            return self._now()

    def _now(self) -> list[Series]:
        shared = self._workers is not None
        mine = [s for i in self._instruments() for s in i._series(shared=shared)]
        mine += [series for answer in self._answers() for series in answer]
        if self._workers is None:
            return mine
        found = self._workers.collect()
        return merge([*found, *mine], (), self._identities) if mine else found

    def _instruments(self) -> list[Instrument[Any]]:
        with self._lock:
            return [each for meter in self._meters.values() for each in meter._made()]

    def _answers(self) -> list[list[Series]]:
        """What the observed instruments say."""
        with self._lock:
            observed = list(self._observed)
        return [self._ask(descriptor, callback) for descriptor, callback in observed]

    def collect(self, resource: Resource | None = None) -> MetricsData:
        """The same as OpenTelemetry's ``MetricsData``, cumulative.

        Args:
            resource: Whose numbers they are; by default what the environment says.

        Raises:
            MissingDependency: OpenTelemetry is not installed.
            OSError: The directory cannot be read.
        """
        from ._metrics_data import Builder

        with self._collecting:
            build = self._builder
            if build is None:
                build = self._builder = Builder()
            if self._workers is not None:
                return build.data(build.points(self._now(), self.started).items(), resource)
            points = [
                (
                    each._descriptor,
                    build.points_of_cells(each._descriptor, each._all(), self.started),
                )
                for each in self._instruments()
            ]
            for answer in self._answers():
                points += build.points(answer, self.started).items()
            return build.data(filter(itemgetter(1), points), resource)

    @property
    def malformed(self) -> dict[str, str]:
        """Files of other workers that could not be read, and why."""
        return {} if self._workers is None else dict(self._workers.malformed)

    def close(self) -> None:
        """Leave the directory; what was counted stays in the totals of the others."""
        if self._file is not None:
            self._file.close()

    @staticmethod
    def _file_of_child(directory: Path) -> WorkerFile | None:
        """A file of its own; without room for one it counts in its memory, and says so."""
        try:
            return WorkerFile(directory)
        except OSError as error:
            if _NOT_SHARED.subscribers:
                _NOT_SHARED.publish(CellNotShared(name=str(directory), reason=str(error)))
            return None

    def _slots(self, identity: Identity) -> Slots | None:
        if self._file is None:
            return None
        try:
            return self._file.add(identity.descriptor, identity.attributes)
        except (Malformed, OSError) as error:
            if _NOT_SHARED.subscribers:
                _NOT_SHARED.publish(CellNotShared(name=identity.descriptor.name, reason=str(error)))
            return None

    def _ask(
        self, descriptor: Descriptor, callback: Callable[[], float | Observed]
    ) -> list[Series]:
        try:
            answer = callback()
            pairs = [(answer, {})] if isinstance(answer, (int, float)) else list(answer)
            now, of = time.time(), self._identities.of
            return [
                Series(of(descriptor, _canonical(attributes)), [value, now], [None])
                for value, attributes in pairs[: self._limit]
            ]
        except Exception:
            if id(callback) not in self._reported:
                self._reported.add(id(callback))
                import logging

                logging.getLogger("hastack.observe").exception(
                    "%s: its callback raised (reported once)", descriptor.name
                )
            return []

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._collecting = threading.Lock()
        self.started = time.time_ns()
        if self._file is not None and self._workers is not None:
            # Its lock is shared with the parent: kept, the parent would never count as ended.
            self._file.close()
            self._file = self._file_of_child(self._workers.path)
        for meter in self._meters.values():
            for instrument in meter._made():
                instrument._renew()


def current_trace() -> tuple[int, int] | None:
    """Trace and span of OpenTelemetry's current span, if it is sampled; for ``exemplars=``."""
    from hastack._core._extras import require

    span = require("opentelemetry.trace", extra="otel").get_current_span().get_span_context()
    return (span.trace_id, span.span_id) if span.is_valid and span.trace_flags.sampled else None


def _canonical(attributes: Mapping[str, Any]) -> Attributes:
    try:
        return tuple(sorted((name, _frozen(value)) for name, value in attributes.items()))
    except InvalidArgument:
        raise
    except Exception:
        raise InvalidArgument("attributes", attributes, "a mapping of names to values") from None


def _frozen(value: Any) -> Any:
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and all(
        isinstance(each, (str, bool, int, float)) for each in value
    ):
        return tuple(value)
    raise InvalidArgument("attributes", value, "text, booleans, numbers or sequences of these")
