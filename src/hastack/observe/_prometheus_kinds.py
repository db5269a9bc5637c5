"""What one OpenTelemetry metric is to Prometheus: its kind, its names, the names it occupies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from ._attribute_text import clean
from ._metrics_walk import EXPONENTIAL, GAUGE, HISTOGRAM, SUM, kind_of
from ._otlp_lenient import enum_value, read
from ._otlp_values import as_text
from ._prometheus_names import Translation, escape, family_name, with_suffix, without_total

if TYPE_CHECKING:
    from ._otlp_values import Tally

CUMULATIVE: Final = 2
"""The temporality that Prometheus knows."""

COUNTER: Final = "counter"
GAUGES: Final = "gauge"
HISTOGRAMS: Final = "histogram"
INFO: Final = "info"
UNTYPED: Final = "unknown"

_CLAIMS: Final = {
    COUNTER: ("", "_total", "_created"),
    UNTYPED: ("", "_total", "_created"),
    GAUGES: ("",),
    HISTOGRAMS: ("", "_bucket", "_count", "_sum", "_created"),
}


@attrs.frozen
class Identity:
    """Names and kind of a metric.

    Args:
        family: In ``TYPE`` and ``HELP``.
        sample: Of its samples; a histogram's without their suffixes.
        base: Without any suffix of its kind.
        kind: In ``TYPE``.
        unit: In ``UNIT``; empty for none.
    """

    family: str
    sample: str
    base: str
    kind: str
    unit: str

    def claims(self) -> list[str]:
        """Names that no other family may have, in any format."""
        return [self.base + suffix for suffix in _CLAIMS[self.kind]]


def prometheus_kind(data: Any, tally: Tally) -> str:
    """Counter, gauge or histogram; empty for what Prometheus does not know."""
    kind = kind_of(data)
    if kind == GAUGE:
        return GAUGES
    if enum_value(read(data, "aggregation_temporality", tally), 2, tally) != CUMULATIVE:
        return ""
    if kind == SUM:
        return COUNTER if read(data, "is_monotonic", tally) else GAUGES
    return HISTOGRAMS if kind in {HISTOGRAM, EXPONENTIAL} else ""


def text_of(value: Any, tally: Tally) -> str:
    """A name or description as a string that can be encoded."""
    if value is None:
        return ""
    return clean(value if type(value) is str else as_text(value), tally)


def identify(
    metric: Any,
    kind: str,
    translation: Translation,
    escaping: str,
    tally: Tally,
    *,
    openmetrics: bool,
) -> Identity:
    """The identity of ``metric``, which is of ``kind``, in one of the text formats."""
    name = text_of(read(metric, "name", tally), tally)
    unit = text_of(read(metric, "unit", tally), tally)
    named = family_name(name, unit, translation, counter=kind == COUNTER, gauge=kind == GAUGES)
    if kind != COUNTER:
        family = escape(named.name, escaping)
        return Identity(family, family, family, kind, named.unit)
    whole = named.name
    if translation.suffixes:
        whole = with_suffix(whole, "total", translation)
    base = without_total(whole)
    if not openmetrics:
        sample = escape(whole, escaping)
        return Identity(sample, sample, escape(base, escaping), kind, named.unit)
    family = escape(base, escaping)
    if whole.endswith("_total"):
        return Identity(family, f"{family}_total", family, kind, named.unit)
    # OpenMetrics has no counter without this suffix, and the name is wanted as it is.
    family = escape(whole, escaping)
    return Identity(family, family, family, UNTYPED, "")
