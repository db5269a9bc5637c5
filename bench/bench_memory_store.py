"""The embedded store: calls and watches in one process and between two.

usage: bench_memory_store.py [--seconds 1.0]

Prints calls per second (and microseconds per call), and for watches events handed over per second.
"between processes" is a client of a store that another process owns.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

import attrs

from hastack.discovery import Batch, Compare, KeyValue, Put, WatchEvent, memory
from hastack.discovery._memory_wire import Frames, decode, encode

OWNER = """
import asyncio, sys
from hastack.discovery import memory
async def main():
    await memory.connect("memory://" + sys.argv[1]).identity()
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def line(what, count, seconds, unit="calls"):
    each = seconds / count * 1e6
    print(f"  {what:<44} {count / seconds:>10,.0f} {unit}/s {each:>8.1f} us")


async def rate(what, call, seconds, at_once=1):
    """Call as often as possible, from ``at_once`` tasks."""
    end = time.perf_counter() + seconds
    counts = [0] * at_once

    async def work(n):
        while time.perf_counter() < end:
            await call(counts[n])
            counts[n] += 1

    began = time.perf_counter()
    await asyncio.gather(*map(work, range(at_once)))
    line(what, sum(counts), time.perf_counter() - began)


async def calls(store, seconds):
    for n in range(10_000):
        await store.put(f"fill/{n:05}", "x" * 100)
    await store.put("a", "x" * 100)
    await rate("get", lambda _: store.get("a"), seconds)
    await rate("put, the same key", lambda n: store.put("a", b"%d" % n), seconds)
    await rate("put, new keys", lambda n: store.put(f"new/{n}", "x" * 100), seconds)
    await rate(
        "range of 100 of 10,000 keys", lambda _: store.range("fill/000", prefix=True), seconds
    )

    async def txn(n):
        await store.txn([Compare.present("a")], [Put("b", b"%d" % n), Put("c", "")])

    await rate("txn of 1 condition, 2 puts", txn, seconds)
    await rate("put, 64 tasks at once", lambda n: store.put("a", b"%d" % n), seconds, 64)


async def fan_out(store, watchers, puts):
    """Puts to one key that ``watchers`` watch; every one gets every change."""

    async def follow(watch):
        seen = 0
        while seen < puts:
            seen += len((await anext(watch)).events)

    watches = [store.watch("fan/", prefix=True) for _ in range(watchers)]
    for watch in watches:
        await watch.__aenter__()
        await anext(watch)
    tasks = [asyncio.create_task(follow(watch)) for watch in watches]
    began = time.perf_counter()
    for n in range(puts):
        await store.put("fan/key", b"%d" % n)
    await asyncio.gather(*tasks)
    line(
        f"{puts} puts to {watchers} watches", puts * watchers, time.perf_counter() - began, "events"
    )
    for watch in watches:
        await watch.__aexit__(None, None, None)


async def latency(store, count):
    """From the begin of a put to the subscriber."""
    found = []
    async with store.watch("lat") as watch:
        await anext(watch)
        for n in range(count):
            began = time.perf_counter()
            await store.put("lat", b"%d" % n)
            await anext(watch)
            found.append((time.perf_counter() - began) * 1e6)
    cut = quantiles(found, n=100)
    print(f"  {'put to subscriber':<44} p50 {cut[49]:,.0f} us, p99 {cut[98]:,.0f} us")


def wire():
    """Encoding and decoding a batch, against JSON with base64."""
    kvs = [KeyValue(b"/hs/1/reg/a/b/c/%d" % n, b"x" * 100, n, n, 1, 7) for n in range(1000)]
    batch = Batch([WatchEvent("put", kv) for kv in kvs], 5)

    def ours():
        (frame,) = Frames(1 << 30).feed(encode(1, batch))
        return decode(frame)

    def text():
        rows = [
            (
                event.kind,
                base64.b64encode(event.kv.key).decode(),
                base64.b64encode(event.kv.value).decode(),
                *attrs.astuple(event.kv)[2:],
            )
            for event in batch.events
        ]
        return [
            WatchEvent(kind, KeyValue(base64.b64decode(key), base64.b64decode(value), *others))
            for kind, key, value, *others in json.loads(json.dumps(rows))
        ]

    for what, both in (("as it is", ours), ("as JSON with base64", text)):
        times = []
        for _ in range(20):
            began = time.perf_counter()
            both()
            times.append(time.perf_counter() - began)
        line(f"events over the wire, {what}", 1000, min(times), "events")


async def one_process(seconds):
    print("in one process")
    store = memory.Store()
    await calls(store, seconds)
    await fan_out(store, 1000, 200)
    await latency(store, 2000)
    blocking = memory.Store().sync
    began, count = time.perf_counter(), 50_000
    for n in range(count):
        blocking.put("a", b"%d" % n)
    line("put, blocking face", count, time.perf_counter() - began)


async def two_processes(path, seconds):
    print("between processes")
    async with memory.connect(f"memory://{path}") as store:
        await calls(store, seconds)
        await fan_out(store, 100, 200)
        await latency(store, 1000)


def main(seconds):
    asyncio.run(one_process(seconds))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store"
        owner = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdout=subprocess.PIPE)
        try:
            owner.stdout.readline()
            asyncio.run(two_processes(path, seconds))
        finally:
            owner.kill()
            owner.wait()
    print("encoding")
    wire()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    main(parser.parse_args().seconds)
