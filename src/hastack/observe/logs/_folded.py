"""Lines put together on their way from a source to the batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final

import attrs

from ._batching import Chunk
from ._lines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._protocols import Line, RejectLike, Stage

__all__ = ("Fold", "Folded", "redacted")

_PATIENCE = 1.0  # seconds for the next line to come and go on with the last one


class Fold(Protocol):
    """Puts lines together."""

    @property
    def folded(self) -> int:
        """Lines that went to one before them."""
        ...

    def push(self, line: Line, /) -> list[Line]:
        """What is complete now that ``line`` came."""
        ...

    def flush(self) -> list[Line]:
        """What is held back."""
        ...


@final
class Folded:
    """Runs the lines of chunks through a `Fold`, which always holds back the last one.

    A position goes with the chunk that brings out all that was read before it.
    """

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._source = ""
        self._positions: list[object] = []
        self._since: float | None = None

    @property
    def folded(self) -> int:
        """Lines that are not lines of their own any more."""
        return self._fold.folded

    def add(self, chunk: Chunk, now: float) -> Iterator[Chunk]:
        """What is complete now."""
        if chunk.source != self._source:
            yield from self.flush()
            self._source = chunk.source
        lines = chunk.lines if chunk.data is None else lines_of(chunk.data)
        out: list[Line] = []
        for line in lines:
            out += self._fold.push(line)
        if out:
            yield self._chunk(out, chunk.size, live=chunk.live)
        if chunk.position is not None:
            self._positions = [chunk.position]
        self._since = now

    def poll(self, now: float) -> Iterator[Chunk]:
        """Nothing came: what has waited long enough goes."""
        if self._since is not None and now >= self._since + _PATIENCE:
            yield from self.flush()

    def flush(self) -> Iterator[Chunk]:
        """What is held back."""
        self._since = None
        out = self._fold.flush()
        if out:
            yield self._chunk(out, 0, live=True)

    def _chunk(self, lines: list[Line], size: int, *, live: bool) -> Chunk:
        position = self._positions.pop() if self._positions else None
        return Chunk(self._source, lines=lines, size=size, position=position, live=live)


@attrs.frozen
class _Redacted:
    """A reject without what must not be seen."""

    line: Line
    number: int
    reason: str


def redacted(stage: Stage, rejects: Sequence[RejectLike]) -> Sequence[RejectLike]:
    """Rejects whose lines went through a redaction, too, if it knows lines."""
    clean: Any = getattr(stage, "lines", None)
    if clean is None:
        return rejects
    texts = [
        each.line if isinstance(each.line, str) else each.line.decode("utf-8", "replace")
        for each in rejects
    ]
    return [
        _Redacted(line, each.number, each.reason)
        for line, each in zip(clean(texts), rejects, strict=True)
    ]
