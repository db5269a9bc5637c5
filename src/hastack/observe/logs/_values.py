"""Values that logs are full of: how they look and what they are."""

from __future__ import annotations

import json
import re
from typing import Any

from ._atomic import compile_regex

__all__ = (
    "BOOL",
    "DURATION",
    "FLOAT",
    "HEX",
    "INTEGER",
    "IP",
    "SIZE",
    "URL",
    "UUID",
    "boolean",
    "duration",
    "hexadecimal",
    "json_value",
    "pairs",
    "size",
)

INTEGER = r"[+-]?[0-9]{1,640}+"
FLOAT = r"[+-]?(?:[0-9]{1,320}+(?:\.[0-9]{0,320}+)?+|\.[0-9]{1,320}+)(?:[eE][+-]?[0-9]{1,4}+)?+"
BOOL = r"(?:true|false|yes|no|on|off|True|False|TRUE|FALSE)(?![A-Za-z0-9_])"
HEX = r"0[xX][0-9a-fA-F]{1,512}+"
UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9a-fA-F-])"
URL = r"[a-zA-Z][a-zA-Z0-9+.-]{1,31}+://[^\s\"'<>]++"

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}(?![0-9.])"
_GROUP = r"[0-9a-fA-F]{1,4}+"
# Eight groups, or fewer with one `::`; each branch is bounded, so order and length decide.
_IPV6 = "|".join(
    [
        rf"(?:{_GROUP}:){{7}}{_GROUP}",
        rf"(?:{_GROUP}:){{6}}{_IPV4}",
        *(rf"(?:{_GROUP}:){{{left}}}(?::{_GROUP}){{1,{7 - left}}}+" for left in range(6, 0, -1)),
        rf"::(?:{_GROUP}:){{0,5}}{_IPV4}",
        rf":(?::{_GROUP}){{1,7}}+",
        rf"(?:{_GROUP}:){{1,7}}:",
        "::",
    ]
)
IP = rf"(?>{_IPV4}|(?:{_IPV6})(?:%[A-Za-z0-9_.-]{{1,32}}+)?+(?![0-9a-fA-F:.]))"

_DURATION_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_NUMBER = r"[0-9]{1,18}+(?:\.[0-9]{1,18}+)?+"
_UNITS = "|".join(sorted(_DURATION_UNITS, key=len, reverse=True))
DURATION = rf"-?(?:{_NUMBER} ?(?:{_UNITS})(?![a-zA-Z]{{2}})){{1,6}}+(?![A-Za-z0-9])"
_DURATION_PART = compile_regex(rf"({_NUMBER}) ?({_UNITS})")

_SIZE_UNITS = {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGTPE", start=1)
    for suffix, base in (("B", 1000), ("iB", 1024), ("", 1024))
} | {"B": 1, "kB": 1000, "k": 1024, "kiB": 1024}
SIZE = rf"{_NUMBER} ?(?:{'|'.join(sorted(_SIZE_UNITS, key=len, reverse=True))})(?![A-Za-z0-9])"

_decode_json = json.JSONDecoder().raw_decode


def boolean(text: str) -> bool:
    """``true``, ``yes`` and ``on``, in whatever case."""
    return text.lower() in {"true", "yes", "on"}


def hexadecimal(text: str) -> int:
    """``0x1f``."""
    return int(text, 16)


def duration(text: str) -> float:
    """``1h2m3.5s``, ``250 ms``: seconds."""
    seconds = sum(
        float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text)
    )
    return -seconds if text.startswith("-") else seconds


def size(text: str) -> int:
    """``4 KiB``, ``1.5MB``, ``12G``: bytes. Units with a B count in thousands, others in 1024."""
    unit = text.lstrip("0123456789. ")
    number = text[: len(text) - len(unit)].strip()
    factor: int = _SIZE_UNITS[unit]
    return round(float(number) * factor) if "." in number else int(number) * factor


def json_value(text: str, at: int) -> tuple[int, Any] | None:
    """A JSON object or array; a deep one is none."""
    if text[at : at + 1] not in {"{", "["}:
        return None
    try:
        value, end = _decode_json(text, at)
    except (ValueError, RecursionError):
        return None
    return end, value


_PAIR = compile_regex(r"""([A-Za-z_@][\w.@/-]*+)=(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([^\s"]*+))""")
_GAP = re.compile(r"[ \t]++")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def pairs(text: str, at: int) -> tuple[int, dict[str, str]] | None:
    """``key=value other="two words"``: at least one pair, as far as it goes."""
    found: dict[str, str] = {}
    end = at
    while (pair := _PAIR.match(text, at)) is not None:
        name, in_quotes, bare = pair.groups()
        if in_quotes is None:
            found[name] = bare
        else:
            found[name] = _ESCAPED.sub(r"\1", in_quotes) if "\\" in in_quotes else in_quotes
        end = pair.end()
        gap = _GAP.match(text, end)
        if gap is None:
            break
        at = gap.end()
    return (end, found) if found else None
