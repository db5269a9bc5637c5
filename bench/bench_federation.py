"""Three clusters that mirror each other: propagation, a cut link, killed forwarders, compaction.

Real etcd processes of one member each, six forwarders as processes of their own. Every write of
every mirror is watched from outside: a value that came twice, or an older one after a newer, ends
the run.

usage: bench_federation.py [--instances 10000] [--cut 20] [--rate 50] [--steady 20]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from etcd_servers import Etcd, TcpProxy
from federation_pairs import Cluster, ForwarderProcess, Pair, until

from hastack.discovery import etcd

NAMES = ("a", "b", "c")
PATIENCE = 120.0


class Bench:
    """The clusters, the bridges between them, and what is measured."""

    def __init__(self, options: argparse.Namespace, stack: contextlib.AsyncExitStack) -> None:
        self.options, self.stack = options, stack
        self.clusters: dict[str, Cluster] = {}
        self.forwarders: dict[tuple[str, str], ForwarderProcess] = {}
        self.pairs: dict[tuple[str, str], Pair] = {}
        self.random = random.Random(7)

    async def set_up(self, home: Path) -> None:
        servers = {name: Etcd(home / name) for name in NAMES}
        for name, server in servers.items():
            self.stack.callback(server.kill)
            server.start()
            store = etcd.connect(f"etcd://{server.endpoint}")
            self.stack.push_async_callback(store.aclose)
            self.clusters[name] = Cluster(name, store)
        self.proxy = TcpProxy(servers["a"].port)
        self.stack.callback(self.proxy.close)
        await asyncio.gather(
            *(each.put(range(self.options.instances)) for each in self.clusters.values())
        )
        books = {}
        for name in NAMES:
            books[name] = await self.stack.enter_async_context(self.clusters[name].registered())
        for one, other in itertools.permutations(NAMES, 2):
            mirror = self.clusters[other].mirror_of(self.clusters[one])
            pair = Pair(books[one], await self.stack.enter_async_context(mirror))
            self.clusters[one].pairs.append(pair)
            self.pairs[one, other] = pair
            source = self.proxy.endpoint if one == "a" else servers[one].endpoint
            forwarder = ForwarderProcess(
                f"etcd://{source}", f"etcd://{servers[other].endpoint}", one
            )
            self.stack.push_async_callback(forwarder.kill)
            self.forwarders[one, other] = forwarder

    async def bring_up(self) -> None:
        count = self.options.instances
        await until(lambda: all(len(p.source.state) == count for p in self.pairs.values()), 60.0)
        took = time.monotonic()
        for forwarder in self.forwarders.values():
            await forwarder.start()
        await until(lambda: all(pair.equal for pair in self.pairs.values()), PATIENCE)
        took = time.monotonic() - took
        row(f"6 mirrors of {count:,} instances from nothing, process starts included", took)
        await asyncio.sleep(2.0)

    async def steady(self) -> None:
        """Single changes of instances that have not changed for long."""
        for pair in self.pairs.values():
            pair.latencies.clear()
        loop = asyncio.get_running_loop()
        end = loop.time() + self.options.steady

        async def change(cluster: Cluster) -> None:
            order = self.random.sample(cluster.live, len(cluster.live))
            at = loop.time()
            for number in itertools.cycle(order):
                if loop.time() > end:
                    return
                await cluster.put([number])
                at += 1.0 / self.options.rate
                await asyncio.sleep(max(0.0, at - loop.time()))

        await asyncio.gather(*(change(each) for each in self.clusters.values()))
        await until(lambda: all(pair.equal for pair in self.pairs.values()), PATIENCE)
        taken = sorted(itertools.chain(*(pair.latencies for pair in self.pairs.values())))
        percent = statistics.quantiles(taken, n=1000)
        title = f"propagation at 3 x {self.options.rate}/s, {len(taken):,} arrivals"
        print(
            f"| {title} | p50 {percent[499] * 1e3:.1f} ms, p99 {percent[989] * 1e3:.1f} ms, "
            f"max {taken[-1] * 1e3:.1f} ms |",
            flush=True,
        )

    async def _while_cut(self) -> tuple[int, int]:
        """Changes, deletions and new instances of ``a``, spread over the time of the cut."""
        cluster, options = self.clusters["a"], self.options
        count = options.instances
        before = cluster.serial
        gone = self.random.sample(cluster.live, count // 10)
        slices = 10
        for part in range(slices):
            changed = self.random.sample(cluster.live, count * 6 // (10 * slices))
            await cluster.put(changed)
            await cluster.put(changed[:20], size=1)
            await cluster.delete(gone[part::slices])
            first = 1_000_000 + cluster.serial
            await cluster.put(range(first, first + count // (10 * slices)))
            await asyncio.sleep(options.cut / slices)
        return cluster.serial - before, len(gone)

    async def cut(self, *, compact: bool) -> None:
        """Cut a off, change it, heal; kill the forwarder to b twice while it catches up."""
        victim, witness = ("a", "b"), ("a", "c")
        kills = self.forwarders[victim]
        relists = {
            way: len(self.forwarders[way].heard("OriginRelisted")) for way in (victim, witness)
        }
        self.proxy.cut()
        puts, deletes = await self._while_cut()
        if compact:
            store = self.clusters["a"].store
            await store.maintenance.compact((await store.identity()).revision)
        mirror = self.pairs[victim].mirror
        behind = len(self.pairs[victim].differing)
        base = mirror.events
        self.proxy.heal()
        healed = time.monotonic()
        progress = []
        for share in (0.1, 0.5):
            await until(lambda share=share: mirror.events - base >= share * behind, PATIENCE)
            await kills.kill()
            await asyncio.sleep(0.05)
            progress.append((mirror.events - base) / behind)
            await kills.start()
            restarted = time.monotonic()
        await until(lambda: all(pair.equal for pair in self.pairs.values()), PATIENCE)
        what = f"cut {self.options.cut:g} s, {puts:,} puts and {deletes:,} deletes"
        what += ", compacted" if compact else ""
        row(f"{what}: mirror in c equal after healing", self.pairs[witness].equal_since - healed)
        at = " and ".join(f"{each:.0%}" for each in progress)
        row(
            f"- mirror in b, forwarder killed at {at}: after healing",
            self.pairs[victim].equal_since - healed,
        )
        row("- mirror in b: after its last restart", self.pairs[victim].equal_since - restarted)
        await asyncio.sleep(2.0)
        for way in (victim, witness):
            heard = self.forwarders[way].heard("OriginRelisted")[relists[way] :]
            print(f"| - listings to {way[1]} | {[each['reason'] for each in heard]} |", flush=True)
        await asyncio.sleep(5.0)  # what changed a moment ago would be coalesced

    def check(self) -> None:
        written = sum(pair.mirror.events for pair in self.pairs.values())
        for pair in self.pairs.values():
            assert pair.equal
            pair.check()
        print(f"| writes in all mirrors, none of them twice or out of order | {written:,} |")


def row(what: str, seconds: float) -> None:
    print(f"| {what} | {seconds:.2f} s |", flush=True)


async def main(options: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        bench = Bench(options, stack)
        await bench.set_up(Path(home))
        print("| | |\n|---|---|")
        await bench.bring_up()
        await bench.steady()
        await bench.cut(compact=False)
        await bench.steady()  # long enough that nobody doubts the source any more
        await bench.cut(compact=True)
        bench.check()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--cut", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--steady", type=float, default=20.0)
    asyncio.run(main(parser.parse_args()))
