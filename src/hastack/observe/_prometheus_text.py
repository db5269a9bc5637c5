"""A scrape in Prometheus's text format or in OpenMetrics, from what the SDK collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack._core._errors import InvalidArgument

from ._metrics_walk import walk
from ._prometheus_accept import negotiate
from ._prometheus_names import STRATEGIES, Translation
from ._prometheus_page import Exposition, Options, Page, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._prometheus_accept import TextFormat


class PrometheusText:
    """Writes what the SDK collected for Prometheus to scrape.

    Follows the OpenTelemetry compatibility specification. Everything that cannot be exposed is
    counted in the result; nothing that an instrument holds makes a scrape fail.

    Args:
        strategy: How names are translated: ``"UnderscoreEscapingWithSuffixes"``,
            ``"UnderscoreEscapingWithoutSuffixes"``, ``"NoUTF8EscapingWithSuffixes"`` or
            ``"NoTranslation"``. With the last two, scrapers that do not ask for UTF-8 get the
            names escaped as they ask for.
        scope_labels: Whether series carry ``otel_scope_name`` and the like.
        target_info: Whether the resource is shown as ``target_info``.
        resource_labels: Resource attributes that each series carries as well.
        created: Whether counters and histograms show when they started, as ``_created``; for
            Prometheus that is one series more for each of them. OpenMetrics only.

    Raises:
        InvalidArgument: An unknown strategy.

    Example:
        >>> from hastack.observe import PrometheusText
        >>> PrometheusText().render(None).content_type
        'text/plain; version=0.0.4; charset=utf-8'
    """

    def __init__(
        self,
        *,
        strategy: str = "UnderscoreEscapingWithSuffixes",
        scope_labels: bool = True,
        target_info: bool = True,
        resource_labels: Iterable[str] = (),
        created: bool = False,
    ) -> None:
        if strategy not in STRATEGIES:
            raise InvalidArgument("strategy", strategy, f"one of {', '.join(STRATEGIES)}")
        self._options = Options(
            translation=Translation.named(strategy),
            scope_labels=scope_labels,
            target_info=target_info,
            resource_labels=frozenset(resource_labels),
            created=created,
        )
        self._writers: dict[TextFormat, Writer] = {}

    def render(self, *data: Any, accept: str = "") -> Exposition:
        """Write one exposition.

        Args:
            *data: The ``MetricsData`` of a collection, of several sources, or ``None``.
            accept: The scraper's ``Accept`` field.
        """
        form = negotiate(accept)
        writer = self._writers.get(form)
        if writer is None:
            writer = self._writers[form] = Writer(form, self._options)
        page = Page(writer)
        for resource, scope, metric in walk(data):
            page.add(resource, scope, metric)
        return page.finish()
