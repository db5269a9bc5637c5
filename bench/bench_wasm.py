"""Plugins: what a call costs beside wasmtime-py and Extism, and how late a deadline is.

usage: python bench/bench_wasm.py [--quick]

The guests are built from tests/guests by clang and lld. Extism is left out when it is not installed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from harness import cpu_ns_per_call, table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import wasmtime
from wasm_guests import guest

from hastack import wasm
from hastack.errors import GuestDeadline

QUICK = "--quick" in sys.argv
NUMBER = 200 if QUICK else 1_000
BEST = "processor time of the fastest of 25 rounds"
LONG = wasm.Limits(deadline=5.0)


def calls() -> None:
    """One call of add(i32, i32) with every limit on."""
    plugin = wasm.load(guest("kit.c"), trust=wasm.Unsigned(), limits=LONG)
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_fuel(1 << 60)
    store.set_epoch_deadline(1 << 40)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, guest("kit.c")), [])
    add = instance.exports(store)["add"]
    call = plugin.call
    rows = {
        "hastack": cpu_ns_per_call(lambda: call("add", 2, 3), number=NUMBER * 4),
        "wasmtime-py": cpu_ns_per_call(lambda: add(store, 2, 3), number=NUMBER),
    }
    table("A call of add(i32, i32)", rows, base="hastack", what=BEST)


def echo() -> None:
    """An Extism plug-in that copies its input to its output."""
    plugin = wasm.load(guest("plugin.c"), trust=wasm.Unsigned(), limits=LONG)
    try:
        import extism
    except ImportError:
        extism = None
    for length in (11, 1_000, 64_000):
        data = b"x" * length
        number = NUMBER if length < 10_000 else NUMBER // 10
        rows = {"hastack": cpu_ns_per_call(partial(plugin.call, "echo", data), number=number)}
        if extism is not None:
            theirs = extism.Plugin({"wasm": [{"data": guest("plugin.c")}]}, functions=[])
            rows["extism"] = cpu_ns_per_call(partial(theirs.call, "echo", data), number=number)
        table(f"Extism echo, {length:,} bytes", rows, base="hastack", what=BEST)


def policy() -> None:
    """A decision over a request, and what it takes with an instance for each."""
    requests = [(b"GET", b"/orders/%d" % n) for n in range(1000)]
    kept = wasm.load(guest("policy.c"), trust=wasm.Unsigned(), limits=LONG)
    fresh = wasm.load(guest("policy.c"), trust=wasm.Unsigned(), limits=LONG, fresh=True)
    plain = wasm.load(guest("kit.c"), trust=wasm.Unsigned(), limits=LONG, fresh=True)
    batch = cpu_ns_per_call(
        lambda: kept.call_many("on_http_request", requests), number=NUMBER // 50
    )
    rows = {
        "in a batch of 1,000": batch / 1000,
        "one call": cpu_ns_per_call(lambda: kept.allow(b"GET", b"/orders/1"), number=NUMBER),
        "fresh instance, two strings": cpu_ns_per_call(
            lambda: fresh.allow(b"GET", b"/orders/1"), number=NUMBER // 5
        ),
        "fresh instance, add(i32, i32)": cpu_ns_per_call(
            lambda: plain.call("add", 2, 3), number=NUMBER // 5
        ),
    }
    table("A decision", rows, base="one call", what=BEST)


def loading() -> None:
    """A signed module of 1 MiB that is in the cache."""
    body = "".join(f"(i32.store offset={n} (local.get 0) (i32.const {n}))" for n in range(150))
    functions = "".join(f"(func (param i32) {body})" for n in range(1_060))
    key = wasm.PrivateKey.generate()
    module = wasm.wat(f'(module (memory (export "memory") 1) (export "f" (func 0)) {functions})')
    signed = wasm.sign(wasm.with_manifest(module, name="plugin", svn=1), key)
    trust = wasm.Trust([wasm.Signer(key.public, "ada")])
    limits = wasm.Limits(deadline=5.0, compile_seconds=60.0)
    with tempfile.TemporaryDirectory() as folder:
        cache = wasm.Cache(folder)

        def load() -> None:
            wasm.load(signed, trust=trust, limits=limits, cache=cache).close()

        begun = time.perf_counter()
        load()
        first = time.perf_counter() - begun
        rows = {
            "verify, admit, load from the cache": cpu_ns_per_call(
                load, number=1, rounds=60, clock=time.perf_counter_ns
            )
            / 1e6,
            "the first time, compiled": first * 1e3,
            "verify alone": cpu_ns_per_call(lambda: trust.verify(signed, name="plugin"), number=5)
            / 1e6,
        }
        name = f"A signed module of {len(signed) / (1 << 20):.2f} MiB"
        table(
            name,
            rows,
            base="verify, admit, load from the cache",
            unit="ms",
            what="the fastest of 60",
        )


def deadlines() -> None:
    """A deadline of 50 ms on an endless loop, with two threads that hold the interpreter."""
    count = 20 if QUICK else 100
    plugin = wasm.load(guest("kit.c"), trust=wasm.Unsigned(), limits=wasm.Limits(deadline=0.05))
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            pass

    def run() -> list[float]:
        lags = []
        for _ in range(count):
            begun = time.perf_counter()
            try:
                plugin.call("spin")
            except GuestDeadline:
                lags.append((time.perf_counter() - begun) * 1e3)
        return lags

    idle = run()
    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    loaded = run()
    stop.set()
    for thread in threads:
        thread.join()
    print(f"\n### A deadline of 50 ms on an endless loop, {count} times\n")
    print("| | median ms | worst ms |\n|---|---|---|")
    for name, lags in (("nothing else runs", idle), ("two busy threads", loaded)):
        print(f"| {name} | {statistics.median(lags):.1f} | {max(lags):.1f} |")


async def beside_a_loop() -> None:
    """How late a task is that sleeps 1 ms at a time, beside an endless guest."""
    limits = wasm.Limits(deadline=0.5 if QUICK else 3.0)
    plugin = wasm.load(guest("kit.c"), trust=wasm.Unsigned(), limits=limits)
    lags = []

    async def other() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append((time.perf_counter() - begun - 0.001) * 1e3)

    task = asyncio.create_task(other())
    try:
        await plugin.call_async("spin")
    except GuestDeadline:
        pass
    task.cancel()
    lags.sort()
    print("\n### Lag of an event loop beside an endless guest\n")
    print(f"median {statistics.median(lags):.2f} ms, worst {lags[-1]:.2f} ms of {len(lags)} turns")


if __name__ == "__main__":
    calls()
    echo()
    policy()
    loading()
    deadlines()
    asyncio.run(beside_a_loop())
