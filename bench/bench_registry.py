"""How long until everybody has heard of a change, and what resolving costs.

usage: python bench/bench_registry.py [STORE_URL]

STORE_URL is ``memory://bench`` unless given; an etcd is not started here.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import sys
import time

from harness import ns_per_call, table

from hastack import discovery
from hastack.discovery import Instance
from hastack.discovery._layout import InstanceKey

CHANGES = 300
PACE = 0.02  # seconds between two changes


def percentiles(values):
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1e3 for q in (0.5, 0.99, 1.0)]


async def fan_out(url, subscribers, *, callbacks=False):
    """Seconds from sending a put until each subscriber has the change."""
    sent, lags = {}, []
    service = f"fan-{subscribers}-{callbacks}"
    async with discovery.connect(url) as reg, reg.register(service, "a:1", grace=0.0) as one:

        def note(instance):
            at = sent.get(instance.weight)
            if at is not None:
                lags.append(time.perf_counter() - at)

        async def follow():
            async with reg.watch(service) as feed:
                async for change in feed:
                    note(change.instance)
                    if change.instance.weight == CHANGES + 1:
                        return

        if callbacks:
            stops = [
                reg.subscribe(service, lambda found: [note(each) for each in found])
                for _ in range(subscribers)
            ]
        else:
            tasks = [asyncio.create_task(follow()) for _ in range(subscribers)]
        await reg.resolve_async(service)
        await asyncio.sleep(0.5)
        for n in range(2, CHANGES + 2):
            sent[float(n)] = time.perf_counter()
            one.update(weight=float(n))
            await asyncio.sleep(PACE)
        if callbacks:
            await asyncio.sleep(0.5)
            for stop in stops:
                stop()
        else:
            await asyncio.gather(*tasks)
    return lags


async def dead_subscriber(url, changes):
    """Bytes by which the process grows while somebody never takes what is told."""
    async with (
        discovery.connect(url) as reg,
        reg.watch("dead") as feed,
        reg.register("dead", "a:1", grace=0.0) as one,
    ):
        await feed.next_batch()
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for n in range(changes):
            one.update(weight=float(n + 2))
            if n % 50 == 0:
                await one.update(weight=float(n + 2))
        await one.update(weight=1.5)
        feed._read()
        pending = len(feed._pending)
    return pending, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


async def resolving(url):
    rows = {}
    async with discovery.connect(url) as reg:
        for count in (10, 10_000):
            service = f"resolve-{count}"
            for n in range(count):
                key = InstanceKey("reg", "local", "default", service, f"i{n:05}")
                value = Instance(service=service, id=f"i{n:05}", address=f"h{n}:80")
                await reg.store.put(key.to_bytes(), value.to_bytes())
            began = time.perf_counter()
            await reg.resolve_async(service)
            first = time.perf_counter() - began
            print(f"first resolve of {count} instances: {first * 1e3:.1f} ms")
            rows[f"resolve, {count} instances"] = ns_per_call(lambda s=service: reg.resolve(s))
            changed = Instance(service=service, id="i00005", address="elsewhere:80")
            key = InstanceKey("reg", "local", "default", service, "i00005").to_bytes()
            took = []
            for n in range(20):
                seen = asyncio.Event()
                loop = asyncio.get_running_loop()
                address = f"elsewhere:{n}"

                def told(found, seen=seen, loop=loop, address=address):
                    if found[5].address == address:
                        loop.call_soon_threadsafe(seen.set)

                stop = reg.subscribe(service, told)
                await asyncio.sleep(0.01)
                began = time.perf_counter()
                value = Instance(service=service, id=changed.id, address=address)
                await reg.store.put(key, value.to_bytes())
                await seen.wait()
                took.append(time.perf_counter() - began)
                stop()
            print(f"put to callback, {count} instances: {statistics.median(took) * 1e3:.2f} ms")
            await reg.store.delete(b"/hs/1/reg/local/default/" + service.encode(), prefix=True)
    rows["dict lookup"] = ns_per_call(lambda: {"a": 1}.get("a"))
    table("resolve, known", rows, base="resolve, 10 instances")


def main(url):
    print(f"### Put to change, {CHANGES} changes {PACE * 1e3:.0f} ms apart, {url}\n")
    print("| subscribers | p50 ms | p99 ms | max ms | heard |")
    print("|---|---|---|---|---|")
    for count, callbacks in ((1, False), (100, False), (1000, False), (1, True), (1000, True)):
        lags = asyncio.run(fan_out(url, count, callbacks=callbacks))
        p50, p99, worst = percentiles(lags)
        kind = "callbacks" if callbacks else "tasks"
        print(f"| {count} {kind} | {p50:.2f} | {p99:.2f} | {worst:.2f} | {len(lags)} |")
    pending, grown = asyncio.run(dead_subscriber(url, 20_000))
    print(
        f"\ndead subscriber, 20000 changes: {pending} pending, {grown:.1f} MiB more at the peak\n"
    )
    asyncio.run(resolving(url))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://bench")
