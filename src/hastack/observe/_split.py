"""Cutting an encoded request body in two, when the receiver says that it is too long.

The messages of all formats have one shape: repeated groups (resource, scope, stream) around
repeated leaves. A path names the field of each level; everything beside it is kept in both halves.
Nothing is decoded below the leaves, and the bytes of a leaf never change.
"""

from __future__ import annotations

import json
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from ._answers import MalformedError, fields

if TYPE_CHECKING:
    from collections.abc import Callable

Path: TypeAlias = tuple[int, ...]

OTLP: Path = (1, 2, 2)
"""Export request: resource, scope, span or log record or metric."""
LOKI: Path = (1, 2)
"""Push request: stream, entry."""
LOKI_JSON: Path = ()
"""The same in JSON, where nothing has a number."""
REMOTE_WRITE_1: Path = (1,)
"""Write request: series."""
REMOTE_WRITE_2: Path = (5,)
"""Write request: series; the symbols stay whole in both halves."""


def one(leaf: bytes) -> int:
    """The weight of a leaf that is one unit."""
    return 1


def data_points(metric: bytes) -> int:
    """The data points of an OTLP ``Metric``."""
    return sum(
        sum(n == 1 for n, _, _, _ in fields(value))
        for number, value, _, _ in fields(metric)
        if number in {5, 7, 9, 10, 11} and isinstance(value, bytes)
    )


def halves(
    body: bytes, path: Path, units: int, weight: Callable[[bytes], int] = one
) -> list[tuple[int, bytes]]:
    """Units and bytes of two bodies that together hold the leaves of ``body``, in order.

    Args:
        body: An uncompressed request body.
        path: Where its leaves are.
        units: The units in it; the halves' units add up to it. Where a unit is spread over
            several leaves, as a histogram over the series of remote write, they share by leaves.
        weight: Units of one leaf.

    Returns:
        Nothing when there is nothing to cut: at most one leaf, or no such message.
    """
    if path == LOKI_JSON:
        return _json_halves(body, units)
    try:
        leaves = _leaves(body, path)
        if leaves < 2:
            return []
        middle = leaves // 2
        first = _cut(body, path, 0, middle)
        second = _cut(body, path, middle, leaves)
        share = _weigh(first, path, weight)
        if share + _weigh(second, path, weight) != units:
            share = units * middle // leaves
        return [(share, first), (units - share, second)]
    except MalformedError:
        return []


def _json_halves(body: bytes, units: int) -> list[tuple[int, bytes]]:
    try:
        streams = json.loads(body)["streams"]
        entries = [(each["stream"], value) for each in streams for value in each["values"]]
    except (ValueError, KeyError, TypeError):
        return []
    if len(entries) < 2:
        return []
    middle = len(entries) // 2
    found = []
    for part in (entries[:middle], entries[middle:]):
        groups = [
            {"stream": labels, "values": [value for _, value in group]}
            for labels, group in groupby(part, key=itemgetter(0))
        ]
        found.append(json.dumps({"streams": groups}, separators=(",", ":")).encode())
    share = units * middle // len(entries)
    return [(share, found[0]), (units - share, found[1])]


def _leaves(message: bytes, path: Path) -> int:
    inner = [v for n, v, _, _ in fields(message) if n == path[0] and isinstance(v, bytes)]
    if len(path) == 1:
        return len(inner)
    return sum(_leaves(each, path[1:]) for each in inner)


def _weigh(message: bytes, path: Path, weight: Callable[[bytes], int]) -> int:
    inner = [v for n, v, _, _ in fields(message) if n == path[0] and isinstance(v, bytes)]
    if len(path) == 1:
        return sum(weight(each) for each in inner)
    return sum(_weigh(each, path[1:], weight) for each in inner)


def _cut(message: bytes, path: Path, begin: int, end: int) -> bytes:
    """The message with only the leaves ``begin`` to ``end``; groups that lose all of them go."""
    out = bytearray()
    seen = 0
    for number, value, start, stop in fields(message):
        if number != path[0] or not isinstance(value, bytes):
            out += message[start:stop]
            continue
        held = 1 if len(path) == 1 else _leaves(value, path[1:])
        lower, upper = max(begin - seen, 0), min(end - seen, held)
        seen += held
        if lower >= upper:
            continue
        if upper - lower == held:
            out += message[start:stop]
        else:
            part = _cut(value, path[1:], lower, upper)
            out += _key(number << 3 | 2) + _key(len(part)) + part
    return bytes(out)


def _key(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
