"""JSON lines, and those whose shape is known: Docker's files, Kubernetes' audit log."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require
from hastack.observe.logs import _times
from hastack.observe.logs._atomic import compile_regex

from ._format import Format

if TYPE_CHECKING:
    from ._format import Record
    from ._leaves import Where

__all__ = ("audit", "decode", "docker", "lines")

_msgspec: Any = require("msgspec", extra="logs")
_decode = _msgspec.json.Decoder().decode
_Malformed: type[Exception] = _msgspec.DecodeError
_BYTE = compile_regex(r" \(byte ([0-9]+)\)")


def decode(line: str | bytes) -> Record | None:
    """A JSON object, or ``None``.

    ``NaN`` and ``Infinity``, which Python's encoder writes, are numbers here too.
    """
    try:
        found = _decode(line)
    except _Malformed as error:
        return _decode_lenient(line, str(error))
    except (ValueError, RecursionError):  # not UTF-8; too deep
        return None
    return found if found.__class__ is dict else None


def _decode_lenient(line: str | bytes, why: str) -> Record | None:
    text = line if isinstance(line, str) else line.decode("utf-8", "replace")
    if "NaN" not in text and "Infinity" not in text and "out of range" not in why:
        return None  # a second reading would say the same
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def explain(line: str) -> tuple[int, str]:
    """Where a line stops to be a JSON object, and what was expected there."""
    if not line.startswith("{"):
        return 0, "'{'"
    octets = line.encode("utf-8", "replace")
    why = "it is too deep (byte 0)"
    try:
        _decode(octets)
    except _Malformed as error:
        why = str(error)
    except RecursionError:
        pass
    found = _BYTE.search(why)
    place = int(found[1]) if found is not None else len(octets)
    before = octets[:place].decode("utf-8", "ignore")
    return len(before), f"JSON ({_BYTE.sub('', why).lower()})"


def lines(where: Where) -> Format:
    """An object on each line, whatever is in it."""
    return Format("json", decode, fields={}, marks=("{",), explain=explain)


_ISO = compile_regex(rf"{_times.ISO}\Z")
_moment = _times.remembering(_times.iso(UTC))


def _time(value: Any) -> Any:
    if not isinstance(value, str) or _ISO.match(value) is None:
        raise ValueError(value)
    return _moment(value)


def _docker(line: str) -> Record | None:
    found = decode(line)
    if found is None or "stream" not in found or not isinstance(found.get("log"), str):
        return None
    text: str = found["log"]
    made = {
        "time": _time(found.get("time")),
        "stream": found["stream"],
        "message": text.removesuffix("\n").removesuffix("\r"),
        "partial": not text.endswith("\n"),
        "attributes": found.get("attrs"),
    }
    return made if len(found) <= 3 + ("attrs" in found) else None


def docker(where: Where) -> Format:
    """Docker's json-file driver."""
    fields = {
        "time": "timestamp",
        "stream": "str",
        "message": "str",
        "partial": "bool",
        "attributes": "json",
    }
    return Format("docker.json", _docker, fields=fields, marks=('{"log":',))


_AUDIT_TIMES = ("requestReceivedTimestamp", "stageTimestamp")


def _audit(line: str) -> Record | None:
    found = decode(line)
    if found is None or not str(found.get("apiVersion")).startswith("audit.k8s.io/"):
        return None
    for name in _AUDIT_TIMES:
        if name in found:
            found[name] = _time(found[name])
    return found


def audit(where: Where) -> Format:
    """The audit log of a Kubernetes API server, one event a line."""
    fields = {
        **dict.fromkeys(("kind", "apiVersion", "level", "stage", "requestURI", "verb"), "str"),
        "auditID": "uuid",
        **dict.fromkeys(("user", "sourceIPs", "objectRef", "responseStatus"), "json"),
        "userAgent": "str",
        **dict.fromkeys(_AUDIT_TIMES, "timestamp"),
        "annotations": "json",
    }
    return Format("kubernetes.audit", _audit, fields=fields, marks=('{"kind":"Event"',))
