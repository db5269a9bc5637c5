"""What a server says about its limits in header fields. Pure.

Read are the two fields of draft-ietf-httpapi-ratelimit-headers-08 to -11 (``RateLimit-Policy:
"default";q=100;w=60`` and ``RateLimit: "default";r=42;t=17``), the dictionary of draft 07, and the
three fields of the drafts before and of custom (``RateLimit-Limit``, ``-Remaining``, ``-Reset``,
with or without ``X-``). A field that is malformed is as good as none, as the draft asks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST: Final = 4096
_MOST_ITEMS: Final = 32
_LONGEST_WAIT: Final = 366.0 * 86400.0
# Seconds since 1970 where seconds from now were due, which custom allows: none waits for 30 years.
_EPOCH: Final = 1e9

_STRING = r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_WORD = r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"
_VALUE = rf"(?:{_STRING}|{_WORD}|:[A-Za-z0-9+/=]*:|\?[01]|-?[0-9]{{1,15}}(?:\.[0-9]{{1,3}})?)"
_PARAMETER = re.compile(rf" *; *([a-z*][a-z0-9_\-.*]*)(?:=({_VALUE}))?")
_ITEM = re.compile(rf"({_VALUE})((?: *; *[a-z*][a-z0-9_\-.*]*(?:={_VALUE})?)*)")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_PAIR = re.compile(r"([a-z]+)=([0-9]{1,15})")
_NUMBER = re.compile(r"[0-9]{1,15}")
_WINDOW = re.compile(r"; *w=([0-9]{1,15})")


class Said(NamedTuple):
    """One quota as one answer describes it.

    Attributes:
        policy: Its name; empty in the older fields.
        partition: Its partition key as it was written; empty without one.
        remaining: Requests that are left.
        reset: Seconds for which these have to do; ``None`` when the answer does not say.
        window: Seconds over which the quota is counted, likewise.
    """

    policy: str
    partition: str
    remaining: int
    reset: float | None
    window: float | None


def read_limits(get: Callable[[str], str | None], wall: float) -> list[Said]:
    """Every quota that the header fields speak of.

    Args:
        get: The value of a field by name; several fields of one name joined by commas.
        wall: Seconds since 1970, for resets that are written so.
    """
    current = get("RateLimit")
    if current is None:
        return _three(get, wall)
    limits = _items(current)
    if limits:
        return _joined(limits, dict(_items(get("RateLimit-Policy"))))
    return _dictionary(current)


Item = tuple[str, dict[str, str]]


def _items(field: str | None) -> list[Item]:
    """The members of a structured list, with their parameters; empty when it is none."""
    found: list[Item] = []
    if field is None or len(field) > _LONGEST:
        return found
    text, at = field.strip(" \t"), 0
    while at < len(text) and len(found) < _MOST_ITEMS:
        item = _ITEM.match(text, at)
        if item is None or item[1][0] in ":?-0123456789":
            return []
        found.append((item[1].strip('"'), dict(_PARAMETER.findall(item[2]))))
        at = item.end()
        comma = _COMMA.match(text, at)
        if at < len(text) and (comma is None or comma.end() == len(text)):
            return []
        at = comma.end() if comma else at
    return found


def _joined(limits: list[Item], policies: dict[str, dict[str, str]]) -> list[Said]:
    said: list[Said] = []
    for name, found in limits:
        policy = policies.get(name, {})
        remaining = _whole(found.get("r"))
        if remaining is None or not _of_requests(policy):
            continue
        said.append(
            Said(
                name,
                found.get("pk", ""),
                remaining,
                _seconds(_whole(found.get("t"))),
                _seconds(_whole(policy.get("w"))) or None,
            )
        )
    return said


def _of_requests(parameters: dict[str, str]) -> bool:
    """Whether the quota counts requests: bytes and calls at once are other limiters' matter."""
    return parameters.get("qu", '"requests"').strip('"') == "requests"


def _dictionary(field: str) -> list[Said]:
    """Draft 07: ``limit=100, remaining=50, reset=5``."""
    members = [_PAIR.fullmatch(part) for part in _COMMA.split(field.strip()[:_LONGEST])]
    found = {pair[1]: int(pair[2]) for pair in members if pair is not None}
    remaining = found.get("remaining")
    if remaining is None or len(found) != len(members):
        return []
    return [Said("", "", remaining, _seconds(found.get("reset")), None)]


def _three(get: Callable[[str], str | None], wall: float) -> list[Said]:
    """``RateLimit-Limit: 100, 100;w=60`` and its two companions."""
    for prefix in ("RateLimit-", "X-RateLimit-"):
        remaining = _whole(get(prefix + "Remaining"))
        if remaining is None:
            continue
        window = _WINDOW.search((get(prefix + "Limit") or "")[:_LONGEST])
        reset = _whole(get(prefix + "Reset"))
        left = _seconds(reset)
        if reset is not None and reset >= _EPOCH:
            left = min(max(0.0, reset - wall), _LONGEST_WAIT)
        length = None if window is None else _seconds(int(window[1])) or None
        return [Said("", "", remaining, left, length)]
    return []


def _whole(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.strip()
    return int(text) if _NUMBER.fullmatch(text) else None


def _seconds(value: int | None) -> float | None:
    return None if value is None or value > _LONGEST_WAIT else float(value)
