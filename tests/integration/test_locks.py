"""Locks and elections on the embedded store and on etcd: one holder at a time, in order, fenced."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from lease_probes import cancelled_everywhere, client_of, eventually, leases, on_loop, revoke

from hastack import context
from hastack._core._portal import PORTAL
from hastack.discovery import Put, memory
from hastack.discovery.election import Election
from hastack.discovery.lock import Lock
from hastack.errors import Cancelled, DeadlineExceeded, InvalidArgument, LeaseLost

# How many holders of the fenced counter are killed or stopped; HASTACK_LOCK_TURNS asks for more.
TURNS = int(os.environ.get("HASTACK_LOCK_TURNS", "2"))


@pytest.fixture(params=["memory", "etcd"])
def open_store(request):
    """Opens the store under test; etcd comes with a server of its own."""
    if request.param == "memory":
        return memory.Store
    server = request.getfixturevalue("etcd")
    return lambda: client_of(server)


def closing(test):
    """Hand ``test`` an open store, and close it afterwards."""

    async def main(store):
        try:
            async with asyncio.timeout(50):
                await test(store)
        finally:
            await store.aclose()

    def run(open_store):
        asyncio.run(main(open_store()))

    return run


@closing
async def test_one_at_a_time_in_the_order_of_asking(store):
    inside, order, fences = 0, [], []

    async def one(number):
        nonlocal inside
        async with Lock(store, "l", ttl=5) as held:
            inside += 1
            assert inside == 1
            order.append(number)
            fences.append(held.fence)
            await asyncio.sleep(0.005)
            assert inside == 1
            inside -= 1

    tasks = []
    async with Lock(store, "l", ttl=5):
        for number in range(20):
            tasks.append(apart(one(number)))
            await eventually(lambda: _asked(store, "l", len(tasks) + 1))
    await asyncio.gather(*tasks)
    assert order == list(range(20))
    assert fences == sorted(set(fences))
    assert await Lock(store, "l").holder() is None


async def _asked(store, name, count):
    found = await store.range(f"/hs/1/lock/{name}/", prefix=True, count_only=True)
    return found.count == count


@closing
async def test_one_departure_wakes_one_waiter(store):
    """Each waits for the one before it: nobody else reads the queue when the lock changes hands."""
    reads = 0
    original = store.range

    async def counted(*args, **kwargs):
        nonlocal reads
        reads += 1
        return await original(*args, **kwargs)

    first = Lock(store, "l", ttl=5)
    await first.__aenter__()
    waiting = [apart(_hold(store, 60.0)) for _ in range(10)]
    await eventually(lambda: _asked(store, "l", 11))
    await asyncio.sleep(0.3)
    store.range = counted
    await first.__aexit__(None, None, None)
    await eventually(lambda: reads)
    await asyncio.sleep(0.3)
    assert reads <= 2
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    del store.range
    assert await Lock(store, "l").holder() is None


def apart(work):
    """A task that does not inherit the context of the block in which it is made."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def _hold(store, seconds, name="l", ttl=5.0):
    async with Lock(store, name, ttl=ttl):
        await asyncio.sleep(seconds)


@closing
async def test_a_waiter_that_gives_up_leaves_the_queue(store):
    async with Lock(store, "l", ttl=5):
        with pytest.raises(DeadlineExceeded):
            async with context.timeout(0.2), Lock(store, "l", ttl=5):
                raise AssertionError("two holders")
        task = apart(_hold(store, 60.0))
        await eventually(lambda: _asked(store, "l", 2))
        behind = apart(_hold(store, 0.0))
        await eventually(lambda: _asked(store, "l", 3))
        task.cancel()
        await asyncio.wait((task,))
        found = await store.range("/hs/1/lock/l/", prefix=True)
        assert found.count == 2
        assert not behind.done()
    await asyncio.wait_for(behind, 10)


@closing
async def test_a_holder_whose_key_is_deleted_is_stopped(store):
    with pytest.raises(Cancelled) as raised:
        async with Lock(store, "l", ttl=30) as held:
            await store.delete(held.key)
            await asyncio.sleep(30)
    assert isinstance(raised.value.cause, LeaseLost)
    assert held.context.done
    answer = await store.txn([held.check], [Put("/total", "1")])
    assert not answer.succeeded


@closing
async def test_a_waiter_whose_key_is_deleted_says_so(store):
    async with Lock(store, "l", ttl=30) as held:
        task = apart(_hold(store, 0.0))
        await eventually(lambda: _asked(store, "l", 2))
        for kv in (await store.range("/hs/1/lock/l/", prefix=True)).kvs:
            if kv.key != held.key:
                await store.delete(kv.key)
    with pytest.raises(LeaseLost, match="deleted"):
        await asyncio.wait_for(task, 10)


@closing
async def test_the_current_context_is_that_of_the_holder(store):
    with context.with_value("user", "ada"):
        async with Lock(store, "l", ttl=5) as held:
            assert context.current() is held.context
            assert held.context.value("user") == "ada"
        assert held.context.done
        assert context.current() is not held.context


@closing
async def test_a_lock_is_entered_once_at_a_time_and_may_be_used_again(store):
    lock = Lock(store, "l", ttl=5)
    async with lock as first:
        with pytest.raises(InvalidArgument, match="entered already"):
            await lock.__aenter__()
        assert (await lock.holder()).create_revision == first.fence
    async with lock as second:
        assert second.fence > first.fence
    for wrong in ("", 7):
        with pytest.raises(InvalidArgument, match="name"):
            Lock(store, wrong)
    with pytest.raises(InvalidArgument, match="ttl"):
        Lock(store, "l", ttl=0)


@closing
async def test_names_do_not_run_into_each_other(store):
    async with Lock(store, "a", ttl=5), Lock(store, "a/b", ttl=5), Lock(store, "ab", ttl=5):
        async with Election(store, "a", ttl=5).campaign(b""):
            pass


def test_threads_take_turns(open_store):
    store = open_store()
    inside, total, fences = 0, 0, []

    def work():
        nonlocal inside, total
        for _ in range(3):
            with Lock(store, "l", ttl=5).sync() as held:
                inside += 1
                assert inside == 1
                assert context.current() is held.context
                fences.append(held.fence)
                seen = total
                time.sleep(0.002)
                total = seen + 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert total == 18
    assert fences == sorted(set(fences))
    with Lock(store, "l", ttl=5).sync():
        with pytest.raises(DeadlineExceeded):
            with context.timeout(0.2):
                Lock(store, "l", ttl=5).sync().__enter__()
    PORTAL.call(store.aclose)


@pytest.mark.parametrize("where", ["own loop", "background loop"])
def test_cancelled_at_any_await_nothing_is_left(open_store, where):
    async def main():
        store = open_store()

        async def scenario():
            async with Lock(store, "l", ttl=30):
                await asyncio.sleep(0)

        async def clean():
            count = (await store.range("/hs/1/lock/", prefix=True)).count
            return count == 0 and await no_leases(store)

        await scenario()
        steps = await cancelled_everywhere(scenario, clean)
        async with Lock(store, "l", ttl=30) as held:
            waiter = Lock(store, "l", ttl=30)

            async def waiting():
                async with context.timeout(0.05):
                    await waiter.__aenter__()

            async def alone():
                return (await store.range("/hs/1/lock/", prefix=True)).count == 1

            async def scenario_of_waiting():
                with pytest.raises(DeadlineExceeded):
                    await waiting()

            steps += await cancelled_everywhere(scenario_of_waiting, alone)
            assert not held.context.done
        await store.aclose()
        return steps

    steps = asyncio.run(main()) if where == "own loop" else PORTAL.call(main)
    assert steps > 3


async def no_leases(store):
    return isinstance(store, memory.Store) or not await leases(store)


@closing
async def test_elections(store):
    election = Election(store, "e", ttl=5)
    seen = []

    async def observe():
        async for leader in election.observe():
            seen.append(None if leader is None else leader.value)

    observer = asyncio.ensure_future(observe())
    await eventually(lambda: seen == [None])
    assert await election.leader() is None

    async def candidate(value, until):
        async with election.campaign(value) as term:
            await until.wait()
            return term.fence

    async with election.campaign("one") as term:
        await eventually(lambda: seen[-1] == b"one")
        await term.proclaim("uno")
        assert (await election.leader()).value == b"uno"
        await eventually(lambda: seen[-1] == b"uno")
        over = asyncio.Event()
        two = apart(candidate("two", over))
        await eventually(lambda: _candidates(store, 2))
        assert (await election.leader()).value == b"uno"
        await term.resign()
        assert term.context.done
        await eventually(lambda: seen[-1] == b"two")
        with pytest.raises(LeaseLost):
            await term.proclaim("again")
        assert not (await store.txn([term.check], [Put("/total", "1")])).succeeded
    over.set()
    assert await two > term.fence
    await eventually(lambda: seen[-1] is None)
    observer.cancel()
    await asyncio.wait((observer,))
    assert seen == [None, b"one", b"uno", b"two", None]


async def _candidates(store, count):
    return (await store.range("/hs/1/elect/e/", prefix=True)).count == count


# On etcd, with everything that can go wrong


@on_loop
async def test_losing_the_lease_stops_the_block_and_the_next_one_goes_on(make_etcd, etcd_binary):
    server = make_etcd(binary=etcd_binary)
    async with client_of(server) as client, client_of(server) as other:
        lock = Lock(client, "l", ttl=2)
        following = None
        with pytest.raises(Cancelled) as raised:
            async with lock as held:
                following = apart(_hold(other, 0.0, ttl=30))
                await eventually(lambda: _asked(client, "l", 2))
                await revoke(client, lock._turn.lease.id)
                await asyncio.sleep(30)
        assert isinstance(raised.value.cause, LeaseLost)
        await asyncio.wait_for(following, 20)
        assert not (await client.txn([held.check], [Put("/total", "1")])).succeeded


@on_loop
async def test_an_outage_shorter_than_the_ttl_is_survived_by_holder_and_waiters(etcd, make_proxy):
    proxy = make_proxy(etcd.port)
    async with client_of(proxy) as client:
        async with Lock(client, "l", ttl=10) as held:
            waiting = [apart(_hold(client, 0.0, ttl=10)) for _ in range(5)]
            await eventually(lambda: _asked(client, "l", 6))
            proxy.cut()
            await asyncio.sleep(1.0)
            proxy.heal()
            assert not held.context.done
            assert not any(task.done() for task in waiting)
        await asyncio.wait_for(asyncio.gather(*waiting), 30)


COUNTER = """
import asyncio, random, sys
from hastack.discovery import Compare, Put
from hastack.discovery.etcd import Client
from hastack.discovery.lock import Lock
from hastack.errors import HastackError

async def increment(client):
    async with Lock(client, "counter", ttl=2) as held:
        found = await client.get("/counter")
        number, fence = map(int, found.value.split())
        await asyncio.sleep(random.random() * 0.02)
        # The resource refuses a smaller fence than it has seen, and takes no other's change back.
        accepted = held.fence > fence
        done = await client.txn(
            [held.check, Compare("/counter", "mod_revision", "==", found.mod_revision)],
            [Put("/counter", f"{number + 1} {held.fence}"), Put(f"/log/{held.fence}", sys.argv[2])],
        )
        if done.succeeded:
            assert accepted, (held.fence, fence)
            print("+", flush=True)

async def main():
    async with Client(sys.argv[1]) as client:
        async def go_on():
            while True:
                try:
                    await increment(client)
                except HastackError:
                    await asyncio.sleep(0.05)
        await asyncio.gather(*(go_on() for _ in range(3)))

asyncio.run(main())
"""


@on_loop
async def test_a_fenced_counter_counts_right_while_holders_are_killed(etcd):
    """Processes increment under the lock; some are killed with it in hand, some are stopped."""

    def start(number):
        return subprocess.Popen(
            [sys.executable, "-c", COUNTER, etcd.endpoint, str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async with client_of(etcd) as client:
        await client.put("/counter", "0 0")
        running = [start(n) for n in range(3)]
        ended = []
        try:
            for turn in range(TURNS):
                await asyncio.sleep(0.5)
                await eventually(lambda: Lock(client, "counter").holder())
                victim = running.pop(0)
                if turn % 2:
                    os.kill(victim.pid, signal.SIGSTOP)  # and goes on after its lease has ended
                    await asyncio.sleep(2.5)
                    os.kill(victim.pid, signal.SIGCONT)
                    running.append(victim)
                else:
                    victim.kill()
                    ended.append(victim)
                    running.append(start(turn + 10))
            before = int((await client.get("/counter")).value.split()[0])
            await eventually(
                lambda: _counts_on(client, before + 3), within=30.0
            )  # the killed hold nobody up
        finally:
            for process in running:
                process.kill()
            outputs = [process.communicate(timeout=10) for process in running + ended]
        number, fence = map(int, (await client.get("/counter")).value.split())
        log = (await client.range("/log/", prefix=True)).kvs
        assert number == len(log) >= sum(out.count(b"+") for out, _ in outputs) > 3
        assert fence == max(int(kv.key.rpartition(b"/")[2]) for kv in log)
        # In the order of the commits, fences only grow.
        log = sorted(log, key=lambda kv: kv.mod_revision)
        fences = [int(kv.key.rpartition(b"/")[2]) for kv in log]
        assert fences == sorted(set(fences))
        assert not [err for _, err in outputs if b"AssertionError" in err]


async def _counts_on(client, before):
    return int((await client.get("/counter")).value.split()[0]) > before
