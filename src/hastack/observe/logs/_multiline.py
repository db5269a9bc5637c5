"""Lines that belong together: tracebacks, entries of several lines, parts of a long one.

What goes on with the line before it is decided line by line, from the lines so far; what is held is
bound in lines and in size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from hastack._core import _validate

from ._clean import length
from ._partial import Partials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("Folder", "fold")

Line: TypeAlias = str | bytes

_INDENTED = re.compile(r"[ \t]+\S")
_TRACEBACK = re.compile(r"(?:  [+|] )?(?:Exception Group )?Traceback \(most recent call last\):")
_IN_TRACEBACK = re.compile(r"[ \t|+]|During handling of the above|The above exception was")
# The line that ends a traceback, or begins a stack trace: the exception, and what it says.
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]{0,255}(?:: .*)?\Z", re.ASCII | re.DOTALL)
_JAVA = re.compile(
    r"(?:[a-z_$][\w$]*\.){1,32}[A-Z][\w$]*(?:Exception|Error|Throwable)(?::|\Z)"
    r"|Caused by: |Suppressed: |\.\.\. [0-9]+ (?:more|common frames omitted)",
    re.ASCII,
)
_PANIC = re.compile(r"panic: |fatal error: ")
_IN_PANIC = re.compile(
    r"goroutine [0-9]+|created by |\[signal |runtime\.|exit status |[\w./*()-]{1,512}\(.*\)\s*\Z|\s"
)
_PYTHON = {"python", "python end"}
_APT = re.compile(r"[A-Z][A-Za-z-]{2,16}: ")


class Folder:
    """Puts lines together that are one entry, and leaves all others as they are.

    Indented lines go to the line before them, and so do tracebacks of Python and stack traces of
    Java that follow it; a panic of Go, an entry of apt's history and one of the journal's export
    format are one entry each. Nothing is lost: joined, what comes out is what went in. Except that
    the parts of a long line that containerd, CRI-O and Docker write become one such line again.

    What comes out last is held back until the next line says whether it goes on: `flush` it when
    nothing comes. Not for several threads at once.

    Args:
        most_lines: So many are put together at most.
        most_size: So much, in characters, or a text such as ``"256KiB"``. What is longer comes out
            in parts.

    Raises:
        InvalidArgument: A bound is not at least one.

    Example:
        >>> from hastack.observe import logs
        >>> lines = [
        ...     "ERROR:root:failed",
        ...     "Traceback (most recent call last):",
        ...     '  File "a.py", line 1, in <module>',
        ...     "ValueError: bad",
        ...     "INFO:root:on it goes",
        ... ]
        >>> entries = list(logs.fold(lines))
        >>> len(entries)
        2
        >>> logs.parse(entries[0])["message"]
        'failed'
    """

    def __init__(self, *, most_lines: int = 500, most_size: int | str = "256KiB") -> None:
        self._most_lines = _validate.integer("most_lines", most_lines)
        self._most_size = length("most_size", most_size)
        self._partials = Partials(self._most_size)
        self._folded = 0
        self._cut = 0
        self._lines: list[Line] = []
        self._size = 0
        self._kind = ""
        self._waiting: Line | None = None  # an empty line, which may be within a traceback
        self._binary = b""  # of a journal's entry: what came of a field that is not text

    @property
    def folded(self) -> int:
        """Lines that went to one before them."""
        return self._folded + self._partials.folded

    @property
    def cut(self) -> int:
        """Entries that came out in parts because they were too long."""
        return self._cut + self._partials.cut

    def push(self, line: Line) -> list[Line]:
        """The entries that are complete now that ``line`` came."""
        joined = self._partials.push(line)
        if joined is None:
            return self._add(line)
        # Nothing goes on over such a line, and it goes on with none.
        return [*self.flush_held(), *joined]

    def flush(self) -> list[Line]:
        """What is held back, when nothing comes any more."""
        return [*self.flush_held(), *self._partials.flush()]

    def flush_held(self) -> list[Line]:
        """The entry that may have gone on."""
        found: list[Line] = [_join(self._lines)] if self._lines else []
        if self._waiting is not None:
            found.append(self._waiting)
        self._lines, self._waiting, self._size, self._kind = [], None, 0, ""
        self._binary = b""
        return found

    def _add(self, line: Line) -> list[Line]:
        text = _text(line)
        if self._lines and type(self._lines[0]) is type(line):
            kind = self._goes_on(text, line)
            if kind is not None:
                return self._take(line, kind)
            if not text and self._kind in _PYTHON and self._waiting is None:
                self._waiting = line
                return []
        found = self.flush_held()
        self._lines = [line]
        self._size = len(line)
        self._kind = _kind_of(text)
        return found

    def _take(self, line: Line, kind: str) -> list[Line]:
        full = len(self._lines) >= self._most_lines or self._size + len(line) > self._most_size
        if full:
            self._cut += 1
            found = self.flush_held()
        else:
            found = []
            if self._waiting is not None:
                self._lines.append(self._waiting)
                self._folded += 1
                self._waiting = None
        self._folded += not full
        self._lines.append(line)
        self._size += len(line) + 1
        self._kind = kind
        if kind == "end":
            found += self.flush_held()
        return found

    def _goes_on(self, text: str, line: Line) -> str | None:
        """What the entry is with ``text``; ``None`` if it does not belong to it."""
        kind = self._kind
        if kind == "journal":
            return self._journal(text, line)
        if kind == "apt":
            return "end" if not text else kind if _APT.match(text) else None
        if kind == "panic":
            return kind if not text or _IN_PANIC.match(text) else None
        if kind == "group":
            return kind if _IN_TRACEBACK.match(text) else None
        if kind in _PYTHON:
            if _IN_TRACEBACK.match(text) or _TRACEBACK.match(text):
                return "python" if kind == "python" or not _INDENTED.match(text) else kind
            return "python end" if kind == "python" and _EXCEPTION.match(text) else None
        if kind == "object":
            return None
        if _TRACEBACK.match(text):
            return _kind_of(text)
        return "plain" if _INDENTED.match(text) or _JAVA.match(text) else None

    def _journal(self, text: str, line: Line) -> str:
        if not self._binary:
            if text and "=" not in text:
                self._binary = b"="  # its size in 8 bytes comes next, then its value
            return "journal" if text else "end"
        octets = line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
        self._binary += octets if octets.endswith(b"\n") else octets + b"\n"
        size = int.from_bytes(self._binary[1:9], "little")
        if len(self._binary) > max(9, 9 + size):
            self._binary = b""
        return "journal"


def fold(
    lines: Iterable[Line], *, most_lines: int = 500, most_size: int | str = "256KiB"
) -> Iterator[Line]:
    """Lines with those put together that are one entry; see `Folder`."""
    folder = Folder(most_lines=most_lines, most_size=most_size)
    for line in lines:
        yield from folder.push(line)
    yield from folder.flush()


def _kind_of(text: str) -> str:
    if text.startswith("__CURSOR="):
        return "journal"
    if text.startswith("Start-Date: "):
        return "apt"
    if text.startswith("{"):
        return "object"
    if _PANIC.match(text):
        return "panic"
    if text.startswith("  + Exception Group Traceback"):
        return "group"
    return "python" if _TRACEBACK.match(text) else "plain"


def _text(line: Line) -> str:
    text = line if isinstance(line, str) else line.decode("latin-1")  # to look at, not to keep
    return text.rstrip("\r\n")


def _join(lines: list[Line]) -> Line:
    if len(lines) == 1:
        return lines[0]
    if isinstance(lines[0], bytes):
        octets = [line for line in lines if isinstance(line, bytes)]
        return (b"" if octets[0].endswith(b"\n") else b"\n").join(octets)
    texts = [line for line in lines if isinstance(line, str)]
    return ("" if texts[0].endswith("\n") else "\n").join(texts)
