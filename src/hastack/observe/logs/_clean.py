"""A raw line made text: decoded, without its end, escape sequences and NUL bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hastack._config._quantities import UnfitError, parse_bytes
from hastack._core._errors import InvalidArgument

from ._atomic import compile_regex

if TYPE_CHECKING:
    from ._batch import Counts

__all__ = ("clean", "decode", "length")

# ECMA-48: control sequences, operating system commands up to their end, other escapes. What is
# not ended is bounded, so that a stray ESC does not swallow a line.
_ANSI = compile_regex(
    r"\x1b(?:\[[0-?]{0,64}+[ -/]{0,8}+[@-~]|\][^\x07\x1b]{0,4096}+(?:\x07|\x1b\\)|[ -/]{0,8}+[0-~])?"
)


def decode(line: bytes, fallback: str, counts: Counts) -> str:
    """Text of a line; ``fallback`` is ``"replace"`` or an encoding that reads every byte."""
    if line.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        counts.bom += 1
        if line.startswith(b"\xef"):
            line = line[3:]
        else:
            return line.decode("utf-16", "replace")
    try:
        return line.decode()
    except UnicodeDecodeError:
        counts.invalid += 1
        return line.decode("utf-8", fallback) if fallback in _POLICIES else line.decode(fallback)


_POLICIES = {"replace", "backslashreplace", "surrogateescape"}


def clean(line: str, counts: Counts) -> str:
    """What is left of a line without its end, escape sequences and NUL bytes."""
    line = line.removesuffix("\n")
    if line.endswith("\r"):
        line = line[:-1]
        counts.crlf += 1
    if "\r\n" in line:
        line = line.replace("\r\n", "\n")  # an entry of several lines
    if line.startswith("\ufeff"):
        line = line[1:]
        counts.bom += 1
    if "\x1b" in line:
        line = _ANSI.sub("", line)
        counts.ansi += 1
    if "\0" in line:
        line = line.replace("\0", "")
        counts.nul += 1
    return line


def length(parameter: str, value: object) -> int:
    """A number of bytes, at least one; also as a text such as ``"1MiB"``."""
    try:
        found = parse_bytes(value)
    except UnfitError as error:
        raise InvalidArgument(parameter, value, error.accepted or "bytes") from None
    if found < 1:
        raise InvalidArgument(parameter, value, "at least one byte")
    return found
