"""What a scope costs that nothing happens to, beside asyncio's and AnyIO's.

Run as ``python bench/bench_context.py``.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import statistics
import time

import anyio
from harness import ns_per_call, table

from hastack import context
from hastack.contrib.anyio import fail_after

VARIABLE = contextvars.ContextVar("variable", default=None)


def bare():
    token = VARIABLE.set(None)
    VARIABLE.reset(token)


def sync_timeout():
    with context.timeout(10.0):
        pass


def sync_nested():
    with context.timeout(10.0), context.timeout(5.0):
        pass


def sync_cancel():
    with context.with_cancel():
        pass


def sync_value():
    with context.with_value("key", 1):
        pass


async def empty_scopes(make, *, is_async, number=2000, rounds=11):
    """Median cost of entering and leaving; cancelled timers are swept between the rounds."""
    costs = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        start = time.perf_counter_ns()
        if is_async:
            for _ in range(number):
                async with make(10.0):
                    pass
        else:
            for _ in range(number):
                with make(10.0):
                    pass
        costs.append((time.perf_counter_ns() - start) / number)
        gc.enable()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return statistics.median(costs)


async def async_rows():
    rows = {
        "asyncio.timeout": await empty_scopes(asyncio.timeout, is_async=True),
        "context.timeout": await empty_scopes(context.timeout, is_async=True),
        "context.with_cancel": await empty_scopes(lambda _: context.with_cancel(), is_async=True),
        "anyio.fail_after": await empty_scopes(anyio.fail_after, is_async=False),
        "contrib.anyio.fail_after": await empty_scopes(fail_after, is_async=False),
    }
    async with context.timeout(60.0):
        rows["context.timeout in a shorter one"] = await empty_scopes(
            lambda _: context.timeout(90.0), is_async=True
        )
    return rows


def cancel_many(number=100_000):
    """Milliseconds to make, watch and cancel ``number`` contexts below one root."""
    root = context.with_cancel()
    start = time.perf_counter()
    children = [context.with_cancel(root) for _ in range(number)]
    made = time.perf_counter()
    for child in children:
        child.after_func(bool)
    watched = time.perf_counter()
    root.cancel()
    done = time.perf_counter()
    return {
        "make": (made - start) * 1e3,
        "after_func on each": (watched - made) * 1e3,
        "cancel the root": (done - watched) * 1e3,
    }


def main():
    ctx = context.timeout(60.0)
    deep = ctx
    for _ in range(5):
        deep = context.with_cancel(deep)
    rows = {
        "ContextVar set + reset": ns_per_call(bare),
        "current()": ns_per_call(context.current),
        "ctx.check(), with deadline": ns_per_call(ctx.check),
        "ctx.check(), 6 deep": ns_per_call(deep.check),
        "ctx.remaining()": ns_per_call(ctx.remaining),
        "with with_cancel()": ns_per_call(sync_cancel),
        "with timeout(10)": ns_per_call(sync_timeout),
        "with timeout, timeout": ns_per_call(sync_nested),
        "with with_value(...)": ns_per_call(sync_value),
    }
    table("context: sync", rows, base="ContextVar set + reset")
    table("context: one empty async scope", asyncio.run(async_rows()), base="asyncio.timeout")
    table("context: 100,000 children", cancel_many(), base="make", unit="ms")


if __name__ == "__main__":
    main()
