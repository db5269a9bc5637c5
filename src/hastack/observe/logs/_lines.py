"""Bytes to lines, whatever pieces they come in."""

from __future__ import annotations

import codecs
from typing import final

from ._protocols import Line  # noqa: TC001  # attrs and get_type_hints() want it here

__all__ = ("LineSplitter", "Utf8", "lines_of")


def lines_of(whole: bytes) -> list[Line]:
    r"""The lines of ``whole``, which does not end with a line feed.

    Text when all of it is UTF-8, since a block decodes ten times faster than its lines do; else
    bytes, so that the parser finds and counts what is wrong.
    """
    try:
        return list(whole.decode().split("\n"))
    except UnicodeDecodeError:
        return list(whole.split(b"\n"))


@final
class LineSplitter:
    r"""Cuts a stream of bytes behind its line feeds, and keeps what has no end yet.

    A line longer than the bound is delivered up to there, as soon as it is that long; the rest of
    it is skipped and counted. Memory is bounded by ``max_line`` and one piece.

    Args:
        max_line: Bytes of a line that are kept.

    Example:
        >>> splitter = LineSplitter(max_line=1 << 20)
        >>> splitter.feed(b"GET /\nGET /or"), splitter.feed(b"der\n"), splitter.finish()
        (b'GET /', b'GET /order', None)
    """

    __slots__ = ("_held", "_parts", "_skipping", "cut_bytes", "cut_lines", "max_line")

    def __init__(self, max_line: int) -> None:
        self.max_line = max_line
        self.cut_lines = 0
        self.cut_bytes = 0
        # Pieces of the open line, joined once: adding them up would cost the square of its length.
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False

    @property
    def held(self) -> int:
        """Bytes of the line that has no end yet, those skipped not among them."""
        return self._held

    def feed(self, piece: bytes) -> bytes | None:
        """The whole lines up to now, without the last line feed; ``None`` when there is none."""
        if self._skipping:
            end = piece.find(b"\n")
            if end < 0:
                self.cut_bytes += len(piece)
                return None
            self.cut_bytes += end
            self._skipping = False
            piece = piece[end + 1 :]
        cut = piece.rfind(b"\n")
        if cut < 0:
            return self._keep(piece)
        if self._parts:
            self._parts.append(piece[:cut])
            whole = b"".join(self._parts)
            self._parts.clear()
        else:
            whole = piece[:cut]
        self._held = 0
        over = self._keep(piece[cut + 1 :])
        return whole if over is None else whole + b"\n" + over

    def _keep(self, piece: bytes) -> bytes | None:
        if not piece:
            return None
        self._parts.append(piece)
        self._held += len(piece)
        if self._held <= self.max_line:
            return None
        kept = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        self._skipping = True
        self.cut_lines += 1
        self.cut_bytes += len(kept) - self.max_line
        return kept[: self.max_line]

    def finish(self) -> bytes | None:
        """The last line, if it had no end; after that the splitter is as new."""
        last = b"".join(self._parts) if self._parts else None
        self._parts.clear()
        self._held = 0
        self._skipping = False
        return last


@final
class Utf8:
    """Makes UTF-8 of a stream that says by its first two bytes that it is UTF-16.

    Anything else passes as it is.
    """

    __slots__ = ("_decoder", "_head")

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, piece: bytes) -> bytes:
        """The same in UTF-8, as far as it is whole characters."""
        if self._head is not None:
            piece = self._head + piece
            if len(piece) < 2:
                self._head = piece
                return b""
            self._head = None
            if piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        if self._decoder is None:
            return piece
        return self._decoder.decode(piece).encode("utf-8", "replace")

    def finish(self) -> bytes:
        """What is left at the end."""
        head, self._head = self._head, None
        if self._decoder is not None:
            return self._decoder.decode(b"", final=True).encode("utf-8", "replace")
        return head or b""
