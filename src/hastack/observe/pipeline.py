"""From emitted items to answered requests: exporters, and the pipeline that holds them.

Example:
    >>> from hastack.observe import pipeline
    >>> with pipeline.Pipeline([]) as nothing:
    ...     report = nothing.force_flush(1.0)
    >>> bool(report), report.account.emitted
    (True, 0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from hastack._core._errors import InvalidArgument
from hastack._core._validate import seconds as _seconds

from ._account import Account
from ._answers import GrpcAnswer, HttpAnswer, NoAnswer
from ._encoding import Encoded, Encoder, WireFormat
from ._ends import flush, shut_down
from ._exporter import Exporter
from ._report import Report
from ._retry_rules import RetryRules
from ._transport import Transport
from ._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from hastack._core._validate import Seconds

    from ._options import Signal

__all__ = (
    "Account",
    "Encoded",
    "Encoder",
    "Exporter",
    "GrpcAnswer",
    "HttpAnswer",
    "NoAnswer",
    "Pipeline",
    "Report",
    "RetryRules",
    "Transport",
    "Wire",
    "WireFormat",
)


@final
class Pipeline:
    """Exporters that flush and end together.

    Reasons under which an account counts drops: ``queue_full`` (memory), ``disk_full``,
    ``spill_full`` (its byte cap), ``spill_unavailable`` (the directory cannot be used), ``damaged``
    (a record on disk), ``rejected`` (partial success), ``too_large`` (one unit alone),
    ``unsupported`` (the format has no place for it), ``unencodable``, ``out_of_order`` (metrics of
    delta temporality for a time that had been counted already), ``http_404`` and
    ``grpc_internal`` (an answer that says not to try again), ``shutdown`` (waiting at its end),
    ``unanswered`` (in flight at its end: the backend may have it).

    Args:
        exporters: With names that differ.

    Raises:
        InvalidArgument: Two exporters have one name.
    """

    def __init__(self, exporters: Iterable[Exporter]) -> None:
        self.exporters = tuple(exporters)
        names = [each.name for each in self.exporters]
        for name in names:
            if names.count(name) > 1:
                raise InvalidArgument("exporters", name, "names that differ")

    def of(self, signal: Signal) -> tuple[Exporter, ...]:
        """The exporters of one signal."""
        return tuple(each for each in self.exporters if each.signal == signal)

    def accounts(self) -> dict[str, Account]:
        """The account of each exporter, by name."""
        return {each.name: each.account() for each in self.exporters}

    def force_flush(self, timeout: Seconds = 30.0) -> Report:
        """Send everything emitted until now, and say whether it was delivered.

        Args:
            timeout: Seconds; it returns no later, and no later than the current context ends.
                Zero only looks.

        Raises:
            InvalidArgument: ``timeout`` is negative.
            DeadlineExceeded: The current context's deadline passed before all was delivered.
            Cancelled: The current context was cancelled before that. Nothing is lost: the
                exporters go on.
        """
        return flush(self.exporters, _seconds("timeout", timeout, zero=True))

    def shutdown(self, timeout: Seconds = 5.0) -> Report:
        """Admit nothing more, send what waits, spill or drop what is left at the end of the time.

        A second call changes nothing and reports the same accounts.

        Args:
            timeout: Seconds; it returns no later, and within the current context's deadline. With
                ``when_full="spill"`` a quarter of it, one second at most, is kept for writing to
                disk.

        Raises:
            InvalidArgument: ``timeout`` is negative.
        """
        return shut_down(self.exporters, _seconds("timeout", timeout, zero=True))

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
