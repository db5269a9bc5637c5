"""The account, the bound and the lanes on their own."""

from __future__ import annotations

import zlib
from math import inf

import pytest

from hastack.observe._account import Account, Ledger, total
from hastack.observe._flow import Entry, Flow, Rules
from hastack.observe._queue import Bound, WhenFull, fullest
from hastack.observe._report import Report
from hastack.observe._retry_rules import Kind, Verdict
from hastack.observe._shards import Lane, shard_of
from hastack.observe._sizes import (
    of_record,
    of_span,
    size_of_attributes,
    size_of_points,
    size_of_record,
    size_of_span,
)
from hastack.ratelimit._backoff import Backoff


def test_the_account_says_where_everything_is():
    ledger = Ledger()
    ledger.emitted = ledger.queued = 10
    ledger.recover(4)
    ledger.refuse(2, "queue_full")
    ledger.launch(5, from_disk=False)
    ledger.land(5, 1)
    ledger.launch(4, from_disk=True)
    ledger.come_back(4, to_disk=True)
    ledger.spill(3)
    ledger.drop_spilled(1, "damaged")
    ledger.launch(1, from_disk=False)
    account = ledger.snapshot()
    assert account.balanced
    assert (account.sent, account.queued, account.in_flight, account.spilled) == (4, 1, 1, 6)
    assert account.dropped == {"queue_full": 2, "rejected": 1, "damaged": 1}
    assert (account.lost, account.pending, account.requests) == (4, 8, 3)
    assert str(account) == (
        "12 emitted, 4 recovered, 4 sent, 1 queued, 1 in flight, 6 spilled, "
        "1 dropped (damaged), 2 dropped (queue_full), 1 dropped (rejected)"
    )
    ledger.drop_in_flight(1, "unanswered")
    ledger.drop_queued(1, "shutdown")
    assert ledger.snapshot().balanced
    with pytest.raises(TypeError):
        account.dropped["x"] = 1
    both = total([account, account])
    assert both.emitted == 24
    assert both.dropped == {"queue_full": 4, "rejected": 2, "damaged": 2}
    assert not Account(emitted=1).balanced


def test_a_report_says_it_in_words():
    report = Report(complete=True, took=0.5, accounts={"a": Account(emitted=1, sent=1)})
    assert str(report) == "complete after 0.50 s\n  a: 1 emitted, 1 sent"
    assert report.account.sent == 1
    assert report


def test_one_item_always_fits_into_an_empty_queue():
    bound = Bound(10, 100)
    assert bound.has_room(1000, 10**9)
    bound.take(1000, 10**9)
    assert not bound.has_room(1, 1)
    bound.give(1000, 10**9)
    bound.take(5, 50)
    assert not bound.crowded()
    bound.take(1, 0)
    assert bound.crowded()
    assert bound.has_room(4, 50)
    assert not bound.has_room(5, 50)
    assert not bound.has_room(4, 51)


def test_the_shard_of_a_service_never_changes():
    # Part of the spill format and of what users see: the same on every machine and version.
    assert [shard_of(name, 4) for name in ("", "orders", "payments", "ä")] == [
        zlib.crc32(name.encode()) % 4 for name in ("", "orders", "payments", "ä")
    ]
    assert shard_of("orders", 4) == 2
    assert shard_of("\ud800", 1) == 0


def test_the_fullest_lane_gives():
    lanes = [Lane(0), Lane(1)]
    assert fullest(lanes) is None
    assert lanes[0].idle()
    lanes[1].body_bytes = 5
    assert fullest(lanes) is lanes[1]


def flow_of(when_full, **changes):
    options = {
        "shards": 2, "max_units": 4, "max_bytes": 1000, "batch_units": 3, "batch_bytes": 200,
        "linger": 1.0,
    } | changes  # fmt: skip
    backoff = Backoff(
        attempts=1 << 62, base=0.5, cap=8.0, factor=2.0, jitter=True, max_retry_after=inf
    )
    return Flow(Rules(when_full=when_full, backoff=backoff, **options))


def test_drop_oldest_takes_from_the_service_that_floods():
    flow = flow_of(WhenFull.DROP_OLDEST)
    flow.emit(1, "quiet", 10, 1, 0.0)
    for n in range(10):
        assert flow.emit(0, n, 10, 1, 0.0) in {Entry.ADMITTED, Entry.WAKE}
    assert list(flow.lanes[1].items) == ["quiet"]
    assert list(flow.lanes[0].items) == [7, 8, 9]
    assert flow.ledger.dropped == {"queue_full": 7}


def test_drop_oldest_takes_encoded_bodies_before_objects():
    flow = flow_of(WhenFull.DROP_OLDEST)
    for n in range(3):
        flow.emit(0, n, 10, 1, 0.0)
    lane, items, _, _ = flow.pack(0.0)
    flow.packed(lane, [(3, b"abc")], [])
    flow.emit(0, 3, 10, 1, 0.0)
    flow.emit(0, 4, 10, 1, 0.0)
    assert list(lane.items) == [3, 4]
    assert not lane.bodies
    assert flow.ledger.dropped == {"queue_full": 3}


def test_drop_oldest_cannot_drop_what_is_under_way():
    flow = flow_of(WhenFull.DROP_OLDEST, max_units=3)
    for n in range(3):
        flow.emit(0, n, 10, 1, 0.0)
    flow.pack(0.0)
    assert flow.emit(0, 3, 10, 1, 0.0) is Entry.FULL  # and the caller waits, or counts it


def test_when_objects_are_encoded():
    flow = flow_of(WhenFull.BLOCK, max_units=100)
    assert flow.pack(0.0) == inf
    assert flow.emit(0, "a", 10, 1, 5.0) is Entry.WAKE  # the first: from now on time counts
    assert flow.emit(0, "b", 10, 1, 5.5) is Entry.ADMITTED
    assert flow.pack(5.9) == 6.0
    assert flow.emit(0, "c", 10, 1, 5.9) is Entry.WAKE  # a batch
    lane, items, units, size = flow.pack(5.9)
    flow.asleep = False
    assert (lane.index, items, units, size) == (0, ["a", "b", "c"], 3, 30)
    flow.packed(lane, [(3, b"x")], [])
    assert flow.emit(1, "d", 10, 1, 6.0) is Entry.ADMITTED  # it looks by itself
    assert flow.emit(1, "e", 300, 1, 6.0) is Entry.WAKE  # large enough
    assert flow.pack(6.0)[1] == ["d", "e"]
    flow.packed(flow.lanes[1], [(2, b"x")], [])
    flow.emit(0, "heavy", 10, 50, 6.0)  # more units than a batch, but one object
    flow.emit(0, "next", 10, 1, 6.0)
    assert flow.pack(6.0)[1] == ["heavy"]


def test_a_pause_that_a_backend_asks_for_holds_for_every_lane_and_has_an_end():
    flow = flow_of(WhenFull.BLOCK, max_units=100)
    for lane in (0, 1):
        flow.emit(lane, "a", 10, 3, 0.0)
        flow.packed(flow.pack(0.0)[0], [(3, b"x")], [])
    flight = flow.launch(0, 0.0)
    flow.settle(0, flight.ticket, Verdict(kind=Kind.RETRY, after=20.0), 0.0, 0.5)
    assert flow.launch(1, 19.0) == 20.0
    assert flow.launch(0, 20.0) == 20.25  # with its own jitter on top
    again = flow.launch(0, 20.25)
    flow.settle(0, again.ticket, Verdict(kind=Kind.RETRY, after=1e9), 20.25, 0.0)
    assert flow.launch(1, 21.0) == 20.25 + 3600.0
    assert flow.ledger.retried == 1


def test_a_retry_that_was_put_off_is_not_counted():
    flow = flow_of(WhenFull.BLOCK)
    flow.emit(0, "a", 10, 3, 0.0)
    flow.packed(flow.pack(0.0)[0], [(3, b"x")], [])
    flight = flow.launch(0, 0.0)
    flow.settle(0, flight.ticket, Verdict(kind=Kind.RETRY), 0.0, 0.0)
    flight = flow.launch(0, 1.0)
    flow.postpone(0, flight.ticket, 9.0)
    flow.postpone(0, flight.ticket, 99.0)  # once
    assert flow.launch(0, 1.0) == 9.0
    assert (flow.ledger.requests, flow.ledger.retried) == (1, 0)
    assert flow.replace(0, flight.ticket, []) is None


def test_backoff_never_ends():
    flow = flow_of(WhenFull.BLOCK)
    flow.emit(0, "a", 10, 3, 0.0)
    flow.packed(flow.pack(0.0)[0], [(3, b"x")], [])
    flight = flow.launch(0, 0.0)
    flight.body.tries = 1 << 62
    flow.settle(0, flight.ticket, Verdict(kind=Kind.RETRY), 0.0, 0.5)
    assert flow.launch(0, 1.0) == 8.0


def test_sizes():
    class Thing:
        def __init__(self, **values):
            self.__dict__.update(values)

    assert size_of_attributes(None) == 0
    assert size_of_attributes({"a": 1, "b": "x" * 100, "c": (1, 2), "d": b"12"}) == 4 * 125 + 222
    bare = Thing(_attributes=None, _events=(), _links=())
    event = Thing(attributes={"a": "b"})
    assert size_of_span(bare) < size_of_span(Thing(_attributes={"a": 1}, _events=(), _links=()))
    assert size_of_span(Thing(_attributes=None, _events=[event], _links=[1])) > size_of_span(bare)
    small = size_of_record(Thing(body=None, attributes=None))
    assert size_of_record(Thing(body="x" * 500, attributes=None)) == small + 500
    assert size_of_record(Thing(body={"a": 1}, attributes=None)) > small
    assert of_span(Thing(_resource="r", **vars(bare))) == ("r", size_of_span(bare))
    record = Thing(body=None, attributes=None)
    assert of_record(Thing(resource="r", log_record=record)) == ("r", small)
    assert size_of_points(10) > size_of_points(1)
