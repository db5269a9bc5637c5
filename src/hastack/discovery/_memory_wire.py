"""What the processes that share an embedded store say to each other over its socket.

A message is a frame of its kind (1 byte), a number (4 bytes) that an answer repeats, and its fields;
see ``_memory_frames`` for how those are packed. The first message each way is the
greeting, which names the version. Everything is checked while it is read: what is not exactly a
message is `Malformed`, whatever it is.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from hastack._core._errors import (
    Compacted,
    HastackError,
    InvalidArgument,
    LeaseLost,
    RequestTooLarge,
    StoreError,
    StoreUnavailable,
)

from ._memory_frames import KV_SIZE, SIZE, Frames, Malformed, Reader, Writer
from ._records import (
    Batch,
    ClusterId,
    Compare,
    Delete,
    DeleteResult,
    Get,
    Op,
    OpResult,
    Put,
    PutResult,
    RangeResult,
    TxnResult,
    WatchEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = (
    "ANSWER_LIMIT",
    "REQUEST_LIMIT",
    "VERSION",
    "Call",
    "Frames",
    "Goodbye",
    "Hello",
    "Malformed",
    "Next",
    "Ping",
    "Unwatch",
    "WatchCall",
    "decode",
    "encode",
)

VERSION = 1
MAGIC = b"hastack-memory"
REQUEST_LIMIT = 4 * 2**20  # bytes of a frame to the owner; the store's own limit is below
ANSWER_LIMIT = 2**30  # bytes of a frame from the owner: a range may be the whole store


# Messages


@attrs.frozen
class Hello:
    """The greeting of either side; the owner's names its data."""

    version: int
    cluster: int = 0


@attrs.frozen
class Goodbye:
    """Why the sender closes the connection."""

    reason: str


@attrs.frozen
class Ping:
    """Asks for the same back: the other side is alive."""


@attrs.frozen
class Call:
    """Call a method of the owner's data. ``name`` and ``args`` are those of the engine."""

    name: str
    args: tuple[Any, ...]


@attrs.frozen
class WatchCall:
    """Begin a watch under the message's number."""

    key: bytes
    prefix: bool
    start_revision: int | None
    prev: bool
    buffer: int


@attrs.frozen
class Next:
    """Hand over what waits for a watch, as soon as something does."""

    watch: int


@attrs.frozen
class Unwatch:
    """End a watch; nothing is answered."""

    watch: int


Answer: TypeAlias = (
    RangeResult | PutResult | DeleteResult | TxnResult | ClusterId | Batch | HastackError
)
Message: TypeAlias = (
    Hello | Goodbye | Ping | Call | WatchCall | Next | Unwatch | Answer | int | float | None
)


class _Kind(IntEnum):
    HELLO = 1
    GOODBYE = 2
    PING = 3
    WATCH = 4
    NEXT = 5
    UNWATCH = 6
    RANGE = 10
    PUT = 11
    DELETE = 12
    TXN = 13
    COMPACT = 14
    IDENTITY = 15
    GRANT = 16
    RENEW = 17
    REVOKE = 18
    NOTHING = 30
    NUMBER = 31
    SECONDS = 32
    RANGE_RESULT = 33
    PUT_RESULT = 34
    DELETE_RESULT = 35
    TXN_RESULT = 36
    CLUSTER = 37
    BATCH = 38
    ERROR = 39


_HEAD = Struct("!BI")

_TARGETS = ("version", "create_revision", "mod_revision", "value", "lease")
_RELATIONS = ("==", "!=", "<", ">")
_REASONS = ("", "snapshot", "compacted", "overflow", "restored", "gap")


# Operations of a transaction


def _write_ops(out: Writer, ops: Sequence[Op]) -> None:
    out.size(len(ops))
    for op in ops:
        if isinstance(op, Put):
            out.byte(0)
            out.bytes(op.key)
            out.bytes(op.value)
            out.int(op.lease)
            out.flags(op.prev)
        elif isinstance(op, Delete):
            out.byte(1)
            out.bytes(op.key)
            out.bytes(op.end)
            out.flags(op.prev)
        else:
            out.byte(2)
            out.bytes(op.key)
            out.bytes(op.end)
            out.int(op.limit)


def _read_op(data: Reader) -> Op:
    kind = data.byte(3)
    key = data.bytes()
    if kind == 0:
        return Put(key, data.bytes(), data.int(), *data.flags(1))
    end = data.maybe_bytes()
    return Delete(key, end, *data.flags(1)) if kind == 1 else Get(key, end, data.int())


def _read_ops(data: Reader) -> list[Op]:
    return [_read_op(data) for _ in range(data.count(9))]


def _write_compare(out: Writer, compare: Sequence[Compare]) -> None:
    out.size(len(compare))
    for one in compare:
        out.bytes(one.key)
        out.byte(_TARGETS.index(one.target))
        out.byte(_RELATIONS.index(one.relation))
        if isinstance(one.value, int):
            out.int(one.value)
        else:
            out.bytes(one.value)


def _read_compare(data: Reader) -> Compare:
    key = data.bytes()
    target, relation = _TARGETS[data.byte(5)], _RELATIONS[data.byte(4)]
    value = data.bytes() if target == "value" else data.int()
    return Compare(key, target, relation, value)  # type: ignore[arg-type]  # of the literals


def _write_txn(out: Writer, compare: Any, then: Any, otherwise: Any) -> None:
    _write_compare(out, compare)
    _write_ops(out, then)
    _write_ops(out, otherwise)


def _read_txn(data: Reader) -> tuple[Any, ...]:
    compare = [_read_compare(data) for _ in range(data.count(10))]
    return compare, _read_ops(data), _read_ops(data)


def _write_range(out: Writer, key: bytes, end: bytes | None, *options: Any) -> None:
    revision, limit, keys_only, count_only = options
    out.bytes(key)
    out.bytes(end)
    out.int(revision)
    out.int(limit)
    out.flags(keys_only, count_only)


def _read_range(data: Reader) -> tuple[Any, ...]:
    return data.bytes(), data.maybe_bytes(), data.int(), data.int(), *data.flags(2)


def _write_put(out: Writer, key: bytes, value: bytes, lease: int, prev: bool) -> None:
    out.bytes(key)
    out.bytes(value)
    out.int(lease)
    out.flags(prev)


def _read_put(data: Reader) -> tuple[Any, ...]:
    return data.bytes(), data.bytes(), data.int(), *data.flags(1)


def _write_delete(out: Writer, key: bytes, end: bytes | None, prev: bool) -> None:
    out.bytes(key)
    out.bytes(end)
    out.flags(prev)


def _read_delete(data: Reader) -> tuple[Any, ...]:
    return data.bytes(), data.maybe_bytes(), *data.flags(1)


def _write_nothing(out: Writer) -> None:
    pass


def _read_nothing(data: Reader) -> tuple[Any, ...]:
    return ()


def _write_number(out: Writer, number: int) -> None:
    out.int(number)


def _read_number(data: Reader) -> tuple[Any, ...]:
    return (data.int(),)


def _write_seconds(out: Writer, seconds: float) -> None:
    out.float(seconds)


def _read_seconds(data: Reader) -> tuple[Any, ...]:
    seconds = data.float()
    if not 0.0 < seconds < 1e10:
        raise Malformed(f"a time of {seconds} s")
    return (seconds,)


_CALLS: dict[str, tuple[_Kind, Callable[..., None], Callable[[Reader], tuple[Any, ...]]]] = {
    "range": (_Kind.RANGE, _write_range, _read_range),
    "put": (_Kind.PUT, _write_put, _read_put),
    "delete": (_Kind.DELETE, _write_delete, _read_delete),
    "txn": (_Kind.TXN, _write_txn, _read_txn),
    "compact": (_Kind.COMPACT, _write_number, _read_number),
    "identity": (_Kind.IDENTITY, _write_nothing, _read_nothing),
    "grant": (_Kind.GRANT, _write_seconds, _read_seconds),
    "renew": (_Kind.RENEW, _write_number, _read_number),
    "revoke": (_Kind.REVOKE, _write_number, _read_number),
}
_CALL_OF = {kind: (name, read) for name, (kind, _, read) in _CALLS.items()}


# Answers


def _write_op_result(out: Writer, result: OpResult) -> None:
    if isinstance(result, PutResult):
        out.byte(0)
        out.int(result.revision)
        out.maybe_kv(result.prev)
    elif isinstance(result, DeleteResult):
        out.byte(1)
        out.int(result.deleted)
        out.int(result.revision)
        out.kvs(result.prev)
    else:
        assert isinstance(result, RangeResult)  # transactions do not nest here
        out.byte(2)
        out.kvs(result.kvs)
        out.int(result.count)
        out.flags(result.more)
        out.int(result.revision)


def _read_op_result(data: Reader) -> OpResult:
    kind = data.byte(3)
    if kind == 0:
        return PutResult(data.int(), data.maybe_kv())
    if kind == 1:
        return DeleteResult(data.int(), data.int(), data.kvs())
    kvs, count, (more,) = data.kvs(), data.int(), data.flags(1)
    return RangeResult(kvs, count, more, data.int())


def _write_batch(out: Writer, batch: Batch) -> None:
    out.int(batch.revision)
    out.byte(_REASONS.index(batch.reason))
    out.size(len(batch.events))
    for event in batch.events:
        prev = event.prev
        out.flags(event.kind == "put", prev is not None)
        out.kv(event.kv)
        if prev is not None:
            out.kv(prev)


def _read_event(data: Reader) -> WatchEvent:
    put, prev = data.flags(2)
    return WatchEvent("put" if put else "delete", data.kv(), data.kv() if prev else None)


def _read_batch(data: Reader) -> Batch:
    revision, reason = data.int(), _REASONS[data.byte(len(_REASONS))]
    events = [_read_event(data) for _ in range(data.count(1 + KV_SIZE))]
    return Batch(events, revision, bool(reason), reason)


def _write_error(out: Writer, error: HastackError) -> None:
    if isinstance(error, InvalidArgument):
        out.byte(0)
        out.text(error.parameter)
        out.text(repr(error.value)[:200])
        out.text(error.accepted)
        return
    if isinstance(error, RequestTooLarge):
        out.byte(5)
        out.text(error.unit)
        out.int(error.size)
        out.int(error.limit)
        return
    if isinstance(error, Compacted):
        out.byte(1)
        out.int(error.revision)
    elif isinstance(error, LeaseLost):
        out.byte(2)
        out.int(error.lease)
    else:
        out.byte(3 if isinstance(error, StoreUnavailable) else 4)
        out.text(error.code if isinstance(error, StoreError) else "UNKNOWN")
    out.text(str(error))


def _read_error(data: Reader) -> HastackError:
    kind = data.byte(6)
    if kind == 0:
        return InvalidArgument(data.text(), data.text(), data.text())
    if kind == 5:
        return RequestTooLarge(data.text(), data.int(), data.int())
    if kind == 1:
        revision = data.int()
        return Compacted(data.text(), revision=revision)
    if kind == 2:
        lease = data.int()
        return LeaseLost(data.text(), lease=lease)
    code = data.text()
    return (StoreUnavailable if kind == 3 else StoreError)(data.text(), code=code)


# Whole messages


def encode(number: int, message: Message) -> bytes:
    """A frame that holds ``message``."""
    out = Writer()
    kind = _write(out, message)
    size = _HEAD.size + sum(map(len, out.parts))
    return b"".join((SIZE.pack(size), _HEAD.pack(kind, number), *out.parts))


def _write(out: Writer, message: Message) -> _Kind:
    if isinstance(message, Call):
        kind, write, _ = _CALLS[message.name]
        write(out, *message.args)
        return kind
    for known, kind, write_message in _MESSAGES:
        if isinstance(message, known):
            write_message(out, message)
            return kind
    raise TypeError(f"no message: {message!r}")


def _write_watch(out: Writer, watch: WatchCall) -> None:
    out.bytes(watch.key)
    out.flags(watch.prefix, watch.prev, watch.start_revision is not None)
    out.int(watch.start_revision or 0)
    out.int(watch.buffer)


def _read_watch(data: Reader) -> WatchCall:
    key = data.bytes()
    prefix, prev, begins = data.flags(3)
    start, buffer = data.int(), data.int()
    if buffer < 1 or (not key and not prefix):
        raise Malformed("a watch of nothing, or without a buffer")
    return WatchCall(key, prefix, start if begins else None, prev, buffer)


def _write_cluster(out: Writer, one: ClusterId) -> None:
    out.int(one.cluster)
    out.int(one.revision)


def _write_hello(out: Writer, hello: Hello) -> None:
    out.parts.append(MAGIC)
    out.size(hello.version)
    out.int(hello.cluster)


def _read_hello(data: Reader) -> Hello:
    if data.raw(len(MAGIC)) != MAGIC:
        raise Malformed("a greeting of something else")
    return Hello(data.size(), data.int())


def _write_txn_result(out: Writer, result: TxnResult) -> None:
    out.flags(result.succeeded)
    out.int(result.revision)
    out.size(len(result.results))
    for one in result.results:
        _write_op_result(out, one)


def _read_txn_result(data: Reader) -> TxnResult:
    (succeeded,) = data.flags(1)
    revision = data.int()
    results = tuple([_read_op_result(data) for _ in range(data.count(10))])
    return TxnResult(succeeded, results, revision)


# Of each class of messages: its kind, and how it is written. An int is no float here.
_MESSAGES: tuple[tuple[Any, _Kind, Callable[[Writer, Any], None]], ...] = (
    (Batch, _Kind.BATCH, _write_batch),
    (Next, _Kind.NEXT, lambda out, one: out.size(one.watch)),
    (RangeResult, _Kind.RANGE_RESULT, _write_op_result),
    (PutResult, _Kind.PUT_RESULT, _write_op_result),
    (DeleteResult, _Kind.DELETE_RESULT, _write_op_result),
    (TxnResult, _Kind.TXN_RESULT, _write_txn_result),
    (type(None), _Kind.NOTHING, lambda _, __: None),
    (int, _Kind.NUMBER, _write_number),
    (float, _Kind.SECONDS, _write_seconds),
    (HastackError, _Kind.ERROR, _write_error),
    (Ping, _Kind.PING, lambda _, __: None),
    (WatchCall, _Kind.WATCH, _write_watch),
    (Unwatch, _Kind.UNWATCH, lambda out, one: out.size(one.watch)),
    (Hello, _Kind.HELLO, _write_hello),
    (Goodbye, _Kind.GOODBYE, lambda out, one: out.text(one.reason)),
    (ClusterId, _Kind.CLUSTER, _write_cluster),
)

_READERS: dict[int, Callable[[Reader], Message]] = {
    _Kind.HELLO: _read_hello,
    _Kind.GOODBYE: lambda data: Goodbye(data.text()),
    _Kind.PING: lambda _: Ping(),
    _Kind.WATCH: _read_watch,
    _Kind.NEXT: lambda data: Next(data.size()),
    _Kind.UNWATCH: lambda data: Unwatch(data.size()),
    _Kind.NOTHING: lambda _: None,
    _Kind.NUMBER: Reader.int,
    _Kind.SECONDS: Reader.float,
    _Kind.RANGE_RESULT: _read_op_result,
    _Kind.PUT_RESULT: _read_op_result,
    _Kind.DELETE_RESULT: _read_op_result,
    _Kind.TXN_RESULT: _read_txn_result,
    _Kind.CLUSTER: lambda data: ClusterId(data.int(), data.int()),
    _Kind.BATCH: _read_batch,
    _Kind.ERROR: _read_error,
}


def decode(data: bytes) -> tuple[int, Message]:
    """The number and the message of a frame.

    Raises:
        Malformed: It is no message.
    """
    reader = Reader(data)
    kind, number = reader.struct(_HEAD)
    call = _CALL_OF.get(kind)
    if call is not None:
        name, read = call
        message: Message = Call(name, read(reader))
    elif kind in _READERS:
        message = _READERS[kind](reader)
    else:
        raise Malformed(f"a message of unknown kind {kind}")
    if reader.at != len(data):
        raise Malformed(f"{len(data) - reader.at} bytes too many")
    return number, message
