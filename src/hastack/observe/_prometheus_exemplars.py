"""Exemplars of OpenMetrics: which one a sample gets, and how it is written."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

from ._otlp_lenient import read, sequence
from ._prometheus_labels import braces, labels_of, merged
from ._prometheus_numbers import number_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._otlp_values import Tally
    from ._prometheus_names import Translation

LONGEST: Final = 128
"""Characters of an exemplar's label names and values together (OpenMetrics 1.0)."""


def exemplar_labels(
    exemplar: Any, translation: Translation, escaping: str, tally: Tally
) -> list[tuple[str, str]]:
    """The trace it belongs to, and then its other attributes as far as they fit."""
    found: list[tuple[str, str]] = []
    trace_id = read(exemplar, "trace_id", tally)
    span_id = read(exemplar, "span_id", tally)
    if isinstance(trace_id, int) and trace_id and isinstance(span_id, int) and span_id:
        found = [("trace_id", f"{trace_id:032x}"), ("span_id", f"{span_id:016x}")]
    taken = {name for name, _ in found}
    room = LONGEST - sum([len(name) + len(value) for name, value in found])
    attributes = read(exemplar, "filtered_attributes", tally)
    for name, value in merged(labels_of(attributes, translation, escaping, tally)):
        size = len(name) + len(value)
        if size <= room and name not in taken:
            found.append((name, value))
            room -= size
    return found


def exemplar_text(exemplar: Any, translation: Translation, escaping: str, tally: Tally) -> str:
    """What follows the value of a sample."""
    labels = braces(exemplar_labels(exemplar, translation, escaping, tally)) or "{}"
    text = f" # {labels} {number_text(read(exemplar, 'value', tally))}"
    time = read(exemplar, "time_unix_nano", tally)
    return f"{text} {seconds_text(time)}" if isinstance(time, int) and time > 0 else text


def exemplars_of(point: Any, tally: Tally) -> list[Any]:
    """The exemplars of a point whose values are numbers."""
    found = sequence(read(point, "exemplars", tally), tally)
    return [each for each in found if isinstance(read(each, "value", tally), (int, float))]


def largest(exemplars: Sequence[Any]) -> Any:
    """The one with the largest value; ``None`` of none."""
    return max(exemplars, key=lambda each: each.value, default=None)


def by_bucket(exemplars: Sequence[Any], bounds: Sequence[float]) -> dict[int, Any]:
    """For each bucket with exemplars the one with the largest value in it."""
    found: dict[int, Any] = {}
    for exemplar in exemplars:
        place = bisect_left(bounds, exemplar.value)
        if place not in found or exemplar.value > found[place].value:
            found[place] = exemplar
    return found
