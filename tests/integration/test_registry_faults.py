"""What becomes of registrations and views when processes and stores die, freeze and forget."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
from watch_real import quick

from hastack import discovery, events
from hastack.discovery import registry as registry_module

BOUND = 45.0  # seconds; ends what hangs
MANY = 200


def run(main):
    async def bounded():
        async with asyncio.timeout(BOUND):
            return await main()

    return asyncio.run(bounded())


async def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        await asyncio.sleep(0.02)


class Told:
    """Follows a watch and adds up what it tells."""

    def __init__(self, feed):
        self.known = {}
        self.changes = 0
        self._task = asyncio.ensure_future(self._follow(feed))

    async def _follow(self, feed):
        async for change in feed:
            self.changes += 1
            name = change.instance.id
            if change.kind == "removed":
                assert self.known.pop(name) == change.instance
            else:
                assert (name in self.known) == (change.kind == "updated")
                self.known[name] = change.instance

    def adds_up_to(self, feed):
        return self.known == {each.id: each for each in feed.instances}

    async def end(self):
        assert not self._task.done(), self._task
        self._task.cancel()
        await asyncio.wait({self._task})


CHILD = """
import sys, time
from hastack import discovery
reg = discovery.connect(sys.argv[1])
with reg.register("orders", "a:1", ttl=2.0):
    print("registered", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def child():
    started = []

    def start(url):
        one = subprocess.Popen(
            [sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        started.append(one)
        assert one.stdout.readline() == "registered\n"
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_a_process_that_is_killed_is_gone_with_its_lease(make_etcd, etcd_binary, child) -> None:
    url = f"etcd://{make_etcd(binary=etcd_binary).endpoint}"

    async def main():
        async with discovery.connect(url) as reg, reg.watch("orders") as feed:
            registered = await asyncio.to_thread(child, url)
            assert (await anext(feed)).kind == "added"
            registered.send_signal(signal.SIGKILL)
            registered.wait()
            assert (await anext(feed)).kind == "removed"
            # And one that is stopped for longer than its lease comes back by itself.
            registered = await asyncio.to_thread(child, url)
            assert (await anext(feed)).kind == "added"
            registered.send_signal(signal.SIGSTOP)
            assert (await anext(feed)).kind == "removed"
            registered.send_signal(signal.SIGCONT)
            assert (await anext(feed)).kind == "added"

    run(main)


def killed(server):
    server.kill()
    time.sleep(2.6)
    server.start()


def frozen(server):
    server.pause()
    time.sleep(2.6)
    server.resume()


def wiped(server):
    server.kill()
    server.wipe()
    time.sleep(0.7)
    server.start()


# Each fault and each version once; HASTACK_ALL_FAULTS=1 runs every fault on every version.
FAULTS = [("3.4", killed), ("3.5", frozen), ("3.5", wiped)]
if os.environ.get("HASTACK_ALL_FAULTS", "0") != "0":
    FAULTS = [(version, fault) for version in ("3.4", "3.5") for fault in (killed, frozen, wiped)]


def often_asking(reg):
    """It knows twice a second, and not every five seconds, that what it knows is current."""
    quick(reg.store, interval=0.5, deadline=3.0)
    return reg


@pytest.mark.parametrize(("etcd_binary", "fault"), FAULTS, indirect=["etcd_binary"])
def test_many_registrations_outlive_the_store(make_etcd, etcd_binary, fault) -> None:
    """The store is away for longer than every lease, or comes back with nothing."""
    server = make_etcd(binary=etcd_binary)
    url = f"etcd://{server.endpoint}"

    async def main():
        async with (
            discovery.connect(url, timeout=20.0) as mine,
            often_asking(discovery.connect(url, stale_after=1.0)) as theirs,
            theirs.watch("orders") as feed,
        ):
            ours = [
                mine.register("orders", f"h{n}:1", ttl=2.0, grace=0.0, timeout=20.0)
                for n in range(MANY)
            ]
            await asyncio.gather(*(each.__aenter__() for each in ours))
            told = Told(feed)
            await until(lambda: len(told.known) == MANY)
            with events.record(
                registry_module.WatchStale,
                registry_module.WatchFresh,
            ) as said:
                away = asyncio.ensure_future(asyncio.to_thread(fault, server))
                fewest, oldest = MANY, 0.0
                while not away.done():
                    began = time.monotonic()
                    found = theirs.resolve("orders")
                    assert time.monotonic() - began < 1.0  # from memory, whatever the store does
                    oldest = max(oldest, found.age)
                    fewest = min(fewest, len(found.instances))
                    await asyncio.sleep(0.05)
                await away
                assert fewest == MANY  # the last good view, while the store is away
                if fault is killed:
                    assert oldest > 0.5
                back = time.monotonic()

                async def held():
                    found = await theirs.store.range(b"/hs/1/reg/", prefix=True, count_only=True)
                    return found.count

                while await held() != MANY:
                    await asyncio.sleep(0.02)
                took = time.monotonic() - back

                def all_there():
                    return all(each.present for each in ours) and len(told.known) == MANY

                await until(all_there)
                # That it is there for good: nobody's lease ends anew.
                await asyncio.sleep(1.0)
                assert all_there()
                await until(lambda: told.adds_up_to(feed))
                await until(lambda: theirs.resolve("orders").age < 1.0)
                await until(
                    lambda: fault is not killed or isinstance(said[-1], registry_module.WatchFresh)
                )
            found = {each.id for each in theirs.resolve("orders").instances}
            assert found == {f"h{n}:1" for n in range(MANY)}
            assert (await theirs.store.range(b"/hs/1/reg/", prefix=True)).count == MANY
            if fault is killed:
                assert isinstance(said[0], registry_module.WatchStale)
            print(f"{fault.__name__}: all {MANY} back {took:.2f} s after the store")
            await told.end()
            await asyncio.gather(*(each.__aexit__(None, None, None) for each in ours))

    run(main)


def test_a_cut_connection_tells_nothing_but_the_difference(make_etcd, make_proxy) -> None:
    server = make_etcd()
    proxy = make_proxy(server.port)

    async def main():
        async with (
            discovery.connect(f"etcd://{server.endpoint}") as theirs,
            discovery.connect(f"etcd://{proxy.endpoint}") as mine,
            mine.watch("orders") as feed,
            theirs.register("orders", "stays:1", grace=0.0),
        ):
            told = Told(feed)
            await until(lambda: len(told.known) == 1)
            proxy.cut()
            async with theirs.register("orders", "unseen:1", grace=0.0):
                await asyncio.sleep(0.3)
            async with theirs.register("orders", "new:1", grace=0.0):
                before = told.changes
                proxy.heal()
                await until(lambda: len(told.known) == 2)
                await until(lambda: told.adds_up_to(feed))
                assert set(told.known) == {"stays:1", "new:1"}
                assert told.changes - before in {1, 3}  # `unseen` may have been seen in passing
                proxy.freeze()
                assert mine.resolve("orders").instances
                await asyncio.sleep(0.2)
                proxy.heal()
            await until(lambda: len(told.known) == 1)
            await told.end()

    run(main)


def test_registering_while_the_store_is_away(make_etcd) -> None:
    server = make_etcd()
    url = f"etcd://{server.endpoint}"
    server.kill()

    async def main():
        async with discovery.connect(url, timeout=0.5) as reg:
            with pytest.raises((ConnectionError, TimeoutError)):
                async with reg.register("orders", "a:1"):
                    pass
            with pytest.raises(ConnectionError):
                await reg.resolve_async("orders")
            async with reg.register("orders", "b:1", wait=False, grace=0.0) as one:
                assert one.state == "waiting"
                async with reg.watch("orders") as feed:
                    await asyncio.to_thread(server.start)
                    assert (await anext(feed)).instance.id == "b:1"
                    await until(lambda: one.state == "present")
                    assert [i.id for i in feed.instances] == ["b:1"]
                # Leaving while the store is away ends in time.
                server.kill()
            assert one.state == "closed"

    run(main)


def test_a_user_that_may_not_is_told_so_at_once(make_etcd) -> None:
    from hastack.discovery import etcd
    from hastack.errors import NotAuthorized

    server = make_etcd()

    async def main():
        async with etcd.Client(server.endpoint) as admin:
            await admin.auth.add_user("root", "rootpw")
            await admin.auth.add_role("root")
            await admin.auth.grant_role("root", "root")
            await admin.auth.add_user("guest", "guestpw")
            await admin.auth.add_role("nothing")
            await admin.auth.grant_role("guest", "nothing")
            await admin.auth.enable()
        url = f"etcd://guest:guestpw@{server.endpoint}"
        async with discovery.connect(url, timeout=20.0) as reg:
            began = time.monotonic()
            with pytest.raises(NotAuthorized):
                await reg.resolve_async("orders")
            with pytest.raises(NotAuthorized):
                async with reg.register("orders", "a:1"):
                    pass
            assert time.monotonic() - began < 15.0

    run(main)
