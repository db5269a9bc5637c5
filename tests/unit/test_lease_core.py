"""When keepalives are due, for how long a lease holds, and what a kept key needs next."""

from __future__ import annotations

import pytest

from hastack.discovery._records import KeyValue
from hastack.discovery.etcd._lease_core import Keepalives, patience
from hastack.discovery.etcd._lease_reconcile import (
    DELETED_CAP,
    FIGHT_CAP,
    PATIENT_LOSSES,
    RETRY_CAP,
    STARTS_PER_SECOND,
    Grant,
    Reconcile,
    Rest,
    Wait,
    Write,
    slot,
    spread,
)


def table(*leases, ttl=9.0, sent=0.0):
    made = Keepalives()
    for lease in leases:
        made.add(lease, ttl, sent=sent, drawn=0.999999)
    return made


def test_a_keepalive_is_due_after_a_third_and_not_twice():
    leases = table(1)
    assert leases.wake_at() == pytest.approx(3.0, abs=1e-3)
    assert not leases.look(2.8).due
    assert leases.look(3.0).due
    assert leases.take() == [1]
    assert leases.patience() == patience(9.0) == 1.5
    leases.sent(1, 3.0)
    assert leases.take() == []
    assert leases.patience() == 0.0
    assert leases.wake_at() == 4.5  # then the answer is overdue


def test_jitter_only_hurries():
    hasty = Keepalives()
    hasty.add(1, 9.0, sent=0.0, drawn=0.0)
    assert hasty.wake_at() == pytest.approx(0.9 * 3.0)


def test_keepalives_due_within_moments_go_out_together():
    leases = table(1)
    leases.add(2, 9.0, sent=0.09, drawn=0.999999)
    leases.look(3.0)
    assert leases.take() == [1, 2]


def test_a_lease_holds_from_the_sending_not_from_the_answer():
    leases = table(1)
    leases.look(3.0)
    leases.sent(1, 3.0)
    assert leases.answered(1, 9.0, now=4.4, drawn=0.0) == "renewed"
    assert leases.remaining(1, 4.4) == pytest.approx(3.0 + 9.0 * 0.99 - 4.4)


def test_the_server_may_change_the_ttl():
    leases = table(1)
    leases.look(3.0)
    leases.sent(1, 3.0)
    leases.answered(1, 30.0, now=3.0, drawn=0.999999)
    assert leases.wake_at() == pytest.approx(13.0, abs=1e-3)


def test_a_lease_ends_without_an_answer_and_is_named_once():
    leases = table(1)
    leases.look(3.0)
    leases.sent(1, 3.0)
    assert leases.look(8.9).expired == ()
    assert leases.look(8.92).expired == (1,)
    assert leases.look(100.0).expired == ()
    assert leases.remaining(1, 100.0) == 0.0


def test_a_late_answer_renews_what_had_expired():
    leases = table(1)
    leases.look(3.0)
    leases.sent(1, 8.8)
    assert leases.look(9.0).expired == (1,)
    assert leases.answered(1, 9.0, now=9.1, drawn=0.5) == "renewed"
    assert leases.remaining(1, 9.1) > 8.0
    assert leases.look(8.8 + 8.95).expired == (1,)


def test_an_overdue_answer_stalls_the_stream_and_the_next_one_asks_again():
    leases = table(1, 2)
    leases.add(3, 60.0, sent=0.0, drawn=0.5)
    leases.look(3.0)
    leases.sent(1, 3.0)
    leases.sent(2, 3.01)
    assert not leases.look(4.4).stalled
    assert leases.look(4.6).stalled
    leases.cut()
    look = leases.look(4.6)
    assert (look.stalled, look.due) == (False, True)
    # Whose request hung first may have held up the other: it goes last.
    assert leases.take() == [2, 1]


def test_the_most_urgent_goes_first():
    leases = table(1, ttl=60.0)
    leases.add(2, 9.0, sent=0.0, drawn=0.5)
    leases.look(50.0)
    assert leases.take() == [2, 1]


def test_no_such_lease_is_lost_and_forgotten():
    leases = table(1)
    leases.look(3.0)
    leases.sent(1, 3.0)
    assert leases.answered(1, 0.0, now=3.1, drawn=0.5) == "lost"
    assert len(leases) == 0
    assert leases.wake_at() is None
    assert leases.answered(1, 9.0, now=3.2, drawn=0.5) == "stray"


def test_an_answer_to_nothing_renews_nothing():
    leases = table(1)
    assert leases.answered(1, 9.0, now=2.0, drawn=0.5) == "stray"
    assert leases.remaining(1, 2.0) == pytest.approx(9.0 * 0.99 - 2.0)


def test_what_was_left_meanwhile_is_not_asked_for():
    leases = table(1, 2)
    leases.look(3.0)
    taken = leases.take()
    leases.remove(1)
    for lease in taken:
        leases.sent(lease, 3.0)
    assert leases.remaining(1, 3.0) == 0.0
    assert leases.wake_at() == 4.5
    leases.remove(1)


def test_a_clock_set_back_gives_no_lease_a_longer_life():
    leases = table(1)
    leases.look(8.0)
    assert leases.remaining(1, 1.0) == pytest.approx(9.0 * 0.99 - 8.0)


def test_patience_has_bounds():
    assert patience(1.0) == 0.2
    assert patience(3600.0) == 3.0


# Kept keys


def kv(revision, value=b"v", lease=7):
    return KeyValue(b"k", value, revision, revision, 1, lease)


def kept(value=b"v"):
    """A key that is as it should be, at revision 5."""
    core = Reconcile(value)
    core.granted(7)
    write = core.decide(0.0)
    assert isinstance(write, Write)
    core.wrote(write, 5)
    assert core.decide(0.0) == Rest()
    return core


def test_first_a_lease_then_the_key():
    core = Reconcile(b"v")
    assert core.decide(0.0) == Grant()
    core.granted(7)
    assert core.decide(0.0) == Write(lease=7, value=b"v", revision=0, version=1)
    assert not core.present
    core.wrote(core.decide(0.0), 5)
    assert core.present
    assert core.revision == 5


def test_another_value_is_put_over_the_one_that_is_known():
    core = kept()
    assert core.want(b"w") == 2
    assert core.decide(0.0) == Write(lease=7, value=b"w", revision=5, version=2)
    assert core.present  # the old value is still there


@pytest.mark.parametrize(
    ("found", "loss"), [(None, "deleted"), (kv(6, b"theirs", lease=0), "overwritten")]
)
def test_a_loss_is_made_good_at_once(found, loss):
    core = kept()
    assert core.seen(found, 6, 1.0, 0.5) == loss
    assert not core.present
    assert core.decide(1.0) == Write(7, b"v", 6 if found else 0, 1)


def test_another_value_on_our_own_lease_is_overwritten_too():
    core = kept()
    assert core.seen(kv(6, b"other"), 6, 1.0, 0.5) == "overwritten"
    assert core.present
    assert core.decide(1.0) == Write(7, b"v", 6, 1)


def test_old_news_is_no_news():
    core = kept()
    assert core.seen(None, 4, 1.0, 0.5) is None
    assert core.decide(1.0) == Rest()


def test_a_write_whose_answer_was_lost_is_recognised():
    core = Reconcile(b"v")
    core.granted(7)
    write = core.decide(0.0)
    core.failed(0.0, 0.999)
    wait = core.decide(0.0)
    assert isinstance(wait, Wait)
    again = core.decide(wait.until)
    assert again == write
    assert core.missed(again, kv(5), 9, wait.until, 0.5) is None
    assert core.decide(wait.until) == Rest()


def test_the_answer_of_a_write_does_not_overrule_a_later_change():
    core = Reconcile(b"v")
    core.granted(7)
    write = core.decide(0.0)
    core.seen(None, 6, 0.0, 0.5)  # written at 5 and deleted at 6, says the watch
    core.wrote(write, 5)
    assert core.decide(0.0) == Write(7, b"v", 0, 1)


def test_a_lost_lease_takes_the_key_with_it():
    core = kept()
    assert core.lost_lease(1.0, 0.5) == "lease lost"
    assert core.decide(1.0) == Grant()


def test_a_lease_that_never_held_the_key_is_no_loss_but_a_failure():
    core = Reconcile(b"v")
    core.granted(7)
    assert core.lost_lease(1.0, 0.5) is None
    assert isinstance(core.decide(1.0), Wait)


def test_a_restored_backup_does_not_hide_the_key():
    core = kept()
    core.want(b"w")
    write = core.decide(0.0)
    assert write.revision == 5
    # The key is as of revision 3, and the store is at 4: older than what was known.
    core.missed(write, kv(3), 4, 1.0, 0.5)
    assert core.decide(1.0) == Write(7, b"w", 3, 2)


def test_what_a_restored_backup_lacks_is_a_loss():
    core = kept()
    core.forget()
    assert not core.present
    assert core.seen(None, 2, 1.0, 0.5) == "deleted"
    core = kept()
    core.forget()
    assert core.seen(kv(2), 2, 1.0, 0.5) is None
    assert core.decide(1.0) == Rest()
    core.forget()
    assert core.lost_lease(1.0, 0.5) == "lease lost"


def test_failures_wait_longer_and_refusals_longest():
    core = Reconcile(b"v")
    pauses = []
    for _ in range(12):
        core.failed(0.0, 0.999999)
        pauses.append(core.decide(0.0).until)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(RETRY_CAP, rel=1e-3)
    core.failed(0.0, 0.999999, refused=True)
    assert core.decide(0.0).until > RETRY_CAP
    core.want(b"w")  # perhaps that one is accepted
    assert core.decide(0.0) == Grant()


def test_a_new_value_does_not_hurry_an_absent_store():
    core = Reconcile(b"v")
    core.failed(0.0, 0.999999)
    core.want(b"w")
    assert isinstance(core.decide(0.0), Wait)


@pytest.mark.parametrize(("how", "cap"), [("deleted", DELETED_CAP), ("overwritten", FIGHT_CAP)])
def test_a_fight_slows_down(how, cap):
    core = kept()
    revision, now, pauses = 5, 0.0, []
    for _ in range(20):
        revision += 1
        found = None if how == "deleted" else kv(revision, b"theirs", lease=8)
        assert core.seen(found, revision, now, 0.999999) == how
        action = core.decide(now)
        pauses.append(action.until - now if isinstance(action, Wait) else 0.0)
        now += pauses[-1]
        revision += 1
        core.wrote(core.decide(now), revision)
    assert pauses[:PATIENT_LOSSES] == [0.0] * PATIENT_LOSSES
    assert all(pauses[PATIENT_LOSSES:])
    assert core.contested
    assert pauses[-1] == pytest.approx(cap, rel=1e-3)
    core.seen(None, revision + 1, now + 1000.0, 0.5)  # long after: an accident like the first
    assert core.decide(now + 1000.0) == Write(7, b"v", 0, 1)
    assert not core.contested


def test_registrations_of_one_client_are_spaced_and_spread():
    begin, busy = slot(1.0, float("-inf"))
    assert begin == 1.0
    assert slot(1.0, busy)[0] == pytest.approx(1.0 + 1 / STARTS_PER_SECOND)
    assert spread(1, 0.999) < 0.06
    assert spread(10_000, 0.999) < 0.5
