"""What a dashboard costs: the hot paths with and without one, and one look.

Run as ``python bench/bench_dashboard.py``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from harness import table

from hastack.contrib.dashboard import Dashboard
from hastack.ratelimit import AdaptiveLimit, CircuitBreaker, ConcurrencyLimit, TokenBucket

PLENTY = 1e12


def hot_paths() -> dict[str, Callable[[], object]]:
    bucket = TokenBucket(PLENTY, name="open")
    shut = TokenBucket("1/h", burst=1, name="shut")
    shut.try_acquire()
    breaker, adaptive = CircuitBreaker(name="breaker"), AdaptiveLimit(name="adaptive")
    places = ConcurrencyLimit(100, name="places")
    return {
        "TokenBucket.try_acquire, allowed": lambda: bucket.try_acquire("ada"),
        "TokenBucket.try_acquire, refused": shut.try_acquire,
        "TokenBucket, decorated": bucket(lambda: None),
        "ConcurrencyLimit, decorated": places(lambda: None),
        "AdaptiveLimit, decorated": adaptive(lambda: None),
        "CircuitBreaker, decorated": breaker(lambda: None),
    }


def measure(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    return {name: cost(call) for name, call in calls.items()}


def cost(call: Callable[[], object], *, number: int = 4000, rounds: int = 25) -> float:
    """The least processor time of a call in ns, the empty loop taken off."""
    # Processor time and the least of many: what others take from us is not our cost.
    return min(ran(call, number) for _ in range(rounds)) - min(
        ran(None, number) for _ in range(rounds)
    )


def ran(call: Callable[[], object] | None, number: int) -> float:
    began = time.thread_time_ns()
    if call is None:
        for _ in range(number):
            pass
    else:
        for _ in range(number):
            call()
    return (time.thread_time_ns() - began) / number


def looks(count: int) -> dict[str, float]:
    guards = [TokenBucket("100/s", name=f"bucket {n}") for n in range(count)]
    with Dashboard(*guards, period=3600.0) as dashboard:
        for _ in range(130):  # histories are full
            dashboard.snapshot()
        took, encoded = [], []
        for _ in range(50):
            began = time.thread_time_ns()
            shot = dashboard.snapshot()
            then = time.thread_time_ns()
            body = json.dumps(shot.as_json())
            encoded.append(time.thread_time_ns() - then)
            took.append(then - began)
    return {
        "look": statistics.median(took) / 1000,
        "as JSON": statistics.median(encoded) / 1000,
        "size": len(body) / 1000,
    }


def main() -> None:
    calls = hot_paths()
    without = measure(calls)
    with Dashboard(period=1.0) as dashboard:
        dashboard.snapshot()
        beside = measure(calls)
    after = measure(calls)
    print("\n### One call, with and without a dashboard\n")
    print("| | without | with | after it was closed |")
    print("|---|---:|---:|---:|")
    for name in calls:
        print(
            f"| {name} | {without[name]:,.0f} ns | {beside[name]:,.0f} ns | {after[name]:,.0f} ns |"
        )
    for count in (10, 100):
        table(f"One look at {count} limiters", looks(count), base="look", unit="us, or kB")


if __name__ == "__main__":
    main()
