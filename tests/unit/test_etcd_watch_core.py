"""The watch core, case by case, against the simulated store of tests/support/watch_model.py."""

from __future__ import annotations

import pytest
from watch_model import Driver

from hastack.discovery import KeyValue, WatchEvent
from hastack.discovery.etcd._watch_core import is_fixed
from hastack.discovery.etcd._watch_fragments import Fragments
from hastack.discovery.etcd._watch_liveness import Liveness, Look
from hastack.discovery.etcd._watch_records import (
    Answer,
    CutStream,
    Overflowed,
    Range,
    Resynced,
)
from hastack.discovery.etcd._watch_subscriber import BYTES, Parcel, Subscriber, size_of
from hastack.errors import NotAuthorized, StoreError

A = Range(b"a", b"b")
FIXED = (3, 6, 0)
OLD = (3, 4, 23)


def put(driver, *keys, value=b"v"):
    for key in keys:
        driver.store.now.change([(key, value + b"%d" % driver.store.now.revision)])
    return driver.store.now.revision


def delete(driver, key):
    driver.store.now.change([(key, None)])


def live(*, version=FIXED, where=A, keys=(b"a1",), **more):
    """A driver with one subscriber that is up to date."""
    driver = Driver(version=version, **more)
    put(driver, *keys)
    one = driver.subscribe(where)
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert (batch.resync, batch.reason) == (True, "snapshot")
    return driver, one


def told(batches):
    return [[(e.kind, e.kv.key) for e in batch.events] for batch in batches]


def reasons(driver):
    return [each.reason for each in driver.told if isinstance(each, Resynced)]


# Resuming


def test_a_cut_costs_nothing():
    driver, one = live()
    put(driver, b"a2", b"a3")
    driver.cut()
    put(driver, b"a4")
    driver.settle()
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("put", b"a2"), ("put", b"a3"), ("put", b"a4")]]
    assert (batch.revision, batch.resync) == (5, False)
    driver.finish()


def test_it_resumes_at_the_last_change_and_not_at_what_headers_say():
    driver, one = live()
    put(driver, b"b1", b"b2")
    put(driver, b"a2")
    for _ in range(3):
        put(driver, b"a2")
    driver.settle(0)
    (watch_id,) = driver.stream.watchers
    driver.stream.pump(watch_id, 4, [])  # the first changes only; the header is ahead of them
    driver.arrive()
    assert driver.stream.store.now.revision == 8
    driver.cut()
    driver.open()
    (watcher,) = driver.stream.watchers.values()
    assert watcher.start == one.feed.revision == 6
    driver.settle()
    assert sum(map(len, told(driver.take_all(one)))) == 4
    driver.finish()


def test_compaction_behind_the_back_is_one_exact_difference():
    driver, one = live(keys=(b"a1", b"a2", b"a3"))
    driver.cut()
    delete(driver, b"a1")
    put(driver, b"a2", b"a4", b"a5")
    delete(driver, b"a5")
    driver.store.compact(driver.store.now.revision)
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("delete", b"a1"), ("put", b"a2"), ("put", b"a4")]]
    assert (batch.resync, batch.reason) == (True, "compacted")
    put(driver, b"a6")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a6")]]
    driver.finish()


def test_a_compacted_mark_is_no_reason_to_list():
    """Progress moved it past the last change: the history goes on although the change is gone."""
    driver, one = live()
    put(driver, b"b1", b"b2", b"b3")
    driver.pump()
    driver.pass_time(5.0)
    driver.arrive()
    assert one.feed.revision == driver.store.now.revision == 5
    driver.store.compact(5)
    driver.cut()
    driver.settle()
    put(driver, b"a2")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    assert reasons(driver) == []
    driver.finish()


def test_a_mark_that_is_far_away_is_not_read_again():
    driver, one = live()
    driver.store.now.states.update(dict.fromkeys(range(3, 10_010), driver.store.now.states[2]))
    (watch_id,) = driver.stream.watchers
    driver.stream.pump(watch_id, 20_000, [])
    driver.pass_time(5.0)
    driver.arrive()
    driver.cut()
    driver.open()
    (watcher,) = driver.stream.watchers.values()
    assert watcher.start == 10_009
    assert not one.feed.expecting


# Servers with known bugs


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        (None, False),
        ((3, 3, 99), False),
        ((3, 4, 30), False),
        ((3, 4, 31), True),
        ((3, 5, 12), False),
        ((3, 5, 13), True),
        ((3, 6, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_versions(version, fixed):
    assert is_fixed(version, {(3, 4): 31, (3, 5): 13}) is fixed


def test_progress_of_an_old_server_moves_nothing():
    driver, one = live(version=OLD, careless=True)
    put(driver, b"b1", b"b2")
    for _ in range(3):
        driver.pass_time(5.0)
        driver.arrive()
    assert one.feed.revision == 2
    assert one.feed.current_at == 15.0  # but it shows that the stream is alive
    driver.finish()


def test_an_old_server_may_still_be_catching_up():
    driver, one = live(version=OLD)
    driver.pass_time(4.0)
    driver.cut()
    driver.open()
    driver.now += 2.0
    driver.pump()
    driver.arrive()  # the watch begins at 6.0
    driver.pass_time(3.0)
    driver.arrive()
    assert one.feed.current_at == 6.0  # the mark that came again was the newest there was
    driver.pass_time(5.0)
    driver.arrive()
    assert one.feed.current_at == 14.0
    driver.finish()


def test_progress_ahead_of_changes_is_found_out():
    """A server that is believed, and sends progress first (etcd 15220)."""
    driver, one = live()
    driver.store.careless = True
    put(driver, b"a2")
    delete(driver, b"a1")
    driver.pass_time(5.0)
    driver.arrive()
    assert one.feed.revision == 4
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("delete", b"a1"), ("put", b"a2")]]
    assert (batch.resync, batch.reason) == (True, "gap")
    driver.finish()


def test_a_delete_that_is_late_is_found_out():
    driver, one = live()
    driver.store.careless = True
    delete(driver, b"a1")
    driver.pass_time(5.0)
    driver.arrive()
    driver.settle(2)
    assert told(driver.take_all(one)) == [[("delete", b"a1")]]
    driver.finish()


def test_a_delete_that_is_left_out_when_read_again_is_not_missed():
    """It was told before; the server leaves it out at the compacted revision (etcd 19179)."""
    driver, one = live(version=OLD, careless=True, keys=(b"a1", b"a2"))
    delete(driver, b"a1")
    driver.settle()
    driver.store.compact(4)
    driver.cut()
    put(driver, b"a3")
    driver.settle(3)
    assert told(driver.take_all(one)) == [[("delete", b"a1")], [("put", b"a3")]]
    assert reasons(driver) == []
    driver.finish()


@pytest.mark.parametrize("last", [b"a3", b"b3"])
def test_a_deletion_left_out_while_the_server_catches_up_is_found_out(last):
    """Nothing else shows it: a listing does, once the watch has caught up."""
    driver, one = live(version=OLD, careless=True, keys=(b"a1", b"a2"))
    driver.cut()
    put(driver, b"a2")
    delete(driver, b"a1")
    put(driver, b"a2", last)
    driver.open()
    driver.arrive()
    (watch_id,) = driver.stream.watchers
    driver.stream.pump(watch_id, 2, [])
    driver.store.compact(5)
    driver.stream.pump(watch_id, 10, [])
    driver.arrive()
    driver.pass_time(5.0)
    driver.settle(2)
    found = [one.take() for _ in range(len(one.parcels))]
    assert (told(found)[-1], found[-1].reason) == ([("delete", b"a1")], "gap")
    del driver.subscribers[one]


def test_an_old_server_is_asked_again_when_something_happened_before_the_watch_began():
    driver = Driver(version=OLD, careless=True)
    put(driver, b"a1")
    one = driver.subscribe(A)
    driver.open()
    (ticket,) = driver.listings
    driver.list(ticket)
    delete(driver, b"a1")
    driver.store.compact(3)
    driver.hand(ticket)
    driver.settle(3)
    batches = driver.take_all(one)
    assert told(batches) == [[("put", b"a1")], [("delete", b"a1")]]
    driver.finish()


@pytest.mark.parametrize(
    "lost",
    [
        WatchEvent("put", KeyValue(b"a1", b"v", 2, 4, 3)),  # a put of a1 before it
        WatchEvent("put", KeyValue(b"a1", b"v", 4, 4, 1)),  # a deletion
        WatchEvent("put", KeyValue(b"a1", b"v", 3, 4, 2)),  # both
        WatchEvent("put", KeyValue(b"a2", b"v", 3, 4, 2)),  # the creation
        WatchEvent("delete", KeyValue(b"a2", b"", 0, 4, 0)),
    ],
)
def test_a_change_that_does_not_follow_shows_a_hole(lost):
    driver, one = live()
    put(driver, b"a3", b"a3")
    good = WatchEvent("put", KeyValue(b"a4", b"v", 3, 3, 1))
    driver.stream.answer(one.feed.watch_id, events=(good, lost))
    driver.arrive()
    assert one.feed.phase == "relisting"
    assert b"a4" not in one.feed.state
    assert one.feed.state[b"a1"].version == 1
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert (told([batch]), batch.reason) == ([[("put", b"a3")]], "gap")
    driver.finish()


def test_changes_out_of_order_are_undone_and_listed():
    driver, one = live(keys=(b"a1", b"a2"))
    events = (
        WatchEvent("put", KeyValue(b"a1", b"w", 2, 5, 2)),
        WatchEvent("delete", KeyValue(b"a2", b"", 0, 4, 0)),
    )
    driver.stream.answer(one.feed.watch_id, events=events)
    driver.arrive()
    assert one.feed.state[b"a1"].version == 1
    assert one.feed.phase == "relisting"
    driver.finish()


# Another history


def test_another_cluster_is_a_restored_one():
    driver, one = live(keys=(b"a1", b"a2"))
    driver.cut()
    driver.store.restore(2, same_cluster=False)
    put(driver, b"a3")
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("delete", b"a2"), ("put", b"a3")]]
    assert batch.reason == "restored"
    driver.finish()


def test_a_term_that_goes_back_is_looked_into():
    driver, one = live(keys=(b"a1", b"a2"))
    driver.cut()
    driver.store.restore(2, same_cluster=True)
    put(driver, b"b1", b"b2")
    driver.settle(3)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("delete", b"a2")]]
    assert batch.reason in {"gap", "restored"}
    driver.finish()


def test_a_revision_that_goes_back_is_looked_into():
    driver, one = live(keys=(b"a1", b"a2", b"a3"))
    driver.cut()
    driver.store.restore(3, same_cluster=True)
    driver.store.term = 200
    driver.settle(3)
    (batch,) = driver.take_all(one)
    assert (told([batch]), batch.reason) == ([[("delete", b"a3")]], "restored")
    driver.finish()


def test_a_mark_that_is_another_change_shows_another_history():
    driver, one = live(keys=(b"a1", b"a2"))
    driver.cut()
    driver.store.restore(2, same_cluster=True)
    driver.store.term = 200
    put(driver, b"a3", b"a4")
    driver.settle(3)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("delete", b"a2"), ("put", b"a3"), ("put", b"a4")]]
    assert batch.reason == "gap"
    driver.finish()


@pytest.mark.parametrize("version", [FIXED, OLD])
def test_a_mark_that_does_not_come_shows_another_history(version):
    driver, one = live(version=version, keys=(b"a1", b"a2"))
    driver.cut()
    driver.store.restore(2, same_cluster=True)
    driver.store.term = 200
    put(driver, b"b1", b"b2")
    for _ in range(4):
        driver.settle()
        driver.pass_time(5.0)
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert (told([batch]), batch.reason) == ([[("delete", b"a2")]], "gap")
    driver.finish()


def after_a_delete():
    """A driver whose last change was a deletion: it does not tell one history from another."""
    driver, one = live(keys=(b"a1", b"a2", b"a3"))
    delete(driver, b"a3")
    driver.settle()
    driver.take_all(one)
    driver.cut()
    return driver, one


@pytest.mark.parametrize("other", [b"a1", b"b1"])
def test_a_deletion_that_did_not_happen_shows_another_history(other):
    driver, one = after_a_delete()
    driver.store.restore(4, same_cluster=True, same_term=True)
    put(driver, b"b1", b"b1")
    delete(driver, other)
    driver.settle(3)
    (batch,) = driver.take_all(one)
    assert ("put", b"a3") in told([batch])[0]
    assert batch.reason == "gap"
    driver.finish()


@pytest.mark.parametrize(
    ("failure", "reason"), [("compacted", "compacted"), ("future", "restored")]
)
def test_a_history_that_cannot_be_verified_is_listed(failure, reason):
    driver, one = after_a_delete()
    driver.open()
    (ticket,) = driver.listings
    del driver.listings[ticket]
    driver.core.listing_failed(ticket, failure, StoreError(failure), driver.now)
    driver.obey()
    driver.settle(2)
    assert reasons(driver) == [reason]
    assert told(driver.take_all(one)) == [[]]
    driver.finish()


def test_a_listing_that_is_refused_while_the_watch_is_not_changes_nothing():
    driver, one = after_a_delete()
    driver.open()
    driver.arrive()
    (ticket,) = driver.listings
    del driver.listings[ticket]
    driver.core.listing_failed(ticket, "final", NotAuthorized("no"), driver.now)
    driver.obey()
    assert one.error is None
    driver.finish()


def test_a_member_that_is_behind_is_no_other_history():
    driver, one = live(keys=(b"a1", b"a2", b"a3"))
    driver.cut()
    driver.open(lag=2)
    driver.arrive()
    assert one.feed.ticket
    driver.settle(2)
    put(driver, b"a4")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a4")]]
    assert reasons(driver) == []
    driver.finish()


def test_progress_of_a_revision_that_goes_back_is_looked_into():
    driver, one = live()
    driver.pass_time(5.0)
    driver.stream.sent.clear()
    driver.stream.answer(-1, revision=1)
    driver.arrive()
    assert one.feed.ticket
    # Once is enough.
    driver.stream.answer(-1, revision=1)
    driver.arrive()
    assert len(driver.listings) == 1
    driver.finish()


# Beginning


def test_a_start_in_the_past():
    driver = Driver(version=FIXED)
    put(driver, b"a1", b"a1", b"a2")
    one = driver.subscribe(A, start=3)
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("put", b"a1"), ("put", b"a2")]]
    assert not batch.resync
    driver.finish()


def test_a_start_at_the_very_beginning_needs_no_listing():
    driver = Driver(version=FIXED)
    put(driver, b"a1")
    one = driver.subscribe(A, start=1)
    assert not driver.listings
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a1")]]
    driver.finish()


def test_a_start_that_is_compacted_gets_everything():
    driver = Driver(version=FIXED)
    put(driver, b"a1", b"a2", b"a3")
    delete(driver, b"a2")
    driver.store.compact(5)
    one = driver.subscribe(A, start=3)
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("put", b"a1"), ("put", b"a3")]]
    assert (batch.reason, batch.revision) == ("compacted", 5)
    driver.finish()


def test_a_start_that_is_compacted_before_its_first_change_gets_everything():
    driver = Driver(version=FIXED)
    put(driver, b"a1", b"a2")
    one = driver.subscribe(A, start=4)
    driver.settle(2)
    assert one.feed.phase == "live"
    driver.cut()
    put(driver, b"a3")
    delete(driver, b"a1")
    driver.store.compact(5)
    driver.settle(2)
    (batch,) = driver.take_all(one)
    assert told([batch]) == [[("put", b"a2"), ("put", b"a3")]]
    assert batch.reason == "compacted"
    driver.finish()


def test_compaction_later_is_a_difference_to_what_was_there_before_the_start():
    driver = Driver(version=FIXED)
    put(driver, b"a1", b"a2")
    one = driver.subscribe(A, start=4)
    driver.settle(2)
    put(driver, b"a3")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a3")]]
    driver.cut()
    delete(driver, b"a1")
    driver.store.compact(5)
    driver.settle(2)
    assert told(driver.take_all(one)) == [[("delete", b"a1")]]
    driver.finish()


def test_a_start_in_the_future_waits_for_it():
    driver = Driver(version=FIXED)
    put(driver, b"a1")
    one = driver.subscribe(A, start=5)
    driver.settle(2)
    put(driver, b"a2", b"a3")
    driver.settle()
    assert not driver.take_all(one)
    put(driver, b"a3", b"a4")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a3"), ("put", b"a4")]]
    driver.finish()


def test_a_future_that_has_come_meanwhile():
    driver = Driver(version=FIXED)
    put(driver, b"a1")
    one = driver.subscribe(A, start=4)
    driver.open()
    (ticket,) = driver.listings
    driver.list(ticket)
    put(driver, b"a2", b"a3", b"a4")
    driver.settle(3)
    assert told(driver.take_all(one)) == [[("put", b"a3"), ("put", b"a4")]]
    driver.finish()


# Several subscribers


def test_one_watch_serves_all_of_a_range():
    driver, one = live()
    two = driver.subscribe(A)
    driver.settle()
    assert len(driver.stream.watchers) == 1
    assert told(driver.take_all(two)) == [[("put", b"a1")]]
    put(driver, b"a2")
    driver.settle()
    (first,), (second,) = driver.take_all(one), driver.take_all(two)
    assert first is second
    driver.unsubscribe(one)
    assert driver.stream.watchers
    driver.unsubscribe(two)
    assert driver.stream is None


def test_a_late_joiner_is_ahead_of_the_stream():
    driver, one = live()
    put(driver, b"a2", b"b1")
    two = driver.subscribe(A)
    driver.list_all()
    (batch,) = driver.take_all(two)
    assert told([batch]) == [[("put", b"a1"), ("put", b"a2")]]
    assert batch.revision == 4
    put(driver, b"a3")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a2"), ("put", b"a3")]]
    assert told(driver.take_all(two)) == [[("put", b"a3")]]
    driver.finish()


def test_a_late_joiner_after_deletions_needs_a_whole_listing():
    driver, one = live(keys=(b"a1", b"a2"))
    delete(driver, b"a1")
    put(driver, b"a3")
    two = driver.subscribe(A)
    driver.list_all()
    assert told(driver.take_all(two)) == [[("put", b"a2"), ("put", b"a3")]]
    driver.settle()
    assert told(driver.take_all(one)) == [[("delete", b"a1"), ("put", b"a3")]]
    assert driver.take_all(two) == []
    driver.finish()


def test_a_whole_listing_that_the_stream_has_overtaken():
    driver, one = live(keys=(b"a1", b"a2"))
    delete(driver, b"a1")
    two = driver.subscribe(A)
    (ticket,) = driver.listings
    driver.list(ticket)
    driver.hand(ticket)
    driver.pump()
    driver.arrive()
    driver.list_all()
    assert told(driver.take_all(two)) == [[("put", b"a2")]]
    assert told(driver.take_all(one)) == [[("delete", b"a1")]]
    driver.finish()


def test_what_a_joiner_was_given_and_the_stream_was_not_is_a_hole():
    driver, one = live()
    put(driver, b"a2")
    two = driver.subscribe(A)
    driver.list_all()
    driver.take_all(two)
    put(driver, b"a3")
    (watcher,) = driver.stream.watchers.values()
    watcher.next = 4  # the server loses a2
    driver.settle(3)
    batches = [one.take(), one.take()]
    assert told(batches) == [[("put", b"a3")], [("put", b"a2")]]
    assert batches[1].reason == "gap"
    driver.unsubscribe(one)
    assert told(driver.take_all(two)) == [[("put", b"a3")]]
    driver.finish()


def test_what_a_joiner_was_given_is_a_hole_when_progress_passes_it():
    driver, one = live()
    put(driver, b"a2")
    two = driver.subscribe(A)
    driver.list_all()
    driver.take_all(two)
    (watcher,) = driver.stream.watchers.values()
    watcher.next = 4
    driver.pass_time(5.0)
    driver.settle(2)
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    assert driver.take_all(two)[0].events == ()
    driver.finish()


def test_joiners_of_a_range_that_is_being_listed_anew():
    driver, one = live()
    driver.cut()
    put(driver, b"a2")
    driver.store.compact(3)
    two = driver.subscribe(A)  # its listing is under way when the history ends
    driver.open()
    driver.arrive()
    assert one.feed.phase == "relisting"
    driver.settle(2)
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    assert told(driver.take_all(two)) == [[("put", b"a1"), ("put", b"a2")]]
    driver.finish()


def test_a_joiner_ahead_of_a_listing_of_the_restored():
    driver, one = live()
    put(driver, b"a2", b"a3")
    two = driver.subscribe(A)
    driver.list_all()
    assert told(driver.take_all(two)) == [[("put", b"a1"), ("put", b"a2"), ("put", b"a3")]]
    driver.cut()
    driver.store.restore(3, same_cluster=False)
    driver.settle(2)
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    assert told(driver.take_all(two)) == [[("delete", b"a3")]]
    driver.finish()


def test_a_join_that_meets_another_history():
    driver, one = live(keys=(b"a1", b"a2"))
    driver.store.restore(2, same_cluster=False)  # and the stream has not noticed
    two = driver.subscribe(A)
    driver.list_all()
    assert told(driver.take_all(one)) == [[("delete", b"a2")]]
    assert told(driver.take_all(two)) == [[("put", b"a1")]]
    driver.finish()


# Slow subscribers


def test_overflow_is_a_difference_and_nobody_elses_business():
    driver, one = live(keys=(b"a1", b"a2"))
    two = driver.subscribe(A, limit=2)
    driver.settle()
    driver.take_all(two)
    for _ in range(5):
        put(driver, b"a1")
        driver.settle()
    delete(driver, b"a2")
    put(driver, b"a3")
    delete(driver, b"a3")
    driver.settle()
    assert len(driver.take_all(one)) == 6
    assert [each.subscriber for each in driver.told if isinstance(each, Overflowed)] == [two]
    batches = driver.take_all(two)
    assert told(batches) == [
        [("put", b"a1")],
        [("put", b"a1")],
        [("put", b"a1"), ("delete", b"a2")],
    ]
    assert (batches[2].resync, batches[2].reason) == (True, "overflow")
    put(driver, b"a4")
    driver.settle()
    assert told(driver.take_all(two)) == [[("put", b"a4")]]
    driver.finish()


def test_a_batch_larger_than_the_buffer_is_handed_over():
    driver = Driver(version=FIXED)
    one = driver.subscribe(A, limit=1)
    driver.settle(2)
    driver.take_all(one)
    driver.store.now.change([(b"a%d" % n, b"v") for n in range(5)])
    driver.settle()
    assert [len(batch.events) for batch in driver.take_all(one)] == [5]
    driver.finish()


def test_bytes_are_bounded_as_well():
    driver, one = live()
    half = b"x" * (BYTES // 2 + 1)
    for key in (b"a2", b"a3"):
        driver.store.now.change([(key, half)])
        driver.settle()
    assert one.lagging
    batches = driver.take_all(one)
    assert told(batches) == [[("put", b"a2")], [("put", b"a3")]]
    assert batches[1].reason == "overflow"
    driver.finish()


def test_a_resync_does_not_fill_a_buffer_over_and_over():
    driver, one = live()
    two = driver.subscribe(A, limit=1)
    driver.settle()
    driver.take_all(two)
    for _ in range(3):
        driver.cut()
        put(driver, b"a1", b"a2")
        driver.store.compact(driver.store.now.revision)
        driver.settle(2)
    assert [batch.reason for batch in driver.take_all(one)] == ["compacted"] * 3
    batches = driver.take_all(two)
    assert [batch.reason for batch in batches] == ["compacted"] * 2
    assert told(batches) == [[("put", b"a1"), ("put", b"a2")]] * 2
    driver.finish()


def test_a_joiner_ahead_with_a_full_buffer():
    driver, one = live()
    put(driver, b"a2")
    two = driver.subscribe(A, limit=1)
    driver.list_all()
    for _ in range(2):
        put(driver, b"a3")
        driver.settle()
    assert two.lagging
    batches = driver.take_all(two)
    assert told(batches) == [
        [("put", b"a1"), ("put", b"a2")],
        [("put", b"a3")],
        [("put", b"a3")],
    ]
    assert batches[2].reason == "overflow"
    driver.finish()


def test_a_joiner_ahead_that_has_no_room_for_what_follows():
    driver, one = live()
    put(driver, b"a2", b"a3")
    two = driver.subscribe(A, limit=1)
    driver.list_all()
    put(driver, b"a4", b"a5")
    (watch_id,) = driver.stream.watchers
    driver.stream.pump(watch_id, 1, [])
    driver.arrive()
    assert two.floor == 4  # the stream is not there yet
    driver.settle()
    batches = driver.take_all(two)
    assert told(batches)[1:] == [[("put", b"a4"), ("put", b"a5")]]
    assert batches[1].reason == "overflow"
    driver.finish()


def test_a_joiner_ahead_of_a_listing_with_a_full_buffer():
    driver, one = live()
    put(driver, b"a2", b"a3")
    two = driver.subscribe(A, limit=1)
    driver.list_all()
    driver.cut()
    delete(driver, b"a2")
    put(driver, b"a1")
    driver.store.compact(6)
    driver.settle(2)
    assert two.lagging
    batches = driver.take_all(two)
    assert told(batches)[1] == [("put", b"a1"), ("delete", b"a2")]
    assert batches[1].reason == "gap"
    driver.finish()


def test_what_a_batch_weighs():
    event = WatchEvent("put", KeyValue(b"ab", b"cde", 1, 1, 1))
    with_prev = WatchEvent("put", KeyValue(b"ab", b"cde", 1, 1, 1), KeyValue(b"ab", b"xy", 1, 1, 1))
    assert size_of([event, with_prev]) == 5 + 7


# How current it is


def test_age_follows_questions_and_answers():
    driver, one = live()
    assert one.certain_at() == 0.0
    driver.pass_time(5.0)
    driver.now += 1.0
    driver.arrive()
    assert one.certain_at() == 5.0
    driver.now += 1.0
    put(driver, b"a2")
    driver.settle()
    assert one.feed.current_at == one.certain_at() == 7.0
    driver.now += 1.0
    put(driver, b"a3")
    driver.settle()
    assert (one.feed.current_at, one.certain_at()) == (8.0, 7.0)  # the first still waits
    driver.take_all(one)
    assert one.certain_at() == 8.0
    driver.cut()
    assert one.certain_at() == 8.0


def test_age_of_one_that_lags_waits_or_has_left():
    driver, one = live()
    one.limit = 1
    for second in (1.0, 2.0, 3.0):
        driver.now = second
        put(driver, b"a2")
        driver.settle()
    assert one.lagging
    one.take()
    assert one.certain_at() == 2.0
    driver.now = 4.0
    two = driver.subscribe(A)
    assert two.certain_at() == 4.0
    driver.now = 5.0
    driver.unsubscribe(two)
    assert two.certain_at() == 4.0
    driver.unsubscribe(one)
    assert one.certain_at() == 2.0


# Liveness


def test_a_stream_that_is_silent_is_given_up():
    driver, one = live()
    driver.pass_time(5.0)
    driver.stream.sent.clear()
    driver.pass_time(5.0)
    assert [c.silent for c in driver.told if isinstance(c, CutStream)] == [True]
    put(driver, b"a2")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    driver.finish()


def test_liveness():
    live = Liveness(5.0, 3.0, 10.0)
    assert live.due() == 15.0
    assert live.look(12.0) is Look.WELL
    assert live.look(15.0) is Look.ASK
    assert live.due() == 18.0
    assert live.look(17.0) is Look.WELL
    live.heard()
    assert live.due() == 20.0
    assert live.look(20.0) is Look.ASK
    assert live.look(23.5) is Look.DEAD


def test_liveness_after_this_process_stood_still():
    live = Liveness(5.0, 3.0, 0.0)
    live.asked(1.0)
    live.asked(2.0)  # the first question counts
    assert live.due() == 4.0
    assert live.look(100.0) is Look.ASK
    assert live.look(103.0) is Look.DEAD


# Watches that the server ends


def test_a_watch_that_ends_for_no_known_reason_is_asked_for_again_ever_more_slowly():
    driver, one = live()
    for pause in (0.1, 0.5, 2.0, 5.0, 5.0):
        (watch_id,) = driver.stream.watchers
        del driver.stream.watchers[watch_id]
        driver.stream.answer(watch_id, canceled=True, reason="etcdserver: who knows")
        driver.arrive()
        assert one.feed.phase == "ready"
        assert driver.core.due() == pytest.approx(driver.now + pause)
        driver.pass_time(pause / 2)
        assert one.feed.phase == "ready"
        driver.pass_time(pause)
        driver.arrive()
        assert one.feed.phase == "live"
    put(driver, b"a2")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    assert one.feed.failures == 0
    driver.finish()


def test_a_watch_that_waits_to_be_asked_for_may_be_left():
    driver, one = live()
    two = driver.subscribe(Range(b"b", b"c"))
    driver.settle(2)
    driver.stream.answer(one.feed.watch_id, canceled=True, reason="who knows")
    driver.arrive()
    driver.unsubscribe(one)
    driver.pass_time(1.0)
    assert two.feed.phase == "live"
    driver.finish()


def test_a_new_stream_does_not_wait():
    driver, one = live()
    driver.stream.answer(one.feed.watch_id, canceled=True, reason="who knows")
    driver.arrive()
    driver.cut()
    driver.settle()
    assert one.feed.phase == "live"
    assert driver.core.due() == driver.now + 5.0
    driver.finish()


def test_compaction_by_its_words_alone():
    driver, one = live()
    put(driver, b"a2")
    driver.stream.watchers.clear()
    driver.stream.answer(one.feed.watch_id, canceled=True, reason="mvcc: ... compacted")
    driver.settle(2)
    assert reasons(driver) == ["compacted"]
    driver.finish()


# Permission


def deny(driver):
    """Refuse whatever the stream was just asked for."""
    created = [a for a in driver.stream.sent if a.created]
    driver.stream.sent.clear()
    driver.stream.watchers.clear()
    for _ in created:
        driver.stream.refuse("etcdserver: permission denied")
    driver.arrive()


def test_a_token_that_is_too_old_costs_a_new_stream():
    driver, one = live()
    two = driver.subscribe(Range(b"b", b"c"))
    driver.settle(2)
    put(driver, b"b1")
    driver.settle()
    driver.cut()
    driver.open()
    deny(driver)
    assert (one.feed.phase, two.feed.phase) == ("denied", "denied")
    assert len(driver.listings) == 1
    driver.list_all()
    assert driver.stream is None
    driver.settle()
    assert (one.feed.phase, two.feed.phase) == ("live", "live")
    put(driver, b"a2")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    driver.finish()


def test_a_range_that_is_not_permitted_ends_its_subscribers_only():
    driver, one = live()
    two = driver.subscribe(Range(b"b", b"c"))
    three = driver.subscribe(Range(b"c", b"d"))
    driver.settle(2)
    put(driver, b"b1", b"c1")
    driver.settle()
    driver.cut()
    driver.open()
    deny(driver)
    for expected in (one, two):
        (ticket,) = driver.listings
        del driver.listings[ticket]
        driver.core.listing_failed(ticket, "final", NotAuthorized("no"), driver.now)
        driver.obey()
        assert isinstance(expected.error, NotAuthorized)
        del driver.subscribers[expected]
    driver.settle(2)
    assert three.feed.phase == "live"
    driver.finish()


def test_denied_again_and_again_it_is_not_permitted():
    driver, one = live()
    driver.cut()
    for _ in range(3):
        assert one.error is None
        driver.open()
        deny(driver)
        driver.list_all()
    assert isinstance(one.error, NotAuthorized)
    assert driver.stream is None
    assert driver.core.watches == 0


def test_one_that_was_denied_may_leave():
    driver, one = live()
    two = driver.subscribe(Range(b"b", b"c"))
    driver.settle(2)
    driver.cut()
    driver.open()
    deny(driver)
    driver.unsubscribe(one)
    assert len(driver.listings) == 1
    driver.settle(2)
    assert two.feed.phase == "live"
    driver.finish()


def test_all_that_were_denied_may_leave():
    driver, one = live()
    driver.cut()
    driver.open()
    deny(driver)
    driver.unsubscribe(one)
    assert driver.stream is None
    assert not driver.listings


@pytest.mark.parametrize("start", [None, 3])
def test_a_first_listing_that_is_refused(start):
    driver = Driver()
    one = driver.subscribe(A, start=start)
    driver.open()
    (ticket,) = driver.listings
    driver.core.listing_failed(ticket, "final", NotAuthorized("no"), 0.0)
    assert isinstance(one.error, NotAuthorized)
    assert driver.core.watches == 0


def test_a_join_that_is_refused_ends_the_newcomer_only():
    driver, one = live()
    two = driver.subscribe(A)
    three = driver.subscribe(A)
    (ticket,) = driver.listings
    driver.core.listing_failed(ticket, "final", NotAuthorized("no"), 0.0)
    driver.obey()
    assert isinstance(two.error, NotAuthorized)
    assert three.error is None
    del driver.subscribers[two]
    driver.list_all()
    assert told(driver.take_all(three)) == [[("put", b"a1")]]
    driver.finish()


# What comes too late


def test_nothing_is_done_for_those_who_have_left():
    driver, one = live()
    core = driver.core
    two = driver.subscribe(Range(b"b", b"c"))
    (ticket,) = driver.listings
    driver.list(ticket)
    listing = driver.listed[ticket]
    driver.unsubscribe(two)
    core.listed(ticket, listing, 0.0)
    core.listing_failed(ticket, "final", StoreError("late"), 0.0)
    core.detach(two, 0.0)
    core.drained(two, 0.0)
    core.drained(one, 0.0)  # it does not lag any more
    assert not core.commands
    stray = Answer(99, 1, 5, events=(WatchEvent("put", KeyValue(b"b1", b"", 3, 3, 1)),))
    core.received(stray, 0.0)
    core.received(Answer(99, 1, 5, canceled=True), 0.0)
    core.received(Answer(99, 1, 5, created=True), 0.0)
    core.received(Answer(1, 1, 5), 0.0)  # neither changes nor anything else
    assert not core.commands
    driver.unsubscribe(one)
    core.received(stray, 0.0)
    core.serves((3, 5, 1))
    core.tick(0.0)
    core.lost(0.0)
    assert not core.commands


def test_created_for_nobody():
    driver, one = live()
    two = driver.subscribe(Range(b"b", b"c"))
    driver.list_all()
    driver.unsubscribe(two)
    driver.arrive()
    put(driver, b"a2")
    driver.settle()
    assert told(driver.take_all(one)) == [[("put", b"a2")]]
    driver.finish()


def test_closing_ends_everybody():
    driver, one = live()
    two = driver.subscribe(A)
    driver.core.fail_all(StoreError("closed"))
    driver.obey()
    assert one.error is two.error is not None
    assert driver.stream is None
    assert driver.core.watches == 0


# Fragments


def events_at(*revisions):
    return [WatchEvent("put", KeyValue(b"k", b"", r, r, 1)) for r in revisions]


def test_fragments_hold_back_the_last_revision_only():
    fragments = Fragments()
    first = fragments.take(1, events_at(1, 2, 2), more=True)
    assert [e.kv.mod_revision for e in first] == [1]
    assert 1 in fragments
    assert fragments.take(1, events_at(2), more=True) == []
    assert fragments.take(2, events_at(7), more=False) == events_at(7)
    last = fragments.take(1, events_at(2, 3), more=False)
    assert [e.kv.mod_revision for e in last] == [2, 2, 2, 2, 3]
    assert 1 not in fragments
    fragments.take(1, events_at(4, 5), more=True)
    fragments.drop(1)
    assert fragments.take(1, events_at(6), more=False) == events_at(6)
    assert list(fragments.take(1, [], more=True)) == []


def test_a_revision_in_pieces_is_handed_over_whole():
    driver, one = live()
    driver.store.now.change([(b"a%d" % n, b"v") for n in range(5)])
    (watch_id,) = driver.stream.watchers
    driver.stream.pump(watch_id, 1, [2, 4])
    driver.arrive(1)
    driver.arrive(1)
    assert not one.parcels
    driver.pass_time(5.0)
    driver.arrive(1)
    assert [len(batch.events) for batch in driver.take_all(one)] == [5]
    driver.stream.sent.clear()
    driver.finish()


def test_progress_in_the_middle_of_a_revision_moves_nothing():
    driver, one = live()
    driver.store.now.change([(b"a%d" % n, b"v") for n in range(5)])
    (watch_id,) = driver.stream.watchers
    driver.stream.pump(watch_id, 1, [2])
    driver.pass_time(5.0)
    last = driver.stream.sent[1]
    del driver.stream.sent[1]
    driver.arrive()
    assert one.feed.revision == 2
    driver.stream.sent.append(last)
    driver.arrive()
    assert one.feed.revision == 3
    assert driver.take_all(one)
    driver.finish()


def test_a_subscriber_on_its_own():
    one = Subscriber(A, start=None, limit=3)
    assert one.take() is None
    assert not one.drained
    batch_of = lambda n: Parcel(_batch(n), 0.0)
    assert one.offer(batch_of(5))
    assert not one.offer(batch_of(1))
    one.take()
    assert one.offer(batch_of(3))
    assert not one.offer(batch_of(1))
    kv = KeyValue(b"k", b"v", 1, 1, 1)
    one.skip(b"k", None, kv)
    assert one.had == {b"k": None}
    one.skip(b"k", kv, None)
    assert one.had == {}


def _batch(count):
    from hastack.discovery import Batch

    return Batch(tuple(events_at(*range(1, count + 1))), count)
