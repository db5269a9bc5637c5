"""Breaks the shop in one way after the other, under load, and says what its clients saw.

usage: scenario.py [--real] [--quick] [--rate 40] [--only FAULT] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import grpc.aio
from backends import Collector, Embedded, Etcd, Prometheus, missing
from cluster import Cluster, wait_until
from load import Load, Sample

from hastack import wasm
from hastack.observe import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

BUSY = 0.1  # seconds by which requests left too late; a service on such a machine is late as well
REFUSED = (429, 503)  # an orderly no, with the time to come back


@attrs.frozen(kw_only=True)
class Budget:
    """What clients may see of a fault.

    Attributes:
        refused: Share of requests answered 429 or 503.
        failed: Share with any other answer than success, or none.
        recovery: Seconds after the fault's end until nothing is refused or fails any more.
    """

    refused: float = 0.0
    failed: float = 0.0
    recovery: float = 5.0


BUDGETS = {
    "none": Budget(),
    "greedy client": Budget(),
    "inventory slow": Budget(refused=0.8, failed=0.25),  # 2 s for a call, and clients have 2.5 s
    "instance killed": Budget(failed=0.01),  # what was in flight there
    "store lost": Budget(),
    "collector away": Budget(),
    "bad plugins": Budget(),
    "config typo": Budget(),
    "SIGTERM": Budget(),
}


@attrs.frozen(kw_only=True)
class Row:
    """What was seen of one fault."""

    fault: str
    requests: int
    ok: int
    refused: int
    failed: int
    p50: float
    p99: float
    recovered: float
    late: float  # how long after their time requests left (p99)
    note: str
    budget: Budget
    statuses: dict[int, int]

    @property
    def kept(self) -> bool:
        """Whether the budget was kept."""
        return (
            self.refused <= self.budget.refused * self.requests
            and self.failed <= self.budget.failed * self.requests
            and self.recovered <= self.budget.recovery
        )


def judged(fault: str, samples: list[Sample], mended: float, note: str, budget: Budget) -> Row:
    """One row from what clients saw."""
    bad = [each for each in samples if not 200 <= each.status < 300]
    refused = sum(each.status in REFUSED for each in bad)
    took = sorted(each.took for each in samples)
    after = max((each.sent + each.took - mended for each in bad), default=0.0)
    statuses = [each.status for each in bad]
    return Row(
        fault=fault,
        requests=len(samples),
        ok=len(samples) - len(bad),
        refused=refused,
        failed=len(bad) - refused,
        p50=statistics.median(took),
        p99=took[int(0.99 * (len(took) - 1))],
        recovered=max(0.0, after),
        late=sorted(each.late for each in samples)[int(0.99 * (len(samples) - 1))],
        note=note,
        budget=budget,
        statuses={status: statuses.count(status) for status in sorted(set(statuses))},
    )


class Scenario:
    """The shop, its load, and everything that is done to it."""

    def __init__(
        self,
        cluster: Cluster,
        load: Load,
        collector: Collector,
        prometheus: Prometheus | None,
        *,
        pace: float,
    ) -> None:
        self.cluster = cluster
        self.load = load
        self.collector = collector
        self.prometheus = prometheus
        self.pace = pace  # multiplies how long faults last

    async def measure(self, name: str, fault: Callable[[], Awaitable[str]], budget: Budget) -> Row:
        """Let ``fault`` run its course, then wait until all is well again."""
        began = time.monotonic()
        note = await fault()
        mended = time.monotonic()
        while time.monotonic() < mended + budget.recovery + 2.0:
            await asyncio.sleep(0.25)
            recent = [s for s in self.load.samples if s.sent > time.monotonic() - 1.0]
            if time.monotonic() > mended + 1.0 and all(200 <= s.status < 300 for s in recent):
                break
        seen = [each for each in self.load.samples if each.sent >= began]
        self.cluster.require_alive()
        return judged(name, seen, mended, note, budget)

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.pace)

    async def events(self, event: str) -> list[float]:
        """How often something happened, by instance, as their pages for Prometheus say."""

        def count(address: str) -> float:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
                lines = page.read().decode().splitlines()
            mine = [
                n
                for n in lines
                if n.startswith("hastack_events_total{") and f'"hastack.{event}"' in n
            ]
            return sum(float(line.rpartition(" ")[2]) for line in mine)

        found = self.cluster.registry.resolve("orders").instances
        return await asyncio.gather(*(asyncio.to_thread(count, each.address) for each in found))

    async def until(self, event: str, count: int) -> None:
        """Wait until each instance has told of ``event`` so often."""
        for _ in range(300):
            if all(each >= count for each in await self.events(event)):
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(f"{event} was not seen {count} times on each instance")

    # What is done to it -------------------------------------------------------------------

    async def nothing(self) -> str:
        await self.rest(3.0)
        return "as it should be"

    async def greedy_client(self) -> str:
        async def ask() -> list[int]:
            return await asyncio.gather(*(self.load.one(1, client="greedy") for _ in range(150)))

        statuses = [status for _ in range(2) for status in await ask()]
        return f"the greedy one: {statuses.count(201)} served, {statuses.count(429)} told to wait"

    async def inventory_slow(self) -> str:
        await self.switch(2.0)
        await self.rest(4.0)
        await self.switch(0.001)
        return "calls of it take 2 s; breakers open, reads get the last known"

    async def switch(self, delay: float) -> int:
        [inventory] = await self.cluster.until("inventory", 1)
        async with grpc.aio.insecure_channel(inventory.address) as channel:
            call = channel.unary_unary("/shop.Inventory/Switch")
            answer = json.loads(await call(json.dumps({"delay": delay}).encode(), timeout=10.0))
        return sum(answer["reserved"].values())

    async def instance_killed(self) -> str:
        victim = self.cluster.orders.pop(0)
        victim.kill()
        await asyncio.to_thread(victim.wait)
        began = time.monotonic()
        await self.cluster.until("orders", 2)
        gone = time.monotonic() - began
        self.cluster.add_orders()
        await self.cluster.until("orders", 3)
        return f"SIGKILL; off the registry after {gone:.1f} s; until then others were tried"

    async def store_lost(self) -> str:
        await asyncio.to_thread(self.cluster.store.lose)
        await self.rest(3.0)
        await asyncio.to_thread(self.cluster.store.bring_back)
        await self.cluster.until("orders", 3)
        return self.cluster.store.lost

    async def collector_away(self) -> str:
        self.collector.away = True
        if self.prometheus is not None:
            await asyncio.to_thread(self.prometheus.stop)
        await self.rest(4.0)
        before = self.collector.requests.total()
        self.collector.away = False
        if self.prometheus is not None:
            await asyncio.to_thread(self.prometheus.start)
        await wait_until(lambda: self.collector.requests.total() >= before + 6)
        return "every export refused; telemetry waited, and was delivered after it"

    async def bad_plugins(self) -> str:
        cluster = self.cluster
        refused = int(max(await self.events("plugin_refused")))
        cluster.push(wasm.wat("(module)"))
        await self.until("plugin_refused", refused + 1)
        cluster.push(cluster.policy(2, key=wasm.PrivateKey.generate()))
        await self.until("plugin_refused", refused + 2)
        # This one is signed, and well when it is looked at; then it traps at every order.
        is_post = "(i32.eq (i32.load8_u (local.get $method)) (i32.const 80))"
        cluster.push(cluster.policy(2, first=f"(if {is_post} (then unreachable))"))
        await self.until("plugin_rolled_back", 1)
        swapped = int(max(await self.events("plugin_swapped")))
        cluster.push(cluster.policy(3))
        await self.until("plugin_swapped", swapped + 1)
        return "unsigned, of a stranger: refused; trapping: rolled back; a good one took over"

    async def config_pushed(self) -> str:
        good = self.cluster.config.read_text()
        self.cluster.configure(good.replace('rate = "30/s"', 'rate = "30/fortnight"'))
        await self.until("config_reload_failed", 1)
        await self.rest(1.0)
        self.cluster.configure(good.replace('rate = "30/s"', 'rate = "40/s"'))
        await self.until("guard_reloaded", 1)
        return "the typo was named and the old one stayed; then a good one, without a restart"

    async def terminated(self) -> str:
        leaving = self.cluster.orders.pop(0)
        self.cluster.add_orders()
        await self.cluster.until("orders", 4)
        began = time.monotonic()
        leaving.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(leaving.wait, 30.0)
        if status != 0:
            raise RuntimeError(f"SIGTERM: exit status {status}{self.cluster.said()}")
        return f"drained and exited 0 after {time.monotonic() - began:.1f} s of 11"

    async def faults(self, only: Collection[str], told: Callable[[Row], None]) -> list[Row]:
        """Those of these names, or all of them, in order."""
        calls = {
            "none": self.nothing,
            "greedy client": self.greedy_client,
            "inventory slow": self.inventory_slow,
            "instance killed": self.instance_killed,
            "store lost": self.store_lost,
            "collector away": self.collector_away,
            "bad plugins": self.bad_plugins,
            "config typo": self.config_pushed,
            "SIGTERM": self.terminated,
        }
        rows = []
        for name in only or BUDGETS:
            rows.append(await self.measure(name, calls[name], BUDGETS[name]))
            told(rows[-1])
        return rows


# -- telling ------------------------------------------------------------------------------

HEAD = (
    f"{'fault':<16}{'requests':>9}{'ok':>6}{'refused':>9}{'failed':>8}{'p50':>7}{'p99':>7}"
    f"{'recovered':>11}  budget"
)


def line(row: Row) -> str:
    """One row for people."""
    budget = f"{row.budget.refused:.0%}/{row.budget.failed:.0%} {row.budget.recovery:.0f} s"
    busy = f"; the machine was busy: sent {row.late:.1f} s late" if row.late > BUSY else ""
    return (
        f"{row.fault:<16}{row.requests:>9}{row.ok:>6}{row.refused:>9}{row.failed:>8}"
        f"{row.p50 * 1000:>7.0f}{row.p99 * 1000:>7.0f}{row.recovered:>9.1f} s"
        f"  {budget}: {'kept' if row.kept else 'BROKEN'}\n    {row.note}{busy}"
    )


@contextlib.asynccontextmanager
async def under_load(load: Load) -> AsyncIterator[None]:
    running = asyncio.create_task(load.run())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await load.close()


async def run(options: argparse.Namespace, folder: Path) -> list[Row]:
    """The whole scenario, told while it happens."""
    began = time.monotonic()
    collector = Collector()
    prometheus = Prometheus(folder) if options.real else None
    try:
        if prometheus is not None:
            await asyncio.to_thread(prometheus.start)
        store = Etcd(folder) if options.real else Embedded(folder)
        cluster = Cluster(folder, store, collector, prometheus and prometheus.url)
        try:
            await cluster.start()
            tell(options, f"Up after {time.monotonic() - began:.1f} s, on {store.url}\n\n{HEAD}")
            load = Load(cluster.registry, rate=options.rate)
            pace = 0.5 if options.quick else 1.0
            scenario = Scenario(cluster, load, collector, prometheus, pace=pace)
            async with under_load(load):
                rows = await scenario.faults(options.only, lambda row: tell(options, line(row)))
            tell(options, await books(scenario, folder))
        finally:
            await cluster.stop()
    finally:
        collector.close()
        if prometheus is not None:
            prometheus.stop()
    return rows


async def books(scenario: Scenario, folder: Path) -> str:
    """What the shop, the collector and the log engine say of all that."""
    load, reserved = scenario.load, await scenario.switch(0.001)
    right = len(load.taken) <= reserved <= len(load.asked)
    said = [
        f"\n{len(load.taken)} orders accepted, {reserved} reserved, {len(load.asked)} asked for: "
        + ("none lost, none twice" if right else "WRONG"),
        f"telemetry arrived in {scenario.collector.requests.total()} requests",
    ]
    if scenario.prometheus is not None:
        counted = await asyncio.to_thread(scenario.prometheus.query, "sum(shop_requests_total)")
        said.append(f"Prometheus counts {counted:.0f} lines of access logs")
    lines = written(folder)
    for schema in logs.infer(lines).values():
        fields = ", ".join(f"{each.name}: {each.type}" for each in schema.fields)
        said.append(f"the {len(lines)} lines of their access logs are {schema.format}: {fields}")
    if not right:
        raise RuntimeError("\n".join(said))
    return "\n".join(said)


def written(folder: Path) -> list[str]:
    """The access logs."""
    return [n for path in folder.glob("logs/*.log") for n in path.read_text().splitlines()]


def tell(options: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="etcd and Prometheus of this machine")
    parser.add_argument("--quick", action="store_true", help="faults half as long")
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second (1 to 200)")
    parser.add_argument("--only", action="append", choices=BUDGETS, default=[], help="repeatable")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, not the table")
    options = parser.parse_args()
    if not 1.0 <= options.rate <= 200.0:
        parser.error("--rate: 1 to 200")
    if options.real and missing():
        parser.error(f"--real: {' and '.join(missing())} not installed")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: stop them all
    try:
        with tempfile.TemporaryDirectory(prefix="shop-") as name:
            rows = asyncio.run(run(options, Path(name)))
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        print(json.dumps([{**attrs.asdict(row), "kept": row.kept} for row in rows]))
    sys.exit(0 if all(row.kept for row in rows) else 1)


if __name__ == "__main__":
    main()
