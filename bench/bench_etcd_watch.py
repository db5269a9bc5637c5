"""hastack's watches beside those of other etcd clients: rate, latency, memory.

    python bench/bench_etcd_watch.py [name ...]     # only the clients whose name has one of the words

The peers cannot share a process (see bench_etcd.py), so each client has one of its own and they
take turns on one server, etcd 3.5 without fsync where there is one. What is measured:

- rate: changes per second from an old revision on, 20,000 changes of 100 bytes, 10 to a revision;
  and the time on the client's processor for each;
- latency: from before a put, in another process, to its arrival, 100 puts per second;
- memory: what 200 watches of one key each add to the process, and what they add in threads;
- fan-out (hastack alone can): 1,000 subscribers of one range, from before a put to each of them.

A figure is the median over the rounds. The processes share the machine's processors.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]

ROUNDS = 5
CHANGES, PER_REVISION, SIZE = 20_000, 10, 100
PUTS = 200
WATCHES = 200
SUBSCRIBERS = 1000
BASE = "hastack"


# Clients: `open`, `follow(prefix, start)` iterates over lists of values, `many(keys)` watches each.


class Hastack:
    def __init__(self, endpoint: str) -> None:
        from hastack.discovery import etcd

        self.client = etcd.Client(endpoint, timeout=30.0)

    async def open(self) -> None:
        # What the others do when they are imported and connected.
        async with self.client.watch("begin") as watch:
            await anext(watch)

    async def follow(self, prefix: str, start: int | None):
        async with self.client.watch(prefix, prefix=True, start_revision=start) as watch:
            async for batch in watch:
                yield [event.kv.value for event in batch.events]

    async def many(self, keys: list[str]) -> None:
        for key in keys:
            watch = await self.client.watch(key).__aenter__()
            await anext(watch)

    async def fan_out(self, prefix: str, count: int, arrived: list[int], put: list[int]) -> None:
        async def one(first: bool) -> None:
            async with self.client.watch(prefix, prefix=True) as watch:
                await anext(watch)
                await ready.wait()
                async for batch in watch:
                    arrived.append(now())  # numbers only: nothing for the garbage collector
                    if first:
                        put.append(int(batch.events[0].kv.value))

        now = time.monotonic_ns
        ready = asyncio.Barrier(count + 1)
        self.tasks = [asyncio.create_task(one(not n)) for n in range(count)]
        await ready.wait()


class Aetcd:
    def __init__(self, endpoint: str) -> None:
        import aetcd

        host, _, port = endpoint.rpartition(":")
        self.client = aetcd.Client(host, int(port))

    async def open(self) -> None:
        await self.client.connect()

    async def follow(self, prefix: str, start: int | None):
        async for event in await self.client.watch_prefix(prefix.encode(), start_revision=start):
            yield [event.kv.value]

    async def many(self, keys: list[str]) -> None:
        self.watches = [await self.client.watch(key.encode()) for key in keys]


class Etcd3aio:
    def __init__(self, endpoint: str) -> None:
        import etcd3aio

        self.client = etcd3aio.Etcd3Client([endpoint])

    async def open(self) -> None:
        await self.client.connect()

    async def follow(self, prefix: str, start: int | None):
        from etcd3aio.kv import prefix_range_end

        end = prefix_range_end(prefix.encode())
        async for answer in self.client.watch.watch(
            prefix, range_end=end, start_revision=start or 0
        ):
            yield [event.kv.value for event in answer.events]

    async def many(self, keys: list[str]) -> None:
        async def one(key: str) -> None:
            async for _ in self.client.watch.watch(key):
                begun.release()

        begun = asyncio.Semaphore(0)
        self.tasks = [asyncio.create_task(one(key)) for key in keys]
        for _ in keys:
            await begun.acquire()


class Etcetra:
    def __init__(self, endpoint: str) -> None:
        import etcetra

        host, _, port = endpoint.rpartition(":")
        self.connection = etcetra.EtcdClient(etcetra.HostPortPair(host, int(port))).connect()

    async def open(self) -> None:
        self.client = await self.connection.__aenter__()

    async def follow(self, prefix: str, start: int | None):
        async for event in self.client.watch_prefix(prefix, start_revision=start):
            yield [event.value.encode()]

    async def many(self, keys: list[str]) -> None:
        async def one(key: str, ready: asyncio.Event) -> None:
            async for _ in self.client.watch(key, ready_event=ready):
                pass

        events = [asyncio.Event() for _ in keys]
        self.tasks = [asyncio.create_task(one(*each)) for each in zip(keys, events, strict=True)]
        for event in events:
            await event.wait()


class Etcd3gw:
    """Blocking: a connection and a thread for each watch."""

    def __init__(self, endpoint: str) -> None:
        import etcd3gw

        host, _, port = endpoint.rpartition(":")
        self.client = etcd3gw.client(host, int(port), api_path="/v3/")

    async def open(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def follow(self, prefix: str, start: int | None):
        queue: asyncio.Queue[list[bytes]] = asyncio.Queue()
        options = {} if start is None else {"start_revision": start}
        events, _ = self.client.watch_prefix(prefix, **options)

        def read() -> None:
            for event in events:
                value = event["kv"]["value"]
                self.loop.call_soon_threadsafe(queue.put_nowait, [value])

        threading.Thread(target=read, daemon=True).start()
        while True:
            yield await queue.get()

    async def many(self, keys: list[str]) -> None:
        self.watches = [self.client.watch(key) for key in keys]
        await asyncio.sleep(1.0)


CLIENTS = {
    BASE: Hastack,
    "aetcd": Aetcd,
    "etcd3aio": Etcd3aio,
    "etcetra": Etcetra,
    "etcd3gw": Etcd3gw,
}


# The process of one client


async def serve(client) -> None:
    await client.open()
    loop = asyncio.get_running_loop()
    tell("ready")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, *arguments = json.loads(line)
        await globals()[f"do_{command}"](client, *arguments)


def tell(what) -> None:
    print(json.dumps(what), flush=True)


async def do_rate(client, prefix: str, start: int) -> None:
    cpu, began, seen = time.process_time(), time.perf_counter(), 0
    async for values in client.follow(prefix, start):
        seen += len(values)
        if seen >= CHANGES:
            break
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    tell([wall / CHANGES * 1e6, cpu / CHANGES * 1e6])


async def do_latency(client, prefix: str) -> None:
    """The putting process's clock is this one's: both are the machine's."""
    found: list[float] = []

    async def follow() -> None:
        async for values in client.follow(prefix, None):
            now = time.monotonic_ns()
            found.extend((now - int(v)) / 1e6 for v in values if v.isdigit())
            if len(found) >= PUTS:
                return

    task = asyncio.create_task(follow())
    await asyncio.sleep(1.0)
    tell("go")
    await task
    tell(found)


async def do_fan_out(client, prefix: str) -> None:
    arrived: list[int] = []
    put: list[int] = []
    await client.fan_out(prefix, SUBSCRIBERS, arrived, put)
    tell("go")
    # Counting would be part of what is measured.
    while len(arrived) < PUTS * SUBSCRIBERS:  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    for task in client.tasks:
        task.cancel()
    # At this pace each put has reached everybody before the next.
    tell([(at - put[n // SUBSCRIBERS]) / 1e6 for n, at in enumerate(arrived)])


async def do_memory(client, prefix: str) -> None:
    await client.many([f"{prefix}first"])
    before, threads = rss(), threading.active_count()
    await client.many([f"{prefix}{n}" for n in range(WATCHES)])
    tell([(rss() - before) / WATCHES, (threading.active_count() - threads) / WATCHES])


def rss() -> float:
    """KB of memory that this process has."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.partition("VmRSS:")[2].split()[0])


# The process that starts the others


class Peer:
    def __init__(self, name: str, endpoint: str, path: str) -> None:
        self.name = name
        command = [sys.executable, "-W", "ignore", __file__, "--client", name, endpoint, path]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.alive = self.read() == "ready"

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, *command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)


def main(words: list[str]) -> None:
    from etcd_servers import Etcd, binaries
    from peers import NoPeers, directory

    path = ""
    if words[:1] == ["--peers"]:
        path, words = words[1], words[2:]
    else:
        try:
            path = str(directory())
        except NoPeers as error:
            print(f"The peers cannot be installed; hastack alone. {error}")
    found = binaries()
    version = max(found)
    options = ("--unsafe-no-fsync",) if version >= "3.5" else ()
    names = [n for n in CLIENTS if n == BASE or not words or any(w in n for w in words)]
    with tempfile.TemporaryDirectory() as scratch:
        server = Etcd(Path(scratch) / "etcd", binary=found[version], options=options).start()
        try:
            print(f"\netcd {version}, Python {sys.version.split()[0]}; medians of {ROUNDS} rounds.")
            measure(server.endpoint, names, path)
        finally:
            server.kill()


def measure(endpoint: str, names: list[str], path: str) -> None:
    from hastack.discovery import Put, etcd

    with etcd.Client(endpoint, timeout=30.0).sync as writer:
        first = writer.put("bench/begin", "").revision + 1
        for part in range(CHANGES // PER_REVISION):
            writer.txn([], [Put(f"rate/{part % 50}/{n}", "v" * SIZE) for n in range(PER_REVISION)])
        results: dict[str, dict[str, list[float]]] = {}
        for number in range(ROUNDS):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                note = results.setdefault(name, {})
                for what in (rate, latency, memory):
                    peer = Peer(name, endpoint, path)
                    timer = threading.Timer(60.0, peer.process.kill)
                    timer.start()
                    try:
                        for figure, value in what(peer, writer, first, number).items():
                            note.setdefault(figure, []).append(value)
                    except (TypeError, BrokenPipeError):
                        pass  # it cannot, or died
                    finally:
                        timer.cancel()
                        peer.close()
        show(results)
        fan_out(Peer(BASE, endpoint, path), writer)


def rate(peer: Peer, writer, first: int, number: int) -> dict[str, float]:
    wall, cpu = peer.ask("rate", "rate/", first)
    return {"us per change": wall, "us of its processor": cpu}


def latency(peer: Peer, writer, first: int, number: int) -> dict[str, float]:
    prefix = f"latency/{peer.name}/{number}/"
    if peer.ask("latency", prefix) != "go":
        return {}
    put_at_a_pace(writer, prefix)
    return {f"ms p{p}": v for p, v in zip((50, 99), percentiles(peer.read()), strict=True)}


def memory(peer: Peer, writer, first: int, number: int) -> dict[str, float]:
    kilobytes, threads = peer.ask("memory", f"memory/{peer.name}/{number}/")
    return {"KB per watch": kilobytes, "threads per watch": threads}


def fan_out(peer: Peer, writer) -> None:
    try:
        assert peer.ask("fan_out", "fan/") == "go"
        put_at_a_pace(writer, "fan/", rate=20.0)
        found = peer.read()
    finally:
        peer.close()
    half, most = percentiles(found)
    print(
        f"\n{SUBSCRIBERS} subscribers of one range, {PUTS} puts at 20 per second, from before the "
        f"put to each subscriber: p50 {half:.2f} ms, p99 {most:.2f} ms, longest {max(found):.1f} ms"
    )


def put_at_a_pace(writer, prefix: str, *, rate: float = 100.0) -> None:
    begin = time.monotonic()
    for number in range(PUTS):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        writer.put(f"{prefix}{number % 10}", str(time.monotonic_ns()))


def percentiles(found: list[float]) -> tuple[float, float]:
    ordered = sorted(found)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def show(results: dict[str, dict[str, list[float]]]) -> None:
    figures = list(results[BASE])
    print(f"\n| | {' | '.join(figures)} |\n|---|{'---:|' * len(figures)}")
    for name, found in results.items():
        cells = [
            f"{statistics.median(found[each]):.3g}" if each in found else "-" for each in figures
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        name, endpoint, path = sys.argv[2:5]
        if path:
            sys.path.append(path)
        asyncio.run(serve(CLIENTS[name](endpoint)))
    else:
        main(sys.argv[1:])
