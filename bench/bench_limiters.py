"""Cost of one decision: hastack's limiters beside their peers, in one process.

    python bench/bench_limiters.py            # all tables
    HASTACK_PURE=1 python bench/bench_limiters.py   # the pure decision modules of a compiled build

Every peer is asked for one keyed decision from memory storage. Peers that are not installed are
left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from harness import ns_per_await, ns_per_call, table

from hastack._core._accel import report
from hastack.ratelimit import (
    AllOf,
    ConcurrencyLimit,
    FixedWindow,
    LeakyBucket,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)

PLENTY = 1_000_000_000
BASE = "hastack TokenBucket"


def measure(calls: dict[str, Any]) -> dict[str, float]:
    empty = ns_per_call(lambda: None)
    # The fastest of three: what another process takes from us is not our cost.
    return {
        name: min(ns_per_call(call, rounds=5) for _ in range(3)) - empty
        for name, call in calls.items()
    }


def peers(limit: int) -> dict[str, Any]:
    calls: dict[str, Any] = {}
    with contextlib.suppress(ImportError):
        import limits

        storage = limits.storage.MemoryStorage()
        item = limits.RateLimitItemPerHour(limit)
        for strategy in ("FixedWindow", "MovingWindow", "SlidingWindowCounter"):
            limiter = getattr(limits.strategies, f"{strategy}RateLimiter")(storage)
            calls[f"limits {strategy}"] = lambda hit=limiter.hit: hit(item, "ada")
    with contextlib.suppress(ImportError):
        from throttled import Throttled, rate_limiter, store

        for algorithm in ("fixed_window", "token_bucket", "gcra"):
            throttled = Throttled(
                key="ada",
                using=algorithm,
                quota=rate_limiter.per_hour(limit, burst=limit),
                store=store.MemoryStore(),
            )
            calls[f"throttled-py {algorithm}"] = lambda ask=throttled.limit: ask("ada")
    with contextlib.suppress(ImportError):
        from pyrate_limiter import Duration, Limiter, Rate

        pyrate = Limiter(Rate(limit, Duration.HOUR))
        calls["pyrate-limiter"] = lambda: pyrate.try_acquire("ada", blocking=False)
    with contextlib.suppress(ImportError):
        from rust_py_rate_limit import RateLimiter

        rust = RateLimiter(limit=limit, window_seconds=3600)
        calls["rust-py-rate-limit allow"] = lambda ask=rust.allow: ask("ada")
        calls["rust-py-rate-limit check"] = lambda ask=rust.check: ask("ada")
    return calls


def admit() -> None:
    bucket = TokenBucket(f"{PLENTY}/s")
    log = SlidingWindowLog(100, window=0.001)
    both = AllOf(TokenBucket(f"{PLENTY}/s"), TokenBucket(f"{PLENTY}/s"))
    counter, fixed = SlidingWindowCounter(PLENTY), FixedWindow(PLENTY)
    rows = measure(
        {
            "time.monotonic": time.monotonic,
            BASE: lambda ask=bucket.try_acquire: ask("ada"),
            "hastack FixedWindow": lambda ask=fixed.try_acquire: ask("ada"),
            "hastack SlidingWindowCounter": lambda ask=counter.try_acquire: ask("ada"),
            "hastack SlidingWindowLog": lambda ask=log.try_acquire: ask("ada"),
            "hastack AllOf(two)": lambda ask=both.try_acquire: ask("ada"),
            **peers(PLENTY),
        }
    )
    table("One keyed decision, allowed", rows, base=BASE)


def deny() -> None:
    bucket, changed = TokenBucket("1/h", burst=1), TokenBucket("1/h", burst=1)
    changed.update(rate="1/day")
    leaky, fixed = LeakyBucket("1/h"), FixedWindow("1/h")
    for limiter in (bucket, leaky, fixed, changed):
        limiter.try_acquire("ada")
    others = peers(1)
    for call in others.values():
        call()
    rows = measure(
        {
            BASE: lambda ask=bucket.try_acquire: ask("ada"),
            "hastack TokenBucket, changed live": lambda ask=changed.try_acquire: ask("ada"),
            "hastack FixedWindow": lambda ask=fixed.try_acquire: ask("ada"),
            "hastack LeakyBucket": lambda ask=leaky.try_acquire: ask("ada"),
            **others,
        }
    )
    table("One keyed decision, refused", rows, base=BASE)


def spread() -> None:
    """A million keys seen once each, and a hundred thousand that come back."""
    bucket = TokenBucket("10/s", burst=10, max_keys=100_000)
    keys = iter(range(10**9))
    once = ns_per_call(lambda: bucket.try_acquire(next(keys)), number=100_000, rounds=5)
    known = TokenBucket("10/s", burst=10)
    names = [f"user-{n}" for n in range(50_000)]
    for name in names:
        known.try_acquire(name)
    turn = iter(names * 100)
    again = ns_per_call(lambda: known.try_acquire(next(turn)), number=50_000, rounds=5)
    table(
        "Many keys, with the cost of counting them",
        {BASE: again, "a new key every time": once},
        base=BASE,
    )


def guards() -> None:
    bucket = TokenBucket(f"{PLENTY}/s", key=lambda user: user)
    bulkhead = ConcurrencyLimit(10)
    limited = bucket(lambda user: user)
    inside = bulkhead(lambda user: user)
    rows = measure(
        {
            "plain call": lambda f=lambda user: user: f("ada"),
            BASE: lambda: limited("ada"),
            "hastack ConcurrencyLimit": lambda: inside("ada"),
        }
    )
    table("A decorated function, with a key function", rows, base=BASE)


async def awaiting() -> None:
    bucket = TokenBucket(f"{PLENTY}/s")

    async def nothing() -> None:
        return None

    rows = {
        "await of nothing": await ns_per_await(nothing),
        BASE: await ns_per_await(bucket.acquire_async),
        f"{BASE}, keyed": await ns_per_await(lambda: bucket.acquire_async("ada")),
    }
    with contextlib.suppress(ImportError):
        from aiolimiter import AsyncLimiter

        peer = AsyncLimiter(PLENTY, 1)
        rows["aiolimiter"] = await ns_per_await(peer.acquire)
    table("await acquire_async(), nobody else waiting", rows, base=BASE)


if __name__ == "__main__":
    kinds = {kind for name, kind in report().items() if "ratelimit" in name}
    print(f"Decision modules: {', '.join(sorted(kinds))}.")
    admit()
    deny()
    spread()
    guards()
    asyncio.run(awaiting())
