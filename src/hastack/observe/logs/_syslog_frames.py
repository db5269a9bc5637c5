"""Where a syslog message ends in a stream of bytes (RFC 6587).

Two ways share the same ports: octet counting, ``LENGTH SP MESSAGE``, and a trailer, a line feed as a
rule. A frame that begins with a digit other than 0 and has a space after at most nine of them is
counted; anything else goes to the next line feed (or NUL, which some senders use).
"""

from __future__ import annotations

import re
from typing import final

__all__ = ("Framer", "FramingError")

_COUNT = re.compile(rb"([1-9][0-9]{0,8}) ")
_MAYBE_COUNT = re.compile(rb"[1-9][0-9]{0,8}")
_TRAILER = re.compile(rb"[\n\0]")
_COMPACT = 1 << 16


class FramingError(ValueError):
    """A sender does not keep to the framing; where the next message begins is unknown."""


@final
class Framer:
    r"""Cuts the stream of one connection into messages.

    Args:
        max_message: Bytes of a message that are kept; the rest of it is skipped and counted.
        counted: Whether frames have a count: ``None`` looks at each frame.

    Example:
        >>> framer = Framer(max_message=8192)
        >>> framer.feed(b"5 <1>hi<13>there\n<1>aga")
        [b'<1>hi', b'<13>there']
        >>> framer.held
        6
    """

    __slots__ = (
        "_buffer",
        "_counted",
        "_skip",
        "_skip_line",
        "cut_bytes",
        "cut_lines",
        "max_message",
    )

    def __init__(self, max_message: int, *, counted: bool | None = None) -> None:
        self.max_message = max_message
        self.cut_lines = 0
        self.cut_bytes = 0
        self._counted = counted
        self._buffer = bytearray()
        self._skip = 0  # bytes of a counted message that are left to be skipped
        self._skip_line = False

    @property
    def held(self) -> int:
        """Bytes of the message that is not complete yet."""
        return len(self._buffer)

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer or self._skip or self._skip_line)

    @property
    def counting(self) -> bool:
        """Whether the message that is not complete has a count, and so is known to be torn."""
        return bool(self._skip) or (
            self._counted is not False and _COUNT.match(self._buffer) is not None
        )

    def feed(self, piece: bytes) -> list[bytes]:
        """The messages that are complete now.

        Raises:
            FramingError: With ``counted=True``, a frame has no count. The messages before it
                are lost to the caller, so it is raised with none, on the next call.
        """
        buffer = self._buffer
        buffer += piece
        messages: list[bytes] = []
        at = 0
        while True:
            at = self._skipped(at)
            if at >= len(buffer):
                break
            step = self._next(at, messages)
            if step is None:
                break
            at = step
        del buffer[:at]
        return messages

    def _skipped(self, at: int) -> int:
        buffer = self._buffer
        if self._skip:
            gone = min(self._skip, len(buffer) - at)
            self._skip -= gone
            self.cut_bytes += gone
            return at + gone
        if self._skip_line:
            end = _TRAILER.search(buffer, at)
            if end is None:
                self.cut_bytes += len(buffer) - at
                return len(buffer)
            self.cut_bytes += end.start() - at
            self._skip_line = False
            return end.end()
        return at

    def _next(self, at: int, messages: list[bytes]) -> int | None:
        """Behind the next message, or ``None`` when it is not complete."""
        buffer = self._buffer
        count = None if self._counted is False else _COUNT.match(buffer, at)
        if count is not None:
            size = int(count[1])
            start, end = count.end(), count.end() + size
            if size > self.max_message:
                if len(buffer) - start < self.max_message:
                    return None
                end = start + self.max_message
                self._skip = size - self.max_message
                self.cut_lines += 1
            elif len(buffer) < end:
                return None
            messages.append(bytes(buffer[start:end]))
            return end
        if self._counted is not False:
            maybe = _MAYBE_COUNT.match(buffer, at)
            if maybe is not None and maybe.end() == len(buffer) and maybe.end() - at < 9:
                return None  # a count that has not arrived whole
        if self._counted:
            # A trailer after a counted frame is common, and harmless.
            if buffer[at] in b"\n\0":
                return at + 1
            if messages:
                return None
            raise FramingError("a frame has no count")
        return self._line(at, messages)

    def _line(self, at: int, messages: list[bytes]) -> int | None:
        buffer = self._buffer
        end = _TRAILER.search(buffer, at)
        stop = end.start() if end is not None else len(buffer)
        if stop - at > self.max_message:
            messages.append(bytes(buffer[at : at + self.max_message]))
            self.cut_lines += 1
            if end is not None:
                self.cut_bytes += stop - at - self.max_message
                return end.end()
            self._skip_line = True
            return at + self.max_message
        if end is None:
            return None
        if stop > at:
            messages.append(bytes(buffer[at:stop]))
        return end.end()

    def finish(self) -> bytes | None:
        """What is left of a message when the sender is gone: of a counted one, its beginning."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._skip = 0
        self._skip_line = False
        count = None if self._counted is False else _COUNT.match(rest)
        return (rest[count.end() :] if count is not None else rest) or None
