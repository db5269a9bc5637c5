"""Parts of a long line that a container wrote, one again: CRI and Docker's json-file."""

from __future__ import annotations

import re
from typing import TypeAlias

import attrs

from ._atomic import compile_regex

__all__ = ("Partials",)

Line: TypeAlias = str | bytes

_CRI = compile_regex(
    r"([0-9][^ ]{18,40} (stdout|stderr) )([PF])((?::[^ ]*+)? )([^\r\n]*+)(\r?\n?\Z)"
)
_DOCKER = compile_regex(
    r'(\{"log":")([^"\\]*+(?:\\.[^"\\]*+)*+)(","stream":"(stdout|stderr)"[^\n]*+\n?\Z)'
)
# A line feed, escaped; not the letter after an escaped backslash.
_ENDS = re.compile(r"(?<!\\)(?:\\\\)*\\n\Z")


_DOCKERS = {'{"log":"', b'{"log":"'}


@attrs.define
class _Part:
    stream: str
    before: str
    content: str
    after: str
    whole: bool


class Partials:
    """Holds the parts of lines, one line for each stream.

    Args:
        most: So many characters are put together at most; what is longer stays in parts.

    Attributes:
        folded: Lines that went to one before them.
        cut: Lines that stay in parts because they were too long.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, tuple[list[_Part], bool]] = {}
        self.folded = 0
        self.cut = 0

    def push(self, line: Line) -> list[Line] | None:
        """The lines that are complete now; ``None`` if ``line`` is not a container's."""
        part = _read(line)
        if part is None:
            return None
        parts, raw = self._held.pop(part.stream, ([], isinstance(line, bytes)))
        found: list[Line] = []
        if parts and sum(len(each.content) for each in parts) + len(part.content) > self._most:
            found.append(_write(parts, raw=raw))
            self.cut += 1
            parts = []
        self.folded += bool(parts)
        parts.append(part)
        if part.whole:
            found.append(_write(parts, raw=raw) if len(parts) > 1 else line)
        else:
            self._held[part.stream] = parts, raw
        return found

    def flush(self) -> list[Line]:
        """What waits for its end."""
        found = [_write(parts, raw=raw) for parts, raw in self._held.values()]
        self._held.clear()
        return found


def _read(line: Line) -> _Part | None:
    head = line[:8]
    if head not in _DOCKERS and not head[:4].isdigit():
        return None
    text = line if isinstance(line, str) else line.decode("utf-8", "surrogateescape")
    found = _CRI.match(text)
    if found is not None:
        before, stream, tag, flags, content, end = found.groups()
        return _Part(stream, f"{before}{tag}{flags}", content, end, tag == "F")
    found = _DOCKER.match(text)
    if found is None:
        return None
    before, content, after, stream = found.groups()
    return _Part(stream, before, content, after, _ENDS.search(content) is not None)


def _write(parts: list[_Part], *, raw: bool) -> Line:
    """One line: it begins as its first part and ends as its last."""
    first, last = parts[0], parts[-1]
    before = first.before
    if last.whole and not before.startswith("{"):
        before = before.replace(" P", " F", 1)  # the stream's name has none
    text = before + "".join(part.content for part in parts) + last.after
    return text.encode("utf-8", "surrogateescape") if raw else text
