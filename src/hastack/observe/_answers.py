"""What a backend answered, and what those answers carry in protobuf.

Only three small messages are ever read here, so they are read by hand: an OTLP response with its
``partial_success``, ``google.rpc.Status`` and the ``RetryInfo`` in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@final
@attrs.frozen
class HttpAnswer:
    """An HTTP response.

    Attributes:
        status: The status code.
        headers: Header fields, names in lower case.
        body: As much of the body as was read, decoded; empty when it could not be.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@final
@attrs.frozen
class GrpcAnswer:
    """The end of a unary call.

    Attributes:
        code: Name of the status code, ``"OK"`` for example.
        details: What the server said about it.
        status: The bytes of ``grpc-status-details-bin``, or nothing.
        body: The response message.
    """

    code: str
    details: str = ""
    status: bytes = b""
    body: bytes = b""


@final
@attrs.frozen
class NoAnswer:
    """The request got no answer.

    Attributes:
        kind: ``"dns"``, ``"connect"``, ``"tls"``, ``"timeout"``, ``"cut"`` (the connection broke
            after the request was sent, at least in part), ``"unreadable"`` (what came is no
            response) or ``"aborted"`` (hastack itself gave up).
        detail: What happened, for people.
    """

    kind: str
    detail: str = ""


Answer: TypeAlias = HttpAnswer | GrpcAnswer | NoAnswer


class MalformedError(ValueError):
    """Bytes that are no protobuf message."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned varint and where it ends."""
    result = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise MalformedError("varint")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int | bytes, int, int]]:
    """Field number, value, begin and end of each field of a message.

    Raises:
        MalformedError: They are none.
    """
    at = 0
    while at < len(data):
        begin = at
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value = data[at : at + size]
            at += size
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
            value = data[at : at + size]
            at += size
        else:
            raise MalformedError(f"wire type {kind}")
        if at > len(data) or not number:
            raise MalformedError("cut off")
        yield number, value, begin, at


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def partial_success(body: bytes) -> tuple[int, str]:
    """Rejected units and the message of an OTLP ``Export*ServiceResponse``.

    A body that is none says nothing: the request itself was taken.
    """
    rejected, message = 0, ""
    try:
        for number, value, _, _ in fields(body):
            if number != 1 or not isinstance(value, bytes):
                continue
            for inner, content, _, _ in fields(value):
                if inner == 1 and isinstance(content, int):
                    rejected = max(0, _signed(content))
                elif inner == 2 and isinstance(content, bytes):
                    message = content.decode("utf-8", "replace")
    except MalformedError:
        return 0, ""
    return rejected, message


def status_message(body: bytes) -> str:
    """The message of a ``google.rpc.Status``, which OTLP/HTTP servers answer failures with."""
    try:
        for number, value, _, _ in fields(body):
            if number == 2 and isinstance(value, bytes):
                return value.decode("utf-8", "replace")
    except MalformedError:
        pass
    return ""


def retry_info(status: bytes) -> float | None:
    """Seconds in the ``RetryInfo`` of a ``google.rpc.Status``; ``None`` without one."""
    try:
        for number, detail, _, _ in fields(status):
            if number != 3 or not isinstance(detail, bytes):
                continue
            parts = {n: value for n, value, _, _ in fields(detail)}
            url, content = parts.get(1, b""), parts.get(2, b"")
            if isinstance(url, bytes) and url.endswith(b"google.rpc.RetryInfo"):
                return _delay(content if isinstance(content, bytes) else b"")
    except MalformedError:
        pass
    return None


def _delay(info: bytes) -> float:
    seconds = 0.0
    for number, value, _, _ in fields(info):
        if number == 1 and isinstance(value, bytes):
            for part, amount, _, _ in fields(value):
                if isinstance(amount, int):
                    seconds += _signed(amount) * (1.0 if part == 1 else 1e-9)
    return max(0.0, seconds)
