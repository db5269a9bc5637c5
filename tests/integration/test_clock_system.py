"""The process clock with its real timer thread."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
import weakref

import pytest

from hastack._core._clock import SYSTEM_CLOCK, SystemClock
from hastack.typing import Clock


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_satisfies_the_protocol():
    assert isinstance(SYSTEM_CLOCK, Clock)
    before = time.monotonic()
    assert before <= SYSTEM_CLOCK.monotonic() <= time.monotonic()


def test_no_thread_before_the_first_timer():
    clock = SystemClock()
    assert clock._thread is None
    clock.call_at(clock.monotonic() + 60.0, print)()
    assert clock._thread is not None
    assert clock._thread.daemon


def test_timers_run_in_order_and_not_early():
    clock = SystemClock()
    ran = []
    start = clock.monotonic()
    done = threading.Event()
    for delay in (0.06, 0.02, 0.04):
        when = start + delay
        clock.call_at(when, lambda when=when: ran.append((when, clock.monotonic() - when)))
    clock.call_at(start + 0.08, done.set)
    assert done.wait(30.0)
    assert [when for when, _ in ran] == sorted(when for when, _ in ran)
    assert all(late >= 0.0 for _, late in ran)


def test_an_earlier_timer_wakes_the_sleeping_thread():
    clock = SystemClock()
    clock.call_at(clock.monotonic() + 60.0, print)
    time.sleep(0.02)
    rang = threading.Event()
    clock.call_at(clock.monotonic() + 0.01, rang.set)
    assert rang.wait(30.0)


def test_cancel_lets_go_at_once_and_is_idempotent():
    class Owner:
        def ring(self):
            raise AssertionError

    clock = SystemClock()
    owner = Owner()
    ref = weakref.ref(owner)
    cancel = clock.call_at(clock.monotonic() + 60.0, owner.ring)
    cancel()
    cancel()
    del owner
    gc.collect()
    assert ref() is None


def test_a_finished_callback_is_let_go():
    class Owner:
        def ring(self):
            rang.set()

    rang = threading.Event()
    clock = SystemClock()
    owner = Owner()
    ref = weakref.ref(owner)
    clock.call_at(clock.monotonic(), owner.ring)
    assert rang.wait(30.0)
    del owner
    wait_for(lambda: ref() is None)


def test_cancelled_timers_do_not_pile_up():
    clock = SystemClock()
    keep = [clock.call_at(clock.monotonic() + 600.0, print) for _ in range(10)]
    for _ in range(10_000):
        clock.call_at(clock.monotonic() + 600.0, print)()
    wait_for(lambda: len(clock._heap) < 400)
    assert sum(1 for entry in clock._heap if entry[2]) == 10
    assert len(keep) == 10


def test_a_callback_that_raises_is_reported_and_kills_nothing(monkeypatch):
    reports = []
    monkeypatch.setattr(threading, "excepthook", reports.append)
    clock = SystemClock()
    rang = threading.Event()

    def fail(error):
        raise error

    now = clock.monotonic()
    clock.call_at(now, lambda: fail(ValueError("mine")))
    clock.call_at(now, lambda: fail(SystemExit()))
    clock.call_at(now + 0.01, rang.set)
    assert rang.wait(30.0)
    assert [report.exc_type for report in reports] == [ValueError, SystemExit]


def test_no_more_threads_is_the_callers_error_and_not_for_good(monkeypatch):
    clock = SystemClock()
    real = threading.Thread.start

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        clock.call_at(0.0, print)
    assert clock._heap == []
    monkeypatch.setattr(threading.Thread, "start", real)
    rang = threading.Event()
    clock.call_at(0.0, rang.set)
    assert rang.wait(30.0)


def test_many_threads_set_and_cancel():
    clock = SystemClock()
    ran, kept = [], []
    lock = threading.Lock()

    def work(seed):
        rng = random.Random(seed)
        for n in range(300):
            key = (seed, n)
            cancel = clock.call_at(
                clock.monotonic() + rng.random() * 0.05, lambda key=key: ran.append(key)
            )
            if rng.random() < 0.5:
                cancel()
            else:
                with lock:
                    kept.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: set(kept) <= set(ran))
    assert len(ran) == len(set(ran))


def test_a_signal_handler_may_set_and_cancel_timers():
    clock = SystemClock()
    sent, rang = [], []

    def handler(signum, frame):
        sent.append(1)
        clock.call_at(clock.monotonic(), lambda: rang.append(1))
        clock.call_at(clock.monotonic() + 60.0, print)()

    old = signal.signal(signal.SIGVTALRM, handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end or len(sent) <= 5:  # a busy machine gives little time
            for _ in range(100):
                clock.call_at(clock.monotonic() + 60.0, print)()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, old)
    wait_for(lambda: len(rang) == len(sent))
    assert len(sent) > 5


def test_wait_is_bounded_by_what_the_platform_can_do():
    event = threading.Event()
    threading.Timer(0.01, event.set).start()
    assert SYSTEM_CLOCK.wait(event, 1e12) is True
    assert SYSTEM_CLOCK.wait(threading.Event(), 0.001) is False
    assert SYSTEM_CLOCK.wait(event) is True


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_anew():
    inherited = []
    rang = threading.Event()
    SYSTEM_CLOCK.call_at(SYSTEM_CLOCK.monotonic(), rang.set)
    assert rang.wait(30.0)
    cancel = SYSTEM_CLOCK.call_at(SYSTEM_CLOCK.monotonic() + 0.05, lambda: inherited.append(1))
    with SYSTEM_CLOCK._lock:  # held at the fork, as another thread might
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                mine = threading.Event()
                SYSTEM_CLOCK.call_at(SYSTEM_CLOCK.monotonic() + 0.01, mine.set)
                cancel()
                ok = mine.wait(30.0) and SYSTEM_CLOCK._thread.is_alive()
                time.sleep(0.08)
                code = 0 if ok and not inherited else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    wait_for(lambda: inherited == [1])
