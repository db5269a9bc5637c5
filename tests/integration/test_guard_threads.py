"""Guards with real threads, real time and real forks."""

import asyncio
import os
import random
import signal
import threading
import time

import pytest

from hastack import context
from hastack.errors import DeadlineExceeded, RateLimited
from hastack.ratelimit import _retry
from hastack.ratelimit._compose import compose
from hastack.ratelimit._fallback import Fallback
from hastack.ratelimit._guard import Admission
from hastack.ratelimit._hedge import Hedge
from hastack.ratelimit._retry import Retry, RetryBudget
from hastack.ratelimit._timeout import Timeout


class Slots(Admission):
    """A small bulkhead, strict about its permits."""

    _settles = True

    def __init__(self, limit, name="slots"):
        self.name = name
        self.lock = threading.Lock()
        self.limit = limit
        self.out = set()
        self.most = 0

    def _admit(self, now, args, kwargs):
        permit = object()
        with self.lock:
            if len(self.out) >= self.limit:
                raise RateLimited(self.name, retry_after=0.0)
            self.out.add(permit)
            self.most = max(self.most, len(self.out))
        return permit

    def _settle(self, permit, now, error, result):
        with self.lock:
            self.out.remove(permit)


def run_threads(count, target):
    failures = []

    def guarded():
        try:
            target()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
        assert not thread.is_alive()
    assert not failures, failures


def test_one_guard_shared_by_threads_in_every_form():
    outer, inner = Slots(5, "outer"), Slots(3, "inner")
    guard = compose(outer, Slots(100), inner)

    @guard
    def call():
        if random.random() < 0.3:
            raise KeyError

    @guard
    def items():
        yield 1
        yield 2

    def work():
        for _ in range(300):
            try:
                form = random.randrange(3)
                if form == 0:
                    call()
                elif form == 1:
                    for _ in items():
                        if random.random() < 0.3:
                            break
                else:
                    with guard:
                        call()
            except (RateLimited, KeyError):
                pass

    run_threads(8, work)
    assert not outer.out
    assert not inner.out
    assert 1 <= inner.most <= 3
    assert outer.most <= 5


def test_tasks_cancelled_at_random_leave_no_permit():
    slots = Slots(50)
    guard = compose(slots, Timeout(5.0), Hedge(0.001), Retry(2, base=0.0, retry_on=KeyError))

    @guard
    async def call():
        for _ in range(random.randrange(4)):
            await asyncio.sleep(random.choice((0.0, 0.002)))
        if random.random() < 0.3:
            raise KeyError

    async def main():
        for _ in range(20):
            tasks = [asyncio.create_task(call()) for _ in range(30)]
            for task in tasks:
                if random.random() < 0.5:
                    asyncio.get_running_loop().call_later(random.random() * 0.004, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not slots.out
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_budget_holds_when_many_threads_spend():
    budget = RetryBudget(0.1, min_per_second=0.0, window=60.0)
    spent = []

    def work():
        for _ in range(2000):
            budget.count_call()
            while budget.try_spend():
                spent.append(1)

    run_threads(8, work)
    # A window may have turned over, but no slot is forgotten within this short test.
    assert len(spent) <= 0.1 * 16000
    assert len(spent) >= 0.1 * 16000 * 0.9  # a few counts may be lost to races, never gained


def test_hedged_calls_of_many_threads():
    hedge = Hedge(0.002, max_threads=64)

    @hedge
    def call(x):
        if random.random() < 0.2:
            context.sleep(0.02)
        return x

    def work():
        for x in range(40):
            assert call(x) == x

    run_threads(8, work)
    assert hedge._workers._running <= 64


def test_a_hung_loser_does_not_delay_the_answer():
    hang = threading.Event()
    first = threading.Event()

    @Hedge(0.01)
    def call():
        if not first.is_set():
            first.set()
            hang.wait(50.0)
            return "late"
        return "early"

    start = time.monotonic()
    assert call() == "early"
    assert time.monotonic() - start < 30.0
    hang.set()


def test_the_loser_sees_its_context_end():
    seen = []
    ended = threading.Event()
    first = threading.Event()

    @Hedge(0.01)
    def call():
        if first.is_set():
            return "early"
        first.set()
        ctx = context.current()
        ctx.wait(30.0)
        seen.append(ctx.cause())
        ended.set()
        return None

    assert call() == "early"
    assert ended.wait(30.0)
    assert "first" in str(seen[0])


def test_no_policy_waits_past_a_real_deadline():
    guard = compose(
        Retry(50, base=10.0, jitter=False, retry_on=Exception),
        Hedge(0.01, attempts=3),
        Retry(50, base=10.0, retry_on=Exception),
    )

    @guard
    def call():
        context.sleep(random.choice((0.0, 0.02)))
        raise KeyError

    start = time.monotonic()
    for _ in range(5):
        with context.timeout(0.05), pytest.raises((KeyError, DeadlineExceeded)):
            call()
    assert time.monotonic() - start < 8.0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork():
    budget = RetryBudget(min_per_second=100.0)
    guard = compose(
        Fallback(value="fallback"), Retry(2, base=0.0, budget=budget), Hedge(0.001), Timeout(5.0)
    )

    @guard
    def call(x):
        if x < 0:
            raise KeyError
        context.sleep(0.005)
        return x

    assert call(1) == 1
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            call(-1)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    if call(2) == 2 and call(-2) == "fallback" and asyncio.run(_async_side()) == 3:
                        status = 0
                finally:
                    os._exit(status)
            end = time.monotonic() + 20.0
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    break
                if time.monotonic() > end:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                    raise AssertionError("the child hangs")
                time.sleep(0.005)
            assert status == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(10.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_budget_that_is_being_spent_during_a_fork():
    budget = RetryBudget(min_per_second=100.0)
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with _retry._lock:
            held.set()
            let_go.wait(20.0)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30.0)
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)  # ends a child that hangs
        os._exit(0 if budget.try_spend() else 1)
    _, status = os.waitpid(pid, 0)
    let_go.set()
    thread.join()
    assert status == 0


async def _async_side():
    @compose(Retry(2), Hedge(0.001), Timeout(5.0))
    async def call(x):
        await asyncio.sleep(0.003)
        return x

    return await call(3)


def test_interpreter_ends_although_a_hedge_hangs():
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import threading\n"
        "from hastack.ratelimit._hedge import Hedge\n"
        "n = []\n"
        "def call():\n"
        "    n.append(1)\n"
        "    if len(n) == 1: threading.Event().wait()\n"
        "    return 'ok'\n"
        "print(Hedge(0.01)(call)())\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "ok\n"
