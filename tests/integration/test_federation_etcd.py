"""Three real clusters that mirror each other, with what goes wrong between them.

bench/bench_federation.py does the same with 10,000 instances per cluster and measures it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest
from federation_pairs import Cluster, ForwarderProcess, Pair, until
from watch_real import quick

from hastack.discovery import etcd
from hastack.discovery._layout import heartbeat
from hastack.discovery._origin import Heartbeat
from hastack.discovery.federation import Forwarder, OriginState

NAMES = ("a", "b", "c")
BOUND = 40.0


@pytest.fixture
def run(make_etcd, make_proxy, etcd_binary):
    """Runs ``main(clusters, pairs, url, proxy)`` over three clusters of one member each."""

    def go(main, *, count):
        async def bounded():
            async with asyncio.timeout(BOUND), contextlib.AsyncExitStack() as stack:
                servers = {name: make_etcd(name, binary=etcd_binary) for name in NAMES}
                proxy = make_proxy(servers["a"].port)
                urls = {name: f"etcd://{server.endpoint}" for name, server in servers.items()}
                urls["proxy"] = f"etcd://{proxy.endpoint}"
                clusters, pairs, books = {}, {}, {}
                for name in NAMES:
                    store = etcd.connect(urls[name])
                    stack.push_async_callback(store.aclose)
                    clusters[name] = Cluster(name, store)
                    await clusters[name].put(range(count))
                    books[name] = await stack.enter_async_context(clusters[name].registered())
                for one, other in itertools.permutations(NAMES, 2):
                    book = clusters[other].mirror_of(clusters[one])
                    book = await stack.enter_async_context(book)
                    pairs[one, other] = Pair(books[one], book)
                await until(lambda: all(len(b.state) == count for b in books.values()), BOUND)
                await main(clusters, pairs, urls, proxy, stack)
                for pair in pairs.values():
                    pair.check()

        asyncio.run(bounded())

    return go


def all_equal(pairs):
    return lambda: all(pair.equal for pair in pairs.values())


@pytest.mark.slow
@pytest.mark.parametrize("compact", [False, True], ids=["resumed", "compacted"])
def test_a_cut_link_and_killed_forwarders_lose_nothing_and_repeat_nothing(run, compact):
    async def main(clusters, pairs, urls, proxy, stack):
        for one, other in itertools.permutations(NAMES, 2):
            if (one, other) == ("a", "b"):
                continue
            source, destination = (
                await stack.enter_async_context(_client(urls["proxy" if one == "a" else one])),
                await stack.enter_async_context(_client(urls[other])),
            )
            forwarder = Forwarder(source, destination, origin=one)
            await stack.enter_async_context(forwarder)
        victim = ForwarderProcess(urls["proxy"], urls["b"], "a")
        stack.push_async_callback(victim.kill)
        await victim.start()
        await until(all_equal(pairs), BOUND)
        a, mirror = clusters["a"], pairs["a", "b"].mirror
        await a.put(range(3))
        await until(all_equal(pairs), BOUND)
        proxy.cut()
        await a.put(range(150))
        await a.put(range(10), size=1)
        await a.delete(range(180, 200))
        await a.put(range(900, 920))
        if compact:
            await a.store.maintenance.compact((await a.store.identity()).revision)
        await asyncio.sleep(2.0)
        before = mirror.events
        proxy.heal()
        for _ in range(2):  # at its first write after the healing, and at once again
            await until(lambda before=before: mirror.events > before, BOUND)
            await victim.kill()
            await victim.start()
        await until(all_equal(pairs), BOUND)
        await b_stays_itself(clusters)

    async def b_stays_itself(clusters):
        for one, other in itertools.permutations(NAMES, 2):
            found = await clusters[other].store.range(
                f"/hs/1/reg/{one}/", prefix=True, count_only=True
            )
            assert found.count == 0

    run(main, count=200)


def _client(url):
    @contextlib.asynccontextmanager
    async def opened():
        store = etcd.connect(url)
        try:
            yield store
        finally:
            await store.aclose()

    return opened()


@pytest.mark.slow
def test_a_dead_source_is_stale_and_its_mirror_stays(run, make_etcd):
    async def main(clusters, pairs, urls, proxy, stack):
        source = await stack.enter_async_context(_client(urls["proxy"]))
        destination = await stack.enter_async_context(_client(urls["b"]))
        pair = pairs["a", "b"]
        # Asked for progress more often, it is certain of the source more often.
        quick(source, interval=0.4, deadline=3.0)
        async with Forwarder(
            source, destination, origin="a", stale_after=2.0, timeout=1.0
        ) as forwarder:
            await until(lambda: pair.equal, BOUND)
            await until(lambda: forwarder.status().state is OriginState.LIVE, BOUND)
            proxy.cut()
            await until(lambda: forwarder.status().state is OriginState.STALE, BOUND)
            assert len(pair.mirror.state) == 50
            await asyncio.sleep(0.6)
            beat = await destination.get(heartbeat("a"))
            assert Heartbeat.parse(beat.value).state is OriginState.STALE
            proxy.heal()
            await until(lambda: forwarder.status().state is OriginState.LIVE, BOUND)
        assert await destination.get(heartbeat("a")) is None
        # Started while the source is dead: nothing waits for it.
        proxy.cut()
        async with Forwarder(source, destination, origin="a", timeout=1.0) as again:
            await until(lambda: again.status().mirrored == 50, BOUND)
            await until(lambda: "source" in again.status().error, BOUND)
            proxy.heal()
            await clusters["a"].put([7])
            await until(lambda: pair.equal and again.status().error == "", BOUND)

    run(main, count=50)
