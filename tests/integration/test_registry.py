"""Registry, registrations, watches and probes, over the embedded store and over etcd."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
from etcd_servers import Etcd, binaries

from hastack import context, discovery, events
from hastack.discovery import Change, Health, Instance, Registry, memory
from hastack.discovery import registry as registry_module
from hastack.discovery._layout import InstanceKey, service_prefix
from hastack.errors import (
    ClosedError,
    DeadlineExceeded,
    DiscoveryError,
    InvalidArgument,
    LifecycleError,
    StoreUnavailable,
)

BOUND = 30.0  # seconds; ends what hangs
_number = itertools.count()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One etcd per version, started when first asked for."""
    started = {}

    def endpoint(version):
        found = binaries()
        if version not in found:
            pytest.skip(f"no etcd {version} on this machine")
        if version not in started:
            directory = tmp_path_factory.mktemp(f"etcd-{version}")
            started[version] = Etcd(directory, binary=found[version]).start()
        return started[version].endpoint

    yield endpoint
    for each in started.values():
        each.kill()


@pytest.fixture(params=["memory", "etcd-3.4", "etcd-3.5"])
def url(request, servers):
    """A store with nothing in it."""
    kind, _, version = request.param.partition("-")
    name = f"registry-{os.getpid()}-{next(_number)}"
    return f"memory://{name}" if kind == "memory" else f"etcd://{servers(version)}/{name}%2F"


def store_at(url):
    return discovery.connect(url).store


def run(main, *args):
    async def bounded():
        async with asyncio.timeout(BOUND):
            return await main(*args)

    return asyncio.run(bounded())


async def until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        await asyncio.sleep(0.01)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def take(feed, count):
    found = []
    for _ in range(count):
        change = await anext(feed)
        found.append((change.kind, change.instance.id))
    return found


def raw(service, name, origin="local"):
    return InstanceKey("reg", origin, "default", service, name).to_bytes()


# Registering and watching ---------------------------------------------------------------


def test_a_registration_is_seen_changed_and_gone(url) -> None:
    async def main():
        async with discovery.connect(url) as reg, reg.watch("orders") as feed:
            async with reg.register("orders", "a:1", metadata={"v": "1"}, grace=0.05) as one:
                first = await anext(feed)
                assert (first.kind, first.instance) == ("added", one.instance)
                assert one.present
                assert one.state == "present"
                await one.update(metadata={"v": "2"}, weight=3.0, zone="z", address="b:1")
                second = await anext(feed)
                assert second.kind == "updated"
                assert second.previous == first.instance
                assert second.instance == one.instance
                assert (second.instance.weight, second.instance.zone) == (3.0, "z")
                assert second.instance.incarnation == first.instance.incarnation
                assert second.revision > first.revision
                await one.draining()
                assert (await anext(feed)).instance.draining
                assert one.state == "draining"
                await one.draining(False)
                assert not (await anext(feed)).instance.draining
            assert one.state == "closed"
            assert not one.present
            leaving = await anext(feed)
            if leaving.kind == "updated":  # draining and gone may come as one
                assert leaving.instance.draining
                leaving = await anext(feed)
            assert leaving.kind == "removed"
            assert (await reg.resolve_async("orders")).instances == ()

    run(main)


def test_threads_use_the_same_without_a_loop(url) -> None:
    with discovery.connect(url) as reg:
        with reg.watch("orders") as feed:
            with reg.register("orders", "a:1", grace=0.0) as one:
                assert next(feed).instance == one.instance
                one.update(weight=2.0).wait()
                assert next(feed).instance.weight == 2.0
                assert reg.resolve("orders").instances[0].weight == 2.0
                assert reg.services() == ("orders",)
            assert next(feed).kind == "removed"
        with pytest.raises(StopIteration):
            next(feed)
    with pytest.raises(ClosedError):
        reg.resolve("orders")


def test_the_snapshot_comes_first_then_the_changes(url) -> None:
    async def main():
        async with discovery.connect(url) as reg:
            async with (
                reg.register("orders", "b:1", grace=0.0),
                reg.register("orders", "a:1", grace=0.0),
                reg.watch("orders") as feed,
            ):
                batch = await feed.next_batch()
                assert [c.instance.id for c in batch] == ["a:1", "b:1"]
                assert feed.synced
                assert [i.id for i in feed.instances] == ["a:1", "b:1"]
                assert feed.resolved.complete
                assert feed.age < 5.0
                async with reg.register("orders", "c:1", grace=0.0):
                    assert await take(feed, 1) == [("added", "c:1")]
                assert await take(feed, 1) == [("removed", "c:1")]
            assert await feed.next_batch() == ()
            async with reg.watch("nobody") as feed:
                assert await feed.next_batch() == ()
                assert feed.synced
                assert feed.instances == ()

    run(main)


def test_services_namespaces_and_origins_are_apart(url) -> None:
    async def main():
        async with (
            discovery.connect(url) as here,
            discovery.connect(url, namespace="staging") as staging,
            discovery.connect(url, origin="eu/1") as east,
            here.register("orders", "a:1", grace=0.0),
            here.register("orders2", "b:1", grace=0.0),
            here.register("a/b %", "d:1", grace=0.0),
            staging.register("orders", "c:1", grace=0.0),
            east.register("mail", "e:1", grace=0.0) as mail,
        ):
            assert mail.instance.id == "e:1@eu/1"
            assert await here.services_async() == ("a/b %", "orders", "orders2")
            assert await staging.services_async() == ("orders",)
            assert await east.services_async() == ("mail",)
            for reg, service, ids in (
                (here, "orders", ["a:1"]),
                (staging, "orders", ["c:1"]),
                (here, "a/b %", ["d:1"]),
                (here, "mail", []),
                (east, "mail", ["e:1@eu/1"]),
            ):
                found = await reg.resolve_async(service)
                assert [each.id for each in found.instances] == ids
            assert await asyncio.to_thread(here.origins) == ("eu/1", "local")

    run(main)


def test_one_id_is_registered_once_per_process(url) -> None:
    async def main():
        async with discovery.connect(url) as reg, reg.register("orders", "a:1", grace=0.0) as one:
            with pytest.raises(InvalidArgument, match="id='a:1'"):
                async with reg.register("orders", "a:1"):
                    pass
            assert one.present
            async with reg.register("orders", "a:1", id="other", grace=0.0):
                assert len((await reg.resolve_async("orders")).instances) == 2
        with pytest.raises(LifecycleError, match="before"):
            await one.__aenter__()

    run(main)


@pytest.mark.parametrize(
    ("wrong", "parameter"),
    [
        ({"service": ""}, "service"),
        ({"address": ""}, "address"),
        ({"id": ""}, "id"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": 7}, "metadata"),
        ({"metadata": {"a": "\ud800"}}, "metadata"),
        ({"weight": -1.0}, "weight"),
        ({"zone": None}, "zone"),
        ({"home": 1}, "home"),
        ({"ttl": 0}, "ttl"),
        ({"grace": -1}, "grace"),
        ({"timeout": 0}, "timeout"),
        ({"health": 3}, "probe"),
        ({"when_unhealthy": "keep"}, "when_unhealthy"),
        ({"lifecycle": object()}, "lifecycle"),
    ],
)
def test_bad_arguments_are_named(wrong, parameter) -> None:
    reg = Registry(memory.Store())
    with pytest.raises(InvalidArgument, match=f"^{parameter}="):
        reg.register(**{"service": "orders", "address": "a:1", **wrong})


def test_bad_settings_of_a_registry_are_named() -> None:
    for parameter, value in (
        ("namespace", ""),
        ("origin", ""),
        ("timeout", 0),
        ("idle", -1),
        ("stale_after", 0),
    ):
        with pytest.raises(InvalidArgument, match=f"^{parameter}="):
            Registry(memory.Store(), **{parameter: value})
    with pytest.raises(InvalidArgument, match="connect"):
        Registry("memory://")
    for url in ("", "redis://x", "memory"):
        with pytest.raises(InvalidArgument, match="url"):
            discovery.connect(url)
    with pytest.raises(InvalidArgument, match="callback"):
        Registry(memory.Store()).subscribe("orders", 3)


def test_a_watch_is_used_inside_its_block_and_by_one_task(url) -> None:
    async def main():
        async with discovery.connect(url) as reg:
            feed = reg.watch("orders")
            with pytest.raises(InvalidArgument, match="inside"):
                await anext(feed)
            async with feed:
                await feed.next_batch()
                waiting = asyncio.create_task(anext(feed))
                await asyncio.sleep(0.02)
                with pytest.raises(InvalidArgument, match="one task at a time"):
                    await anext(feed)
                with pytest.raises(InvalidArgument, match="not entered before"):
                    await feed.__aenter__()
            with pytest.raises(StopAsyncIteration):
                await waiting

    run(main)


# What is malformed ----------------------------------------------------------------------


def test_malformed_entries_are_skipped_and_told_once(url) -> None:
    async def main():
        store = store_at(url)
        bad = raw("orders", "bad")
        await store.put(bad, "no json")
        await store.put(service_prefix("reg", "local", "default", "orders") + b"x/y/z", "{}")
        with events.record(registry_module.MalformedEntry) as seen:
            async with discovery.connect(url) as reg, reg.watch("orders") as feed:
                assert await feed.next_batch() == ()
                await store.put(raw("orders", "good"), '{"address":"a:1","later":"version"}')
                assert await take(feed, 1) == [("added", "good")]
                await store.put(raw("orders", "good"), '{"address":7}')
                assert await take(feed, 1) == [("removed", "good")]
                await store.put(bad, '{"address":"b:1"}')
                assert await take(feed, 1) == [("added", "bad")]
                async with reg.watch("orders") as second:
                    await second.next_batch()
        assert sorted(each.key.rpartition(b"/")[2] for each in seen) == [b"bad", b"good", b"z"]
        assert all(each.problem for each in seen)

    run(main)


# Subscribers ----------------------------------------------------------------------------


def test_callbacks_hear_all_instances_and_one_that_raises_is_kept(url, caplog) -> None:
    async def main():
        heard, threads = [], set()

        def callback(instances):
            heard.append([each.id for each in instances])
            threads.add(threading.current_thread().name)
            raise ValueError("in the callback")

        async with discovery.connect(url) as reg:
            stop = reg.subscribe("orders", callback)
            await until(lambda: heard == [[]])
            async with reg.register("orders", "a:1", grace=0.0):
                await until(lambda: heard[-1] == ["a:1"])
                late = []
                reg.subscribe("orders", late.append)
                await until(lambda: late)
                assert late[0][0].id == "a:1"
            await until(lambda: heard[-1] == [])
            stop()
            stop()
            count = len(heard)
            async with reg.register("orders", "b:1", grace=0.0):
                await until(lambda: late[-1] and late[-1][0].id == "b:1")
            assert len(heard) == count
        assert threads == {"hastack-portal"}

    run(main)
    assert "a subscriber of orders failed" in caplog.text


def test_many_subscribers_share_one_watch_and_a_dead_one_costs_little(url) -> None:
    async def main():
        async with discovery.connect(url) as reg:
            dead = reg.watch("orders")
            async with dead:
                watches = [reg.watch("orders") for _ in range(50)]
                for each in watches:
                    await each.__aenter__()
                async with reg.register("orders", "a:1", grace=0.0) as one:
                    for each in watches:
                        assert await take(each, 1) == [("added", "a:1")]
                    for n in range(200):
                        one.update(weight=float(n + 2))
                    await one.update(weight=1000.0)
                    await until(lambda: dead.instances[0].weight == 1000.0)
                    change = await anext(dead)
                    assert len(dead._pending) == 0
                    assert (change.kind, change.instance.weight) == ("added", 1000.0)
                await reg.resolve_async("orders")
                feed = reg._book.feeds["orders"]
                assert len(feed._followers) == 1
                for each in watches:
                    await each.__aexit__(None, None, None)

    run(main)


def test_nobody_is_left_asleep_whatever_thread_it_waits_in() -> None:
    """Changes as fast as they go, to tasks on two loops and to threads that come and go."""
    last, changes = 1000.0, 300

    def heard(change):
        return change.instance.weight == last

    async def follow(reg, patience):
        async with reg.watch("orders") as feed:
            while True:
                try:
                    async with asyncio.timeout(patience):
                        change = await anext(feed)
                except TimeoutError:
                    continue  # and waits anew
                if heard(change):
                    return

    def in_thread(reg):
        while True:
            with reg.watch("orders") as feed, context.timeout(0.05):
                try:
                    if any(heard(change) for change in feed):
                        return
                except DeadlineExceeded:
                    pass  # comes back with a new watch

    def on_loop(reg):
        async def main():
            async with asyncio.timeout(BOUND):
                await asyncio.gather(
                    *(follow(reg, 0.001 * n if n % 2 else None) for n in range(20))
                )

        asyncio.run(main())

    reg = Registry(memory.Store())
    with reg, ThreadPoolExecutor(6) as pool:
        work = [pool.submit(each, reg) for each in (on_loop, on_loop, *4 * [in_thread])]
        with reg.register("orders", "a:1", grace=0.0) as one:
            for n in range(changes):
                one.update(weight=float(n + 1))
                if n % 10 == 0:
                    time.sleep(0.001)  # so that some of them fall asleep
            one.update(weight=last)
            for each in work:
                each.result(BOUND)


@pytest.mark.parametrize("waits", ["in a task", "in a thread"])
def test_no_wake_up_is_lost_between_looking_and_waiting(waits) -> None:
    """Each change is told in the very moment in which the reader goes to wait for it."""
    reg, rounds = Registry(memory.Store()), 2000
    name = InstanceKey("reg", "local", "default", "orders", "a:1")
    seen = 0

    async def in_task():
        nonlocal seen
        async with asyncio.timeout(BOUND), reg.watch("orders") as feed:
            async for change in feed:
                seen = change.revision
                if seen > rounds:
                    return

    def in_thread():
        nonlocal seen
        with context.timeout(BOUND), reg.watch("orders") as feed:
            for change in feed:
                seen = change.revision
                if seen > rounds:
                    return

    def wait_until(number):
        end = time.monotonic() + BOUND
        while seen != number:
            assert time.monotonic() < end, "a wake-up was lost"

    interval = sys.getswitchinterval()
    with reg, ThreadPoolExecutor(1) as pool:
        value = Instance(service="orders", id="a:1", address="a:1").to_bytes()
        reg.store.sync.put(name.to_bytes(), value)
        reader = pool.submit(in_thread if "thread" in waits else lambda: asyncio.run(in_task()))
        wait_until(2)
        feed = reg._book.feeds["orders"]
        known = feed.known
        sys.setswitchinterval(1e-6)
        try:
            for number in range(3, rounds + 2):
                change = attrs.evolve(known.instances[0], weight=float(number))
                told = Change(kind="updated", instance=change, revision=number)
                feed._tell((told,), attrs.evolve(known, revision=number))
                wait_until(number)
        finally:
            sys.setswitchinterval(interval)
        reader.result(BOUND)


def test_an_idle_watch_ends_and_what_it_knew_is_kept(url) -> None:
    async def main():
        async with discovery.connect(url, idle=0.05) as reg:
            async with reg.register("orders", "a:1", grace=0.0):
                await reg.resolve_async("orders")
                await until(lambda: not reg._book.feeds)
                assert "orders" in reg._book.remembered
                found = await reg.resolve_async("orders")
                assert found.complete
                assert found.instances[0].id == "a:1"
                async with reg.watch("orders") as feed:
                    await feed.next_batch()
                    await asyncio.sleep(0.3)
                    assert "orders" in reg._book.feeds
            await until(lambda: not reg._book.feeds and reg._book._origins is None)

    run(main)


# Contexts and cancellation ------------------------------------------------------------------


def test_waiting_ends_with_the_context(url) -> None:
    async def main():
        async with discovery.connect(url) as reg, reg.watch("orders") as feed:
            await feed.next_batch()
            with context.using(context.timeout(0.05)), pytest.raises(DeadlineExceeded):
                await anext(feed)
            with pytest.raises(DeadlineExceeded):
                async with context.timeout(0.05):
                    await anext(feed)
            async with reg.register("orders", "a:1", grace=0.0):
                assert await take(feed, 1) == [("added", "a:1")]

    run(main)
    with discovery.connect(url) as reg, reg.watch("orders") as feed:
        with context.timeout(0.1), pytest.raises(DeadlineExceeded):
            next(feed)


def test_what_is_opened_under_a_deadline_outlives_it(url) -> None:
    async def main():
        async with discovery.connect(url) as reg:
            async with context.timeout(5.0) as ctx:
                one = reg.register("orders", "a:1", grace=0.0)
                await one.__aenter__()
                feed = await reg.watch("orders").__aenter__()
                await reg.resolve_async("mail")
                assert await take(feed, 1) == [("added", "a:1")]
            assert ctx.done
            await one.update(weight=2.0)
            assert await take(feed, 1) == [("updated", "a:1")]
            async with reg.register("mail", "b:1", grace=0.0):
                await until(lambda: reg.resolve("mail").instances)
            # Leaving under a context that has ended still deregisters.
            with context.using(ctx):
                await one.__aexit__(None, None, None)
            await until(lambda: feed.instances == ())

    run(main)


def test_cancelled_at_every_await_nothing_stays(url) -> None:
    """The task is cancelled after 1, 2, 3 ... steps of its loop, until it runs to its end."""

    async def work(reg, feed):
        # The lease would outlive the test: what is gone was deleted.
        async with reg.register("orders", "a:1", grace=0.02, ttl=120.0) as one:
            await one.update(weight=2.0)
            await reg.resolve_async("orders")
            await anext(feed)
        return "done"

    async def main():
        store = store_at(url)
        cut = 0
        async with Registry(store) as reg:
            for steps in range(200):
                async with reg.watch("orders") as feed:
                    task = asyncio.create_task(work(reg, feed))
                    for _ in range(steps):
                        await asyncio.sleep(0.0005)
                        if task.done():
                            break
                    ended_by_itself = task.done()
                    task.cancel()
                    done = await asyncio.wait({task}, timeout=10.0)
                    assert done[0]
                    cut += task.cancelled()
                await until(lambda: not reg._book.registrations)
                end = time.monotonic() + 10.0
                while (await store.range(raw("orders", "a:1"))).count:
                    assert time.monotonic() < end
                    await asyncio.sleep(0.005)
                if ended_by_itself:
                    break
        assert cut > 0

    run(main)


def test_leaving_when_cancelled_does_not_wait_for_the_grace_time(url) -> None:
    async def main():
        async with discovery.connect(url) as reg:
            entered = asyncio.Event()

            async def work():
                async with reg.register("orders", "a:1", grace=25.0):
                    entered.set()
                # leaving takes 25 s, unless cancelled

            task = asyncio.create_task(work())
            await entered.wait()
            await asyncio.sleep(0.05)
            task.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 15.0
            assert (await reg.resolve_async("orders")).instances == ()

    run(main)


def test_grace_lets_watchers_see_draining_first(url) -> None:
    async def main():
        async with discovery.connect(url) as reg, reg.watch("orders") as feed:

            async def follow():
                return [
                    (change.kind, change.instance.draining)
                    for change in [await anext(feed) for _ in range(3)]
                ]

            following = asyncio.create_task(follow())
            async with reg.register("orders", "a:1", grace=1.0):
                await until(lambda: feed.instances)
            assert await following == [("added", False), ("updated", True), ("removed", True)]

    run(main)


# Ending -----------------------------------------------------------------------------------


def test_closing_deregisters_and_tells_watchers(url) -> None:
    async def main():
        reg = discovery.connect(url)
        one = await reg.register("orders", "a:1", grace=20.0).__aenter__()
        feed = await reg.watch("orders").__aenter__()
        await anext(feed)
        waiting = asyncio.create_task(take(feed, 5))
        await reg.aclose()
        with pytest.raises(ClosedError):
            await waiting
        assert one.state == "closed"
        await one.__aexit__(None, None, None)
        with pytest.raises(ClosedError):
            one2 = reg.register("orders", "b:1")
            await one2.__aenter__()
        await reg.aclose()
        assert (await store_at(url).range(b"/hs/", prefix=True)).count == 0

    run(main)


def test_no_task_thread_or_descriptor_is_left(url) -> None:
    from hastack._core._portal import PORTAL

    async def count_tasks():
        return {t.get_name() for t in asyncio.all_tasks() if "portal" not in t.get_name()}

    def use():
        with discovery.connect(url) as reg:
            with (
                reg.register(
                    "orders", "a:1", grace=0.0, health=Health(lambda: True, interval=0.05)
                ),
                reg.watch("orders") as feed,
            ):
                next(feed)
                reg.resolve("mail")
                reg.services()

    use()
    before = threading.active_count(), descriptors()
    for _ in range(5):
        use()
    gc.collect()
    end = time.monotonic() + 15.0  # grpc closes its sockets when it gets round to it
    while time.monotonic() < end:
        if threading.active_count() <= before[0] and descriptors() <= before[1]:
            break
        time.sleep(0.01)
    assert threading.active_count() <= before[0]
    assert descriptors() <= before[1]
    assert not [n for n in PORTAL.call(count_tasks) if n.startswith("hastack-")]


def test_a_registry_that_is_dropped_stops_watching(url) -> None:
    from hastack._core._portal import PORTAL

    async def watching():
        return [t for t in asyncio.all_tasks() if t.get_name().startswith("hastack-follow")]

    reg = discovery.connect(url)
    reg.resolve("dropped")
    assert PORTAL.call(watching)
    del reg
    gc.collect()
    end = time.monotonic() + 10.0
    while PORTAL.call(watching) and time.monotonic() < end:
        time.sleep(0.01)
    assert not PORTAL.call(watching)


# Threads ------------------------------------------------------------------------------------


def test_threads_register_and_resolve_at_once(url) -> None:
    with discovery.connect(url) as reg:
        seen = []

        def work(n):
            with reg.register("orders", f"h{n}:1", grace=0.0):
                deadline = time.monotonic() + 15.0
                while f"h{n}:1" not in {i.id for i in reg.resolve("orders").instances}:
                    assert time.monotonic() < deadline
                    time.sleep(0.002)
                seen.append(n)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(40)))
        assert sorted(seen) == list(range(40))


def test_resolve_at_hand_works_in_a_loop_thread_and_the_first_call_says_why_not(url) -> None:
    async def main():
        async with discovery.connect(url) as reg:
            with pytest.raises(RuntimeError, match="await"):
                reg.resolve("orders")
            await reg.resolve_async("orders")
            assert reg.resolve("orders").instances == ()
            with pytest.raises(InvalidArgument, match="service"):
                reg.resolve("")

    run(main)


# Health -------------------------------------------------------------------------------------


def test_an_unhealthy_instance_goes_and_comes_back(url) -> None:
    async def main():
        answer = {"ok": False}

        def check():
            if not answer["ok"]:
                raise OSError("no database")

        health = Health(check, interval=0.02, fail_after=2, recover_after=2)
        with events.record(
            registry_module.InstanceRegistered,
            registry_module.InstanceEvicted,
            registry_module.InstanceRestored,
            registry_module.InstanceDeregistered,
        ) as seen:
            async with discovery.connect(url) as reg, reg.watch("orders") as feed:
                async with reg.register("orders", "a:1", health=health, grace=0.0) as one:
                    await until(lambda: one.state == "unhealthy")
                    assert one.healthy is False
                    assert not one.present
                    answer["ok"] = True
                    assert await take(feed, 1) == [("added", "a:1")]
                    await until(lambda: one.state == "present")
                    answer["ok"] = False
                    assert await take(feed, 1) == [("removed", "a:1")]
                    assert one.state == "unhealthy"
                    answer["ok"] = True
                    assert await take(feed, 1) == [("added", "a:1")]
                    await until(lambda: len(seen) >= 3)
        told = [(type(e).__name__, getattr(e, "reason", None)) for e in seen]
        assert told == [
            ("InstanceRegistered", None),
            ("InstanceEvicted", "unhealthy"),
            ("InstanceRestored", "unhealthy"),
            ("InstanceDeregistered", None),
        ]
        assert isinstance(seen[1].error, OSError)

    run(main)


def test_an_unhealthy_instance_may_be_marked_instead(url) -> None:
    async def main():
        answer = {"ok": True}
        health = Health(lambda: answer["ok"], interval=0.02, fail_after=1, recover_after=1)
        async with discovery.connect(url) as reg, reg.watch("orders") as feed:
            async with reg.register(
                "orders", "a:1", health=health, when_unhealthy="drain", grace=0.0
            ) as one:
                assert not (await anext(feed)).instance.draining
                answer["ok"] = False
                assert (await anext(feed)).instance.draining
                assert one.state == "unhealthy"
                answer["ok"] = True
                assert not (await anext(feed)).instance.draining

    run(main)


def test_what_is_not_found_for_want_of_a_store_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with discovery.connect(f"etcd://127.0.0.1:{port}", timeout=3.0) as reg:
        with pytest.raises(StoreUnavailable, match=f"'mail'.* within 3 s: .*127.0.0.1:{port}"):
            reg.resolve("mail")


def test_a_check_that_hangs_is_a_failure_and_holds_one_thread(url) -> None:
    async def main():
        release = threading.Event()

        def check():
            release.wait(BOUND)

        health = Health(check, interval=0.02, timeout=0.02, fail_after=1)
        async with discovery.connect(url) as reg:
            async with reg.register("orders", "a:1", health=health, grace=0.0, wait=False) as one:
                await until(lambda: one.healthy is False)
                await asyncio.sleep(0.2)
                probes = [t for t in threading.enumerate() if t.name == "hastack-probe"]
                assert len(probes) == 1
            release.set()

    run(main)


def test_a_coroutine_check_runs_on_the_loop_that_registered(url) -> None:
    async def main():
        loops = []

        async def check():
            loops.append(asyncio.get_running_loop())

        async with discovery.connect(url) as reg:
            async with reg.register("orders", "a:1", health=check, grace=0.0) as one:
                assert one.healthy
            assert loops[0] is asyncio.get_running_loop()

    run(main)
    elsewhere = []

    async def check():
        elsewhere.append(threading.current_thread().name)

    with discovery.connect(url) as reg, reg.register("orders", "a:1", health=check, grace=0.0):
        pass
    assert elsewhere == ["hastack-portal"]


# The cache file -----------------------------------------------------------------------------


def test_a_cold_start_without_the_store_serves_the_cache(url, tmp_path) -> None:
    cache = tmp_path / "discovery.cache"

    async def fill():
        async with discovery.connect(url, cache=cache) as reg:
            async with reg.register("orders", "a:1", grace=0.0):
                await reg.resolve_async("orders")
                await until(cache.exists)
                assert (await reg.resolve_async("orders")).instances[0].id == "a:1"
                # As after a crash: the file that is there is what the next one finds.
                saved = cache.read_bytes()
        return saved

    saved = run(fill)
    cache.write_bytes(saved)
    assert [p.name for p in tmp_path.iterdir()] == ["discovery.cache"]

    async def cold():
        store = store_at(url)
        with events.record(registry_module.WatchStale) as stale:
            async with Registry(Deaf(store), cache=cache, stale_after=0.2) as reg:
                feed = await reg.watch("orders").__aenter__()
                assert await take(feed, 1) == [("added", "a:1")]
                found = await reg.resolve_async("orders")
                assert [each.id for each in found.instances] == ["a:1"]
                assert not found.complete
                assert found.age > 0.0
                with pytest.raises(StoreUnavailable, match="mail"):
                    await reg.resolve_async("mail", timeout=0.05)
                await until(lambda: stale)
                reg.store.hears = True
                # Only the difference between cache and store is told.
                assert await take(feed, 1) == [("removed", "a:1")]
                assert (await reg.resolve_async("orders")).complete

    run(cold)


class Deaf:
    """A real store behind a connection that is down until ``hears``."""

    def __init__(self, store):
        self._store = store
        self.url = store.url
        self.hears = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    def watch(self, *args, **options):
        return _LateWatch(self, args, options)


class _LateWatch:
    def __init__(self, deaf, args, options):
        self._deaf, self._args, self._options = deaf, args, options
        self._watch = None
        self._began = time.monotonic()

    @property
    def age(self):
        return time.monotonic() - self._began if self._watch is None else self._watch.age

    @property
    def trouble(self):
        return None if self._watch else StoreUnavailable("deaf")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        if self._watch is not None:
            await self._watch.__aexit__(*error)

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self._deaf.hears:
            await asyncio.sleep(0.01)
        if self._watch is None:
            self._watch = await self._deaf._store.watch(*self._args, **self._options).__aenter__()
        return await anext(self._watch)


@pytest.mark.parametrize("content", [b"", b"junk", b"hastack-discovery-cache 1 00\n[]\n"])
def test_a_cache_that_is_damaged_is_said_and_ignored(url, tmp_path, caplog, content) -> None:
    cache = tmp_path / "discovery.cache"
    cache.write_bytes(content)

    async def main():
        async with discovery.connect(url, cache=cache) as reg:
            assert (await reg.resolve_async("orders")).instances == ()

    run(main)
    assert "is not used" in caplog.text
    assert cache.read_bytes() != content  # written anew at the end


def test_a_cache_that_cannot_be_written_is_said(url, tmp_path, caplog) -> None:
    async def main():
        async with discovery.connect(url, cache=tmp_path / "no" / "such" / "dir") as reg:
            await reg.resolve_async("orders")

    run(main)
    assert "could not be written" in caplog.text


# Mirrored origins -----------------------------------------------------------------------------


def test_mirrored_instances_are_in_the_same_view_with_origin_and_staleness(url) -> None:
    from hastack.discovery import Instance
    from hastack.discovery._layout import checkpoint, heartbeat

    def mirrored(origin, name, **more):
        key = InstanceKey("mir", origin, "default", "orders", name)
        one = Instance(
            service="orders", id=name, address=f"{name}.{origin}:1", origin=origin, **more
        )
        return key.to_bytes(), one.to_bytes()

    async def main():
        store = store_at(url)
        await store.put(checkpoint("west"), "1")
        await store.put(heartbeat("west"), "")
        await store.put(*mirrored("west", "w"))
        told = stack.enter_context(
            events.record(registry_module.InstanceContested, registry_module.InstanceSettled)
        )
        async with discovery.connect(url) as reg, reg.watch("orders") as feed:
            async with reg.register("orders", "a:1", id="both", grace=0.0):
                await until(lambda: len(feed.instances) == 2)
                found = await reg.resolve_async("orders")
                assert [(i.id, i.origin) for i in found.instances] == [
                    ("both", "local"),
                    ("w", "west"),
                ]
                assert found.complete
                assert found.stale == frozenset()
                assert await reg.services_async() == ("orders",)
                # An origin's own instances must not come back to it.
                await store.put(checkpoint("local"), "1")
                await store.put(*mirrored("local", "echo"))
                # A later life in the other cluster wins the id, as long as that is within reach.
                later = 2 * feed.instances[0].incarnation
                await store.put(*mirrored("west", "both", home="west", incarnation=later))
                await until(lambda: feed.instances[0].origin == "west")
                await store.delete(heartbeat("west"))
                await until(lambda: feed.instances[0].origin == "local")
                found = await reg.resolve_async("orders")
                assert found.stale == {"west"}
                assert [i.id for i in found.instances] == ["both", "w"]
                await store.put(heartbeat("west"), "")
                await until(lambda: feed.instances[0].origin == "west")
                await store.delete(heartbeat("west"))
                await store.delete(checkpoint("west"))
                await until(lambda: [i.id for i in feed.instances] == ["both"])
                # What was told adds up to what is.
                known = {}
                for change in await feed.next_batch():
                    known[change.instance.id] = change.instance
                    if change.kind == "removed":
                        del known[change.instance.id]
                assert [each.origin for each in known.values()] == ["local"]
                contests = [
                    (e.id, e.origins, e.winner)
                    for e in told
                    if isinstance(e, registry_module.InstanceContested)
                ]
                # At the end it depends on which of two keys is seen to go first.
                winners = ["west", "local", "west", *["local"] * (len(contests) - 3)]
                assert contests == [("both", ("local", "west"), each) for each in winners]
                assert len(contests) in {3, 4}
                (settled,) = [e for e in told if isinstance(e, registry_module.InstanceSettled)]
                assert (settled.id, settled.origin) == ("both", "local")

    with ExitStack() as stack:
        run(main)


# Fork -------------------------------------------------------------------------------------


FORKS = """
import os, sys, time, traceback
from hastack import discovery
from hastack.errors import ClosedError, ForkUnsafe, StoreUnavailable

def child():
    assert reg._book is None
    try:
        next(feed)
        raise AssertionError("a watch of the parent goes on")
    except ClosedError as error:
        assert "fork" in str(error)
    # What the parent knew is a start, whether the store can be used or not.
    assert "a:1" in {i.id for i in reg.resolve("orders").instances}
    one = reg.register("orders", "b:1", grace=0.0, timeout=2.0)
    if reg.store.url.startswith("etcd"):
        try:
            one.__enter__()
            raise AssertionError("grpc does not survive a fork")
        except (ForkUnsafe, StoreUnavailable):
            pass
    else:
        with one:
            while len(reg.resolve("orders").instances) != 2:
                time.sleep(0.01)

with discovery.connect(sys.argv[1]) as reg:
    with reg.register("orders", "a:1", grace=0.0), reg.watch("orders") as feed:
        next(feed)
        pid = os.fork()
        if pid == 0:
            try:
                child()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert [i.id for i in reg.resolve("orders").instances] == ["a:1"]
        with reg.register("orders", "c:1", grace=0.0):
            assert next(feed).instance.id == "c:1"
print("done")
"""


def test_a_forked_child_goes_on_by_itself(url) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, url],
        # Otherwise grpc's own handlers may crash the child before it has begun.
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "false"},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_incarnations_grow_and_differ_between_processes() -> None:
    reg = Registry(memory.Store())
    minted = [reg.register("orders", "a:1").instance.incarnation for _ in range(100)]
    assert minted == sorted(set(minted))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(registry_module._incarnation()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    theirs = int(os.read(read, 100))
    os.close(read)
    assert theirs & 0xFFFFFFFF != minted[0] & 0xFFFFFFFF


def test_errors_of_probes_are_discovery_errors() -> None:
    assert issubclass(registry_module.ProbeFailed, DiscoveryError)
