"""How many lines go through the engine at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

from hastack._core import _validate

from ._lines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hastack._core._validate import Seconds

    from ._protocols import Line

__all__ = ("Batcher", "Batching", "Chunk", "Work")


def _whole(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    _validate.integer(attribute.name, value)


def _seconds(value: Seconds) -> float:
    return _validate.seconds("linger", value, zero=True)


@final
@attrs.frozen
class Batching:
    """When a batch is full.

    Args:
        lines: Most lines in it.
        bytes: Most bytes in it, a single longer line excepted; also how much is read at once.
        linger: Seconds that a line of a live source waits for others at most.

    Raises:
        InvalidArgument: A bound is not above zero; ``linger`` is negative.

    Example:
        >>> from hastack.observe import logs
        >>> logs.Batching(lines=500).linger
        0.05
    """

    lines: int = attrs.field(default=5000, validator=_whole)
    bytes: int = attrs.field(default=1 << 18, validator=_whole)
    linger: float = attrs.field(default=0.05, converter=_seconds)


@final
@attrs.define
class Chunk:
    """Whole lines that a source read at once.

    Attributes:
        source: Where from, in words.
        data: The lines with line feeds between them; or else
        lines: The lines, which may contain anything.
        size: Bytes read for them.
        position: What the source is told with `settle` once they were delivered.
        live: More may come soon, so that others may join the batch.
    """

    source: str
    data: bytes | None = None
    lines: list[Line] = attrs.Factory(list)
    size: int = 0
    position: object = None
    live: bool = False


@final
@attrs.define
class Work:
    """What becomes one batch: lines of one source.

    Attributes:
        data: As in `Chunk`.
        count: The number of lines.
        positions: Of the chunks that end in here.
        first: Number of its first line in its source, from 0.
    """

    source: str
    data: bytes | None
    lines: list[Line]
    count: int
    size: int
    positions: list[object]
    first: int = 0

    def take(self) -> list[Line]:
        """The lines."""
        return self.lines if self.data is None else lines_of(self.data)


class Batcher:
    """Cuts large chunks, and gathers those of live sources until enough or ``linger`` is over."""

    def __init__(self, rules: Batching) -> None:
        self._rules = rules
        self._open: Work | None = None
        self._since = 0.0
        self._lines: dict[str, int] = {}

    def add(self, chunk: Chunk, now: float) -> Iterator[Work]:
        """Batches that are full with ``chunk``."""
        for piece in self._cut(chunk):
            gathered = self._open
            if gathered is not None and not self._fits(gathered, piece):
                yield from self.flush()
                gathered = None
            if gathered is not None:
                gathered.lines.extend(piece.take())
                gathered.count += piece.count
                gathered.size += piece.size
                gathered.positions += piece.positions
            elif not chunk.live:
                yield self._numbered(piece)
                continue
            else:
                piece.lines, piece.data = list(piece.take()), None
                self._open, self._since = piece, now
                gathered = piece
            full = gathered.count >= self._rules.lines or gathered.size >= self._rules.bytes
            if full or not chunk.live:
                yield from self.flush()

    def poll(self, now: float) -> Iterator[Work]:
        """What has waited long enough."""
        if self._open is not None and now >= self._since + self._rules.linger:
            yield from self.flush()

    def flush(self) -> Iterator[Work]:
        """What is gathered."""
        work, self._open = self._open, None
        if work is not None:
            yield self._numbered(work)

    def _fits(self, gathered: Work, piece: Work) -> bool:
        return (
            gathered.source == piece.source
            and gathered.count + piece.count <= self._rules.lines
            and gathered.size + piece.size <= self._rules.bytes
        )

    def _numbered(self, work: Work) -> Work:
        work.first = self._lines.get(work.source, 0)
        self._lines[work.source] = work.first + work.count
        return work

    def _cut(self, chunk: Chunk) -> Iterator[Work]:
        most = self._rules.lines
        if chunk.data is not None:
            count = chunk.data.count(b"\n") + 1
            if count <= most:
                yield Work(chunk.source, chunk.data, [], count, chunk.size, [chunk.position])
                return
            lines = lines_of(chunk.data)
        else:
            lines = chunk.lines
        for start in range(0, len(lines), most):
            part = lines[start : start + most]
            last = start + most >= len(lines)
            # The position belongs to the end of the chunk, and so do the bytes that were read.
            yield Work(
                chunk.source,
                None,
                part,
                len(part),
                chunk.size if last else 0,
                [chunk.position] if last else [],
            )
