"""Kept keys on real etcd servers: back after whatever took them away, two hundred at a time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from lease_probes import cancelled_everywhere, client_of, eventually, leases, on_loop, revoke

from hastack import context, events
from hastack._core._portal import PORTAL
from hastack.discovery.etcd._lease_events import (
    KeyContested,
    KeyDown,
    KeyRestored,
    LeaseGranted,
)
from hastack.errors import (
    ClosedError,
    DeadlineExceeded,
    InvalidArgument,
    StoreError,
    StoreUnavailable,
)

MANY = 200


async def missing(client, kept):
    found = await client.range("/kept/", prefix=True)
    held = {kv.key: (kv.value, kv.lease) for kv in found.kvs}
    return [
        each for each in kept if held.get(each.key, (b"", 0))[1] != each.lease or not each.lease
    ]


async def all_back(client, kept):
    """Wait until every key is there again, on its present lease."""

    async def back():
        try:
            return not await missing(client, kept)
        except StoreUnavailable:
            return False

    await eventually(back, within=40.0)
    await eventually(lambda: all(each.present for each in kept))


def peak(times, width=0.1):
    """The most events within ``width`` seconds."""
    times = sorted(times)
    return max(sum(start <= t < start + width for t in times) for start in times)


def distribution(seen):
    after = sorted(event.after for event in seen)
    return f"{len(after)} back: median {statistics.median(after):.3f} s, last {after[-1]:.3f} s"


@on_loop
async def test_two_hundred_keys_come_back_whatever_happens(make_etcd, etcd_binary, record_property):
    server = make_etcd(binary=etcd_binary)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(server))
        kept = [client.keep(f"/kept/{n}", f"value {n}", ttl=3) for n in range(MANY)]
        with events.record(LeaseGranted) as grants:
            await asyncio.gather(*(stack.enter_async_context(each) for each in kept))
        assert await missing(client, kept) == []
        assert peak([event.at for event in grants]) < MANY  # they do not all begin at once

        async def after(name, misfortune, *, vanish=True):
            with events.record(KeyDown, KeyRestored, LeaseGranted) as seen:
                began = time.monotonic()
                await misfortune()
                await all_back(client, kept)
                took = time.monotonic() - began
                await eventually(lambda: not any(each._down_since for each in kept))
            counts = Counter(type(event) for event in seen)
            if vanish:
                assert counts[KeyDown] == counts[KeyRestored] == MANY
                restored = [event for event in seen if isinstance(event, KeyRestored)]
                record_property(name, f"{took:.2f} s; {distribution(restored)}")
                print(f"\n{name}: {took:.2f} s; {distribution(restored)}", end="")
            granted = [event.at for event in seen if isinstance(event, LeaseGranted)]
            if granted:
                assert peak(granted) < MANY
            return counts

        async def deleted():
            assert (await client.delete("/kept/", prefix=True)).deleted == MANY
            await eventually(lambda: not all(each.present for each in kept))

        counts = await after("deleted by hand", deleted)
        assert counts[LeaseGranted] == 0  # the leases had not gone

        async def revoked():
            await asyncio.gather(*(revoke(client, each.lease) for each in kept))
            await eventually(lambda: not all(each.present for each in kept))

        counts = await after("leases revoked", revoked)
        assert counts[LeaseGranted] == MANY

        async def killed():
            server.kill()
            await asyncio.sleep(4.0)
            assert not any(each.present for each in kept)  # nobody knows
            server.start()

        # etcd gives its leases their whole TTL again when it starts: nothing has to be put back.
        counts = await after("killed for longer than the TTL", killed, vanish=False)
        assert counts[LeaseGranted] == 0

        async def wiped():
            server.kill()
            server.wipe()
            server.start()
            await eventually(lambda: not all(each.present for each in kept))

        counts = await after("data wiped", wiped)
        assert counts[LeaseGranted] == MANY
        assert client._keeper._stream.opened < 20
    async with client_of(server) as other:
        assert await leases(other) == set()
        assert (await other.range("/kept/", prefix=True)).count == 0


@on_loop
async def test_its_value_can_be_changed(make_etcd, etcd_binary):
    server = make_etcd(binary=etcd_binary, options=("--max-request-bytes", "20000"))
    async with client_of(server) as client:
        async with client.keep("/kept/1", "one", ttl=60) as kept:
            assert kept.present
            assert (await client.get("/kept/1")).value == b"one"
            await kept.set(b"two")
            assert (await client.get("/kept/1")).value == b"two"
            await asyncio.gather(*(kept.set(str(n)) for n in range(20)))
            assert (await client.get("/kept/1")).value == b"19"
            with pytest.raises(StoreError):
                await kept.set(b"x" * 40_000)
            assert (await client.get("/kept/1")).value == b"19"
            await kept.set("three")
            assert (await client.get("/kept/1")).value == b"three"
            await client.delete("/kept/1")
            await eventually(lambda: _holds(client, b"three"))  # the newest, not the first
        assert await client.get("/kept/1") is None
        with pytest.raises(ClosedError):
            await kept.set("four")
        async with kept:  # again, with the last value
            assert (await client.get("/kept/1")).value == b"three"


async def _holds(client, value, key="/kept/1"):
    kv = await client.get(key)
    return kv is not None and kv.value == value


@on_loop
async def test_the_store_away_sets_the_value_later(etcd):
    async with client_of(etcd, timeout=1.0) as client:
        async with client.keep("/kept/1", "one", ttl=60) as kept:
            etcd.kill()
            with pytest.raises(StoreUnavailable):
                await kept.set("two")
            with pytest.raises(DeadlineExceeded):
                with context.timeout(0.2):
                    await kept.set("three")
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(0.2):
                    await kept.set("four")
            etcd.start()
            await eventually(lambda: _holds(client, b"four"))


@on_loop
async def test_entering_fails_when_the_store_is_away_or_refuses(make_etcd):
    server = make_etcd(options=("--max-request-bytes", "20000"))
    async with client_of(server, timeout=1.0) as client:
        with pytest.raises(StoreError) as refused:
            async with client.keep("/kept/1", b"x" * 40_000, ttl=60):
                pass
        assert not isinstance(refused.value, StoreUnavailable)
        await eventually(lambda: _no_leases(client))
        server.kill()
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            async with client.keep("/kept/1", "one", ttl=60):
                pass
        assert time.monotonic() - start < 15
        await eventually(lambda: not client._keeper._held)
        server.start()
        assert await client.get("/kept/1") is None
        await eventually(lambda: _no_leases(client))


async def _no_leases(client):
    return not await leases(client)


@on_loop
async def test_an_overwritten_key_is_taken_back(etcd):
    async with client_of(etcd) as client:
        async with client.keep("/kept/1", "mine", ttl=60) as kept:
            with events.record(KeyDown, KeyRestored) as seen:
                await client.put("/kept/1", "theirs")
                await eventually(lambda: len(seen) == 2)
            kv = await client.get("/kept/1")
            assert (kv.value, kv.lease) == (b"mine", kept.lease)
            assert seen[0].loss == "overwritten"
            # Overwritten again and left like that: it is not ours to delete.
            kept._core.contested = True
            kept._core._not_before = kept._core._last_loss = float("inf")
            await client.put("/kept/1", "theirs")
            await eventually(lambda: not kept.present)
        assert (await client.get("/kept/1")).value == b"theirs"


@on_loop
async def test_two_that_keep_one_key_make_no_storm(etcd):
    async with client_of(etcd) as one, client_of(etcd) as two:
        with events.record(KeyContested, limit=1000) as seen:
            async with one.keep("/kept/1", "one", ttl=60), two.keep("/kept/1", "two", ttl=60):
                await asyncio.sleep(3)
                kv = await one.get("/kept/1")
        assert kv is not None
        assert kv.value in {b"one", b"two"}
        assert 1 <= len(seen) < 20
        assert kv.version < 40
        assert all(event.losses > 3 for event in seen)
        assert seen[0].rival


def test_the_sync_face(etcd):
    client = client_of(etcd)
    with client.sync.keep("/kept/1", "one", ttl=60) as kept:
        assert kept.present
        kept.set("two")
        assert PORTAL.call(_holds, client, b"two")
        with pytest.raises(InvalidArgument, match="entered already"):
            kept.__enter__()
    assert not kept.present
    assert PORTAL.call(client.get, "/kept/1") is None
    PORTAL.call(client.aclose)


@on_loop
async def test_closing_the_client_lets_go(etcd):
    client = client_of(etcd)
    async with client.keep("/kept/1", "one", ttl=60) as kept:
        await client.aclose()
        assert not kept.present
        with pytest.raises(ClosedError):
            await kept.set("two")
    async with client_of(etcd) as other:
        assert await leases(other) == set()
        assert await other.get("/kept/1") is None


@pytest.mark.parametrize("where", ["own loop", "background loop"])
def test_cancelled_at_any_await_nothing_is_left(etcd, where):
    async def main():
        async with client_of(etcd) as client:

            async def scenario():
                async with client.keep("/kept/1", "one", ttl=60) as kept:
                    await kept.set("two")

            async def clean():
                keeper = client._keeper
                if keeper._held or keeper._leaving or await leases(client):
                    return False
                return await client.get("/kept/1") is None

            await scenario()
            steps = await cancelled_everywhere(scenario, clean)
            tasks = asyncio.all_tasks(PORTAL.loop)
            assert not [task for task in tasks if "/kept/1" in task.get_name()]
            return steps

    steps = asyncio.run(main()) if where == "own loop" else PORTAL.call(main)
    assert steps > 3


@on_loop
async def test_cut_connections_are_not_noticed(etcd, make_proxy):
    proxy = make_proxy(etcd.port)
    async with client_of(proxy) as client, client_of(etcd) as direct:
        async with client.keep("/kept/1", "one", ttl=3) as kept:
            lease = kept.lease
            for _ in range(2):
                proxy.cut()
                await asyncio.sleep(0.3)
                proxy.heal()
                await asyncio.sleep(0.7)
                assert (await direct.get("/kept/1")).lease == lease
            await direct.delete("/kept/1")
            await eventually(lambda: _holds(direct, b"one"))
