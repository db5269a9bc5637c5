"""What it costs to keep leases alive, beside the peers that can.

    python bench/bench_etcd_lease.py [seconds]

Each client holds its leases in a process of its own (the peers cannot share one) for a while, one
after the other on one server. The time on the processor, of the client and of the server, is
divided by the keepalives that one in a third of the TTL makes. python-etcd3 and its forks have no
automatic keepalive, and aetcd has only `refresh`: here it gets a task per lease that calls it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]

TTL = 6
COUNTS = (100, 1000)
SECONDS = 20.0
BASE = "hastack"


async def hastack(endpoint: str, count: int, seconds: float) -> dict[str, float]:
    from hastack.discovery import etcd

    async with etcd.Client(endpoint) as client:
        held = [client.lease(TTL) for _ in range(count)]
        for part in batches(held):
            await asyncio.gather(*(each.__aenter__() for each in part))
        result = await measure(seconds)
        result["lost"] = sum(each.context.done for each in held)
        result["streams"] = client._keeper._stream.opened
        for part in batches(held):
            await asyncio.gather(*(each.__aexit__(None, None, None) for each in part))
    return result


async def kept(endpoint: str, count: int, seconds: float) -> dict[str, float]:
    from hastack.discovery import etcd

    async with etcd.Client(endpoint) as client:
        held = [client.keep(f"/bench/{n}", "v" * 100, ttl=TTL) for n in range(count)]
        for part in batches(held):
            await asyncio.gather(*(each.__aenter__() for each in part))
        await asyncio.sleep(2.0)  # the watches settle
        result = await measure(seconds)
        result["lost"] = sum(not each.present for each in held)
        result["streams"] = client._keeper._stream.opened
        for part in batches(held):
            await asyncio.gather(*(each.__aexit__(None, None, None) for each in part))
    return result


async def etcd3aio(endpoint: str, count: int, seconds: float) -> dict[str, float]:
    import etcd3aio

    client = etcd3aio.Etcd3Client([endpoint])
    await client.connect()
    held = []
    for part in batches(range(count)):
        granted = await asyncio.gather(*(client.lease.grant(ttl=TTL) for _ in part))
        for each in granted:
            held.append(client.lease.keep_alive_context(each.ID, TTL))
            await held[-1].__aenter__()
    result = await measure(seconds)
    result["lost"] = sum(not each.alive for each in held)
    result["streams"] = result["beats"] * count
    for each in held:
        await each.__aexit__(None, None, None)
    await client.close()
    return result


async def aetcd(endpoint: str, count: int, seconds: float) -> dict[str, float]:
    import aetcd

    host, _, port = endpoint.rpartition(":")
    client = aetcd.Client(host, int(port))
    await client.connect()
    lost = 0

    async def keep(lease) -> None:
        nonlocal lost
        while True:
            await asyncio.sleep(TTL / 3)
            try:
                await lease.refresh()
            except Exception:
                lost += 1

    tasks = []
    for part in batches(range(count)):
        granted = await asyncio.gather(*(client.lease(TTL) for _ in part))
        tasks += [asyncio.ensure_future(keep(lease)) for lease in granted]
    result = await measure(seconds)
    result["lost"] = lost
    for task in tasks:
        task.cancel()
    await client.close()
    return result


def batches(items, size: int = 50):
    items = list(items)
    return [items[n : n + size] for n in range(0, len(items), size)]


async def measure(seconds: float) -> dict[str, float]:
    server = int(sys.argv[6])
    cpu, served, start = time.process_time(), processor_seconds(server), time.perf_counter()
    await asyncio.sleep(seconds)
    wall = time.perf_counter() - start
    return {
        "cpu": time.process_time() - cpu,
        "served": processor_seconds(server) - served,
        "wall": wall,
        "beats": wall / (TTL / 3),
    }


CLIENTS = {"hastack": hastack, "hastack, kept keys": kept, "etcd3aio": etcd3aio, "aetcd": aetcd}


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def main(seconds: float) -> None:
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
    with tempfile.TemporaryDirectory() as scratch:
        server = Etcd(Path(scratch) / "etcd", binary=found[version]).start()
        print(f"etcd {version}, TTL {TTL} s, {seconds:g} s each")
        try:
            for count in COUNTS:
                costs: dict[str, float] = {}
                served: dict[str, float] = {}
                for name in CLIENTS:
                    command = [sys.executable, "-W", "ignore", __file__, "--client", name]
                    command += [server.endpoint, str(count), str(seconds), str(server.pid), path]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode:
                        print(f"{name}: failed: {done.stderr[-300:]}")
                        continue
                    time.sleep(2 * TTL)  # what it did not revoke expires before the next one
                    told = json.loads(done.stdout.splitlines()[-1])
                    beats = told["beats"] * count
                    costs[name] = told["cpu"] / beats * 1e6
                    served[name] = told["served"] / beats * 1e6
                    share = 100 * told["cpu"] / told["wall"]
                    streams = f", {told['streams']:.0f} streams" if "streams" in told else ""
                    print(
                        f"{count} leases, {name}: {share:.1f} % of a processor{streams}, "
                        f"{told['lost']:.0f} lost"
                    )
                title = f"one keepalive of {count} leases, client's processor"
                table(title, costs, base=BASE, unit="us")
                title = f"one keepalive of {count} leases, server's processor"
                table(title, served, base=BASE, unit="us")
        finally:
            server.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        name, endpoint, count, seconds, _, path = sys.argv[2:8]
        if path:
            sys.path.append(path)
        print(json.dumps(asyncio.run(CLIENTS[name](endpoint, int(count), float(seconds)))))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
