"""The engine: lines from a source through a parser and stages to whoever takes the records.

One thread does it all, on demand: the source is read when the next batch is asked for, so a slow
consumer slows the reading and nothing piles up. With ``processes`` above one, batches are parsed
ahead in worker processes and still arrive in order.

Example:
    >>> from hastack.observe import logs
    >>> engine = logs.Engine(['{"level": "info", "took": 0.2}', "no format knows this line"])
    >>> [record.get("took") for record in engine.records()][0]
    0.2
    >>> engine.account().balanced
    True
"""

from __future__ import annotations

import importlib
import inspect
import os
import threading
import time
from collections import deque
from contextvars import copy_context
from itertools import compress
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack import context as _context
from hastack._core import _validate
from hastack._core._errors import ClosedError, ContextError, HastackError, InvalidArgument
from hastack._core._fork import renew_in_child

from . import _engine_events as _events
from ._batching import Batcher, Batching
from ._folded import Folded, redacted
from ._run_account import Account, Ledger
from ._where import Where
from .schema import Schemas
from .sources import LOOK, AsyncLineSource, source_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
    from types import TracebackType

    from ._batching import Work
    from ._folded import Fold
    from ._protocols import BatchLike, FormatLike, ParserLike, Record, RejectLike, Stage
    from ._workers import Job, Ticket
    from .sinks import Sink

__all__ = ("Account", "Batching", "Engine", "LinesLost", "Parsed")

_PATIENCE = 5.0  # seconds that close() waits for another thread


class LinesLost(HastackError, RuntimeError):
    """A parser gave back fewer or more lines than it was given; the account would be wrong."""


@final
@attrs.frozen
class Parsed:
    """A batch on its way to a sink.

    Attributes:
        source: Where its lines come from.
        records: What was read, in order.
        formats: The format of each record.
        numbers: The line of each record in its source, from 0.
        rejects: Lines that no format knows; their ``number`` counts within the batch.
        first: The line in its source at which the batch begins.
        lines: How many lines it is made of.
    """

    source: str
    records: list[Record]
    formats: Sequence[FormatLike]
    numbers: Sequence[int]
    rejects: Sequence[RejectLike]
    first: int
    lines: int
    encoded: bytes | None = None
    """Instead of records: what a worker process made of them for the sink."""


@final
class Engine:
    """One run from a source to its end, or until it is stopped.

    Iterating gives `Parsed` batches, ``records()`` gives single records, `run` hands batches to a
    sink; ``async for``, ``records_async()`` and `run_async` do the same without blocking the loop. What a
    source saves about its progress (see `Follow`) counts a batch as delivered once the next one is
    asked for, or once the sink has taken it.

    Args:
        source: A path, ``"-"`` for standard input, an iterable of lines, or one of
            `hastack.observe.logs.sources`.
        parser: What reads lines; a new `hastack.observe.logs.parser.Parser` by default. With worker
            processes a callable that makes one, or something that can be pickled.
        stages: What records pass through, in order, such as schemas.
        where: A filter over records, behind the stages; `hastack.observe.logs.Where` makes one of a
            text.
        redact: A last stage, behind the filter, which therefore sees what is redacted.
        fold: Puts lines that belong together, such as tracebacks, into one: a
            `hastack.observe.logs.Folder`. Its account is of what comes out.
        batching: When a batch is full.
        processes: Processes that parse. One, the default, parses in the calling thread. With more,
            `Schemas` and a `Where` also run in them, and so does what `JsonLines` writes: records
            cost more to carry over than to make. Other stages run in the calling thread.
        retries: How often a batch is parsed again because its process died.
        name: In events.

    Raises:
        InvalidArgument: An argument is out of range.

    Example:
        >>> from hastack.observe import logs
        >>> with logs.Engine(["level=info took=3", "level=warn took=4"]) as engine:
        ...     [record["took"] for record in engine.records()]
        [3, 4]
    """

    def __init__(
        self,
        source: object,
        *,
        parser: ParserLike | Callable[[], ParserLike] | None = None,
        stages: Iterable[Stage] = (),
        where: Callable[[Record], object] | None = None,
        redact: Stage | None = None,
        fold: Fold | None = None,
        batching: Batching | None = None,
        processes: int = 1,
        retries: int = 2,
        name: str = "logs",
    ) -> None:
        self._source = source_of(source)
        self._parser = parser
        self._stages = tuple(stages)
        for stage in (*self._stages, *(() if redact is None else (redact,))):
            if not callable(getattr(stage, "apply", None)):
                raise InvalidArgument("stages", stage, "objects with apply(batch)")
        if where is not None and not callable(where):
            raise InvalidArgument("where", where, "a callable that takes a record")
        self._where = where
        self._redact = redact
        self._fold = None if fold is None else Folded(fold)
        self._rules = batching if batching is not None else Batching()
        self._processes = _validate.integer("processes", processes)
        self._retries = _validate.integer("retries", retries, minimum=0)
        self.name = _validate.text("name", name)
        self._ledger = Ledger()
        self._batches: Generator[Parsed, None, None] | None = None
        self._owner = 0
        self._ended = False
        self._taken = 0
        self._finished = threading.Event()
        self._encode: Callable[[BatchLike], bytes] | None = None
        self._lock = threading.Lock()  # two threads that iterate take turns
        self._stepping: asyncio.Future[Parsed | None] | None = None
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._finished = threading.Event()

    # -- sync ----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Parsed]:
        """The batches; each is asked for under the context that is current then."""
        return self

    def __next__(self) -> Parsed:
        with self._lock:
            if self._batches is None:
                if self._ended:
                    raise StopIteration
                self._owner = os.getpid()
                self._batches = self._work()
            if self._owner != os.getpid():
                raise ClosedError(f"{self.name} runs in process {self._owner}, not in this fork")
            return next(self._batches)

    def records(self) -> Iterator[Record]:
        """The records, one by one."""
        for batch in self:
            yield from batch.records

    def run(self, sink: Sink | Callable[[Parsed], object]) -> Account:
        """Hand every batch to ``sink`` until the source ends.

        Args:
            sink: One of `hastack.observe.logs.sinks`, or a callable that takes a `Parsed`. It is
                flushed at the end, also after a failure, and not closed.

        Returns:
            What became of every line.

        Raises:
            Cancelled: The current context was cancelled.
            DeadlineExceeded: Its deadline passed.
            OSError: The source or the sink failed.
            WorkerDied: A process died on the same batch again and again.
        """
        write = getattr(sink, "write", sink)
        if not callable(write):
            raise InvalidArgument("sink", sink, "a sink, or a callable that takes a batch")
        flush = getattr(sink, "flush", None)
        self._encode = getattr(sink, "encoder", None)
        try:
            for batch in self:
                write(batch)
        finally:
            self.close()
            if flush is not None:
                flush()
        return self.account()

    def stop(self) -> None:
        """End after what has been read. Any thread and any signal handler may call it."""
        self._source.stop()

    def drain(self) -> None:
        """`stop`, and wait until a run on another thread has delivered what was read.

        The drain of a component of `hastack.lifecycle.Lifecycle`; waits as long as the current
        context allows.

        Raises:
            TimeoutError: It has not, in that time.
        """
        self.stop()
        if self._owner != os.getpid():
            return  # nothing runs here
        ctx = _context.current()
        while not self._finished.wait(LOOK):
            ctx.check()

    def close(self) -> None:
        """Let go of source and processes. What was read and not yet delivered is not counted."""
        if self._owner not in {0, os.getpid()}:
            return  # the parent's files and processes are not ours
        self._source.stop()
        self._ended = True
        # Whoever is inside ends by itself now, and lets go of everything on the way out.
        if self._lock.acquire(timeout=_PATIENCE):
            try:
                if self._batches is None:
                    self._source.close()
                else:
                    self._batches.close()
            finally:
                self._lock.release()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def account(self) -> Account:
        """What became of every line up to now."""
        tallies = self._source.tallies()
        return self._ledger.account(
            bytes_read=tallies.bytes_read,
            cut_lines=tallies.cut_lines,
            cut_bytes=tallies.cut_bytes,
            dropped=tallies.dropped,
            damaged=tallies.damaged,
            undelivered=self._taken - self._ledger.lines,
            folded=0 if self._fold is None else self._fold.folded,
        )

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes read, and bytes in all as far as that is known; 0 otherwise."""
        tallies = self._source.tallies()
        return tallies.bytes_read, tallies.total

    # -- async ---------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Parsed]:
        """The batches, made on a thread. A step that is cancelled is taken up by the next one."""
        return self

    async def __anext__(self) -> Parsed:
        batch = await self._step()
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def _step(self) -> Parsed | None:
        import asyncio

        if isinstance(self._source, AsyncLineSource):
            self._source.bind(asyncio.get_running_loop())
        if self._stepping is None:
            self._stepping = _on_thread(lambda: next(self, None))
        step = self._stepping
        batch = await asyncio.shield(step)
        self._stepping = None
        return batch

    async def records_async(self) -> AsyncIterator[Record]:
        """The records, one by one."""
        async for batch in self:
            for record in batch.records:
                yield record

    async def run_async(self, sink: Sink | Callable[[Parsed], object]) -> Account:
        """Like `run`. Coroutine functions are awaited, other sinks run on a thread.

        Cancelling the task ends the run; what was read and not delivered is in
        `Account.undelivered`.
        """
        import asyncio

        write = getattr(sink, "write", sink)
        if not callable(write):
            raise InvalidArgument("sink", sink, "a sink, or a callable that takes a batch")
        flush = getattr(sink, "flush", None)
        self._encode = getattr(sink, "encoder", None)
        try:
            async for batch in self:
                if inspect.iscoroutinefunction(write):
                    await write(batch)
                else:
                    await asyncio.shield(_on_thread(lambda batch=batch: write(batch)))  # type: ignore[misc]
        finally:
            await self.aclose()
            if flush is not None:
                done = flush()
                if inspect.isawaitable(done):
                    await done
        return self.account()

    async def aclose(self) -> None:
        """Like `close`, without blocking the loop."""
        import asyncio

        self._source.stop()
        await asyncio.shield(_on_thread(self.close))

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # -- inside --------------------------------------------------------------------------------

    def _work(self) -> Generator[Parsed, None, None]:
        began = time.monotonic()
        error = ""
        if _events.RUN_STARTED.subscribers:
            _events.RUN_STARTED.publish(_events.RunStarted(name=self.name))
        try:
            for work, batch in self._inline() if self._processes == 1 else self._pooled():
                yield self._finish(work, batch)
                for position in work.positions:
                    if position is not None:
                        self._source.settle(position)
        except GeneratorExit:
            error = "closed"
            raise
        except BaseException as caught:
            error = str(caught) or repr(caught)
            raise
        finally:
            self._ended = True
            self._source.close()
            self._finished.set()
            if _events.RUN_ENDED.subscribers:
                _events.RUN_ENDED.publish(
                    _events.RunEnded(
                        name=self.name,
                        took=time.monotonic() - began,
                        lines=self._ledger.lines,
                        rejects=self._ledger.rejects,
                        error=error,
                    )
                )

    def _inline(self) -> Iterator[tuple[Work, BatchLike]]:
        parser = parser_of(self._parser)
        for work in self._gathered():
            if work is not None:
                yield work, parser.parse_lines(work.take())

    def _pooled(self) -> Iterator[tuple[Work, BatchLike]]:
        from ._workers import Pool

        pool = Pool(self._job(), self._processes, retries=self._retries, name=self.name)
        waiting: deque[tuple[Work, Ticket]] = deque()
        try:
            for work in self._gathered():
                if work is not None:
                    waiting.append((work, pool.submit(work)))
                while waiting and (len(waiting) >= pool.window or waiting[0][1].done.is_set()):
                    yield self._result(*waiting.popleft())
            while waiting:
                yield self._result(*waiting.popleft())
        finally:
            pool.close()
            self._ledger.retried += pool.retried

    def _job(self) -> Job:
        """What can be done in a worker: what keeps nothing in mind that would be lost there."""
        from ._workers import Job

        if not all(isinstance(stage, Schemas) for stage in self._stages):
            return Job(self._parser)
        schemas, self._stages = self._stages, ()
        if self._where is not None and not isinstance(self._where, Where):
            return Job(self._parser, schemas)
        where, self._where = self._where, None
        return Job(self._parser, schemas, where, None if self._redact else self._encode)

    def _result(self, work: Work, ticket: Ticket) -> tuple[Work, BatchLike]:
        while not ticket.done.wait(LOOK):
            _context.current().check()
        return work, ticket.result()

    def _gathered(self) -> Iterator[Work | None]:
        """Full batches of lines; ``None`` whenever the source has nothing."""
        batcher = Batcher(self._rules)
        fold = self._fold
        try:
            for chunk in self._source.chunks(self._rules):
                now = time.monotonic()
                if chunk is not None and (chunk.lines or chunk.data is not None):
                    for folded in (chunk,) if fold is None else fold.add(chunk, now):
                        yield from self._noted(batcher.add(folded, now))
                elif fold is not None:
                    for folded in fold.poll(now):
                        yield from self._noted(batcher.add(folded, now))
                yield from self._noted(batcher.poll(now))
                yield None
        except ContextError:
            # What has been gathered would be lost for good where nothing can be read twice.
            yield from self._rest(batcher)
            raise
        yield from self._rest(batcher)

    def _rest(self, batcher: Batcher) -> Iterator[Work]:
        if self._fold is not None:
            for folded in self._fold.flush():
                yield from self._noted(batcher.add(folded, time.monotonic()))
        yield from self._noted(batcher.flush())

    def _noted(self, works: Iterator[Work]) -> Iterator[Work]:
        for work in works:
            self._taken += work.count
            yield work

    def _finish(self, work: Work, batch: BatchLike) -> Parsed:
        for stage in self._stages:
            stage.apply(batch)
        if not self._ledger.book(work.source, work.count, batch):
            raise LinesLost(
                f"{work.count} lines of {work.source} gave {len(batch.records)} records and "
                f"{len(batch.rejects)} rejects"
            )
        first = work.first
        records, formats = batch.records, batch.formats
        numbers = [first + number for number in batch.numbers] if first else batch.numbers
        if self._where is not None:
            keep = [bool(self._where(record)) for record in records]
            self._ledger.filtered += len(keep) - sum(keep)
            records = list(compress(records, keep))
            formats = list(compress(formats, keep))
            numbers = list(compress(numbers, keep))
        encoded: bytes | None = getattr(batch, "encoded", None)
        parsed = Parsed(
            work.source, records, formats, numbers, batch.rejects, first, work.count, encoded
        )
        if self._redact is not None:
            self._redact.apply(parsed)
            if parsed.rejects:
                parsed = attrs.evolve(parsed, rejects=redacted(self._redact, parsed.rejects))
        return parsed

    def __repr__(self) -> str:
        return f"<Engine {self.name!r}: {self.account()}>"


def parser_of(given: Any) -> ParserLike:
    """The parser that is meant by an engine's argument."""
    if given is None:
        face: Any = importlib.import_module("hastack.observe.logs")
        given = face.Parser
    parser: ParserLike = (
        given if not isinstance(given, type) and hasattr(given, "parse_lines") else given()
    )
    return parser


def _on_thread(work: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run ``work`` under the context of here on a daemon thread.

    No executor: the interpreter joins its threads at exit, and a follower may wait for ever.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    variables = copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = variables.run(work)
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="hastack-logs-step", daemon=True).start()
    return future
