"""Lines of one metric in a text format, mostly from pieces that were written before."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any, Final

import attrs

from ._attribute_memory import Memory
from ._exponential import SCALES, Side, classic
from ._otlp_lenient import number, read, sequence
from ._prometheus_exemplars import by_bucket, exemplar_text, exemplars_of, largest
from ._prometheus_labels import Pairs, braces, labels_of, merged, without_le
from ._prometheus_names import LEGACY, Translation
from ._prometheus_numbers import bound_text, number_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._otlp_values import Tally

CLASSIC: Final = 32
"""Classic buckets of each sign that an exponential histogram becomes in text."""


@attrs.frozen
class Shape:
    """What the lines of a metric have in common.

    Args:
        sample: The name of its samples; a histogram's before ``_bucket`` and the like.
        created: Its name before ``_created``; empty if that is not shown.
        labels: Of the scope and the resource: name, original key, value.
        translation: How names change.
        escaping: What the scraper asked for.
        exemplars: Whether the format has them here.
        openmetrics: Whether the rules of OpenMetrics hold.
        histogram: Whether it is one.
    """

    sample: str
    created: str
    labels: tuple[tuple[str, str, str], ...]
    translation: Translation
    escaping: str
    exemplars: bool
    openmetrics: bool
    histogram: bool


class Pieces:
    """What stands before the values of one series."""

    __slots__ = ("bounds", "buckets", "created", "head", "pairs")

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.head = ""
        self.created = ""
        self.bounds: Any = None
        self.buckets: list[str] = []


class Lines:
    """The lines of one metric; keeps pieces from one scrape to the next."""

    __slots__ = ("_known", "_shape")

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._known = Memory[Pieces]()

    def numbers(
        self, points: Sequence[Any], lines: list[str], series: list[str], tally: Tally
    ) -> None:
        """A text for each series into ``lines``, and into ``series`` what tells it apart."""
        self._known.began(len(points))
        again, exemplars, created = self._known.again, self._shape.exemplars, self._shape.created
        for point in points:
            try:
                pieces = again(point.attributes) or self._find(point, tally)
            except Exception:  # not a point
                pieces = self._find(point, tally)
            head = pieces.head
            try:
                value = point.value
                line = f"{head}{value}" if type(value) is int else head + number_text(value)
            except Exception:  # not a point, or too many digits
                line = head + number_text(read(point, "value", tally))
            if exemplars and point.exemplars:
                line += self._exemplar(largest(exemplars_of(point, tally)), tally)
            if created:
                line += self._created(pieces, point, tally)
            lines.append(line)
            series.append(head)

    def histograms(
        self, points: Sequence[Any], lines: list[str], series: list[str], tally: Tally
    ) -> None:
        """Buckets, count and sum of each point."""
        self._known.began(len(points))
        for point in points:
            pieces = self._find(point, tally)
            bounds = sequence(read(point, "explicit_bounds", tally), tally)
            if pieces.bounds != bounds:
                if not rising(bounds):
                    tally.unsupported += 1
                    continue
                pieces.buckets = self._heads(pieces, [bound_text(each) for each in bounds])
                pieces.bounds = bounds
            counts = sequence(read(point, "bucket_counts", tally), tally)
            if not counts:
                counts = [read(point, "count", tally) or 0]
            lines.append(self._histogram(point, pieces, bounds, counts, tally))
            series.append(pieces.head)

    def exponentials(
        self, points: Sequence[Any], lines: list[str], series: list[str], tally: Tally
    ) -> None:
        """The same of exponential histograms, whose buckets become classic ones."""
        self._known.began(len(points))
        for point in points:
            pieces = self._find(point, tally)
            scale = read(point, "scale", tally)
            if scale not in SCALES:
                tally.unsupported += 1
                continue
            zero = number(read(point, "zero_count", tally), 64, tally)
            sides = [side_of(read(point, name, tally), tally) for name in ("positive", "negative")]
            found = classic(scale, sides[0], sides[1], zero, most=CLASSIC)
            bounds = [bound for bound, _ in found]
            cumulative = [0, *[total for _, total in found]]
            total = max(number(read(point, "count", tally), 64, tally), cumulative[-1])
            cumulative.append(total)
            counts = [after - before for before, after in pairwise(cumulative)]
            pieces.buckets = self._heads(pieces, [bound_text(bound) for bound in bounds])
            lines.append(self._histogram(point, pieces, bounds, counts, tally))
            series.append(pieces.head)

    def _find(self, point: Any, tally: Tally) -> Pieces:
        attributes = read(point, "attributes", tally) or _NONE
        pieces = self._known.find(attributes)
        if pieces is not None:
            return pieces
        repaired = tally.repaired
        shape = self._shape
        own = labels_of(attributes, shape.translation, shape.escaping, tally)
        labels = [*shape.labels, *own]
        pairs = merged(without_le(labels) if shape.histogram else labels)
        pieces = Pieces(pairs)
        pieces.head = self._head(shape.sample, pairs)
        if shape.created:
            pieces.created = self._head(f"{shape.created}_created", pairs)
        if tally.repaired == repaired:
            self._known.keep(attributes, pieces)
        return pieces

    def _head(self, name: str, pairs: Pairs, more: str = "") -> str:
        if LEGACY.fullmatch(name):
            return f"{name}{braces(pairs, more=more)} "
        return f"{braces(pairs, name=name, more=more)} "

    def _heads(self, pieces: Pieces, bounds: list[str]) -> list[str]:
        """What stands before the values of a histogram: buckets, then count and sum."""
        pairs = pieces.pairs
        name = self._shape.sample
        if not bounds or bounds[-1] != "+Inf":
            bounds = [*bounds, "+Inf"]
        heads = [self._head(f"{name}_bucket", pairs, f'le="{bound}"') for bound in bounds]
        return [*heads, self._head(f"{name}_count", pairs), self._head(f"{name}_sum", pairs)]

    def _histogram(
        self,
        point: Any,
        pieces: Pieces,
        bounds: Sequence[float],
        counts: Sequence[int],
        tally: Tally,
    ) -> str:
        lines: list[str] = []
        heads = pieces.buckets
        exemplars = by_bucket(exemplars_of(point, tally), bounds) if self._shape.exemplars else {}
        total = 0
        for place in range(len(heads) - 2):
            if place < len(counts):
                total += counts[place]
            line = f"{heads[place]}{total}"
            if place in exemplars:
                line += self._exemplar(exemplars[place], tally)
            lines.append(line)
        # A sum that can fall is none to Prometheus; OpenMetrics shows no count without it either.
        least = read(point, "min", tally)
        falls = (bounds and bounds[0] < 0) or (isinstance(least, (int, float)) and least < 0)
        value = read(point, "sum", tally)
        shown = value is not None and not falls
        if shown or not self._shape.openmetrics:
            lines.append(f"{heads[-2]}{total}")
        if shown:
            lines.append(heads[-1] + number_text(value))
        text = "\n".join(lines)
        return text + self._created(pieces, point, tally) if self._shape.created else text

    def _exemplar(self, exemplar: Any, tally: Tally) -> str:
        if exemplar is None:
            return ""
        return exemplar_text(exemplar, self._shape.translation, self._shape.escaping, tally)

    def _created(self, pieces: Pieces, point: Any, tally: Tally) -> str:
        start = number(read(point, "start_time_unix_nano", tally), 64, tally)
        return f"\n{pieces.created}{seconds_text(start)}" if start else ""


_NONE: Final[dict[str, Any]] = {}


def side_of(buckets: Any, tally: Tally) -> Side:
    """The buckets of one sign of a point."""
    offset = read(buckets, "offset", tally)
    counts = sequence(read(buckets, "bucket_counts", tally), tally)
    if not isinstance(offset, int) or abs(offset) >= 1 << 31:
        return Side(0, ())
    return Side(offset, tuple([number(count, 64, tally) for count in counts]))


def rising(bounds: Sequence[Any]) -> bool:
    """Whether these are bounds of buckets at all."""
    try:
        before = -inf
        for bound in bounds:
            if not bound > before:
                return False
            before = bound
    except TypeError:
        return False
    return True
