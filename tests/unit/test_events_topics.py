"""Who receives which event, and what a failing subscriber may not do."""

import asyncio
import gc
import logging
import weakref

import attrs
import pytest

from hastack import events
from hastack.errors import InvalidArgument


@attrs.frozen(kw_only=True)
class Base(events.Event):
    n: int = 0


@attrs.frozen(kw_only=True)
class Child(Base):
    pass


@attrs.frozen(kw_only=True)
class Other(events.Event):
    pass


@pytest.fixture(autouse=True)
def no_subscription_left():
    """Nobody else listens, and nothing of a test here stays behind."""
    gc.collect()  # what others have dropped goes now, not in the middle of a test
    with events._lock:
        others = dict(events._subscriptions)
        events._subscriptions.clear()
        events._rebuild()
    yield
    left = dict(events._subscriptions)
    with events._lock:
        events._subscriptions.clear()
        events._subscriptions.update(others)
        events._rebuild()
    assert not left


def test_no_subscribers_is_an_empty_tuple():
    assert events.topic(Base).subscribers == ()
    assert not events.topic(Base).subscribers
    assert events.topic(Base) is events.topic(Base)


def test_events_are_frozen_and_carry_the_time():
    event = Base(n=1)
    assert event.at > 0.0
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.n = 2


def test_delivery_in_order_of_subscription():
    got = []
    first = events.subscribe(lambda e: got.append(("first", e.n)), Base)
    second = events.subscribe(lambda e: got.append(("second", e.n)), Base)
    events.topic(Base).publish(Base(n=7))
    first()
    first()  # again: nothing happens
    events.topic(Base).publish(Base(n=8))
    second()
    events.topic(Base).publish(Base(n=9))
    assert got == [("first", 7), ("second", 7), ("second", 8)]


def test_a_class_brings_its_subclasses_but_not_its_parents():
    base, child, other, everything = [], [], [], []
    undo = [
        events.subscribe(base.append, Base),
        events.subscribe(child.append, Child),
        events.subscribe(other.append, Other),
        events.subscribe(everything.append),
        events.subscribe(everything.append, events.Event),
    ]
    for each in (Base(), Child(), Other()):
        events.topic(type(each)).publish(each)
    for end in undo:
        end()
    assert [type(e) for e in base] == [Base, Child]
    assert [type(e) for e in child] == [Child]
    assert [type(e) for e in other] == [Other]
    assert [type(e) for e in everything] == [Base, Base, Child, Child, Other, Other]


def test_two_classes_of_one_family_deliver_once():
    got = []
    undo = events.subscribe(got.append, Base, Child)
    events.topic(Child).publish(Child())
    undo()
    assert len(got) == 1


def test_classes_declared_later_are_included():
    got, everything = [], []
    undo = events.subscribe(got.append, Base)
    undo_everything = events.subscribe(everything.append)

    @attrs.frozen(kw_only=True)
    class Late(Base):
        pass

    events.topic(Late).publish(Late())
    undo()
    undo_everything()
    assert len(got) == len(everything) == 1
    assert events.topic(Late).subscribers == ()


def test_the_same_subscriber_twice_delivers_twice_and_ends_one_at_a_time():
    got = []
    one = events.subscribe(got.append, Base)
    two = events.subscribe(got.append, Base)
    events.topic(Base).publish(Base())
    assert len(got) == 2
    one()
    events.topic(Base).publish(Base())
    assert len(got) == 3
    two()
    assert events.topic(Base).subscribers == ()


class Unhashable:
    __hash__ = None

    def __init__(self, error=None):
        self.got = []
        self.error = error

    def __call__(self, event):
        self.got.append(event)
        if self.error is not None:
            raise self.error

    def __eq__(self, other):
        raise AssertionError("subscribers are told apart by identity")


def test_a_raising_unhashable_subscriber_is_reported_once_per_topic_and_kept(caplog):
    bad, good = Unhashable(ValueError("boom")), []
    undo = [events.subscribe(bad, Base, Other), events.subscribe(good.append, Base)]
    for _ in range(3):
        events.topic(Base).publish(Base())
        events.topic(Other).publish(Other())
    for end in undo:
        end()
    assert len(bad.got) == 6
    assert len(good) == 3
    assert [(r.name, r.levelno) for r in caplog.records] == [
        ("hastack.events", logging.ERROR),
        ("hastack.events", logging.ERROR),
    ]
    assert "Base" in caplog.messages[0]
    assert "Other" in caplog.messages[1]
    assert caplog.records[0].exc_info[1] is bad.error


def test_each_subscriber_is_reported(caplog):
    undo = [events.subscribe(Unhashable(ValueError("boom")), Base) for _ in range(2)]
    for _ in range(2):
        events.topic(Base).publish(Base())
    for end in undo:
        end()
    assert len(caplog.records) == 2


def test_a_new_subscription_is_reported_again(caplog):
    bad = Unhashable(ValueError("boom"))
    for _ in range(2):
        undo = events.subscribe(bad, Base)
        events.topic(Base).publish(Base())
        undo()
    assert len(caplog.records) == 2


def test_a_report_that_fails_reaches_nobody():
    class NoRepr(Unhashable):
        def __repr__(self):
            raise RuntimeError("no name")

    class Handler(logging.Handler):
        def emit(self, record):
            raise RuntimeError("full disk")

    handler = Handler()
    logging.getLogger("hastack.events").addHandler(handler)
    undo = events.subscribe(NoRepr(ValueError("boom")), Base)
    try:
        events.topic(Base).publish(Base())
    finally:
        undo()
        logging.getLogger("hastack.events").removeHandler(handler)


def test_a_cancelled_future_in_a_subscriber_is_its_own_failure(caplog):
    undo = events.subscribe(Unhashable(asyncio.CancelledError()), Base)
    events.topic(Base).publish(Base())
    undo()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_the_end_of_the_process_passes_through(error):
    undo = events.subscribe(Unhashable(error), Base)
    with pytest.raises(type(error)):
        events.topic(Base).publish(Base())
    undo()


def test_endless_recursion_stays_inside(caplog):
    topic = events.topic(Base)
    undo = events.subscribe(lambda e: topic.publish(Base(n=e.n + 1)), Base)
    topic.publish(Base())
    undo()
    # Once, or again where a handler of logging had no room left to write it.
    assert {record.args[1] for record in caplog.records} == {"Base"}


def test_subscribing_during_a_publish_takes_effect_with_the_next_one():
    late, undo = [], []

    def join(event):
        undo.append(events.subscribe(late.append, Base))

    undo.append(events.subscribe(join, Base))
    events.topic(Base).publish(Base(n=1))
    assert late == []
    events.topic(Base).publish(Base(n=2))
    assert [e.n for e in late] == [2]
    for end in undo:
        end()


def test_leaving_during_a_publish_spares_nobody_else():
    got = []

    def once(event):
        got.append("once")
        undo_once()

    undo_once = events.subscribe(once, Base)
    undo = events.subscribe(lambda e: got.append("other"), Base)
    for _ in range(2):
        events.topic(Base).publish(Base())
    undo()
    assert got == ["once", "other", "other"]


def test_a_subscriber_that_leaves_and_raises_is_reported(caplog):
    def once(event):
        undo()
        raise ValueError("after leaving")

    undo = events.subscribe(once, Base)
    events.topic(Base).publish(Base())
    assert len(caplog.records) == 1


def test_unsubscribing_frees_the_subscriber(monkeypatch):
    # pytest keeps every log record, and a record keeps the subscriber.
    monkeypatch.setattr(logging.getLogger("hastack.events"), "disabled", True)
    subscriber = Unhashable(ValueError("boom"))
    undo = events.subscribe(subscriber, Base)
    events.topic(Base).publish(Base())
    gone = weakref.ref(subscriber)
    undo()
    del subscriber
    gc.collect()
    assert gone() is None


def test_a_finalizer_that_unsubscribes_inside_a_rebuild_is_not_lost():
    got, calls = [], []
    inner = events.subscribe(got.append, Base)

    class Types(type):  # stands for a garbage collection in the middle of _rebuild
        def __subclasscheck__(cls, sub):
            if not calls and sub is Base:
                calls.append(1)
                inner()
            return False

    class Trigger(events.Event, metaclass=Types):
        pass

    undo = events.subscribe(got.append, Trigger)
    assert calls
    assert events.topic(Base).subscribers == ()
    undo()


@pytest.mark.parametrize("wrong", [None, 3, int, "x"])
def test_what_is_not_an_event_class_is_refused(wrong):
    with pytest.raises(InvalidArgument, match="event_type"):
        events.subscribe(print, wrong)
    with pytest.raises(InvalidArgument, match="event_type"):
        events.topic(wrong)


def test_what_cannot_take_an_event_is_refused():
    async def coroutine(event): ...

    class AsyncCall:
        async def __call__(self, event): ...

    for wrong in (None, 3, dict, coroutine, AsyncCall()):
        with pytest.raises(InvalidArgument, match="subscriber"):
            events.subscribe(wrong, Base)


def test_record_collects_and_ends():
    with events.record(Base) as seen:
        events.topic(Base).publish(Base(n=1))
        events.topic(Other).publish(Other())
    events.topic(Base).publish(Base(n=2))
    assert [e.n for e in seen] == [1]


def test_record_ends_when_the_block_raises():
    with pytest.raises(ZeroDivisionError), events.record():
        raise ZeroDivisionError
    assert not events._subscriptions


def test_record_is_bounded_and_says_so():
    recording = events.record(Base, limit=3)
    seen = recording.__enter__()
    for n in range(5):
        events.topic(Base).publish(Base(n=n))
    with pytest.warns(UserWarning, match="2 events after the first 3"):
        recording.__exit__(None, None, None)
    assert [e.n for e in seen] == [0, 1, 2]
    with pytest.raises(InvalidArgument, match="limit"), events.record(limit=0):
        pass


def test_topics_name_themselves():
    assert repr(events.topic(Other)).endswith("Other, 0 subscribers>")
