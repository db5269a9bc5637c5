"""Worker processes that parse batches: handed out in any order, taken back in the right one.

Each process has a thread here that gives it a batch and waits for the answer, so that neither side
ever writes while the other does. A batch stays here until it is answered: when the process dies,
its thread starts another and gives it the same batch.

The processes are spawned, never forked: a fork of a process with threads may hang.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._errors import InvalidArgument, WorkerDied

from . import _engine_events as _events
from ._lines import lines_of
from ._run_account import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from ._batching import Work
    from ._protocols import BatchLike, FormatLike, Line, Record, Stage

__all__ = ("Pool", "Ticket")

_END = b""


@final
@attrs.frozen
class FormatName:
    """A format whose grammar stayed in a worker process."""

    name: str
    fields: Mapping[str, str]

    def try_parse(self, line: str) -> Record | None:
        """Nothing: the grammar is not here."""
        return None

    def explain(self, line: str) -> object | None:
        """Nothing: the grammar is not here."""
        return None


@final
@attrs.frozen
class Refused:
    """A reject that crossed from one process to another."""

    line: Line
    number: int
    reason: str


@final
@attrs.define
class Answer:
    """The batch of a worker."""

    records: list[Record]
    formats: list[FormatLike]
    numbers: list[int]
    rejects: list[Refused]
    counts: object = None
    tally: Tally | None = None
    encoded: bytes | None = None


@final
@attrs.frozen
class Job:
    """What a worker process does with lines: read them, and perhaps more.

    Attributes:
        parser: As for `Engine`.
        schemas: Applied there.
        where: Chooses there.
        encode: Makes bytes of a batch there, so that no record has to cross.
    """

    parser: Any
    schemas: tuple[Stage, ...] = ()
    where: Callable[[Record], object] | None = None
    encode: Callable[[BatchLike], bytes] | None = None


@final
class Ticket:
    """A batch that is being parsed."""

    __slots__ = ("_answer", "_error", "done", "message", "what")

    def __init__(self, message: bytes, what: str) -> None:
        self.message = message
        self.what = what
        self.done = threading.Event()
        self._answer: bytes = b""
        self._error: BaseException | None = None

    def settle(self, answer: bytes) -> None:
        """It is parsed."""
        self._answer = answer
        self.message = b""
        self.done.set()

    def fail(self, error: BaseException) -> None:
        """It cannot be parsed."""
        self._error = error
        self.message = b""
        self.done.set()

    def result(self) -> BatchLike:
        """The batch; wait for ``done`` first.

        Raises:
            WorkerDied: Its process died, again and again.
            Exception: What the parser raised.
        """
        if self._error is not None:
            raise self._error
        found = pickle.loads(self._answer)  # noqa: S301  # our own process wrote it
        if isinstance(found, BaseException):
            raise found
        records, names, which, numbers, rejects, counts, tally, encoded = found
        table: list[FormatLike] = [FormatName(name, fields) for name, fields in names]
        return Answer(
            records,
            [table[index] for index in which],
            numbers,
            [Refused(*each) for each in rejects],
            counts,
            tally,
            encoded,
        )


@final
class Pool:
    """Processes that parse.

    Args:
        job: What each of them does.
        processes: How many.
        retries: How often one batch is given to another process.
        name: For events.

    Raises:
        InvalidArgument: The parser cannot be pickled, or this process may have no children.
    """

    def __init__(
        self,
        job: Job,
        processes: int,
        *,
        retries: int,
        name: str,
    ) -> None:
        if multiprocessing.current_process().daemon:
            raise InvalidArgument(
                "processes", processes, "1 in a daemonic process, which may have no children"
            )
        try:
            self._job = pickle.dumps(job)
        except Exception as error:
            raise InvalidArgument(
                "parser", job.parser, f"something that can be pickled, or a callable ({error})"
            ) from None
        self._retries = retries
        self._name = name
        self.window = processes * 3
        self.retried = 0
        self._tasks: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._closed = False
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._live: set[BaseProcess] = set()
        self._threads = [
            threading.Thread(target=self._serve, name=f"hastack-logs-worker-{n}", daemon=True)
            for n in range(processes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        with self._lock:
            return [each.pid for each in self._live if each.pid is not None]

    def submit(self, work: Work) -> Ticket:
        """Have a batch parsed. At most `window` are to be out at a time."""
        ticket = Ticket(
            pickle.dumps(work.data if work.data is not None else work.lines),
            f"lines {work.first} to {work.first + work.count} of {work.source}",
        )
        self._tasks.put(ticket)
        return ticket

    def close(self) -> None:
        """End the processes; batches that are out are given up."""
        if self._owner != os.getpid():
            return
        self._closed = True
        with self._lock:
            live = list(self._live)
        for process in live:
            process.terminate()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(5.0)

    # -- one thread for each process -----------------------------------------------------------

    def _serve(self) -> None:
        link: Connection | None = None
        process: BaseProcess | None = None
        while True:
            ticket = self._tasks.get()
            if ticket is None or self._is_closed():
                break
            for attempt in range(self._retries + 1):
                if process is None:
                    try:
                        process, link = self._start()
                    except Exception as error:  # no more processes, no more memory
                        ticket.fail(error)
                        break
                assert link is not None
                try:
                    link.send_bytes(ticket.message)
                    answer = link.recv_bytes()
                except (EOFError, OSError):
                    status = self._bury(process, link)
                    process = link = None
                    if self._is_closed() or attempt == self._retries:
                        ticket.fail(WorkerDied(ticket.what, status))
                        break
                    self._say(status)
                else:
                    ticket.settle(answer)
                    break
        if process is not None and link is not None:
            self._bury(process, link)

    def _is_closed(self) -> bool:
        return self._closed

    def _say(self, status: int) -> None:
        with self._lock:
            self.retried += 1
        if _events.WORKER_RESTARTED.subscribers:
            _events.WORKER_RESTARTED.publish(
                _events.WorkerRestarted(name=self._name, exit_status=status)
            )

    def _start(self) -> tuple[BaseProcess, Connection]:
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        process = spawn.Process(
            target=serve, args=(there, self._job), name="hastack-logs-worker", daemon=True
        )
        # Ctrl-C goes to the whole terminal; until the child ignores it, its mask does.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        with self._lock:
            self._live.add(process)
            closed = self._closed
        if closed:
            process.terminate()
        return process, here

    def _bury(self, process: BaseProcess, link: Connection) -> int:
        link.close()
        process.join(2.0)
        if process.exitcode is None:
            process.kill()
            process.join(2.0)
        with self._lock:
            self._live.discard(process)
        status = process.exitcode if process.exitcode is not None else -9
        if process.exitcode is not None:
            process.close()
        return status


def serve(link: Connection, pickled: bytes) -> None:
    """What a worker process does: parse batches until the other side is gone."""
    from .engine import parser_of

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    job: Any = None
    parser: Any = None
    while True:
        try:
            message = link.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            if parser is None:
                job = pickle.loads(pickled)  # noqa: S301  # our own process wrote it
                parser = parser_of(job.parser)
            given = pickle.loads(message)  # noqa: S301  # the same
            lines = lines_of(given) if isinstance(given, bytes) else given
            answer = pickle.dumps(_done(job, parser.parse_lines(lines)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            answer = _pickled_error(error)
        try:
            link.send_bytes(answer)
        except OSError:
            return


def _done(job: Job, batch: BatchLike) -> tuple[Any, ...]:
    """What is to be sent back: as little as the job allows."""
    for schema in job.schemas:
        schema.apply(batch)
    records, formats, numbers = batch.records, batch.formats, batch.numbers
    tally = None
    if job.where is not None or job.encode is not None:
        by_format = Counter(each.name for each in formats)
        total = len(records)
        if job.where is not None:
            keep = [bool(job.where(record)) for record in records]
            records = list(compress(records, keep))
            formats = list(compress(formats, keep))
            numbers = list(compress(numbers, keep))
        tally = Tally(total, total - len(records), dict(by_format))
    chosen = Answer(records, list(formats), list(numbers), [])
    encoded = None
    if job.encode is not None:
        encoded = job.encode(chosen)
        chosen = Answer([], [], [], [])
    rejects = [(each.line, each.number, each.reason) for each in batch.rejects]
    return (*_plain(chosen), rejects, getattr(batch, "counts", None), tally, encoded)


def _plain(batch: BatchLike) -> tuple[Any, ...]:
    """Records without their formats, whose grammars cannot cross."""
    table: dict[str, int] = {}
    names: list[tuple[str, dict[str, str]]] = []
    which: list[int] = []
    for each in batch.formats:
        index = table.get(each.name)
        if index is None:
            index = table[each.name] = len(names)
            names.append((each.name, dict(each.fields)))
        which.append(index)
    return batch.records, names, which, list(batch.numbers)


def _pickled_error(error: Exception) -> bytes:
    try:
        message = pickle.dumps(error)
        pickle.loads(message)  # noqa: S301  # some errors can be pickled and not unpickled
    except Exception:
        return pickle.dumps(RuntimeError(repr(error)))
    return message
