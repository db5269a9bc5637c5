"""The embedded store's data: revisions, history, leases and what subscribers are told."""

from __future__ import annotations

import pytest

from hastack.discovery import Compare, Delete, Get, KeyValue, Put
from hastack.discovery._mvcc import MAX_OPS, MAX_REQUEST, TO_THE_LAST, Mvcc
from hastack.discovery._mvcc_leases import Leases
from hastack.discovery._mvcc_watch import Subscribers, Subscription
from hastack.errors import Compacted, InvalidArgument, LeaseLost, RequestTooLarge, StoreError


def fresh(events=1000, size=1 << 20, quota=1 << 20):
    return Mvcc(history_events=events, history_bytes=size, quota=quota)


def keys(result):
    return [kv.key for kv in result.kvs]


def subscription(key=b"", *, prefix=True, start=None, prev=False, buffer=100):
    return Subscription(key, prefix=prefix, start_revision=start, prev=prev, buffer=buffer)


def told(batch):
    return [(e.kind[0], e.kv.key, e.kv.value, e.kv.mod_revision) for e in batch.events]


def test_a_key_counts_its_versions_and_begins_anew_after_a_delete():
    data = fresh()
    assert data.revision == 1
    assert data.put(b"k", b"1")[0].revision == 2
    assert data.put(b"k", b"2", prev=True)[0].prev == KeyValue(b"k", b"1", 2, 2, 1)
    assert data.range(b"k").kvs == (KeyValue(b"k", b"2", 2, 3, 2),)
    result, changes = data.delete(b"k", prev=True)
    assert (result.deleted, result.revision, result.prev) == (
        1,
        4,
        (KeyValue(b"k", b"2", 2, 3, 2),),
    )
    assert changes[0][1].kv == KeyValue(b"k", b"", 0, 4, 0)
    assert data.delete(b"k") == (type(result)(0, 4), [])
    data.put(b"k", b"3")
    assert data.range(b"k").kvs == (KeyValue(b"k", b"3", 5, 5, 1),)


def test_ranges_are_half_open_and_count_beyond_their_limit():
    data = fresh()
    for name in (b"b", b"a", b"d", b"c"):
        data.put(name, b"x")
    assert keys(data.range(b"a", b"c")) == [b"a", b"b"]
    assert keys(data.range(b"b", TO_THE_LAST)) == [b"b", b"c", b"d"]
    assert keys(data.range(b"c", b"a")) == []
    assert keys(data.range(b"a", b"")) == [b"a"]  # no end at all, as on etcd's wire
    limited = data.range(b"a", TO_THE_LAST, limit=3)
    assert (keys(limited), limited.count, limited.more) == ([b"a", b"b", b"c"], 4, True)
    assert not data.range(b"a", TO_THE_LAST, limit=4).more
    counted = data.range(b"a", TO_THE_LAST, count_only=True, limit=1)
    assert (counted.kvs, counted.count, counted.more) == ((), 4, False)
    assert data.range(b"a", keys_only=True).kvs == (KeyValue(b"a", b"", 3, 3, 1),)
    assert data.range(b"z").kvs == ()
    assert data.range(b"z", count_only=True).count == 0


def test_the_past_can_be_read_until_it_is_compacted():
    data = fresh()
    data.put(b"a", b"1")  # 2
    data.put(b"b", b"1")  # 3
    data.delete(b"a")  # 4
    data.put(b"a", b"2")  # 5
    assert keys(data.range(b"a", b"z", revision=1)) == []
    assert keys(data.range(b"a", b"z", revision=2)) == [b"a"]
    assert keys(data.range(b"a", b"z", revision=3)) == [b"a", b"b"]
    assert keys(data.range(b"a", b"z", revision=4)) == [b"b"]
    assert data.range(b"a", revision=3).kvs == (KeyValue(b"a", b"1", 2, 2, 1),)
    assert data.range(b"a", revision=4).kvs == ()
    assert data.range(b"b", revision=4).kvs == (KeyValue(b"b", b"1", 3, 3, 1),)
    assert data.range(b"a", b"z", revision=3, limit=1).more
    with pytest.raises(StoreError, match="future") as future:
        data.range(b"a", revision=6)
    assert future.value.code == "OUT_OF_RANGE"
    assert not isinstance(future.value, Compacted)
    data.compact(4)
    assert keys(data.range(b"a", b"z", revision=4)) == [b"b"]
    with pytest.raises(Compacted) as compacted:
        data.range(b"a", revision=3)
    assert compacted.value.revision == 4
    with pytest.raises(Compacted):
        data.compact(4)
    with pytest.raises(StoreError, match="future"):
        data.compact(6)
    data.compact(5)


def test_history_is_bounded_by_events_and_whole_revisions_go():
    data = fresh(events=8)
    for n in range(9):
        data.put(b"k%d" % n, b"")
    assert data.compacted == 5  # six of eight are kept
    assert len(data.changes(b"a", TO_THE_LAST, 0)) == 6
    data.range(b"a", revision=5)
    with pytest.raises(Compacted):
        data.range(b"a", revision=4)
    data.delete(b"a", TO_THE_LAST)  # one revision larger than the bound
    assert data.compacted == data.revision == 11
    assert data.floor == 12
    assert data.range(b"a", TO_THE_LAST, revision=11).count == 0


def test_history_is_bounded_by_bytes():
    data = fresh(size=400)
    for n in range(20):
        data.put(b"k", b"x" * 40 + b"%d" % n)
    assert 1 <= len(data.changes(b"k", None, 0)) <= 4
    assert data.revision == 21


def test_conditions_of_a_transaction():
    data = fresh()
    lease = 7
    data.leases.grant(lease, 1.0, None)
    data.put(b"k", b"m", lease=lease)

    def holds(*compare):
        return data.txn(compare, [], [])[0].succeeded

    assert holds()
    assert holds(Compare.present("k"), Compare.absent("other"))
    assert not holds(Compare.present("k"), Compare.absent("k"))
    assert holds(Compare("k", "value", "==", b"m"))
    assert holds(Compare("k", "value", "!=", b"n"))
    assert holds(Compare("k", "value", "<", b"n"))
    assert holds(Compare("k", "value", ">", b"l"))
    assert holds(Compare("k", "mod_revision", "==", 2), Compare("k", "lease", "==", lease))
    assert holds(Compare("k", "create_revision", "<", 3))
    assert holds(Compare("other", "mod_revision", "==", 0))
    assert holds(Compare("other", "lease", "!=", 1))
    # What is not there has no value: no comparison of one holds, not even "!=".
    assert not holds(Compare("other", "value", "!=", b"m"))
    assert not holds(Compare("other", "value", "==", b""))


def test_a_transaction_is_one_revision_and_reads_its_own_writes():
    data = fresh()
    data.put(b"a", b"0")
    result, changes = data.txn(
        [], [Get(b"x"), Put("x", "1"), Get(b"x", b"z"), Delete("a", prev=True), Put("y", "2")], []
    )
    assert result.revision == data.revision == 3
    before, put, read, gone, again = result.results
    assert (before.kvs, before.revision) == ((), 2)
    assert put.revision == again.revision == gone.revision == 3
    assert read.kvs == (KeyValue(b"x", b"1", 3, 3, 1),)
    assert read.revision == 3
    assert gone.prev == (KeyValue(b"a", b"0", 2, 2, 1),)
    assert {c[0] for c in changes} == {3}
    assert [c[1].kv.key for c in changes] == [b"x", b"a", b"y"]
    failed = data.txn([Compare.absent("x")], [Put("x", "no")], [Get(b"x", b"\0", 1)])[0]
    assert not failed.succeeded
    assert failed.results[0].count == 2
    assert failed.results[0].more
    assert data.revision == 3


@pytest.mark.parametrize(
    ("compare", "then", "otherwise", "error", "text"),
    [
        ([], [Put("a", "1"), Put("a", "2")], [], StoreError, "written twice"),
        ([], [], [Put("a", "1"), Delete("a")], StoreError, "written twice"),
        ([], [Put("b", "1"), Delete("a", b"c")], [], StoreError, "written twice"),
        ([], [Get("a")] * (MAX_OPS + 1), [], RequestTooLarge, "129 operations"),
        ([], [], [Get("a")] * (MAX_OPS + 1), RequestTooLarge, "129 operations"),
        ([Compare.absent("a")] * (MAX_OPS + 1), [], [], RequestTooLarge, "129 operations"),
        ([], ["put"], [], InvalidArgument, "op='put'"),
        ([], [Put("", "1")], [], InvalidArgument, "key=b''"),
    ],
)
def test_a_transaction_that_makes_no_sense_is_refused(compare, then, otherwise, error, text):
    data = fresh()
    with pytest.raises(error, match=text):
        data.txn(compare, then, otherwise)
    assert data.revision == 1


def test_a_transaction_is_refused_whole():
    data = fresh(quota=100)
    with pytest.raises(LeaseLost):
        data.txn([], [Put("a", "1"), Put("b", "2", lease=5)], [])
    with pytest.raises(StoreError) as full:
        data.txn([], [Put("a", "x" * 60), Put("b", "x" * 60)], [])
    assert full.value.code == "RESOURCE_EXHAUSTED"
    with pytest.raises(RequestTooLarge, match="bytes"):
        data.put(b"a", b"x" * MAX_REQUEST)
    assert data.revision == 1
    assert data.size == 0
    data.put(b"a", b"x" * 99)
    with pytest.raises(StoreError):
        data.put(b"b", b"")
    data.delete(b"a")
    assert data.size == 0
    data.put(b"b", b"x" * 50)
    data.put(b"b", b"x" * 5)
    assert data.size == 6


def test_deletes_may_overlap_and_the_second_finds_nothing():
    data = fresh()
    data.put(b"a", b"")
    data.put(b"b", b"")
    first, second, third = data.txn([], [Delete("a"), Delete("a", b"c"), Delete("a")], [])[
        0
    ].results
    assert (first.deleted, second.deleted, third.deleted) == (1, 1, 0)
    assert third.revision == 4


def test_keys_hang_on_one_lease_and_go_with_it():
    data = fresh()
    for lease in (1, 2):
        data.leases.grant(lease, 10.0, 10.0)
    data.put(b"a", b"", lease=1)
    data.put(b"b", b"", lease=1)
    data.put(b"c", b"", lease=1)
    data.put(b"b", b"", lease=2)
    data.put(b"c", b"")
    data.put(b"a", b"", lease=1)
    assert data.leases[1].keys == {b"a"}
    data.put(b"d", b"", lease=1)
    data.delete(b"d")
    data.put(b"e", b"", lease=1)
    revision = data.revision
    changes = data.drop(data.leases.end(1))
    assert [(c[0], c[1].kv.key) for c in changes] == [(revision + 1, b"a"), (revision + 1, b"e")]
    assert 1 not in data.leases
    assert data.drop(data.leases.end(2)) != []
    assert keys(data.range(b"a", TO_THE_LAST)) == [b"c"]


def test_leases_end_in_the_order_of_their_deadlines():
    leases = Leases()
    assert leases.next_due() is None
    assert leases.expired(1e9) is None
    leases.grant(1, 5.0, 5.0)
    leases.grant(2, 3.0, 3.0)
    leases.grant(3, 1.0, None)
    assert leases.next_due() == 3.0
    assert leases.expired(2.9) is None
    leases.renew(2, 4.0)
    assert leases.renew(3, 4.0).deadline is None
    assert leases.expired(6.0) == 1
    leases.end(1)
    assert leases.next_due() == 7.0
    leases.set_deadline(3, 6.0)
    assert leases.expired(6.0) == 3
    leases.set_deadline(3, None)
    assert leases.expired(6.9) is None
    assert leases.expired(7.0) == 2
    assert [grant.id for grant in leases] == [2, 3]
    for lost in (lambda: leases[1], lambda: leases.end(1), lambda: leases.renew(1, 0.0)):
        with pytest.raises(LeaseLost) as error:
            lost()
        assert error.value.lease == 1
    leases.detach(1, b"k")


def test_a_subscriber_gets_a_snapshot_first():
    data, all_ = fresh(), Subscribers()
    data.put(b"a/1", b"x")
    data.put(b"b", b"x")
    one = subscription(b"a/")
    one.begin(data)
    all_.add(one)
    all_.offer(data.put(b"a/2", b"y")[1])  # before it looked: part of its snapshot
    batch = one.take(data)
    assert (batch.resync, batch.reason, batch.revision) == (True, "snapshot", 4)
    assert told(batch) == [("p", b"a/1", b"x", 2), ("p", b"a/2", b"y", 4)]
    assert one.take(data) is None
    all_.offer(data.put(b"b", b"")[1])
    assert one.take(data) is None
    assert list(all_.offer(data.delete(b"a/1")[1])) == [one]
    batch = one.take(data)
    assert told(batch) == [("d", b"a/1", b"", 6)]
    assert (batch.resync, batch.reason, batch.revision) == (False, "", 6)


def test_a_subscriber_may_begin_in_the_past_and_in_the_future():
    data, all_ = fresh(), Subscribers()
    for n in range(4):
        data.put(b"k", b"%d" % n)  # revisions 2 to 5
    past = subscription(b"k", prefix=False, start=3, prev=True)
    future = subscription(b"k", prefix=False, start=7)
    for one in (past, future):
        one.begin(data)
        all_.add(one)
    batch = past.take(data)
    assert [(e.kv.value, e.prev.value) for e in batch.events] == [
        (b"1", b"0"),
        (b"2", b"1"),
        (b"3", b"2"),
    ]
    assert not batch.resync
    assert list(all_.offer(data.put(b"k", b"6")[1])) == [past]
    assert future.take(data) is None
    assert set(all_.offer(data.put(b"k", b"7")[1])) == {past, future}
    assert told(future.take(data)) == [("p", b"k", b"7", 7)]
    assert told(past.take(data)) == [("p", b"k", b"6", 6), ("p", b"k", b"7", 7)]


def test_a_subscriber_that_begins_before_the_history_gets_a_listing():
    data = fresh()
    for n in range(4):
        data.put(b"k%d" % n, b"")
    data.compact(4)
    late, just = subscription(b"k", start=3), subscription(b"k", start=4)
    late.begin(data)
    just.begin(data)
    batch = late.take(data)
    assert (batch.resync, batch.reason, batch.revision) == (True, "compacted", 5)
    assert [e.kv.key for e in batch.events] == [b"k0", b"k1", b"k2", b"k3"]
    assert [e.kv.key for e in just.take(data).events] == [b"k2", b"k3"]


def test_one_that_falls_behind_gets_the_exact_difference():
    data, all_ = fresh(), Subscribers()
    for name in (b"kept", b"changed", b"deleted", b"again"):
        data.put(name, b"old")
    one = subscription(start=data.revision + 1, prev=True, buffer=2)
    one.begin(data)
    all_.add(one)

    def do(changes):
        all_.offer(changes)

    do(data.put(b"changed", b"1")[1])
    do(data.delete(b"deleted")[1])
    do(data.put(b"new", b"1")[1])  # the third: folded from here on
    do(data.put(b"brief", b"1")[1])
    do(data.put(b"changed", b"2")[1])
    do(data.delete(b"brief")[1])
    do(data.delete(b"again")[1])
    do(data.put(b"again", b"2")[1])
    batch = one.take(data)
    assert (batch.resync, batch.reason, batch.revision) == (True, "overflow", data.revision)
    assert [(e.kind, e.kv.key, e.kv.value, e.prev and e.prev.value) for e in batch.events] == [
        ("delete", b"deleted", b"", b"old"),
        ("put", b"new", b"1", None),
        ("put", b"changed", b"2", b"old"),
        ("put", b"again", b"2", b"old"),
    ]
    assert [e.kv.mod_revision for e in batch.events] == sorted(
        e.kv.mod_revision for e in batch.events
    )
    do(data.put(b"kept", b"3")[1])
    assert told(one.take(data)) == [("p", b"kept", b"3", data.revision)]


def test_a_revision_larger_than_the_buffer_is_one_difference():
    data, all_ = fresh(), Subscribers()
    one = subscription(start=2, buffer=1)
    one.begin(data)
    all_.add(one)
    all_.offer(data.txn([], [Put("a", ""), Put("b", "")], [])[1])
    batch = one.take(data)
    assert batch.reason == "overflow"
    assert len(batch.events) == 2


def test_subscribers_are_found_by_key_and_by_prefix():
    data, all_ = fresh(), Subscribers()
    wanted = [
        subscription(b"a", prefix=False),
        subscription(b"a"),
        subscription(b"ab"),
        subscription(b""),
        subscription(b"b"),
        subscription(b"a"),
    ]
    for one in wanted:
        one.begin(data)
        all_.add(one)
        one.take(data)
    assert set(all_) == set(wanted)
    assert set(all_.offer(data.put(b"a", b"")[1])) == {wanted[n] for n in (0, 1, 3, 5)}
    assert set(all_.offer(data.put(b"abc", b"")[1])) == {wanted[n] for n in (1, 2, 3, 5)}
    for one in wanted:
        all_.remove(one)
        all_.remove(one)
    assert list(all_) == []
    assert not all_.offer(data.put(b"a", b"")[1])
