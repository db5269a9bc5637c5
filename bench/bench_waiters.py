"""Waiting: wake-ups, order and leaks under ten thousand waiters and a million cancellations.

python bench/bench_waiters.py [cancellations]
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time

from hastack.ratelimit import ConcurrencyLimit, TokenBucket
from hastack.testing import ManualClock

WAITERS = 10_000
CAPACITY = 100


def wakeups() -> None:
    clock = ManualClock(start=0.0)
    bucket = TokenBucket("1000/s", burst=CAPACITY, clock=clock)
    served: list[int] = []

    async def one(number: int) -> None:
        await bucket.acquire_async()
        served.append(number)

    async def main() -> None:
        await asyncio.gather(*[one(n) for n in range(WAITERS)])

    start = time.perf_counter()
    clock.run(main())
    took = time.perf_counter() - start
    inversions = sum(a > b for a, b in itertools.pairwise(served))
    print(f"| {WAITERS:,} tasks, {CAPACITY} permits at once | |")
    print(f"| wake-ups (N - capacity = {WAITERS - CAPACITY:,}) | {bucket.stats().wakeups:,} |")
    print(f"| served out of order | {inversions} |")
    print(f"| CPU per waiter | {took / WAITERS * 1e6:.1f} us |")


def precision() -> None:
    """200 tasks at 400/s in real time: how late the last one is, beside aiolimiter."""

    async def drain(acquire) -> float:
        start = time.perf_counter()
        await asyncio.gather(*[acquire() for _ in range(201)])
        return time.perf_counter() - start

    bucket = TokenBucket("400/s", burst=1)
    print(
        f"| 200 waits at 400/s, ideal 0.500 s | {asyncio.run(drain(bucket.acquire_async)):.3f} s |"
    )
    late = ThreadsBench().run()
    print(f"| the same with 50 threads, ideal 0.125 s | {late:.3f} s |")
    try:
        from aiolimiter import AsyncLimiter
    except ImportError:
        return

    async def peer() -> float:
        return await drain(AsyncLimiter(1, 1 / 400).acquire)

    print(f"| aiolimiter, 200 waits at 400/s | {asyncio.run(peer()):.3f} s |")


class ThreadsBench:
    def __init__(self) -> None:
        self.bucket = TokenBucket("400/s", burst=1)

    def run(self) -> float:
        self.bucket.acquire()
        threads = [threading.Thread(target=self.bucket.acquire) for _ in range(50)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start


def cancellations(count: int) -> None:
    clock = ManualClock(start=0.0)
    bucket = TokenBucket("1000/s", burst=10, clock=clock)
    bulkhead = ConcurrencyLimit(10, max_waiting=10_000, clock=clock)
    seed = random.Random(7)
    cancelled = 0

    async def hold() -> None:
        await bulkhead.acquire_async()
        try:
            await asyncio.sleep(seed.random() * 0.01)
        finally:
            bulkhead.release()

    async def main() -> None:
        nonlocal cancelled
        tasks: list[asyncio.Task[object]] = []
        while cancelled < count:
            for _ in range(500):
                tasks.append(asyncio.ensure_future(bucket.acquire_async()))
                tasks.append(asyncio.ensure_future(hold()))
            await asyncio.sleep(seed.choice([0.0, 0.0, 0.001, 0.01]))
            seed.shuffle(tasks)
            for task in tasks[:900]:
                cancelled += task.cancel()
            tasks = [task for task in tasks[900:] if not task.done()]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(1.0)

    start = time.perf_counter()
    clock.run(main())
    took = time.perf_counter() - start
    left = bucket.peek().remaining
    print(f"| random cancellations ({took:.0f} s) | {cancelled:,} |")
    print(f"| token bucket permits missing | {10 - left} |")
    print(f"| concurrency permits not given back | {bulkhead.in_flight()} |")
    print(f"| still in a queue | {bucket.stats().waiting + bulkhead.stats().waiting} |")


if __name__ == "__main__":
    print(f"\n### Waiting (Python {sys.version.split()[0]})\n\n| | |\n|---|---:|")
    wakeups()
    precision()
    cancellations(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
