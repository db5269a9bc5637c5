"""AdaptiveLimit among real threads and event loops: places are conserved."""

import asyncio
import os
import random
import sys
import threading
import time

import pytest

from hastack.errors import ConcurrencyLimited
from hastack.ratelimit import AdaptiveLimit


@pytest.fixture
def eager_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(count, work):
    barrier = threading.Barrier(count)
    errors = []

    def run(number):
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("max_wait", [0.0, 0.05])
def test_never_more_inside_than_the_limit_and_none_left_behind(eager_switching, max_wait):
    limit = AdaptiveLimit(initial=3, min_limit=3, max_limit=3, max_wait=max_wait)
    inside = []
    most = []

    @limit
    def call(rng):
        inside.append(None)
        most.append(len(inside))
        if rng.random() < 0.3:
            time.sleep(0.0005)
        inside.pop()
        if rng.random() < 0.2:
            raise OSError

    def work(number):
        rng = random.Random(number)
        for _ in range(300):
            try:
                call(rng)
            except (OSError, ConcurrencyLimited):
                pass

    together(6, work)
    assert max(most) <= 3
    assert limit.inflight == 0
    assert limit.snapshot().waiting == 0


def test_tasks_cancelled_at_random_leak_no_place():
    limit = AdaptiveLimit(initial=2, min_limit=2, max_limit=2, max_wait=1.0)
    rng = random.Random(5)

    @limit
    async def call():
        await asyncio.sleep(rng.random() * 0.004)

    async def main():
        for _ in range(10):
            tasks = [asyncio.create_task(call()) for _ in range(30)]
            for task in tasks:
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.random() * 0.001)
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert limit.inflight == 0
    assert limit.snapshot().waiting == 0


def test_forked_child_starts_empty():
    limit = AdaptiveLimit(initial=1)
    permit = limit.try_acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = limit.try_acquire()
            permit.success()
            code = 0 if mine and limit.inflight == 1 else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    permit.success()
    assert limit.inflight == 0
