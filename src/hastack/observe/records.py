"""Log records, of the OpenTelemetry SDK and of the `logging` module, into the pipeline.

Example:
    >>> from hastack.observe import records
    >>> processor = records.LogRecordProcessor()  # to no exporter at all
    >>> processor.force_flush()
    True
"""

from __future__ import annotations

import copy
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, final

from hastack._core._extras import require

from ._ends import flushed
from ._threads import suppressed
from .pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import LogRecordProcessor as _LogRecordProcessor
    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter as _LogRecordExporter
    from opentelemetry.sdk._logs.export import LogRecordExportResult

    from .pipeline import Exporter
else:
    # The SDK asks for the methods, not for the class; so this module needs no SDK.
    _LogRecordProcessor = _LogRecordExporter = object

__all__ = ("LogHandler", "LogRecordExporter", "LogRecordProcessor")


@final
class LogRecordProcessor(_LogRecordProcessor):
    """Puts log records into the queues of exporters.

    Stands in for ``BatchLogRecordProcessor`` and its exporter together. Records that an exporter's
    own threads write are left out, or each export could cause the next.

    Args:
        *exporters: Where records go.
        timeout: Seconds that `shutdown` takes at most; the SDK gives none.
    """

    def __init__(self, *exporters: Exporter, timeout: float = 5.0) -> None:
        self._pipeline = Pipeline(exporters)
        self._exporters = exporters
        self._timeout = timeout

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue the record as it is now: processors behind this one may still change it."""
        found: Any = log_record
        queued = copy.copy(found)
        queued.log_record = copy.copy(found.log_record)
        _emit(self._exporters, queued)

    def enabled(self, **_: Any) -> bool:
        """Whether a record would be taken."""
        return not suppressed()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Whether everything emitted so far was delivered within the time."""
        return flushed(self._pipeline.exporters, timeout_millis)

    def shutdown(self) -> None:
        """End the exporters; what became of everything is in their accounts."""
        self._pipeline.shutdown(self._timeout)


def _emit(exporters: Sequence[Exporter], item: Any) -> bool:
    admitted = True
    for exporter in exporters:
        admitted = exporter.hand_in(item) and admitted
    return admitted


@final
class LogRecordExporter(_LogRecordExporter):
    """Takes batches from a processor of the SDK, where that one cannot be replaced.

    Args:
        *exporters: Where records go.
        timeout: Seconds that `shutdown` takes at most.
    """

    def __init__(self, *exporters: Exporter, timeout: float = 5.0) -> None:
        self._pipeline = Pipeline(exporters)
        self._exporters = exporters
        self._timeout = timeout

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Queue the records; a failure means that at least one was dropped right away."""
        module: Any = require("opentelemetry.sdk._logs.export", extra="otel")
        admitted = True
        for item in batch:
            admitted = _emit(self._exporters, item) and admitted
        results = module.LogRecordExportResult
        result: LogRecordExportResult = results.SUCCESS if admitted else results.FAILURE
        return result

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Whether everything emitted so far was delivered within the time."""
        return flushed(self._pipeline.exporters, timeout_millis)

    def shutdown(self) -> None:
        """End the exporters."""
        self._pipeline.shutdown(self._timeout)


# OpenTelemetry's severity numbers (logs data model, "Severity Fields").
_SEVERITIES = ((50, 21), (40, 17), (30, 13), (20, 9), (10, 5))

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_inside: ContextVar[bool] = ContextVar("hastack-observe-handler", default=False)


def severity_number(level: int) -> int:
    """OpenTelemetry's number for a level of the `logging` module."""
    for least, number in _SEVERITIES:
        if level >= least:
            return number
    return 1


@final
class LogHandler(logging.Handler):
    """Hands records of the `logging` module to an OpenTelemetry logger provider.

    A record that is written while another one is being handed on, or by an exporter's own thread,
    is left to the other handlers.

    Args:
        provider: A ``LoggerProvider``.
        level: Records below are left out.
    """

    def __init__(self, provider: Any, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._provider = provider
        self._loggers: dict[str, Any] = {}

    def createLock(self) -> None:  # noqa: N802  # logging's name
        """Have no lock: none is needed, and holding one while others log is how logging hangs."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and emit, without the lock that there is none of (Python 3.13 expects one)."""
        found: Any = self.filter(record)  # since 3.12 it may be another record
        if isinstance(found, logging.LogRecord):
            record = found
        if found:
            self.emit(record)
        return bool(found)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record on."""
        if suppressed() or _inside.get():
            return
        token = _inside.set(True)
        try:
            self._hand_on(record)
        except Exception:
            self.handleError(record)
        finally:
            _inside.reset(token)

    def _hand_on(self, record: logging.LogRecord) -> None:
        logger = self._loggers.get(record.name)
        if logger is None:
            logger = self._provider.get_logger(record.name)
            if len(self._loggers) < 1000:
                self._loggers[record.name] = logger
        attributes = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        attributes["code.file.path"] = record.pathname
        attributes["code.function.name"] = record.funcName
        attributes["code.line.number"] = record.lineno
        exception = record.exc_info[1] if record.exc_info else None
        api = require("opentelemetry._logs", extra="otel")
        logger.emit(
            api.LogRecord(
                timestamp=int(record.created * 1e9),
                severity_number=api.SeverityNumber(severity_number(record.levelno)),
                severity_text=record.levelname,
                body=self.format(record) if self.formatter else record.getMessage(),
                attributes=attributes,
                exception=exception,
            )
        )

    def flush(self) -> None:
        """Nothing waits here."""
