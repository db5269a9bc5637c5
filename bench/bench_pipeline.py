"""Cost of a whole pipeline around a call that succeeds, beside its peer in the same process.

Run: ``PYTHONPATH=src python bench/bench_pipeline.py``

The peer's retry strategy needs tenacity, and its timeout is for coroutine functions only, so its
pipelines have fewer policies than ours; the rows say which.
"""

from __future__ import annotations

import asyncio
import time

from harness import ns_per_await, ns_per_call, table

from hastack.ratelimit import (
    Admission,
    CircuitBreaker,
    Fallback,
    Guard,
    Hedge,
    Retry,
    RetryBudget,
    Timeout,
    TokenBucket,
    compose,
)

try:
    from hastack.ratelimit import AdaptiveLimit
except ImportError:
    AdaptiveLimit = None


def work() -> None:
    pass


async def work_async() -> None:
    pass


class Nothing(Admission):
    """An admission that costs nothing itself: what remains is the plan."""

    name = "nothing"
    _settles = True

    def _admit(self, now, args, kwargs):
        return None

    def _settle(self, permit, now, error, result):
        pass


def guards() -> dict[str, Guard]:
    return {
        "fallback": Fallback(value=None),
        "retry": Retry(3),
        "retry + budget": Retry(3, budget=RetryBudget()),
        "breaker": CircuitBreaker(failure_rate=0.5, window=10.0, min_calls=20, slow_call=1.0),
        "adaptive": AdaptiveLimit() if AdaptiveLimit else Nothing(),
        "rate": TokenBucket("1000000000/s", burst=1_000_000_000),
        "timeout": Timeout(30.0),
    }


def six() -> Guard:
    made = guards()
    del made["retry"]
    return compose(*made.values())


def chained(made: list[Guard], fn):
    """The same guards, one decorator on the other: what the flat plan saves."""
    for guard in reversed(made):
        fn = guard(fn)
    return fn


def peer_pipelines():
    try:
        import interlock
    except ImportError:
        print("interlock-cb is not installed")
        return None, None
    breaker = interlock.CircuitBreaker(name="peer")
    three = interlock.Pipeline.builder().fallback(lambda _: None).circuit_breaker(breaker)
    four = interlock.Pipeline.builder().fallback(lambda _: None).circuit_breaker(breaker)
    return three.bulkhead(8).build(), four.bulkhead(8).timeout(30.0).build()


def ours_like_peer() -> tuple[Guard, Guard]:
    made = guards()
    three = [made["fallback"], made["breaker"], made["adaptive"]]
    return compose(*three), compose(*three, made["timeout"])


def sync_rows() -> dict[str, float]:
    rows = {"empty call": ns_per_call(work)}
    rows["3 x nothing, flat plan"] = ns_per_call(compose(Nothing(), Nothing(), Nothing())(work))
    for name, guard in guards().items():
        rows[name] = ns_per_call(guard(work))
    adaptive = "adaptive" if AdaptiveLimit else "(stand-in for adaptive)"
    rows[f"6: fallback > retry+budget > breaker > {adaptive} > rate > timeout"] = ns_per_call(
        six()(work)
    )
    made = guards()
    del made["retry"]
    rows["the same 6, one decorator on the other"] = ns_per_call(chained([*made.values()], work))
    three, _ = ours_like_peer()
    rows["3: fallback > breaker > adaptive"] = ns_per_call(three(work))
    peer, _ = peer_pipelines()
    if peer is not None:
        rows["interlock-cb 3: fallback > breaker > bulkhead"] = ns_per_call(peer(work))
    return rows


async def async_rows() -> dict[str, float]:
    rows = {"empty await": await ns_per_await(work_async)}
    for name, guard in guards().items():
        rows[name] = await ns_per_await(guard(work_async))
    adaptive = "adaptive" if AdaptiveLimit else "(stand-in for adaptive)"
    rows[
        f"6: fallback > retry+budget > breaker > {adaptive} > rate > timeout"
    ] = await ns_per_await(six()(work_async))
    _, four = ours_like_peer()
    rows["4: fallback > breaker > adaptive > timeout"] = await ns_per_await(four(work_async))
    _, peer = peer_pipelines()
    if peer is not None:
        rows["interlock-cb 4: fallback > breaker > bulkhead > timeout"] = await ns_per_await(
            peer(work_async)
        )
    hedge = Hedge(30.0)(work_async)
    rows["hedge that needs no second attempt"] = await ns_per_await(hedge, number=2_000)

    async def bare_timeout() -> None:
        async with asyncio.timeout(30.0):
            await work_async()

    rows["asyncio.timeout alone"] = await ns_per_await(bare_timeout)
    return rows


def main() -> None:
    start = time.perf_counter()
    table("Guarded call, sync", sync_rows(), base="empty call")
    table("Guarded call, async", asyncio.run(async_rows()), base="empty await")
    hedge = Hedge(30.0)(work)
    print(f"\nhedge on threads: {ns_per_call(hedge, number=500, rounds=5):,.0f} ns per call")
    print(f"({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
