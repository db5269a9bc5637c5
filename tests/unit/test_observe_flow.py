"""Single steps of a flow that random walks reach too rarely."""

from __future__ import annotations

from math import inf

import pytest

from hastack import config
from hastack.errors import ConfigError, InvalidArgument
from hastack.observe._compress import compress, decompress
from hastack.observe._encoding import WireFormat
from hastack.observe._flow import Entry, Flow, Rules
from hastack.observe._options import OBSERVE
from hastack.observe._queue import WhenFull
from hastack.observe._retry_rules import Kind, RetryRules, Verdict
from hastack.observe._shards import Body, shard_of
from hastack.observe._split import one
from hastack.observe._wire import Wire
from hastack.ratelimit._backoff import Backoff

TAKEN = Verdict(kind=Kind.DELIVERED)


def flow_of(when_full=WhenFull.SPILL, **changes):
    options = {
        "shards": 2, "max_units": 8, "max_bytes": 10_000, "batch_units": 2, "batch_bytes": 1000,
        "linger": 1.0,
    } | changes  # fmt: skip
    backoff = Backoff(
        attempts=1 << 62, base=0.5, cap=8.0, factor=2.0, jitter=True, max_retry_after=inf
    )
    return Flow(Rules(when_full=when_full, backoff=backoff, **options))


def batch(flow, lane=0):
    """Two items in, one body out; what has to go to disk."""
    for _ in range(2):
        assert flow.emit(lane, "x", 10, 1, 0.0) in {Entry.ADMITTED, Entry.WAKE}
    found, items, *_ = flow.pack(0.0)
    return flow.packed(found, [(2, b"xx")], [])


def crowded(flow, lane=0):
    """Bodies in memory until the first that goes to disk; that one."""
    for _ in range(10):
        to_disk = batch(flow, lane)
        if to_disk:
            return to_disk[0]
    raise AssertionError("never crowded")


def test_half_full_memory_spills_and_what_follows_does_too():
    flow = flow_of(max_units=12)
    lane = flow.lanes[0]
    first = crowded(flow)
    assert flow.spilled(lane, first, "p1", 30)
    assert (first.data, first.place, first.size) == (None, "p1", 30)
    assert flow.ledger.spilled == 2
    (second,) = batch(flow)  # there would be room, but it must not overtake
    assert flow.spilled(lane, second, "p2", 30)
    head, tail = flow.shed(lane)
    assert (len(head), tail) == (3, [])
    flight = flow.launch(0, 0.0)
    flow.settle(0, flight.ticket, TAKEN, 0.0, 0.0)
    assert batch(flow, 1) == []  # another lane is not concerned


def test_after_a_failed_write_a_lane_stays_in_memory_until_its_disk_part_is_sent():
    flow = flow_of(max_units=14)
    lane = flow.lanes[0]
    assert flow.spilled(lane, crowded(flow), "p1", 30)
    (second,) = batch(flow)
    flow.unspillable("disk_full")
    assert second.place is None
    assert batch(flow) == []
    head, tail = flow.shed(lane)
    assert len(head) == 3
    assert len(tail) == 2
    while not lane.idle():
        flight = flow.launch(0, 0.0)
        assert flow.settle(0, flight.ticket, TAKEN, 0.0, 0.0) is flight.body
    assert flow.ledger.snapshot().sent == 12


def test_why_there_is_no_room_is_the_disk_if_it_is():
    flow = flow_of(max_units=2)
    batch(flow)
    assert flow.emit(0, "x", 10, 1, 0.0) is Entry.FULL
    assert flow.reason() == "queue_full"
    flow.unspillable("disk_full")
    flow.stalled = True
    assert flow.emit(0, "x", 10, 1, 0.0) is Entry.DROPPED
    assert flow.ledger.dropped == {"disk_full": 1}


def test_a_body_that_was_sent_while_it_was_written_leaves_the_disk():
    flow = flow_of(max_units=2)
    body = crowded(flow)
    lane = flow.lanes[0]
    flight = flow.launch(0, 0.0)
    assert flight.body is body
    assert not flow.spilled(lane, body, "p", 30)  # in flight
    flow.settle(0, flight.ticket, Verdict(kind=Kind.RETRY), 0.0, 0.5)
    assert flow.spilled(lane, body, "p", 30)  # waits for its next try
    assert flow.bound.units == 0
    assert (flow.ledger.queued, flow.ledger.spilled) == (0, 2)
    assert not flow.spilled(lane, Body(1, 1, first=0, data=b"x"), "q", 30)  # dropped long ago


@pytest.mark.parametrize("flying", [True, False])
def test_damage_of_what_is_being_sent(flying):
    flow = flow_of()
    flow.recover(0, [Body(3, 30, first=-1, place="p")], foreign=True)
    flight = flow.launch(0, 0.0)
    if not flying:
        flow.settle(0, flight.ticket, Verdict(kind=Kind.RETRY), 0.0, 0.5)
    flow.damaged(flow.lanes[0], flight.body, "damaged")
    assert not flow.foreign
    assert flow.idle()
    assert flow.ledger.dropped == {"damaged": 3}
    assert flow.settle(0, flight.ticket, TAKEN, 0.0, 0.0) is None
    assert flow.ledger.snapshot().balanced


def test_damage_of_what_waits():
    flow = flow_of()
    bodies = [Body(1, 30, first=-1, place="p"), Body(2, 30, first=-1, place="q")]
    flow.recover(1, bodies, foreign=False)
    flow.damaged(flow.lanes[1], bodies[1], "damaged")
    assert flow.replace(1, 0, []) is None  # nothing is in flight
    assert flow.lanes[1].on_disk == 1
    assert flow.ledger.snapshot().spilled == 1


def test_what_another_number_of_shards_left_goes_first():
    flow = flow_of()
    flow.recover(1, [Body(1, 30, first=-1, place="own")], foreign=False)
    flow.recover(1, [Body(1, 30, first=-1, place="foreign")], foreign=True)
    assert flow.launch(1, 0.0) == inf
    flight = flow.launch(0, 0.0)
    assert flight.body.place == "foreign"
    flow.settle(0, flight.ticket, TAKEN, 0.0, 0.0)
    assert flow.launch(1, 0.0).body.place == "own"


def test_the_end_leaves_the_disk_alone():
    flow = flow_of()
    lane = flow.lanes[0]
    flow.recover(0, [Body(3, 30, first=-1, place="p")], foreign=False)
    assert flow.spilled(lane, crowded(flow), "q", 30)
    flow.launch(0, 0.0)  # the recovered one
    flow.launch(1, 0.0)
    flow.emit(1, "x", 10, 1, 0.0)
    flow.abandon()
    account = flow.ledger.snapshot()
    assert account.spilled == 5
    assert account.balanced
    assert account.queued == account.in_flight == 0
    assert flow.bound.units == flow.bound.bytes == 0
    flow.abandon()
    assert flow.ledger.snapshot() == account


def test_the_end_of_what_was_in_flight_or_waited_for_a_try():
    flow = flow_of(WhenFull.BLOCK)
    batch(flow, 0), batch(flow, 1), batch(flow, 1)
    flight = flow.launch(0, 0.0)
    assert flow.settle(0, flight.ticket, Verdict(kind=Kind.SPLIT), 0.0, 0.5) is None
    waits = flow.launch(1, 0.0)
    flow.settle(1, waits.ticket, Verdict(kind=Kind.RETRY), 0.0, 0.5)
    flow.abandon()
    assert flow.ledger.dropped == {"unanswered": 2, "shutdown": 4}


def test_a_flush_ends_with_the_last_answer():
    flow = flow_of(WhenFull.BLOCK)
    batch(flow)
    flow.emit(0, "x", 10, 1, 0.0)
    mark = flow.mark()
    assert not flow.reached(mark)  # a body
    flight = flow.launch(0, 0.0)
    assert not flow.reached(mark)  # in flight
    flow.settle(0, flight.ticket, TAKEN, 0.0, 0.0)
    assert not flow.reached(mark)  # an object
    lane, *_ = flow.pack(0.0)
    flow.packed(lane, [(1, b"x")], [])
    flow.emit(0, "later", 10, 1, 0.0)
    flow.settle(0, flow.launch(0, 0.0).ticket, TAKEN, 0.0, 0.0)
    assert flow.reached(mark)


def test_settings_from_a_configuration():
    backend = {"endpoint": "http://collector:4318", "signals": ["traces"], "timeout": "2s"}
    loaded = config.load(
        env={"HASTACK_OBSERVE__QUEUE__MAX_BYTES": "8MiB"},
        override={"observe": {"backends": {"main": backend}}},
    )
    settings = OBSERVE.of(loaded)
    assert settings.queue.max_bytes == 8 * 1024 * 1024
    assert settings.backends["main"].timeout == 2.0
    assert settings.backends["main"].breaker.min_calls == 5
    with pytest.raises(ConfigError) as caught:
        config.load(env=None, override={"observe": {"queue": {"when_full": "spill"}}})
    assert "needs spill.directory" in str(caught.value.exceptions[0])


def test_a_refusal_drops_the_body():
    flow = flow_of(WhenFull.BLOCK)
    batch(flow)
    flight = flow.launch(0, 0.0)
    verdict = Verdict(kind=Kind.DROP, reason="http_400")
    assert flow.settle(0, flight.ticket, verdict, 0.0, 0.0) is flight.body
    assert flow.ledger.dropped == {"http_400": 2}


def test_what_comes_after_the_end_is_counted():
    flow = flow_of(WhenFull.BLOCK)
    flow.emit(0, "x", 10, 2, 0.0)
    lane, *_ = flow.pack(0.0)
    flow.abandon()
    assert flow.packed(lane, [(2, b"xx")], []) == []
    assert flow.emit(0, "x", 10, 1, 0.0) is Entry.DROPPED
    assert flow.emit(0, "x", 10, 1, 0.0, early=True) is Entry.DROPPED
    assert flow.ledger.dropped == {"shutdown": 4}


def test_what_was_handed_in_before_the_end_is_still_taken():
    flow = flow_of(WhenFull.BLOCK)
    flow.closing = True
    assert flow.emit(0, "x", 10, 1, 0.0, early=True) is Entry.WAKE
    assert flow.emit(0, "x", 10, 1, 0.0) is Entry.DROPPED


def test_what_an_encoder_leaves_out_is_counted():
    flow = flow_of(WhenFull.BLOCK)
    flow.emit(0, "x", 10, 5, 0.0)
    lane, *_ = flow.pack(0.0)
    flow.packed(lane, [(1, b"x")], [("too_large", 1), ("unsupported", 2)], repaired=4)
    assert flow.ledger.dropped == {"too_large": 1, "unsupported": 2, "unencodable": 1}
    assert flow.ledger.repaired == 4


def test_a_breaker_that_opens_before_the_first_try():
    flow = flow_of(WhenFull.BLOCK)
    batch(flow)
    flight = flow.launch(0, 0.0)
    flow.postpone(0, flight.ticket, 3.0)
    assert flow.launch(0, 0.0) == 3.0
    assert (flow.ledger.requests, flow.ledger.retried) == (0, 0)


def test_a_thread_that_fails_leaves_nothing_in_between():
    flow = flow_of(WhenFull.BLOCK)
    batch(flow)
    flow.begin_anew(0)  # nothing was under way
    flow.launch(0, 0.0)
    flow.begin_anew(0)
    assert (flow.ledger.queued, flow.ledger.in_flight) == (2, 0)
    flow.emit(1, "x", 10, 3, 0.0)
    flow.pack(0.0)
    flow.begin_anew(None)
    assert flow.ledger.dropped == {"unencodable": 3}
    assert flow.lanes[1].idle()
    assert flow.launch(0, 0.0).body.units == 2


def test_giving_up_on_answers_brings_back_what_is_in_flight():
    flow = flow_of(WhenFull.BLOCK)
    batch(flow)
    flight = flow.launch(0, 0.0)
    flow.ground()
    assert (flow.ledger.queued, flow.ledger.in_flight) == (2, 0)
    assert flow.settle(0, flight.ticket, TAKEN, 0.0, 0.0) is None
    assert flow.launch(0, 9.0) == inf


def test_a_split_body_from_disk_goes_on_in_memory():
    flow = flow_of()
    flow.recover(0, [Body(3, 30, first=-1, place="p")], foreign=False)
    flight = flow.launch(0, 0.0)
    assert flow.replace(0, flight.ticket, [(1, b"a"), (1, b"b")]) is flight.body
    assert flow.ledger.dropped == {"too_large": 1}
    assert (flow.ledger.queued, flow.ledger.spilled, flow.bound.units) == (2, 0, 2)
    assert flow.launch(0, 0.0).body.data == b"a"
    assert flow.ledger.retried == 1


def test_a_wire_knows_its_format():
    class Encoder:
        format = WireFormat("lines", "text/plain", ("gzip", "identity"), (("X-A", "b"),))

    options = {"encoder": Encoder(), "transport": None, "rules": RetryRules.LOKI}
    wire = Wire(**options)
    assert wire.about() == {
        "format": "lines",
        "protocol": "loki",
        "content_type": "text/plain",
        "encoding": "gzip",
        "headers": {"X-A": "b"},
    }
    assert wire.pieces(b"x", 1) == []  # nobody said where to cut
    assert Wire(compression="identity", **options).about()["encoding"] == "identity"
    with pytest.raises(InvalidArgument, match="compression"):
        Wire(compression="snappy", **options)
    wire = Wire(split=((1,), one), **options)
    assert wire.pieces(b"no gzip", 2) == []
    body = b"\x0a\x01a\x0a\x01b"
    pieces = wire.pieces(compress("gzip", body), 2)
    assert [(n, decompress("gzip", p)) for n, p in pieces] == [(1, body[:3]), (1, body[3:])]


@pytest.mark.parametrize("name", ["identity", "gzip", "deflate", "snappy", "zstd"])
def test_compressions_come_back(name):
    data = b"abc" * 1000
    packed = compress(name, bytearray(data))
    assert decompress(name, packed) == data
    if name != "identity":
        assert len(packed) < 200
        assert decompress(name, b"\xff" + packed[:20]) is None


def test_one_shard_takes_everything():
    assert {shard_of(name, 1) for name in "abc"} == {0}
