"""Bytes to lines: whatever the encoding, wherever the pieces are cut."""

from __future__ import annotations

import codecs

from hastack._core._errors import InvalidArgument

from ._clean import length

__all__ = ("Lines",)

_BOMS = (
    (codecs.BOM_UTF8, None),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Lines:
    r"""Cuts a stream of bytes into lines, with their ends.

    A byte order mark at its begin says that it is UTF-16; the lines are text then, otherwise they
    are the bytes as they came, for `Parser` to decode. A line that is longer than ``longest`` comes
    in pieces of that size, so that memory is bound; the first of them says it, as no end follows.

    Args:
        longest: Bytes of a line that are kept together, or a text such as ``"16MiB"``.
        encoding: ``"auto"`` looks for a byte order mark; any other name is taken as it is, and
            lines are text.

    Attributes:
        cut: Lines that came in pieces.

    Example:
        >>> from hastack.observe import logs
        >>> lines = logs.Lines()
        >>> lines.feed(b"one\ntw"), lines.feed(b"o\nthr"), lines.close()
        ([b'one\n'], [b'two\n'], [b'thr'])
        >>> logs.Lines().feed("one\ntwo\n".encode("utf-16"))
        ['one\n', 'two\n']
    """

    def __init__(self, *, longest: int | str = "16MiB", encoding: str = "auto") -> None:
        self._longest = length("longest", longest)
        self._head: bytes | None = b"" if encoding == "auto" else None
        self._decoder = None if encoding == "auto" else _decoder(encoding)
        # Pieces of the line that is not ended yet; joined once, so that a long one costs no square.
        self._bytes: list[bytes] = []
        self._texts: list[str] = []
        self._held = 0
        self._in_pieces = False
        self.cut = 0

    def feed(self, data: bytes) -> list[bytes | str]:
        """The lines that ``data`` ends."""
        if self._head is not None:
            data = self._begin(self._head + data)
        if self._decoder is None:
            return self._cut_bytes(data)
        return self._cut_text(self._decoder.decode(data))

    def close(self) -> list[bytes | str]:
        """What is left: the last line, if it has no end."""
        head, self._head = self._head, None
        found: list[bytes | str] = []
        if head:
            found += self._cut_bytes(head)
        if self._decoder is not None:
            found += self._cut_text(self._decoder.decode(b"", final=True))
        rest: bytes | str = "".join(self._texts) if self._texts else b"".join(self._bytes)
        if rest:
            found.append(rest)
        self._forget()
        return found

    def _begin(self, data: bytes) -> bytes:
        for mark, encoding in _BOMS:
            if data.startswith(mark):
                self._head = None
                if encoding is not None:
                    self._decoder = _decoder(encoding)
                    return data[len(mark) :]
                return data  # the parser counts it
            if mark.startswith(data):
                self._head = data  # it may still become one
                return b""
        self._head = None
        return data

    def _cut_bytes(self, data: bytes) -> list[bytes | str]:
        *whole, rest = data.split(b"\n")
        found: list[bytes | str] = []
        for line in whole:
            self._bytes.append(line + b"\n")
            found += self._pieces(b"".join(self._bytes))
            self._forget()
        if rest:
            self._bytes.append(rest)
            self._held += len(rest)
            if self._held >= self._longest:
                *ready, last = self._pieces(b"".join(self._bytes))
                found += ready
                self._keep(last)
        return found

    def _cut_text(self, data: str) -> list[bytes | str]:
        *whole, rest = data.split("\n")
        found: list[bytes | str] = []
        for line in whole:
            self._texts.append(f"{line}\n")
            found += self._pieces("".join(self._texts))
            self._forget()
        if rest:
            self._texts.append(rest)
            self._held += len(rest)
            if self._held >= self._longest:
                *ready, last = self._pieces("".join(self._texts))
                found += ready
                self._keep(last)
        return found

    def _pieces(self, line: bytes | str) -> list[bytes | str]:
        if len(line) <= self._longest:
            return [line]
        if not self._in_pieces:
            self.cut += 1
            self._in_pieces = True
        return [line[at : at + self._longest] for at in range(0, len(line), self._longest)]

    def _keep(self, last: bytes | str) -> None:
        if isinstance(last, str):
            self._texts = [last]
        else:
            self._bytes = [last]
        self._held = len(last)

    def _forget(self) -> None:
        self._bytes.clear()
        self._texts.clear()
        self._held = 0
        self._in_pieces = False


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        return codecs.getincrementaldecoder(encoding)("replace")
    except LookupError:
        raise InvalidArgument("encoding", encoding, "'auto', or an encoding of text") from None
