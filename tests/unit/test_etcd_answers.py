"""What answers of etcd mean, and what requests look like."""

from __future__ import annotations

import pytest

from hastack.discovery import Compare, Delete, Get, Put, etcd
from hastack.discovery.etcd import _wire
from hastack.discovery.etcd._codec import Codec
from hastack.discovery.etcd._status import Verdict, error_of, judge
from hastack.errors import (
    Compacted,
    InvalidArgument,
    LeaseLost,
    NotAuthorized,
    RequestTooLarge,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)

E = "etcdserver: "


@pytest.mark.parametrize(
    ("code", "details", "verdict", "kind"),
    [
        ("UNAVAILABLE", E + "no leader", Verdict.ELSEWHERE, StoreUnavailable),
        ("UNAVAILABLE", E + "not capable", Verdict.ELSEWHERE, StoreUnavailable),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: refused",
            Verdict.ELSEWHERE,
            StoreUnavailable,
        ),
        ("UNAVAILABLE", E + "request timed out", Verdict.UNSURE, StoreUnavailable),
        ("UNAVAILABLE", E + "leader changed", Verdict.UNSURE, StoreUnavailable),
        ("UNAVAILABLE", "Connection reset by peer", Verdict.UNSURE, StoreUnavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Verdict.UNSURE, StoreTimeout),
        ("RESOURCE_EXHAUSTED", E + "too many requests", Verdict.AGAIN, StoreError),
        ("RESOURCE_EXHAUSTED", E + "mvcc: database space exceeded", Verdict.RAISE, StoreError),
        (
            "RESOURCE_EXHAUSTED",
            "grpc: received message larger than max (5 vs. 4)",
            Verdict.RAISE,
            RequestTooLarge,
        ),
        ("UNKNOWN", "raft proposal dropped", Verdict.ELSEWHERE, StoreError),
        ("UNAUTHENTICATED", E + "invalid auth token", Verdict.LOGIN, NotAuthorized),
        ("INVALID_ARGUMENT", E + "revision of auth store is old", Verdict.LOGIN, StoreError),
        ("INVALID_ARGUMENT", E + "user name is empty", Verdict.LOGIN, NotAuthorized),
        (
            "INVALID_ARGUMENT",
            E + "authentication failed, invalid user ID or password",
            Verdict.RAISE,
            NotAuthorized,
        ),
        ("PERMISSION_DENIED", E + "permission denied", Verdict.RAISE, NotAuthorized),
        (
            "OUT_OF_RANGE",
            E + "mvcc: required revision has been compacted",
            Verdict.RAISE,
            Compacted,
        ),
        ("NOT_FOUND", E + "requested lease not found", Verdict.RAISE, LeaseLost),
        ("INVALID_ARGUMENT", E + "request is too large", Verdict.RAISE, RequestTooLarge),
        (
            "INVALID_ARGUMENT",
            E + "too many operations in txn request",
            Verdict.RAISE,
            RequestTooLarge,
        ),
        ("INVALID_ARGUMENT", E + "duplicate key given in txn request", Verdict.RAISE, StoreError),
        ("INTERNAL", "", Verdict.RAISE, StoreError),
    ],
)
def test_what_an_answer_means(code, details, verdict, kind):
    assert judge(code, details) is verdict
    error = error_of(code, details, endpoint="a:1")
    assert type(error) is kind
    assert E not in str(error)
    assert str(error)
    if kind is not LeaseLost:
        assert error.endpoint == "a:1"


def test_an_uncertain_write_says_so():
    for code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        assert error_of(code, "x", endpoint="a:1", indeterminate=True).indeterminate
        assert not error_of(code, "x", endpoint="a:1").indeterminate


class TestRanges:
    codec, spaced = Codec(b""), Codec(b"ns/")

    def test_one_key(self):
        assert self.codec.span("k") == (b"k", b"")
        assert self.spaced.span(b"k") == (b"ns/k", b"")
        assert self.spaced.inner(self.spaced.outer("k")) == b"k"
        for codec in (self.codec, self.spaced):
            with pytest.raises(InvalidArgument, match="key=b''"):
                codec.span(b"")
            with pytest.raises(InvalidArgument, match="key=b''"):
                codec.single(b"")
        with pytest.raises(InvalidArgument, match="key=5"):
            self.codec.span(5)

    def test_prefixes(self):
        assert self.codec.span("k", prefix=True) == (b"k", b"l")
        assert self.codec.span("", prefix=True) == (b"\0", b"\0")
        assert self.codec.span(b"\xff", prefix=True) == (b"\xff", b"\0")
        assert self.spaced.span("", prefix=True) == (b"ns/", b"ns0")
        with pytest.raises(InvalidArgument, match="end="):
            self.codec.span("k", b"l", prefix=True)

    def test_from_one_key_to_another(self):
        assert self.codec.span("a", b"c") == (b"a", b"c")
        assert self.codec.span("", b"c") == (b"\0", b"c")
        assert self.codec.span("a", b"\0") == (b"a", b"\0")
        assert self.spaced.span("a", b"c") == (b"ns/a", b"ns/c")
        assert self.spaced.span("", b"c") == (b"ns/", b"ns/c")
        assert self.spaced.span("a", b"\0") == (b"ns/a", b"ns0")
        assert Codec(b"\xff").span("a", b"\0") == (b"\xffa", b"\0")
        with pytest.raises(InvalidArgument, match="end=b''"):
            self.codec.span("a", b"")

    def test_keys_are_sorted_anyway(self):
        request = self.codec.range_request("k", None, prefix=True, sort="key", descending=False)
        assert (request.sort_order, request.sort_target) == (0, 0)
        request = self.codec.range_request("k", None, prefix=True, sort="key", descending=True)
        assert (request.sort_order, request.sort_target) == (2, 0)
        request = self.codec.range_request("k", None, prefix=True, sort="value", descending=False)
        assert (request.sort_order, request.sort_target) == (1, 4)
        with pytest.raises(InvalidArgument, match="sort='age'"):
            self.codec.range_request("k", None, prefix=True, sort="age", descending=False)


class TestTransactions:
    def test_everything_is_in_the_namespace(self):
        codec = Codec(b"ns/")
        request = codec.txn_request(
            [Compare("a", "lease", "!=", 5)],
            [Put("b", "v", lease=7, prev=True), Get("c", end=b"d", limit=3)],
            [etcd.Txn([], [Delete("e", prev=True)])],
        )
        assert request.compare[0].key == b"ns/a"
        assert (request.compare[0].lease, request.compare[0].result) == (5, 3)
        put, get = request.success[0].request_put, request.success[1].request_range
        assert (put.key, put.value, put.lease, put.prev_kv) == (b"ns/b", b"v", 7, True)
        assert (get.key, get.range_end, get.limit) == (b"ns/c", b"ns/d", 3)
        inner = request.failure[0].request_txn
        assert inner.success[0].request_delete_range.key == b"ns/e"

    def test_what_is_too_much_or_no_operation_is_not_sent(self):
        codec = Codec(b"", 2)
        with pytest.raises(RequestTooLarge, match="3 operations, at most 2"):
            codec.txn_request([], [Get("a")] * 3, [])
        with pytest.raises(RequestTooLarge, match="3 operations"):
            codec.txn_request([], [etcd.Txn([Compare.absent("a")] * 3, [])], [])
        with pytest.raises(InvalidArgument, match="op="):
            codec.txn_request([], ["put"], [])


class TestWire:
    def test_messages_and_methods(self):
        request = _wire.PutRequest(key=b"k", value=b"v")
        assert request.SerializeToString() == b"\n\x01k\x12\x01v"
        assert _wire.response(_wire.PUT) is _wire.PutResponse
        assert _wire.response(_wire.WATCH) is _wire.WatchResponse
        assert _wire.PutRequest.DESCRIPTOR.full_name == "etcdserverpb.PutRequest"
        for name in ("NoSuchMessage", "_private"):
            with pytest.raises(AttributeError, match=name):
                getattr(_wire, name)

    def test_the_default_pool_knows_nothing_of_it(self):
        from google.protobuf import descriptor_pool

        assert _wire.KeyValue.DESCRIPTOR.file.pool is not descriptor_pool.Default()
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName("mvccpb.KeyValue")

    def test_either_half_loads_them(self, monkeypatch):
        for ask in (lambda: _wire.response(_wire.RANGE), lambda: _wire.RangeResponse):
            monkeypatch.setattr(_wire, "_loaded", {})
            for name in [n for n in vars(_wire) if n.endswith(("Request", "Response"))]:
                monkeypatch.delattr(_wire, name)
            assert ask().DESCRIPTOR.name == "RangeResponse"

    def test_threads_that_load_at_once_get_the_same_classes(self, monkeypatch):
        import threading

        both = threading.Barrier(2)
        load, found = _wire._load, []
        monkeypatch.setattr(_wire, "_loaded", {})
        monkeypatch.setattr(_wire, "_load", lambda: (both.wait(20), load())[1])
        ask = lambda: found.append(_wire.response(_wire.PUT))
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] is found[1]


def test_the_shipped_descriptors_are_those_of_the_sources():
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).resolve().parents[2] / "scripts/protos.py"
    command = [sys.executable, str(script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
