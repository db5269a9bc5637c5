"""The bounded queue between emitters and a slow consumer."""

import asyncio
import threading
from datetime import timedelta

import pytest

from hastack import events
from hastack.errors import InvalidArgument


def test_drop_oldest_keeps_the_newest():
    queue = events.Queue(3)
    for n in range(5):
        queue(n)
    assert len(queue) == 3
    assert queue.dropped == 2
    assert queue.take() == [2, 3, 4]
    assert queue.take() == []


def test_drop_newest_keeps_the_first():
    queue = events.Queue(3, policy="drop-newest")
    for n in range(5):
        queue(n)
    assert queue.dropped == 2
    assert queue.take() == [0, 1, 2]


@pytest.mark.parametrize(
    ("kwargs", "parameter"),
    [({"maxsize": 0}, "maxsize"), ({"maxsize": 1.5}, "maxsize"), ({"policy": "block"}, "policy")],
)
def test_bad_arguments(kwargs, parameter):
    with pytest.raises(InvalidArgument, match=parameter):
        events.Queue(**kwargs)


def test_get_does_not_wait_for_what_is_there():
    queue = events.Queue()
    queue("a")
    assert queue.get(0) == "a"
    assert queue.get(0) is None
    assert queue.get(timedelta(0)) is None


@pytest.mark.parametrize("wrong", [-1, float("nan"), "1", None])
def test_negative_and_missing_timeouts(wrong):
    queue = events.Queue()
    with pytest.raises(InvalidArgument, match="timeout"):
        queue.get(wrong)
    with pytest.raises(InvalidArgument, match="timeout"):
        queue.until(wrong)
    with pytest.raises(InvalidArgument, match="timeout"):
        asyncio.run(queue.get_async(wrong))


def test_get_is_woken_by_another_thread():
    queue = events.Queue()
    thread = threading.Timer(0.01, queue, ("a",))
    thread.start()
    assert queue.get(10.0) == "a"
    thread.join()


def test_until_ends_at_its_deadline():
    queue = events.Queue()
    queue("a")
    queue("b")
    assert list(queue.until(0.01)) == ["a", "b"]
    queue("c")
    assert list(queue.until(0.0)) == ["c"]


def test_get_async_is_woken_from_a_thread():
    queue = events.Queue()

    async def main():
        thread = threading.Timer(0.01, queue, ("a",))
        thread.start()
        got = await queue.get_async(10.0)
        thread.join()
        return got

    assert asyncio.run(main()) == "a"
    assert not queue._waiters


def test_get_async_times_out_and_leaves_nothing_behind():
    queue = events.Queue()
    assert asyncio.run(queue.get_async(0.0)) is None
    assert asyncio.run(queue.get_async(0.005)) is None
    assert not queue._waiters


def test_cancelling_get_async_loses_no_event():
    queue = events.Queue()

    async def main():
        first = asyncio.ensure_future(queue.get_async(10.0))
        second = asyncio.ensure_future(queue.get_async(10.0))
        await asyncio.sleep(0)
        queue("a")
        await asyncio.sleep(0)  # first is woken but has not run yet
        first.cancel()
        # Handed on at once, not found when the second one's time is over.
        assert await asyncio.wait_for(second, 5.0) == "a"
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())
    assert len(queue) == 0
    assert not queue._waiters


def test_waiters_of_a_closed_loop_are_passed_over():
    queue = events.Queue()
    dead = asyncio.new_event_loop()
    done, gone = dead.create_future(), dead.create_future()
    done.set_result(None)
    dead.close()
    queue._waiters.extend([(dead, done), (dead, gone)])
    queue("a")
    assert not queue._waiters
    assert queue.take() == ["a"]


def test_as_a_subscriber():
    class Ping(events.Event):
        pass

    queue = events.Queue(1)
    undo = events.subscribe(queue, Ping)
    events.topic(Ping).publish(Ping())
    undo()
    assert isinstance(queue.get(0), Ping)
    assert repr(queue) == "Queue(0/1, policy='drop-oldest', dropped=0)"
