"""The difference between what a subscriber knows and what another store holds."""

from __future__ import annotations

import pytest

from hastack.discovery import Batch, KeyValue, WatchEvent
from hastack.discovery._mvcc_view import View


def kv(key, value=b"", mod=5):
    return KeyValue(key, value, mod, mod, 1)


def put(*args):
    return WatchEvent("put", kv(*args))


def listing(revision, *kvs):
    return Batch([WatchEvent("put", one) for one in kvs], revision, True, "snapshot")


def told(batch):
    return [(e.kind[0], e.kv.key, e.kv.mod_revision) for e in batch.events]


def test_the_first_listing_is_told_as_it_is():
    view = View(prev=False)
    batch = view.compare(listing(9, kv(b"b", b"1", 7), kv(b"a", b"1", 8)), "snapshot", cluster=1)
    assert told(batch) == [("p", b"b", 7), ("p", b"a", 8)]
    assert (batch.resync, batch.reason, batch.revision) == (True, "snapshot", 9)
    assert (view.cluster, view.revision) == (1, 9)


def test_a_listing_of_the_same_store_tells_what_differs():
    view = View(prev=False)
    view.compare(listing(9, kv(b"same", b"", 5), kv(b"gone", b"", 6)), "snapshot", cluster=1)
    event = WatchEvent("put", kv(b"changed", b"", 10))
    assert view.note(Batch([event], 10)).events == [event]
    view.note(Batch([WatchEvent("delete", KeyValue(b"never", b"", 0, 11, 0))], 11))
    now = listing(20, kv(b"same", b"", 5), kv(b"changed", b"", 15), kv(b"new", b"", 12))
    batch = view.compare(now, "compacted", cluster=1)
    assert told(batch) == [("d", b"gone", 20), ("p", b"new", 12), ("p", b"changed", 15)]
    assert batch.events[0].prev is None
    assert view.compare(now, "compacted", cluster=1).events == []


@pytest.mark.parametrize("prev", [False, True])
def test_revisions_of_another_store_mean_nothing(prev):
    view = View(prev=prev)
    view.begin([kv(b"a", b"1", 5), kv(b"b", b"1", 5)], 8)
    assert view.revision == 8
    view.cluster = 1
    view.note(Batch([WatchEvent("put", kv(b"c", b"1", 9)), put(b"d", b"1", 9)], 9))
    view.note(Batch([WatchEvent("delete", KeyValue(b"d", b"", 0, 10, 0))], 10))
    batch = view.compare(listing(5, kv(b"a", b"1", 5)), "restored", cluster=2)
    assert told(batch) == [("d", b"b", 5), ("d", b"c", 5), ("p", b"a", 5)]
    assert batch.events[0].kv == KeyValue(b"b", b"", 0, 5, 0)
    before = [e.prev and e.prev.value for e in batch.events]
    assert before == ([b"1", b"1", b"1"] if prev else [None] * 3)
    assert view.cluster == 2
