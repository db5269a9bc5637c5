"""hastack's etcd client beside its peers: put, get and transaction, one by one and 100 at once.

    python bench/bench_etcd.py [name ...]     # only the clients whose name contains one of the words

The peers cannot share a process: each brings the same messages to protobuf's one default pool, and
the second to be imported fails. So every client has a process of its own, and all of them take
turns on one server (etcd 3.5 without fsync where there is one), round by round, in one run. Wall
time includes the server's work on the same processors; the time on the processor is the client's
own. A figure is the median over the rounds.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]

ROUNDS = 7
AT_ONCE = 100
COUNTS = {"one by one": 300, "100 at once": 1000}
OPERATIONS = ("put", "get", "txn")
KEY, VALUE = "bench/key", "v" * 100
BASE = "hastack"


# Clients: each a function of an endpoint that gives three calls without arguments.


class Hastack:
    """Coroutines on the caller's loop."""

    def __init__(self, endpoint: str) -> None:
        from hastack.discovery import Compare, Get, Put, etcd

        self.client = client = etcd.Client(endpoint, timeout=30.0)
        self.calls = {
            "put": lambda: client.put(KEY, VALUE),
            "get": lambda: client.get(KEY),
            "txn": lambda: client.txn([Compare.present(KEY)], [Put(KEY, VALUE), Get(KEY)]),
        }

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        await self.client.aclose()


class HastackSync:
    """The blocking face."""

    def __init__(self, endpoint: str) -> None:
        from hastack.discovery import Compare, Get, Put, etcd

        self.client = etcd.Client(endpoint, timeout=30.0)
        sync = self.client.sync
        self.calls = {
            "put": lambda: sync.put(KEY, VALUE),
            "get": lambda: sync.get(KEY),
            "txn": lambda: sync.txn([Compare.present(KEY)], [Put(KEY, VALUE), Get(KEY)]),
        }


class Aetcd:
    def __init__(self, endpoint: str) -> None:
        import aetcd

        host, _, port = endpoint.rpartition(":")
        self.client = client = aetcd.Client(host, int(port))
        key, value, parts = KEY.encode(), VALUE.encode(), client.transactions
        self.calls = {
            "put": lambda: client.put(key, value),
            "get": lambda: client.get(key),
            "txn": lambda: client.transaction(
                compare=[parts.version(key) > 0],
                success=[parts.put(key, value), parts.get(key)],
                failure=[],
            ),
        }

    async def open(self) -> None:
        await self.client.connect()

    async def close(self) -> None:
        await self.client.close()


class Etcetra:
    def __init__(self, endpoint: str) -> None:
        import etcetra

        host, _, port = endpoint.rpartition(":")
        self.connection = etcetra.EtcdClient(etcetra.HostPortPair(host, int(port))).connect()
        self.compare = etcetra.CompareKey

    async def open(self) -> None:
        one = await self.connection.__aenter__()

        def build(success, failure):
            success.put(KEY, VALUE)
            success.get(KEY)

        self.calls = {
            "put": lambda: one.put(KEY, VALUE),
            "get": lambda: one.get(KEY),
            # Its comparisons with numbers raise TypeError.
            "txn": lambda: one.txn_compare([self.compare(KEY).value == VALUE], build),
        }

    async def close(self) -> None:
        await self.connection.__aexit__(None, None, None)


class Etcd3aio:
    def __init__(self, endpoint: str) -> None:
        import etcd3aio
        from etcd3aio import _protobuf as messages

        self.client = client = etcd3aio.Etcd3Client([endpoint])
        key, value = KEY.encode(), VALUE.encode()

        def txn():
            present = messages.Compare(key=key, target=0, result=1, version=0)
            put = messages.RequestOp(request_put=messages.PutRequest(key=key, value=value))
            get = messages.RequestOp(request_range=messages.RangeRequest(key=key))
            return client.kv.txn([present], [put, get])

        self.calls = {
            "put": lambda: client.kv.put(key, value),
            "get": lambda: client.kv.get(key),
            "txn": txn,
        }

    async def open(self) -> None:
        await self.client.connect()

    async def close(self) -> None:
        await self.client.close()


class Etcd3gw:
    def __init__(self, endpoint: str) -> None:
        import base64

        import etcd3gw

        host, _, port = endpoint.rpartition(":")
        client = etcd3gw.client(host, int(port), api_path="/v3/")
        key, value = (base64.b64encode(each.encode()).decode() for each in (KEY, VALUE))
        txn = {
            "compare": [{"key": key, "target": "VERSION", "result": "GREATER", "version": "0"}],
            "success": [
                {"request_put": {"key": key, "value": value}},
                {"request_range": {"key": key}},
            ],
        }
        self.calls = {
            "put": lambda: client.put(KEY, VALUE),
            "get": lambda: client.get(KEY),
            "txn": lambda: client.transaction(txn),
        }


CLIENTS = {
    "hastack": Hastack,
    "aetcd": Aetcd,
    "etcd3aio": Etcd3aio,
    "etcetra": Etcetra,
    "hastack, blocking": HastackSync,
    "etcd3gw, blocking": Etcd3gw,
}


# The process of one client: reads what to do, says how long it took.


async def serve_async(client) -> None:
    await client.open()
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        operation, mode = json.loads(line)
        call, count = client.calls[operation], COUNTS[mode]
        width = AT_ONCE if mode != "one by one" else 1

        async def work(count=count // width, call=call):
            for _ in range(count):
                await call()

        start, cpu = time.perf_counter(), time.process_time()
        if width == 1:
            await work()
        else:
            await asyncio.gather(*(work() for _ in range(width)))
        tell(start, cpu, count)
    await client.close()


def serve_threads(client) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        print("ready", flush=True)
        for line in sys.stdin:
            operation, mode = json.loads(line)
            call, count = client.calls[operation], COUNTS[mode]
            start, cpu = time.perf_counter(), time.process_time()
            if mode == "one by one":
                for _ in range(count):
                    call()
            else:
                list(pool.map(lambda _, call=call: call(), range(count)))
            tell(start, cpu, count)


def tell(start: float, cpu: float, count: int) -> None:
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps([wall / count * 1e9, cpu / count * 1e9]), flush=True)


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
        self.ready = self.process.stdout.readline().strip() == "ready"

    def ask(self, operation: str, mode: str) -> tuple[float, float] | None:
        if not self.ready:
            return None
        self.process.stdin.write(json.dumps([operation, mode]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        self.ready = bool(line)
        return tuple(json.loads(line)) if line else None

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)


def main(words: list[str]) -> None:
    from etcd_servers import Etcd, binaries
    from harness import table
    from peers import NoPeers, directory

    try:
        path = str(directory())
    except NoPeers as error:
        print(f"The peers cannot be installed; hastack alone. {error}")
        path = ""
    found = binaries()
    version = max(found)
    options = ("--unsafe-no-fsync",) if version >= "3.5" else ()
    names = [n for n in CLIENTS if n == BASE or not words or any(w in n for w in words)]
    with tempfile.TemporaryDirectory() as directory_:
        server = Etcd(Path(directory_) / "etcd", binary=found[version], options=options).start()
        peers = [Peer(name, server.endpoint, path) for name in names]
        try:
            results = measure(peers)
        finally:
            for peer in peers:
                peer.close()
            server.kill()
    print(f"\netcd {version}; clients missing below could not be started or failed.")
    for mode in COUNTS:
        for operation in OPERATIONS:
            for index, kind in enumerate(("per call", "on the client's processor, per call")):
                rows = {
                    peer.name: statistics.median(each[index] for each in samples) / 1000
                    for peer in peers
                    if (samples := results.get((peer.name, operation, mode)))
                }
                table(f"{operation}, {mode}: {kind}", rows, base=BASE, unit="us")


def measure(peers: list[Peer]) -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    results: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for number in range(ROUNDS + 1):
        for mode in COUNTS:
            for operation in OPERATIONS:
                turn = number % len(peers)  # nobody always comes first
                for peer in peers[turn:] + peers[:turn]:
                    answer = peer.ask(operation, mode)
                    if answer and number:  # the first round warms up
                        results.setdefault((peer.name, operation, mode), []).append(answer)
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        name, endpoint, path = sys.argv[2:5]
        if path:
            sys.path.append(path)
        client = CLIENTS[name](endpoint)
        if hasattr(client, "open"):
            asyncio.run(serve_async(client))
        else:
            serve_threads(client)
    else:
        main(sys.argv[1:])
