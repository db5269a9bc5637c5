"""From a scraper's request to a whole response, whatever serves it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, final

from hastack._core import _validate
from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child
from hastack._health_http import TEXT, Reply, refused

from ._compress import compress
from ._prometheus_text import PrometheusText
from ._threads import log
from ._totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._prometheus_page import Exposition

    Source = Callable[[], Any]

_WORTH_IT = 1024  # bytes; below that compression only costs


@final
class MetricsEndpoint:
    """Answers scrapes: collects, writes the page, compresses it.

    Serve it with `MetricsServer`, or inside an application with `hastack.contrib.asgi.MetricsApp`
    and `hastack.contrib.wsgi.MetricsApp`. It may be used from several threads.

    Args:
        *sources: Each returns ``MetricsData``, or ``None``: `Metrics.collect` of
            `hastack.observe.instruments`, `hastack.observe.metrics.MetricReader.read`, or
            ``get_metrics_data`` of the SDK's ``InMemoryMetricReader``. Delta temporality is added
            up.
        page: How it is written.
        max_scrapes: Scrapes at once; one more is answered 503 with ``Retry-After``.

    Raises:
        InvalidArgument: ``max_scrapes`` is below 1, or a source cannot be called.

    Example:
        >>> from hastack import observe
        >>> from hastack.observe import instruments
        >>> metrics = instruments.Metrics()
        >>> metrics.meter("shop").counter("shop.orders").add(3)
        >>> endpoint = observe.MetricsEndpoint(metrics.collect)
        >>> reply = endpoint.answer("GET")
        >>> reply.status, b'shop_orders_total{otel_scope_name="shop"} 3' in reply.body
        (200, True)
    """

    def __init__(
        self, *sources: Source, page: PrometheusText | None = None, max_scrapes: int = 4
    ) -> None:
        for source in sources:
            if not callable(source):
                raise InvalidArgument("sources", source, "callables")
        self._sources = [(source, Totals()) for source in sources]
        self._page = page or PrometheusText()
        self._max = _validate.integer("max_scrapes", max_scrapes)
        self._left_out: frozenset[str] = frozenset()
        self._after_fork()
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._places = threading.BoundedSemaphore(self._max)
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._took = 0.0
        self._last: Exposition | None = None
        self._late = 0

    def answer(self, method: str = "GET", *, accept: str = "", encoding: str = "") -> Reply:
        """The response to one request; it never raises.

        Args:
            method: Of the request.
            accept: Its ``Accept`` field: text 0.0.4 or OpenMetrics, and which escaping.
            encoding: Its ``Accept-Encoding`` field.
        """
        reply = refused(method)
        if reply is not None:
            return reply
        if not self._places.acquire(blocking=False):
            self._count("busy")
            return Reply(503, TEXT, b"too many scrapes at once\n", (("retry-after", "1"),))
        began = time.monotonic()
        try:
            reply = self._scraped(accept, encoding)
            self._count("served")
        except Exception as error:
            # Half a page would look like counters that have gone; a failed scrape is seen at once.
            self._count("failed")
            log.warning("metrics were not collected for a scrape: %r", error)
            text = f"metrics were not collected: {error!r}\n"
            return Reply(500, TEXT, text.encode(errors="replace"))
        else:
            self._took = time.monotonic() - began
            return reply
        finally:
            self._places.release()

    def _scraped(self, accept: str, encoding: str) -> Reply:
        collected = [totals.of(source) for source, totals in self._sources]
        found = self._page.render(*[each.data for each in collected], accept=accept)
        self._last = found
        self._late = sum(each.left_out for each in collected)
        self._tell(found)
        body, extra = found.body, [("vary", "Accept, Accept-Encoding")]
        if len(body) >= _WORTH_IT and takes_gzip(encoding):
            body = compress("gzip", body)
            extra.append(("content-encoding", "gzip"))
        return Reply(200, found.content_type, body, tuple(extra))

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._counts[outcome] = self._counts.get(outcome, 0) + 1

    def _tell(self, found: Exposition) -> None:
        """Log once for each name that something of it is not on the page."""
        new = frozenset(found.conflicting) - self._left_out
        if new:
            self._left_out |= new
            log.warning(
                "not all of these metrics can be scraped, because another has their name or labels: %s",
                ", ".join(sorted(new)),
            )

    def counts(self) -> dict[str, int]:
        """Scrapes so far: ``served``, ``failed`` and ``busy``."""
        with self._lock:
            return dict(self._counts)

    def left_out(self) -> dict[str, int]:
        """Points that the last page left out, by reason; see `Exposition`."""
        last = self._last
        if last is None:
            return {}
        return {
            "unsupported": last.unsupported,
            "conflict": last.conflicts,
            "duplicate": last.duplicates,
            "out_of_order": self._late,
        }

    @property
    def took(self) -> float:
        """Seconds that the last scrape took, compression included."""
        return self._took


def takes_gzip(encoding: str) -> bool:
    """Whether an ``Accept-Encoding`` field (RFC 9110, section 12.5.3) admits gzip."""
    for item in encoding.split(","):
        name, _, parameter = item.partition(";")
        if name.strip().lower() in {"gzip", "*"}:
            return parameter.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
