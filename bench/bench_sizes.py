"""Memory of what services have many of: keys, subscribers, series, endpoints, records in queues.

usage: bench_sizes.py    the numbers of docs/operations.md
"""

from __future__ import annotations

import gc
import tracemalloc

from hastack import events, ratelimit
from hastack.discovery import Instance, balance
from hastack.observe import instruments


def grown(make, count):
    """Bytes that each of ``count`` things takes: what ``make(number)`` leaves behind."""
    gc.collect()
    tracemalloc.start()
    kept = [make(number) for number in range(count)]
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size / count


def keyed(limiter):
    return lambda number: limiter.try_acquire(key=f"client-{number:08}") and None


def resolved(count):
    """A balancer with so many instances."""
    orders = balance.Balancer("orders")
    orders.update(
        [
            Instance(
                service="orders", id=f"o{n}", address=f"10.0.{n // 250}.{n % 250}:80", zone="a"
            )
            for n in range(count)
        ]
    )
    return orders


def rows():
    many = 100_000
    yield (
        "key of a token bucket",
        grown(keyed(ratelimit.TokenBucket("1/day", key=str, max_keys=many)), many),
    )
    for name in ("FixedWindow", "SlidingWindowCounter"):
        limiter = getattr(ratelimit, name)("100/min", key=str, max_keys=many)
        yield f"key of a {name}", grown(keyed(limiter), many)
    log = ratelimit.SlidingWindowLog("100/min", key=str, max_keys=many)
    yield "key of a SlidingWindowLog, one call in it", grown(keyed(log), many)
    limit = ratelimit.ConcurrencyLimit(1, key=str, max_keys=many)
    yield (
        "key of a ConcurrencyLimit, in use",
        grown(
            lambda number: limit.try_acquire(key=f"client-{number:08}"),
            10_000,
        ),
    )
    yield (
        "circuit breaker, default window",
        grown(lambda number: ratelimit.CircuitBreaker(name=f"b{number}"), 1_000),
    )
    yield "adaptive limit", grown(lambda number: ratelimit.AdaptiveLimit(name=f"a{number}"), 1_000)
    yield "subscription to events", grown(lambda _number: events.subscribe(lambda _: None), 1_000)
    counter = instruments.Metrics(limit=200_000).meter("m").counter("c")
    yield (
        "series of a counter",
        grown(lambda number: counter.bind({"k": str(number)}).add(), 10_000),
    )
    histogram = instruments.Metrics(limit=200_000).meter("m").histogram("h")
    yield (
        "series of a histogram",
        grown(lambda number: histogram.bind({"k": str(number)}).record(0.1), 10_000),
    )
    yield "instance known to a balancer", grown(lambda _: resolved(1_000), 1) / 1_000


if __name__ == "__main__":
    print(f"{'what':44} bytes")
    for what, size in rows():
        print(f"{what:44} {size:,.0f}")
