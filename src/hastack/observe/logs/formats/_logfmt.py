"""``key=value`` lines: logfmt, and those of Go's ``slog`` text handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack.observe.logs import _times
from hastack.observe.logs._atomic import compile_regex

from ._format import Format

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from ._format import Record
    from ._leaves import Where

__all__ = ("logfmt", "slog")

_KEY = r'[A-Za-z_@][^ \t="]*+'
# A bare value may contain quotation marks after its first character.
_VALUE = r'(?:(?!")[^ \t]*+|"(?:[^"]*+(?<!\\)"|[^"\\]*+(?:\\.[^"\\]*+)*+")(?=[ \t]|\Z))'
_PAIR = compile_regex(rf"({_KEY})=({_VALUE})")
_LINE = compile_regex(rf"{_KEY}={_VALUE}(?:[ \t]++{_KEY}={_VALUE})*+[ \t]*+")
_ESCAPED = compile_regex(r"\\(U00[01][0-9a-fA-F]{5}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}
_NUMBER = compile_regex(r"[+-]?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?\Z")
_TIME = compile_regex(rf"{_times.ISO}\Z")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "nil": None, "": None}


def _escape(found: re.Match[str]) -> str:
    text = found[1]
    if len(text) == 1:
        return _LETTERS.get(text, text)
    code = int(text[1:], 16)
    char = chr(code) if code < 0x110000 else "\ufffd"
    return "\ufffd" if "\ud800" <= char <= "\udfff" else char


def _reader(where: Where) -> Callable[[str], Record | None]:
    moment = _times.iso(where.zone)

    def value(text: str) -> Any:
        if text in _WORDS:
            return _WORDS[text]
        if text[0] == '"':
            inner = text[1:-1]
            return _ESCAPED.sub(_escape, inner) if "\\" in inner else inner
        number = _NUMBER.match(text)
        if number is not None:
            return int(text) if number[1] is None and number[2] is None else float(text)
        return moment(text) if _TIME.match(text) is not None else text

    known = _times.remembering(value)

    def read(line: str) -> Record | None:
        found = _LINE.match(line)
        if found is None or found.end() != len(line):
            return None
        return {
            key: known(text) if len(text) < 32 else value(text) for key, text in _PAIR.findall(line)
        }

    return read


def _explain(line: str) -> tuple[int, str]:
    found = _LINE.match(line)
    at = found.end() if found is not None else 0
    key = compile_regex(_KEY).match(line, at)
    if key is None:
        return at, "key=value"
    at = key.end()
    return (at + 1, "a value") if line[at : at + 1] == "=" else (at, "'='")


def logfmt(where: Where) -> Format:
    """Pairs of keys and values; what is not in quotes may be a number, a truth or a time."""
    made = Format("logfmt", _reader(where), fields={}, explain=_explain)
    made._pattern = f"{_KEY}="
    return made


def slog(where: Where) -> Format:
    """Go's ``slog.TextHandler``: time, level, msg, then attributes."""
    read_pairs = _reader(where)
    shape = compile_regex(rf"time={_times.ISO} level=[A-Z]{{1,8}}+(?:[+-][0-9]{{1,4}})? ")

    def read(line: str) -> Record | None:
        return read_pairs(line) if shape.match(line) is not None else None

    def explain(line: str) -> tuple[int, str]:
        if shape.match(line) is not None:
            return _explain(line)
        return 0, "time=2026-10-10T13:55:36.000Z level=INFO"

    fields = {"time": "timestamp", "level": "str", "msg": "str"}
    return Format("go.slog", read, fields=fields, marks=("time=",), explain=explain)
