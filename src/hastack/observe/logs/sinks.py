"""Where records go: JSON lines, objects, OpenTelemetry, Parquet, any callable.

A sink is anything with ``write(batch)``, or the function alone; ``flush()`` and ``close()`` are called
if they are there. It sees each batch once and in order, and the next one is read when it is done.
"""

from __future__ import annotations

import datetime as dt
import os
import select
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, final

from hastack import context as _context
from hastack._core._errors import ClosedError, InvalidArgument
from hastack._core._extras import require

from .sources import LOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from ._protocols import BatchLike, Record
    from .engine import Parsed

__all__ = ("Arrow", "JsonLines", "Objects", "OtelLogs", "Sink")


class Sink(Protocol):
    """What an engine hands its batches to."""

    def write(self, batch: Parsed, /) -> object:
        """Take a batch."""
        ...


class _Closing:
    """``with`` for sinks that hold something open."""

    def close(self) -> None:
        """Let go."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@final
class LineEncoder:
    """Makes JSON lines of batches, in whatever process it is taken to."""

    def __init__(self, format_key: str | None) -> None:
        self._format_key = format_key
        self._json = require("msgspec.json", extra="logs").Encoder(enc_hook=str)

    def __reduce__(self) -> tuple[object, ...]:
        return (LineEncoder, (self._format_key,))

    def __call__(self, batch: BatchLike) -> bytes:
        """The lines of a batch."""
        records: Iterable[Record] = batch.records
        key = self._format_key
        if key is not None:
            records = [
                {key: found.name, **record}
                for found, record in zip(batch.formats, batch.records, strict=True)
            ]
        try:
            lines: bytes = self._json.encode_lines(records)
        except _UNFIT:
            return b"".join(self._one(record) for record in records)
        return lines

    def _one(self, record: Record) -> bytes:
        try:
            line: bytes = self._json.encode(record)
        except _UNFIT:
            # Half of a surrogate pair, a number of a hundred digits: JSON can say both.
            import json

            line = json.dumps(record, default=str).encode()
        return line + b"\n"


_UNFIT = (UnicodeEncodeError, OverflowError, TypeError, ValueError)


@final
class JsonLines(_Closing):
    r"""Records as JSON, one to a line.

    Moments are written as RFC 3339, what JSON has no word for as text. Each batch is one write, so
    whole lines are on their way when `write` returns.

    Args:
        target: A path to append to, an open binary file, or the number of a file descriptor. Only a
            path is closed.
        format_key: Also write the name of the format, under this name.
        rejects: Where lines that no format knows go, as they are: like ``target``.

    Raises:
        InvalidArgument: ``target`` is none of these.
        MissingDependency: ``hastack[logs]`` is not installed.
        OSError: The file cannot be opened.

    Example:
        >>> import io
        >>> from hastack.observe import logs
        >>> out = io.BytesIO()
        >>> account = logs.Engine(['level=info took=3']).run(logs.JsonLines(out))
        >>> out.getvalue()
        b'{"level":"info","took":3}\n'
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO | int,
        *,
        format_key: str | None = None,
        rejects: str | os.PathLike[str] | BinaryIO | int | None = None,
    ) -> None:
        self.encoder = LineEncoder(format_key)
        self._out = _Out("target", target)
        self._rejects = None if rejects is None else _Out("rejects", rejects)

    def encode(self, batch: BatchLike) -> bytes:
        """The lines of a batch."""
        return self.encoder(batch)

    def write(self, batch: Parsed) -> None:
        """Write a batch."""
        self._out.write(self.encode(batch) if batch.encoded is None else batch.encoded)
        if self._rejects is not None and batch.rejects:
            self._rejects.write(
                b"".join(
                    (
                        each.line.encode("utf-8", "surrogateescape")
                        if isinstance(each.line, str)
                        else each.line
                    )
                    + b"\n"
                    for each in batch.rejects
                )
            )

    def close(self) -> None:
        """Close what was opened here."""
        self._out.close()
        if self._rejects is not None:
            self._rejects.close()


class _Out:
    """A place for bytes, and whether it is ours to close."""

    def __init__(self, parameter: str, target: Any) -> None:
        self._ours = False
        self._file: Any = None
        self._number = -1
        if isinstance(target, (str, os.PathLike)):
            self._ours = True
            self._file = Path(target).open("ab", buffering=0)  # noqa: SIM115  # closed by close()
        elif isinstance(target, int) and not isinstance(target, bool):
            self._number = target
        elif hasattr(target, "write"):
            self._file = target
        else:
            raise InvalidArgument(parameter, target, "a path, a binary file or a file descriptor")

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                done = (
                    os.write(self._number, view) if self._file is None else self._file.write(view)
                )
            except BlockingIOError as error:
                # A pipe or terminal that another program has set not to block.
                done = getattr(error, "characters_written", 0)
                self._wait()
            view = view[len(view) if done is None else done :]

    def _wait(self) -> None:
        number = self._number if self._file is None else self._file.fileno()
        ready = select.poll()
        ready.register(number, select.POLLOUT)
        while not ready.poll(LOOK * 1e3):
            _context.current().check()

    def close(self) -> None:
        if self._ours:
            self._file.close()


@final
class Objects:
    """Hands objects instead of records to a callable.

    Args:
        take: Called with each object.
        classes: The class for a format's records, by its name, an attrs class for example; a class
            is made for the others. Fields that a class does not have are left out.

    Example:
        >>> import attrs
        >>> from hastack.observe import logs
        >>> @attrs.frozen
        ... class Call:
        ...     level: str
        ...     took: float
        >>> sink = logs.Objects(print, classes={"logfmt": Call})
        >>> account = logs.Engine(["level=info took=0.5 host=a"]).run(sink)
        Call(level='info', took=0.5)
    """

    def __init__(
        self,
        take: Callable[[Any], object],
        *,
        classes: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        from ._objects import ObjectMaker

        self._take = take
        self._maker = ObjectMaker(classes)

    def write(self, batch: Parsed) -> None:
        """Hand over the objects of a batch."""
        for found, record in zip(batch.formats, batch.records, strict=True):
            self._take(self._maker.make(found, record))


# OpenTelemetry's severity numbers (logs data model, "Severity Fields"), by how logs say it.
_SEVERITIES = {
    "trace": 1, "finest": 1, "finer": 2, "verbose": 3,
    "debug": 5, "d": 5, "fine": 5,
    "info": 9, "i": 9, "information": 9, "informational": 9, "log": 9, "notice": 10, "config": 8,
    "warn": 13, "warning": 13, "w": 13,
    "error": 17, "err": 17, "e": 17, "severe": 17,
    "crit": 18, "critical": 18, "alert": 19,
    "fatal": 21, "f": 21, "emerg": 22, "emergency": 22, "panic": 22,
}  # fmt: skip
_LEVELS = ("level", "severity", "severity_text", "lvl", "loglevel", "log.level")
_MESSAGES = ("message", "msg", "body", "MESSAGE", "log")
_TIMES = ("time", "timestamp", "ts", "@timestamp", "datetime")


@final
class OtelLogs:
    """Records as log records of OpenTelemetry, into the exporters of a provider.

    The first of ``time``, ``timestamp`` ... that is a moment becomes the timestamp, ``level`` or
    ``severity`` the severity, ``message`` or ``msg`` the body, everything else an attribute. The
    logger has the name of the format. What an exporter cannot take, its own account tells.

    Args:
        provider: A ``LoggerProvider``, for example ``installed.logger_provider`` of
            `hastack.observe.install`.

    Raises:
        InvalidArgument: It has no ``get_logger``.
        MissingDependency: ``hastack[otel]`` is not installed.
    """

    def __init__(self, provider: Any) -> None:
        if not callable(getattr(provider, "get_logger", None)):
            raise InvalidArgument("provider", provider, "a LoggerProvider")
        self._api = require("opentelemetry._logs", extra="otel")
        self._provider = provider
        self._loggers: dict[str, Any] = {}

    def write(self, batch: Parsed) -> None:
        """Emit the records of a batch."""
        for found, record in zip(batch.formats, batch.records, strict=True):
            name = found.name
            logger = self._loggers.get(name)
            if logger is None:
                logger = self._provider.get_logger(name)
                if len(self._loggers) < 1000:
                    self._loggers[name] = logger
            logger.emit(self._log_record(batch.source, record))

    def _log_record(self, source: str, record: Record) -> Any:
        left = {field: value for field, value in record.items() if value is not None}
        level = _take(left, _LEVELS, (str,))
        moment = _take(left, _TIMES, (dt.datetime,))
        number = _SEVERITIES.get(str(level).lower(), 0)
        attributes = {field: _attribute(value) for field, value in left.items()}
        body = _take(left, _MESSAGES, (str,))
        for field in _MESSAGES:
            if body is not None and attributes.get(field) == body:
                del attributes[field]
                break
        attributes["log.file.path" if os.sep in source else "log.source"] = source
        return self._api.LogRecord(
            timestamp=None if moment is None else _nanoseconds(moment),
            observed_timestamp=_nanoseconds(dt.datetime.now(dt.UTC)),
            severity_number=self._api.SeverityNumber(number),
            severity_text=level,
            body=body,
            attributes=attributes,
        )


def _take(record: Record, names: Iterable[str], kinds: tuple[type, ...]) -> Any:
    for name in names:
        if isinstance(record.get(name), kinds):
            return record.pop(name)
    return None


def _nanoseconds(moment: dt.datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    since = aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    # Not timestamp() * 1e9: a float has no room for nanoseconds of today.
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def _attribute(value: object) -> object:
    if isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, (dict, list, tuple)):
        import json

        return json.dumps(value, default=str)
    return str(value)


@final
class Arrow(_Closing):
    """Records as Arrow tables or Parquet files, one for each format.

    Columns have the types that a format declares, or those of the first batch in which a format
    appears. A value that does not fit, or whose field has no column, is kept as JSON in the column
    ``_rest`` and counted.

    Args:
        target: A directory, which gets a ``NAME.parquet`` for each format; or a callable that takes
            the name of a format and a ``pyarrow.Table``.
        types: The word for the type of each field, for formats by name, instead of that.
        compression: Of the files: ``"zstd"``, ``"snappy"``, ``"gzip"``, ``"none"``.

    A Parquet file can be read after `close` only.

    Raises:
        MissingDependency: ``hastack[arrow]`` is not installed.
        OSError: The directory cannot be made.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Callable[[str, Any], object],
        *,
        types: Mapping[str, Mapping[str, str]] | None = None,
        compression: str = "zstd",
    ) -> None:
        self._arrow = require("pyarrow", extra="arrow")
        self._take: Callable[[str, Any], object] | None = None
        self._directory = Path()
        if callable(target):
            self._take = target
        else:
            require("pyarrow.parquet", extra="arrow")
            self._directory = Path(target)
            self._directory.mkdir(parents=True, exist_ok=True)
        self._given = types or {}
        self._types: dict[str, dict[str, str]] = {}
        self._writers: dict[str, Any] = {}
        self._compression = compression
        self._closed = False
        self.moved = 0
        """Values that went to the column ``_rest``."""

    def write(self, batch: Parsed) -> None:
        """Add the records of a batch."""
        if self._closed:
            raise ClosedError("the sink is closed")
        groups: dict[str, tuple[Mapping[str, str], list[Record]]] = {}
        for found, record in zip(batch.formats, batch.records, strict=True):
            groups.setdefault(found.name, (found.fields, []))[1].append(record)
        for name, (fields, records) in groups.items():
            table = self._table(name, fields, records)
            if self._take is not None:
                self._take(name, table)
            else:
                self._writer(name, table).write_table(table)

    def _table(self, name: str, fields: Mapping[str, str], records: list[Record]) -> Any:
        from ._columns import columns, types_of

        types = self._types.get(name)
        if types is None:
            given = self._given.get(name)
            types = dict(given) if given is not None else types_of(records, fields)
            self._types[name] = types
        made, moved = columns(records, types)
        self.moved += moved
        pa = self._arrow
        schema = pa.schema([(field, self._arrow_type(types.get(field, "str"))) for field in made])
        return pa.table(made, schema=schema)

    def _arrow_type(self, word: str) -> Any:
        pa = self._arrow
        if word == "timestamp":
            return pa.timestamp("us", tz="UTC")
        kinds = {"bool": pa.bool_(), "int": pa.int64(), "size": pa.int64()}
        kinds |= {"float": pa.float64(), "duration": pa.float64()}
        return kinds.get(word, pa.string())

    def _writer(self, name: str, table: Any) -> Any:
        writer = self._writers.get(name)
        if writer is None:
            safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".")
            writer = self._writers[name] = require("pyarrow.parquet", extra="arrow").ParquetWriter(
                self._directory / f"{safe or 'records'}.parquet",
                table.schema,
                compression=self._compression,
            )
        return writer

    def close(self) -> None:
        """Write the ends of the files, without which they cannot be read."""
        self._closed = True
        while self._writers:
            self._writers.popitem()[1].close()
