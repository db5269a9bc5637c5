"""Events between real threads and processes."""

import asyncio
import os
import signal
import sys
import threading

import attrs
import pytest

from hastack import events


@attrs.frozen(kw_only=True)
class Tick(events.Event):
    n: int = 0


TICK = events.topic(Tick)


@pytest.fixture(autouse=True)
def fast_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_those_who_stay_miss_nothing_while_others_come_and_go():
    got = []

    def publish():
        for n in range(2000):
            if TICK.subscribers:
                TICK.publish(Tick(n=n))

    def come_and_go():
        for _ in range(300):
            events.subscribe(lambda e: None, Tick)()

    end = events.subscribe(got.append, Tick)
    run(publish, publish, come_and_go, come_and_go)
    end()
    assert len(got) == 4000
    assert TICK.subscribers == ()


def test_a_failing_subscriber_is_reported_once_from_many_threads(caplog):
    def bad(event):
        raise ValueError("boom")

    end = events.subscribe(bad, Tick)
    run(*[lambda: [TICK.publish(Tick()) for _ in range(200)]] * 4)
    end()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_a_queue_counts_every_event(policy):
    box = events.Queue(16, policy=policy)
    got, done = [], threading.Event()

    def consume():
        while not done.is_set() or len(box):
            event = box.get(0.01)
            if event is not None:
                got.append(event)

    consumer = threading.Thread(target=consume)
    consumer.start()
    run(*[lambda: [box(n) for n in range(2000)]] * 3)
    done.set()
    consumer.join(30)
    assert len(got) + box.dropped == 6000


def test_coroutines_take_from_publishing_threads():
    box = events.Queue(10_000)

    async def consume():
        got = []
        while len(got) < 1500 and (event := await box.get_async(20.0)) is not None:
            got.append(event)
            if len(got) + 2 > 1500:
                break
        return got

    async def main():
        publishers = [
            threading.Thread(target=lambda: [box(n) for n in range(1000)]) for _ in range(3)
        ]
        for publisher in publishers:
            publisher.start()
        results = await asyncio.gather(consume(), consume())
        for publisher in publishers:
            publisher.join(20)
        return results

    first, second = asyncio.run(main())
    assert len(first) + len(second) + len(box) == 3000
    assert box.dropped == 0


@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # forking with threads is the point
def test_locks_held_at_the_fork_do_not_stop_the_child():
    box = events.Queue(4)
    held, release = threading.Event(), threading.Event()

    def hold():
        with events._lock, box._changed:
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    end = events.subscribe(box, Tick)
    holder.start()
    assert held.wait(10)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # the child reports through the pipe
        signal.alarm(15)  # a child that hangs must not outlive the test
        try:
            TICK.publish(Tick(n=3))
            events.subscribe(lambda event: None, Tick)()
            os.write(write, b"%d" % box.get(0).n)
        finally:
            os._exit(0)
    os.close(write)
    release.set()
    holder.join(10)
    assert os.read(read, 10) == b"3"
    os.close(read)
    os.waitpid(pid, 0)
    end()
