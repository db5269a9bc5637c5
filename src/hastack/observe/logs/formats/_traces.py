"""What programs say when they die: tracebacks of Python, stack traces of Java, panics of Go."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ._format import Format

if TYPE_CHECKING:
    from ._format import Record
    from ._leaves import Where

__all__ = ("go_panic", "java_trace", "python_traceback")

_FIELDS = {"exception": "str", "message": "str", "frames": "int", "text": "str"}
_PYTHON_START = re.compile(
    r"  \+ Exception Group Traceback|Traceback \(most recent call last\):", re.ASCII
)
_PYTHON_END = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?", re.ASCII)
_GROUP_END = re.compile(r"^  \| ([A-Za-z_][\w.]*)(?:: (.*))?$", re.ASCII | re.MULTILINE)
_PYTHON_FRAME = re.compile(r'^[ |]{2,64}File "', re.MULTILINE)
_JAVA = re.compile(
    r'(?:Exception in thread "[^"\n]{0,256}" )?((?:[a-z_$][\w$]*\.){1,32}[A-Z][\w$]*)(?:: ?([^\n]*))?',
    re.ASCII,
)
_JAVA_FRAME = re.compile(r"^\s{1,16}at ", re.MULTILINE)
_GO = re.compile(r"(panic|fatal error): ([^\n]*)")
_GO_FRAME = re.compile(r"^\t[^\n]{1,4096}\.(?:go|s):[0-9]", re.MULTILINE)


def _python(text: str) -> Record | None:
    if _PYTHON_START.match(text) is None:
        return None
    record: Record = {"exception": None, "message": None}
    group = _GROUP_END.search(text)
    if group is not None:
        record.update(exception=group[1], message=group[2])
        return {**record, "frames": len(_PYTHON_FRAME.findall(text)), "text": text}
    # The last line that is not indented names the exception; its message may have more lines.
    for line in reversed(text.rstrip("\n").split("\n")[1:]):
        found = _PYTHON_END.fullmatch(line)
        if found is not None:
            record.update(exception=found[1], message=found[2])
            break
    return {**record, "frames": len(_PYTHON_FRAME.findall(text)), "text": text}


def python_traceback(where: Where) -> Format:
    """A traceback that stands alone."""
    marks = ("Traceback (most recent call last):", "  + Exception Group Traceback")
    return Format("python.traceback", _python, fields=_FIELDS, marks=marks, block=True)


def _java(text: str) -> Record | None:
    found = _JAVA.match(text)
    if found is None or (found.end() < len(text) and text[found.end()] != "\n"):
        return None
    frames = len(_JAVA_FRAME.findall(text))
    named = found[1].endswith(("Exception", "Error", "Throwable"))
    if not frames and not named:
        return None
    return {"exception": found[1], "message": found[2], "frames": frames, "text": text}


def java_trace(where: Where) -> Format:
    """A stack trace that stands alone."""
    starts = "Eabcdefghijklmnopqrstuvwxyz_$"
    made = Format("java.stacktrace", _java, fields=_FIELDS, starts=starts, block=True)
    made._pattern = _JAVA.pattern
    return made


def _go(text: str) -> Record | None:
    found = _GO.match(text)
    if found is None:
        return None
    frames = len(_GO_FRAME.findall(text))
    return {"exception": found[1], "message": found[2], "frames": frames, "text": text}


def go_panic(where: Where) -> Format:
    """A panic or a fatal error of the Go runtime."""
    marks = ("panic: ", "fatal error: ")
    return Format("go.panic", _go, fields=_FIELDS, marks=marks, block=True)
