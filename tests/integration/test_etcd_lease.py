"""Leases on real etcd servers: kept alive through everything that is not their end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from lease_probes import (
    cancelled_everywhere,
    client_of,
    eventually,
    leases,
    on_loop,
    revoke,
    time_to_live,
)

from hastack import context, events
from hastack._core._portal import PORTAL
from hastack.discovery.etcd import Client
from hastack.discovery.etcd._lease_events import KeepaliveInterrupted, LeaseEnded, LeaseGranted
from hastack.errors import Cancelled, ClosedError, InvalidArgument, LeaseLost, StoreUnavailable

TTL = 3  # seconds; etcd grants at least two


async def lost(lease, within=20.0):
    """Wait for the end of a lease's context."""
    assert await lease.context.wait_async(within), "the lease was not lost"
    return lease.context.cause()


@on_loop
async def test_a_lease_outlives_its_ttl_and_ends_with_its_block(make_etcd, etcd_binary):
    server = make_etcd(binary=etcd_binary)
    async with client_of(server) as client:
        with events.record(LeaseGranted, LeaseEnded) as seen:
            async with client.lease(2) as lease:
                await client.put("/k", "v", lease=lease)
                await asyncio.sleep(3.5)
                assert await client.get("/k") is not None
                assert not lease.context.done
                assert 0 < lease.remaining() <= lease.ttl
            assert lease.context.done
            assert lease.remaining() == 0.0
            assert await client.get("/k") is None
            assert await leases(client) == set()
        assert [type(each) for each in seen] == [LeaseGranted, LeaseEnded]
        assert seen[1].reason == "left"


def test_the_sync_face(etcd):
    client = client_of(etcd)
    with client.sync.lease(TTL) as lease:
        assert PORTAL.call(time_to_live, client, lease.id) > 0
        assert lease.remaining() > 0
    assert PORTAL.call(leases, client) == set()
    PORTAL.call(client.aclose)


@on_loop
async def test_a_loop_that_stands_still_loses_nothing(etcd):
    async with client_of(etcd) as client:
        async with client.lease(TTL) as lease:
            for _ in range(2):
                time.sleep(2.5)  # noqa: ASYNC251  # that is what is tested
                assert not lease.context.done
            assert await time_to_live(client, lease.id) > 0


@on_loop
async def test_threads_that_hold_the_interpreter_lose_nothing(etcd):
    async with client_of(etcd) as client:
        stop = time.monotonic() + 1.5 * TTL
        busy = [threading.Thread(target=spin, args=(stop,)) for _ in range(2)]
        async with client.lease(TTL) as lease:
            for thread in busy:
                thread.start()
            while time.monotonic() < stop:
                assert not lease.context.done
                assert await time_to_live(client, lease.id) > 0
                await asyncio.sleep(0.3)
            for thread in busy:
                thread.join()
            assert not lease.context.done


def spin(until):
    while time.monotonic() < until:
        sum(range(1000))


@on_loop
async def test_one_stream_for_all(etcd):
    async with client_of(etcd) as client:
        held = [client.lease(2) for _ in range(100)]
        await asyncio.gather(*(each.__aenter__() for each in held))
        await asyncio.sleep(2.5)
        assert client._keeper._stream.opened == 1
        assert len(await leases(client)) == 100
        assert not any(each.context.done for each in held)
        await asyncio.gather(*(each.__aexit__(None, None, None) for each in held))
        assert await leases(client) == set()
        assert client._keeper._stream._task is None
        assert client._keeper._leaving == {}


@on_loop
async def test_without_the_store_it_can_be_relied_on_until_its_ttl(etcd):
    server = etcd
    async with client_of(server) as client:
        with events.record(LeaseEnded) as seen:
            async with context.timeout(60), client.lease(TTL) as lease:
                assert lease.context.remaining() is not None  # a child of the current context
                server.kill()
                start = time.monotonic()
                cause = await lost(lease)
                assert isinstance(cause, LeaseLost)
                assert cause.lease == lease.id
                assert time.monotonic() - start > TTL / 3
                assert lease.remaining() == 0.0
        assert [each.reason for each in seen] == ["unreachable"]


@on_loop
async def test_work_under_the_lease_stops_with_it(etcd):
    async with client_of(etcd) as client, client.lease(TTL) as lease:
        with pytest.raises(Cancelled) as raised:
            async with lease.context:
                await revoke(client, lease.id)
                await asyncio.sleep(50)
        assert isinstance(raised.value.cause, LeaseLost)


@on_loop
async def test_a_revoked_lease_is_lost(make_etcd, etcd_binary):
    server = make_etcd(binary=etcd_binary)
    async with client_of(server) as client:
        with events.record(LeaseEnded) as seen:
            async with client.lease(TTL) as lease:
                await revoke(client, lease.id)
                assert isinstance(await lost(lease), LeaseLost)
        assert [each.reason for each in seen] == ["gone"]


@on_loop
async def test_wiped_data_take_the_leases_with_them(etcd):
    async with client_of(etcd) as client, client.lease(10) as lease:
        etcd.kill()
        etcd.wipe()
        etcd.start()
        assert "does not exist" in str(await lost(lease))


@on_loop
async def test_cut_connections_lose_nothing(etcd, make_proxy):
    proxy = make_proxy(etcd.port)
    async with client_of(proxy) as client, client.lease(TTL) as lease:
        with events.record(KeepaliveInterrupted) as seen:
            for _ in range(2):
                await asyncio.sleep(0.8)
                proxy.cut()
                await asyncio.sleep(0.3)
                proxy.heal()
                assert not lease.context.done
            await asyncio.sleep(TTL)
        assert not lease.context.done
        assert await time_to_live(client, lease.id) > 0
        assert seen


@on_loop
async def test_a_frozen_connection_ends_in_time_or_is_survived(etcd, make_proxy):
    proxy = make_proxy(etcd.port)
    async with client_of(proxy, timeout=1.0) as client, client.lease(TTL) as lease:
        await asyncio.sleep(1.0)
        proxy.freeze()
        await asyncio.sleep(0.6)
        assert not lease.context.done
        proxy.heal()
        await asyncio.sleep(TTL - 0.5)  # it would be lost by now
        assert not lease.context.done
        proxy.freeze()
        assert isinstance(await lost(lease), LeaseLost)
        proxy.heal()


@on_loop
async def test_a_frozen_member_is_left_in_time(make_etcd_cluster):
    members = make_etcd_cluster(3)
    endpoints = ",".join(each.endpoint for each in members)
    async with Client(endpoints) as client, client.lease(5) as lease:
        await eventually(lambda: client._keeper._stream._stream is not None)
        home = client._keeper._stream._stream.endpoint
        (frozen,) = [each for each in members if each.endpoint == home]
        with events.record(KeepaliveInterrupted) as seen:
            frozen.pause()
            try:
                await asyncio.sleep(5.5)
                assert not lease.context.done
                assert client._keeper._stream._stream.endpoint != home
            finally:
                frozen.resume()
        assert seen[0].reason == "no answer in time"


@on_loop
async def test_entering_without_a_store_fails_in_time(etcd):
    etcd.kill()
    async with client_of(etcd, timeout=1.0) as client:
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            async with client.lease(TTL):
                pass
        assert time.monotonic() - start < 10
        assert not client._keeper._held


@on_loop
async def test_leaving_without_a_store_ends_in_time(etcd):
    async with client_of(etcd) as client:
        with events.record(LeaseEnded) as seen:
            async with client.lease(60):
                etcd.kill()
                start = time.monotonic()
            assert time.monotonic() - start < 10
            await eventually(lambda: seen)
        assert [each.reason for each in seen] == ["not revoked"]


@on_loop
async def test_closing_the_client_ends_its_leases(etcd):
    client = client_of(etcd)
    with events.record(LeaseEnded) as seen:
        async with client.lease(60) as lease:
            await client.aclose()
            assert lease.context.done
            assert isinstance(lease.context.cause(), LeaseLost)
    assert [each.reason for each in seen] == ["closed"]
    with pytest.raises(ClosedError):
        client.lease(5)
    async with client_of(etcd) as other:
        assert await leases(other) == set()


@on_loop
async def test_a_lease_is_entered_once_at_a_time_and_may_be_used_again(etcd):
    async with client_of(etcd) as client:
        lease = client.lease(TTL)
        with pytest.raises(InvalidArgument, match="entered"):
            lease.context  # noqa: B018
        async with lease:
            first = lease.id
            with pytest.raises(InvalidArgument, match="entered already"):
                await lease.__aenter__()
        async with lease:
            assert lease.id != first
            assert not lease.context.done


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), "3", 1e12])
def test_what_is_no_ttl_is_refused(ttl):
    with pytest.raises(InvalidArgument, match="ttl"):
        Client("127.0.0.1:1").lease(ttl)


# Cancellation


@pytest.mark.parametrize("where", ["own loop", "background loop"])
def test_cancelled_at_any_await_nothing_is_left(etcd, where):
    """On the background loop, every await of the inner code is a step of the same task."""

    async def main():
        async with client_of(etcd) as client:

            async def scenario():
                async with client.lease(60):
                    await asyncio.sleep(0)

            async def clean():
                keeper = client._keeper
                return not keeper._held and not keeper._leaving and not await leases(client)

            async with client.lease(TTL):
                pass
            return await cancelled_everywhere(scenario, clean)

    steps = asyncio.run(main()) if where == "own loop" else PORTAL.call(main)
    assert steps > 3


# Processes, threads, files


FORK = """
import os, sys, time
from hastack._core._portal import PORTAL
from hastack.discovery.etcd import Client, _wire

def left(client, lease):
    async def ask():
        request = _wire.LeaseTimeToLiveRequest(ID=lease)
        return (await client._transport().call(_wire.LEASE_TIME_TO_LIVE, request)).TTL
    return PORTAL.call(ask)

client = Client(sys.argv[1])
lease = client.sync.lease(2)
kept = client.sync.keep("/kept", "parent", ttl=2)
with lease, kept:
    child = os.fork()
    if child == 0:
        assert lease.remaining() == 0.0
        assert lease.context.done
        assert not kept.present
    else:
        assert os.waitpid(child, 0)[1] == 0
        assert not lease.context.done
        assert left(client, lease.id) >= 0, "the child has revoked the lease"
        time.sleep(3)
        assert left(client, lease.id) >= 0 and kept.present
        number = lease.id
# The child has left both blocks, and revoked nothing.
if child == 0:
    assert client._keeper is None
    os._exit(0)
assert left(client, number) == -1
"""


def test_a_forked_child_neither_keeps_nor_revokes(etcd):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), etcd.endpoint],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@on_loop
async def test_leases_leave_no_threads_and_no_files(etcd):
    async with client_of(etcd) as client:

        async def cycle():
            async with client.lease(TTL):
                pass

        for _ in range(5):
            await cycle()
        gc.collect()
        threads, files = threading.active_count(), open_files()
        for _ in range(20):
            await asyncio.gather(*(cycle() for _ in range(10)))
        gc.collect()
        assert threading.active_count() <= threads
        assert open_files() <= files
        assert await leases(client) == set()
        assert len(client._keeper._stream._table) == 0
