"""What processes that share a store say to each other comes over whole, and noise is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hastack.discovery import (
    Batch,
    ClusterId,
    Compare,
    Delete,
    DeleteResult,
    Get,
    KeyValue,
    Put,
    PutResult,
    RangeResult,
    TxnResult,
    WatchEvent,
)
from hastack.discovery._memory_wire import (
    REQUEST_LIMIT,
    Call,
    Frames,
    Goodbye,
    Hello,
    Malformed,
    Next,
    Ping,
    Unwatch,
    WatchCall,
    decode,
    encode,
)
from hastack.errors import (
    Compacted,
    HastackError,
    InvalidArgument,
    LeaseLost,
    RequestTooLarge,
    StoreError,
    StoreUnavailable,
)

numbers = st.integers(0, 2**32 - 1)
longs = st.integers(-(2**63), 2**63 - 1)
data = st.binary(max_size=20)
keys = st.binary(min_size=1, max_size=20)
kvs = st.builds(KeyValue, keys, data, longs, longs, longs, longs)
several = st.lists(kvs, max_size=4).map(tuple)
ops = st.one_of(
    st.builds(Put, keys, data, longs, st.booleans()),
    st.builds(Delete, keys, st.none() | data, st.booleans()),
    st.builds(Get, keys, st.none() | data, longs),
)
compares = st.one_of(
    st.builds(
        Compare,
        keys,
        st.sampled_from(["version", "create_revision", "mod_revision", "lease"]),
        st.sampled_from(["==", "!=", "<", ">"]),
        longs,
    ),
    st.builds(Compare, keys, st.just("value"), st.sampled_from(["==", "!=", "<", ">"]), data),
)
op_results = st.one_of(
    st.builds(PutResult, longs, st.none() | kvs),
    st.builds(DeleteResult, longs, longs, several),
    st.builds(RangeResult, several, longs, st.booleans(), longs),
)
events = st.builds(WatchEvent, st.sampled_from(["put", "delete"]), kvs, st.none() | kvs)
batches = st.builds(
    lambda events, revision, reason: Batch(events, revision, bool(reason), reason),
    st.lists(events, max_size=4),
    longs,
    st.sampled_from(["", "snapshot", "compacted", "overflow", "restored", "gap"]),
)
calls = st.one_of(
    st.builds(
        lambda *args: Call("range", args),
        *(keys, st.none() | data, longs, longs, st.booleans(), st.booleans()),
    ),
    st.builds(lambda *args: Call("put", args), keys, data, longs, st.booleans()),
    st.builds(lambda *args: Call("delete", args), keys, st.none() | data, st.booleans()),
    st.builds(
        lambda *args: Call("txn", args),
        *(st.lists(compares, max_size=3), st.lists(ops, max_size=3), st.lists(ops, max_size=3)),
    ),
    st.just(Call("identity", ())),
    st.builds(
        lambda name, n: Call(name, (n,)), st.sampled_from(["compact", "renew", "revoke"]), longs
    ),
    st.builds(lambda s: Call("grant", (s,)), st.floats(0.001, 1e9)),
)
watches = st.builds(
    WatchCall, keys, st.booleans(), st.none() | longs, st.booleans(), st.integers(1, 2**60)
)
messages = st.one_of(
    *(calls, watches, op_results, batches),
    st.builds(TxnResult, st.booleans(), st.lists(op_results, max_size=3).map(tuple), longs),
    st.builds(ClusterId, longs, longs),
    st.builds(Hello, numbers, longs),
    st.builds(Goodbye, st.text(max_size=20)),
    st.builds(Next, numbers),
    st.builds(Unwatch, numbers),
    st.just(Ping()),
    *(st.none(), longs, st.floats(allow_nan=False)),
)


def body(frame):
    (found,) = Frames(REQUEST_LIMIT).feed(frame)
    return found


@given(numbers, messages)
@example(7, WatchCall(b"", True, None, False, 1))
def test_what_is_said_is_heard(number, message):
    heard_number, heard = decode(body(encode(number, message)))
    assert (heard_number, heard) == (number, message)
    assert type(heard) is type(message)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("key", b"", "a key"),
        Compacted("gone", revision=5),
        LeaseLost("no lease", lease=7),
        RequestTooLarge("operations", 129, 128),
        StoreError("full", code="RESOURCE_EXHAUSTED"),
        StoreUnavailable("away", code="UNAVAILABLE"),
        HastackError("something else \udc80"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_keep_their_class_and_their_facts(error):
    _, heard = decode(body(encode(1, error)))
    assert str(heard) == str(error) or isinstance(error, InvalidArgument)
    if isinstance(error, StoreError):
        assert type(heard) is type(error)
        assert heard.code == error.code
    else:
        assert isinstance(heard, (InvalidArgument, StoreError))
    for name in ("revision", "lease", "parameter", "accepted"):
        assert getattr(heard, name, None) == getattr(error, name, None)


@given(numbers, messages, st.data())
def test_every_cut_and_every_surplus_is_refused(number, message, drawn):
    whole = body(encode(number, message))
    end = drawn.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Malformed):
        decode(whole[:end])
    with pytest.raises(Malformed, match=r"too many|no room|ends early"):
        decode(whole + b"x")


@given(st.binary(max_size=60) | st.builds(lambda k, b: bytes([k]) + b, st.integers(0, 40), data))
def test_noise_is_refused_or_is_a_message(noise):
    try:
        number, message = decode(noise)
    except Malformed:
        return
    # By its bytes: a time that is not a number differs from itself.
    assert body(encode(*decode(body(encode(number, message))))) == body(encode(number, message))


@given(numbers, messages, st.data())
def test_a_flipped_byte_is_refused_or_another_message(number, message, drawn):
    whole = bytearray(body(encode(number, message)))
    at = drawn.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= drawn.draw(st.integers(1, 255))
    try:
        decode(bytes(whole))
    except Malformed:
        pass


@given(st.lists(st.tuples(numbers, messages), max_size=5), st.data())
def test_frames_come_whole_however_the_stream_is_cut(said, drawn):
    stream = b"".join(encode(*one) for one in said)
    frames = Frames(REQUEST_LIMIT)
    heard = []
    while stream:
        size = drawn.draw(st.integers(1, len(stream)))
        heard += frames.feed(stream[:size])
        stream = stream[size:]
    assert [decode(one) for one in heard] == said


@pytest.mark.parametrize("size", [0, 11, 2**32 - 1])
def test_a_frame_that_is_empty_or_too_long_is_refused_before_it_comes(size):
    with pytest.raises(Malformed, match=f"{size} bytes"):
        Frames(10).feed(struct.pack("!I", size))


@pytest.mark.parametrize(
    ("noise", "why"),
    [
        (struct.pack("!BI", 99, 1), "unknown kind 99"),
        (struct.pack("!BI", 1, 0) + b"something-else" + bytes(12), "greeting"),
        (struct.pack("!BI", 16, 0) + struct.pack("!d", -1.0), "a time of"),
        (struct.pack("!BI", 16, 0) + struct.pack("!d", float("nan")), "a time of"),
        (struct.pack("!BI", 2, 0) + struct.pack("!I", 1) + b"\xff", "UTF-8"),
        (struct.pack("!BI", 13, 0) + struct.pack("!I", 2**31), "no room"),
        (struct.pack("!BI", 4, 1) + struct.pack("!IBqq", 0, 0, 0, 5), "watch of nothing"),
        (struct.pack("!BI", 4, 1) + struct.pack("!I", 1) + b"k\0" + bytes(16), "buffer"),
        (struct.pack("!BI", 34, 0) + bytes(9) + b"\1" + bytes(10), "ends early"),
        (struct.pack("!BI", 34, 0) + bytes(9) + b"\1\0\0\0\5" + bytes(36), "ends early"),
        (struct.pack("!BI", 34, 0) + bytes(4), "ends early"),
        (struct.pack("!BI", 31, 0) + bytes(9), "1 bytes too many"),
        (struct.pack("!BI", 11, 0) + struct.pack("!II", 0, 0) + bytes(8) + b"\x09", "below"),
    ],
)
def test_what_is_wrong_is_said(noise, why):
    with pytest.raises(Malformed, match=why):
        decode(noise)


def test_what_is_no_message_is_not_said():
    with pytest.raises(TypeError):
        encode(1, object())
