"""Where lines come from: files, archives, standard input, any iterable.

`Follow` and `SyslogListener` are sources, too. An own one needs the four methods of `Source`.

Example:
    >>> from hastack.observe import logs
    >>> from hastack.observe.logs import sources
    >>> source = sources.LineSource(["a", "b"])
    >>> [chunk.lines for chunk in source.chunks(logs.Batching())]
    [['a', 'b']]
"""

from __future__ import annotations

import io
import itertools
import os
import select
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, final

from hastack import context as _context
from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer

from ._archive import Damaged, Inflater, kind_of
from ._batching import Batching, Chunk
from ._engine_events import SOURCE_DAMAGED, SourceDamaged
from ._lines import LineSplitter, Utf8

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

    from ._protocols import Line

__all__ = (
    "AsyncLineSource",
    "Chunk",
    "Files",
    "LineSource",
    "Source",
    "Stream",
    "Tallies",
    "source_of",
)

MAX_LINE = 1 << 20
"""Bytes of a line that are kept unless said otherwise."""

LOOK = 0.1
"""Seconds between two looks of a live source at its context and at what has gathered."""


class Source(Protocol):
    """Where an engine takes its lines from. One run, one thread at a time."""

    def chunks(self, rules: Batching) -> Iterator[Chunk | None]:
        """LineSource as they come; ``None`` when there is nothing right now, ten times a second.

        The current context is that of the run: whoever waits looks at it.
        """
        ...

    def settle(self, position: object) -> None:
        """What was read up to ``position`` has been delivered."""
        ...

    def stop(self) -> None:
        """Take nothing new; end when what was taken is handed out. Any thread may call it."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...

    def tallies(self) -> Tallies:
        """What it counted."""
        ...


@final
class Tallies:
    """The counts of a source.

    Attributes:
        bytes_read: As they were stored or sent.
        cut_lines: LineSource that were longer than its bound.
        cut_bytes: What was left out of them.
        dropped: Messages lost, by reason.
        damaged: What could not be read to its end, and why.
        total: Bytes in all, as far as it is known; 0 otherwise.
    """

    __slots__ = ("bytes_read", "cut_bytes", "cut_lines", "damaged", "dropped", "total")

    def __init__(self) -> None:
        self.bytes_read = 0
        self.cut_lines = 0
        self.cut_bytes = 0
        self.dropped: dict[str, int] = {}
        self.damaged: dict[str, str] = {}
        self.total = 0

    def hurt(self, name: str, reason: str) -> None:
        """Note that a source could not be read to its end."""
        self.damaged[name] = reason
        if SOURCE_DAMAGED.subscribers:
            SOURCE_DAMAGED.publish(SourceDamaged(name=name, reason=reason))


class _Plain:
    """What sources without a position share."""

    def __init__(self, max_line: int) -> None:
        self._max_line = integer("max_line", max_line)
        self._tallies = Tallies()
        self._stopped = False

    def settle(self, position: object) -> None:
        """Nothing to keep."""

    def stop(self) -> None:
        """End after the lines at hand."""
        self._stopped = True

    def close(self) -> None:
        """Everything is closed as it ends."""

    def tallies(self) -> Tallies:
        """What it counted."""
        return self._tallies

    def _whole(self, source: str, splitter: LineSplitter, piece: bytes, size: int) -> Chunk:
        data = splitter.feed(piece)
        self._note_cuts(splitter)
        return Chunk(source, data, size=size) if data is not None else Chunk(source, size=size)

    def _last(self, source: str, splitter: LineSplitter, utf8: Utf8) -> Iterator[Chunk]:
        rest = self._whole(source, splitter, utf8.finish(), 0)
        if rest.data is not None:
            yield rest
        last = splitter.finish()
        if last is not None:
            yield Chunk(source, last)

    def _note_cuts(self, splitter: LineSplitter) -> None:
        self._tallies.cut_lines += splitter.cut_lines
        self._tallies.cut_bytes += splitter.cut_bytes
        splitter.cut_lines = splitter.cut_bytes = 0


@final
class Files(_Plain):
    r"""Files one after the other, each to the end it has when it is reached.

    What is compressed with gzip, bzip2, xz or zstd is unpacked; its content says so, not its name.
    An archive that ends too early, or is damaged, gives what can be read and is noted in
    `Account.damaged`.

    Named pipes and devices are read as `Stream` does it.

    Args:
        *paths: Files.
        max_line: Bytes of a line that are kept; the rest of it is counted as cut.

    Raises:
        InvalidArgument: There are no paths.
        OSError: A file cannot be opened or read.

    Example:
        >>> import pathlib, tempfile
        >>> from hastack.observe import logs
        >>> from hastack.observe.logs import sources
        >>> path = pathlib.Path(tempfile.mkdtemp(), "app.log")
        >>> _ = path.write_text("one\ntwo")
        >>> [chunk.data for chunk in sources.Files(path).chunks(logs.Batching())]
        [b'one', b'two']
    """

    def __init__(self, *paths: str | os.PathLike[str], max_line: int = MAX_LINE) -> None:
        super().__init__(max_line)
        if not paths:
            raise InvalidArgument("paths", paths, "at least one path")
        self._paths = [Path(path) for path in paths]

    def chunks(self, rules: Batching) -> Iterator[Chunk | None]:
        """The lines of one file after the other."""
        for path in self._paths:
            if path.is_file():
                self._tallies.total += path.stat().st_size
        for path in self._paths:
            # A pipe that nobody writes to would hold up open() for ever without this.
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(number, "rb", buffering=0) as file:
                if stat.S_ISREG(os.fstat(number).st_mode):
                    yield from self._of(str(path), file, rules)
                else:
                    yield from self._piped(str(path), file, rules)
            if self._stopped:
                return

    def _piped(self, name: str, file: Any, rules: Batching) -> Iterator[Chunk | None]:
        stream = Stream(file, name=name, max_line=self._max_line)
        stream._tallies = self._tallies
        for chunk in stream.chunks(rules):
            if self._stopped:
                stream.stop()
            yield chunk

    def _of(self, name: str, file: Any, rules: Batching) -> Iterator[Chunk | None]:
        splitter = LineSplitter(self._max_line)
        utf8 = Utf8()
        head = file.read(6)
        kind = kind_of(head)
        file.seek(0)
        plain = self._unpack(name, kind, file, rules) if kind else self._read(file, rules)
        for piece, size in plain:
            if self._stopped:
                return
            _context.current().check()
            chunk = self._whole(name, splitter, utf8.feed(piece), size)
            if chunk.data is not None:
                yield chunk
        yield from self._last(name, splitter, utf8)

    def _read(self, file: Any, rules: Batching) -> Iterator[tuple[bytes, int]]:
        # Up to the end of now: one that is written to faster than it is read has no other.
        left = os.fstat(file.fileno()).st_size
        bounded = left > 0  # those of /proc say that they are empty
        while not bounded or left > 0:
            piece = file.read(min(rules.bytes, left) if bounded else rules.bytes)
            if not piece:
                return
            left -= len(piece)
            self._tallies.bytes_read += len(piece)
            yield piece, len(piece)

    def _unpack(
        self, name: str, kind: str, file: Any, rules: Batching
    ) -> Iterator[tuple[bytes, int]]:
        inflater = Inflater(kind, rules.bytes)
        try:
            while packed := file.read(1 << 16):
                self._tallies.bytes_read += len(packed)
                for piece in inflater.feed(packed):
                    yield piece, len(piece)
            inflater.finish()
        except Damaged as damage:
            self._tallies.hurt(name, str(damage))


@final
class Stream(_Plain):
    """An open binary file, pipe or terminal; standard input by default.

    What is compressed is unpacked, as with `Files`. A pipe is waited for without holding up
    the context. The stream is not closed. If something was read from it before, what it holds in its
    buffer comes with the next bytes that arrive.

    Args:
        stream: Something with ``fileno`` or ``read1``/``read``, in binary.
        name: What the account calls it.
        max_line: As with `Files`.
    """

    def __init__(
        self,
        stream: BinaryIO | None = None,
        *,
        name: str | None = None,
        max_line: int = MAX_LINE,
    ) -> None:
        super().__init__(max_line)
        self._stream: Any = stream if stream is not None else sys.stdin.buffer
        self._name = name or str(getattr(self._stream, "name", "stream"))

    def chunks(self, rules: Batching) -> Iterator[Chunk | None]:
        """LineSource as they arrive."""
        splitter = LineSplitter(self._max_line)
        utf8 = Utf8()
        inflater: Inflater | None = None
        first = True
        for packed in self._pieces(rules.bytes):
            if packed is None:
                yield None
                continue
            self._tallies.bytes_read += len(packed)
            if first:
                kind = kind_of(packed)
                inflater = Inflater(kind, rules.bytes) if kind else None
                first = False
            if inflater is None:
                chunk = self._whole(self._name, splitter, utf8.feed(packed), len(packed))
                chunk.live = True
                yield chunk if chunk.data is not None else None
                continue
            try:
                for piece in inflater.feed(packed):
                    chunk = self._whole(self._name, splitter, utf8.feed(piece), len(piece))
                    if chunk.data is not None:
                        yield chunk
            except Damaged as damage:
                self._tallies.hurt(self._name, str(damage))
                break
        else:
            if inflater is not None and not self._stopped:
                try:
                    inflater.finish()
                except Damaged as damage:
                    self._tallies.hurt(self._name, str(damage))
        yield from self._last(self._name, splitter, utf8)

    def _pieces(self, size: int) -> Iterator[bytes | None]:
        try:
            number = self._stream.fileno()
        except (AttributeError, OSError, ValueError):
            read = getattr(self._stream, "read1", self._stream.read)
            while not self._stopped and (piece := read(size)):
                _context.current().check()
                yield piece
            return
        ready = select.poll()  # select() knows the first 1024 descriptors only
        ready.register(number, select.POLLIN | select.POLLHUP)
        # By way of the stream, not of its number: what it has buffered would be lost.
        read = getattr(self._stream, "read1", self._stream.read)
        while not self._stopped:
            ctx = _context.current()
            ctx.check()
            left = ctx.remaining()
            pause = LOOK if left is None else min(LOOK, left)
            if not ready.poll(pause * 1e3):
                yield None
                continue
            piece = read(size)
            if piece is None:  # it does not block, and somebody else was faster
                continue
            if not piece:
                return
            yield piece


@final
class LineSource(_Plain):
    """LineSource that somebody else reads: any iterable of text or bytes, endless ones too.

    Args:
        lines: With or without line feeds at their ends, which are taken off.
        name: What the account calls it.
        live: Whether lines come slowly, so that a batch goes with its first line rather than
            waiting for others. An iterator cannot be asked whether it would wait.
    """

    def __init__(self, lines: Iterable[Line], *, name: str = "lines", live: bool = False) -> None:
        super().__init__(MAX_LINE)
        self._lines = lines
        self._name = name
        self._live = live

    def chunks(self, rules: Batching) -> Iterator[Chunk | None]:
        """The lines, so many at a time."""
        lines = iter(self._lines)
        most = 1 if self._live else rules.lines
        while not self._stopped:
            _context.current().check()
            taken = [_bare(line) for line in itertools.islice(lines, most)]
            if not taken:
                return
            size = sum(map(len, taken))
            self._tallies.bytes_read += size
            yield Chunk(self._name, lines=taken, size=size)


@final
class AsyncLineSource(_Plain):
    """LineSource from an asynchronous iterable, for engines that are iterated with ``async for``.

    Args:
        lines: As with `LineSource`; read on the loop of whoever iterates the engine.
        name: What the account calls it.
    """

    def __init__(self, lines: AsyncIterable[Line], *, name: str = "lines") -> None:
        super().__init__(MAX_LINE)
        self._lines = aiter(lines)
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Future[Line] | None = None
        self._over = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell on which loop the iterable lives."""
        self._loop = loop

    def chunks(self, rules: Batching) -> Iterator[Chunk | None]:
        """What came within 0.1 s, again and again; not on the thread of the loop."""
        import asyncio

        if self._loop is None:
            raise InvalidArgument("source", self._lines, "async for with an asynchronous iterable")
        while not self._over and not self._stopped:
            _context.current().check()
            gathering = asyncio.run_coroutine_threadsafe(self._gather(rules.lines), self._loop)
            taken = gathering.result()
            size = sum(map(len, taken))
            self._tallies.bytes_read += size
            yield Chunk(self._name, lines=taken, size=size, live=True) if taken else None

    async def _gather(self, most: int) -> list[Line]:
        import asyncio

        loop = asyncio.get_running_loop()
        until = loop.time() + LOOK
        taken: list[Line] = []
        while len(taken) < most:
            if self._next is None:
                self._next = asyncio.ensure_future(_anext(self._lines))
            # Not wait_for: cancelling the step would end an asynchronous generator.
            await asyncio.wait({self._next}, timeout=max(0.0, until - loop.time()))
            if not self._next.done():
                break
            step, self._next = self._next, None
            try:
                taken.append(_bare(step.result()))
            except StopAsyncIteration:
                self._over = True
                break
            if loop.time() >= until:
                break
        return taken

    def close(self) -> None:
        """Give up waiting for the next line."""
        if self._next is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._next.cancel)


async def _anext(lines: AsyncIterator[Line]) -> Line:
    return await anext(lines)


def _bare(line: Line) -> Line:
    if isinstance(line, str):
        return line.removesuffix("\n")
    if isinstance(line, (bytes, bytearray, memoryview)):
        line = bytes(line)
        return line[:-1] if line.endswith(b"\n") else line
    raise InvalidArgument("lines", line, "lines as str or bytes")


def _are_paths(given: Any) -> bool:
    if not isinstance(given, (list, tuple)):
        return False
    return bool(given) and all(isinstance(each, Path) for each in given)


def source_of(given: Any) -> Source:
    """The source that is meant: a path, ``"-"`` for standard input, paths, lines, or a source.

    Args:
        given: A `Source`; a path; ``"-"``; an open binary file; a list of `pathlib.Path` objects;
            any other iterable of lines.

    Raises:
        InvalidArgument: It is none of these.
    """
    if isinstance(given, (str, os.PathLike)):
        return Stream() if given == "-" else Files(given)
    if hasattr(given, "chunks") and hasattr(given, "settle"):
        source: Source = given
        return source
    if _are_paths(given):
        return Files(*given)
    if isinstance(given, io.TextIOBase):
        binary: Any = getattr(given, "buffer", None)
        return LineSource(given) if binary is None else Stream(binary)
    if hasattr(given, "read"):
        return Stream(given)
    if hasattr(given, "__aiter__"):
        return AsyncLineSource(given)
    if hasattr(given, "__iter__") and not isinstance(given, (bytes, bytearray)):
        return LineSource(given)
    raise InvalidArgument("source", given, "a path, '-', lines, or a source")
