"""Watches of a real etcd while everything goes wrong; each change is accounted for.

A, B and C are the torture tests that other clients were measured with (docs/discovery-watch.md).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from watch_chaos import Chaos
from watch_real import Follower, Mirror, quick

from hastack import events
from hastack.discovery import etcd
from hastack.errors import NotAuthorized

BOUND = 55.0  # seconds; ends what hangs


class Scene:
    """A server behind a proxy, who writes to it directly, and a client that goes by the proxy."""

    def __init__(self, server, proxy):
        self.server = server
        self.proxy = proxy
        self.mirror = Mirror(server)
        self.client = quick(etcd.Client(proxy.endpoint))
        self.followers = []

    def follow(self, key=b"k", **options):
        self.followers.append(Follower(self.client, self.mirror, key, **options))
        return self.followers[-1]

    async def settle(self, seconds=25.0):
        for each in self.followers:
            await each.settle(seconds)

    async def close(self):
        for each in self.followers:
            await each.leave()
        hub = self.client._hub
        await self.client.aclose()
        await self.mirror.aclose()
        assert hub._core.watches == 0
        assert not hub._tasks


@pytest.fixture
def play(make_etcd, make_proxy, etcd_binary):
    """Runs ``main(scene)``, and sees that it leaves nothing behind."""

    def go(main):
        async def bounded():
            scene = Scene(server, proxy)
            async with asyncio.timeout(BOUND):
                await main(scene)
                await scene.settle()
                await scene.close()

        server = make_etcd(binary=etcd_binary)
        proxy = make_proxy(server.port)
        asyncio.run(bounded())

    return go


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def revisions(follower):
    return [event.kv.mod_revision for event in follower.events]


def test_a_cut_of_a_second_and_a_half(play):
    """A: 16 puts, all of them once, none as a difference."""

    async def main(scene):
        one = scene.follow()
        await one.settle()
        await scene.mirror.put(b"k1", b"k2", b"k3")
        scene.proxy.cut()
        end = time.monotonic() + 1.5
        for n in range(13):
            await scene.mirror.put(b"k%d" % (n % 4))
            await asyncio.sleep(0.05)
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        scene.proxy.heal()
        await scene.settle()
        assert revisions(one) == list(range(2, 18))
        assert one.resyncs == ["snapshot"]

    play(main)


def test_a_cut_during_which_the_history_is_compacted(play):
    """B: what was compacted comes as one exact difference, and then everything again."""

    async def main(scene):
        one, late = scene.follow(), scene.follow(start=2)
        await one.settle()
        await scene.mirror.put(b"k1", b"k2", b"k3")
        await scene.settle()
        scene.proxy.cut()
        for n in range(9):
            await scene.mirror.put(b"k%d" % (n % 5))
        await scene.mirror.change([(b"k2", None)])
        await scene.mirror.compact_now(12)
        scene.proxy.heal()
        await scene.settle()
        for follower in (one, late):
            assert follower.resyncs[-1] == "compacted"
            assert revisions(follower) == [2, 3, 4]
        assert {e.kv.key: e.kind for e in one.batches[-1].events} == {
            **dict.fromkeys((b"k0", b"k1", b"k3", b"k4"), "put"),
            b"k2": "delete",
        }
        await scene.mirror.put(b"k7")
        await scene.settle()
        assert revisions(one)[-1] == scene.mirror.now.revision

    play(main)


def test_an_old_start_with_a_cut_after_the_first_batch(play):
    """C: 2,500 revisions in batches whose headers are ahead of them."""

    async def main(scene):
        mirror = scene.mirror
        for n in range(50):
            await asyncio.gather(*(mirror.client.put(f"k{n}", "x") for _ in range(50)))
            for _ in range(50):
                mirror.now.change([(b"k%d" % n, b"x")])
        one = scene.follow(start=2)
        await one.until(lambda: one.batches)
        scene.proxy.cut()
        await asyncio.sleep(0.2)
        scene.proxy.heal()
        await scene.settle()
        assert revisions(one) == list(range(2, 2502))
        assert one.resyncs == []

    play(main)


@pytest.mark.parametrize("how", ["stop", "freeze"])
def test_a_server_that_stands_still_for_longer_than_the_deadline(play, how):
    async def main(scene):
        one = scene.follow()
        await scene.mirror.put(b"k1")
        await scene.settle()
        with events.record(etcd.WatchStreamLost) as lost:
            if how == "stop":
                scene.server.pause()
            else:
                scene.proxy.freeze()
                await scene.mirror.put(b"k1", b"k2")
            await one.until(lambda: any("nothing came" in each.reason for each in lost))
            assert one.watch.age >= 0.6
            if how == "stop":
                scene.server.resume()
            else:
                scene.proxy.cut()  # what was frozen is lost
                scene.proxy.heal()
        await scene.mirror.put(b"k3")
        await scene.settle()
        assert revisions(one) == list(
            range(one.batches[0].revision + 1, one.batches[-1].revision + 1)
        )
        await one.until(lambda: one.watch.age < 0.6)

    play(main)


def test_a_crash_and_a_restart(play):
    async def main(scene):
        one = scene.follow()
        slow = scene.follow(buffer=3)
        await scene.settle()
        slow.may_go.clear()
        for _ in range(3):
            await scene.mirror.put(b"k1", b"k2")
            scene.server.kill()
            scene.server.start()
        await scene.mirror.put(b"k3")
        await one.settle()
        assert revisions(one) == list(range(2, 9))
        slow.may_go.set()

    play(main)


def test_all_data_is_lost(play):
    """Another cluster, and its revisions begin again from 1."""

    async def main(scene):
        one, _ = scene.follow(), scene.follow(b"k1", prefix=False, start=2)
        await scene.mirror.put(b"k1", b"k2", b"k3")
        await scene.settle()
        scene.mirror.wipe()
        await scene.mirror.put(b"k2")
        await scene.settle()
        assert one.resyncs[-1] in {"restored", "gap"}
        difference = [batch for batch in one.batches if batch.resync][-1]
        assert {(e.kind, e.kv.key) for e in difference.events} >= {
            ("delete", b"k1"),
            ("delete", b"k3"),
        }
        await scene.mirror.put(b"k1")
        await scene.settle()

    play(main)


def test_a_copy_of_the_data_is_put_back(play):
    """The same cluster and the same term; only the history is another one."""

    async def main(scene):
        mirror = scene.mirror
        one, _ = scene.follow(), scene.follow(b"z")
        await mirror.put(b"k1", b"k2")
        await scene.settle()
        mirror.copy_aside()
        await mirror.put(b"k1", b"k3", b"k4", b"z1")
        await mirror.change([(b"k2", None), (b"z1", None)])
        await scene.settle()
        mirror.copy_back()
        await scene.settle()
        assert one.resyncs[-1] in {"restored", "gap"}
        await mirror.put(b"k5", b"k6")
        await scene.settle()
        # And once more, with the old revision passed before the client is back.
        scene.proxy.cut()
        mirror.copy_back()
        await mirror.put(*[b"k%d" % n for n in range(12)])
        scene.proxy.heal()
        await scene.settle()

    play(main)


def test_a_snapshot_is_restored(play, tmp_path):
    etcdctl = shutil.which("etcdctl")
    if etcdctl is None:
        pytest.skip("no etcdctl on this machine")

    def run_ctl(*args):
        subprocess.run(
            [etcdctl, *args],
            env={**os.environ, "ETCDCTL_API": "3"},
            check=True,
            capture_output=True,
        )

    async def main(scene):
        mirror, server = scene.mirror, scene.server
        one = scene.follow()
        await mirror.put(b"k1", b"k2")
        await scene.settle()
        saved = tmp_path / "saved"
        await asyncio.to_thread(
            run_ctl, "--endpoints", server.endpoint, "snapshot", "save", str(saved)
        )
        kept = mirror.now.until(mirror.now.revision)
        await mirror.put(b"k1", b"k3")
        await mirror.change([(b"k2", None)])
        await scene.settle()
        server.kill()
        server.wipe()
        peer = server.peers[server.name]
        await asyncio.to_thread(
            run_ctl,
            *("snapshot", "restore", str(saved), "--data-dir", str(server.directory / "data")),
            *("--name", server.name, "--initial-cluster", f"{server.name}={peer}"),
            *("--initial-advertise-peer-urls", peer, "--initial-cluster-token", "hastack"),
        )
        mirror.histories.append(kept)
        server.start()
        await scene.settle()
        assert one.resyncs[-1] in {"restored", "gap"}
        assert {(e.kind, e.kv.key) for e in one.batches[-1].events} == {
            *(("put", b"k1"), ("put", b"k2"), ("delete", b"k3")),
        }

    play(main)


def test_a_member_that_loses_its_leader_is_left(make_etcd_cluster):
    async def main():
        async with (
            asyncio.timeout(BOUND),
            quick(
                etcd.Client([m.endpoint for m in members]), interval=1.0, deadline=10.0
            ) as client,
        ):
            leader = (await client.maintenance.status(members[0].endpoint)).leader
            statuses = [await client.maintenance.status(m.endpoint) for m in members]
            cut_off = next(n for n, s in enumerate(statuses) if s.member != leader)
            client._shared.endpoints.home = cut_off
            async with client.watch("k", prefix=True) as watch:
                await anext(watch)
                with events.record(etcd.WatchStreamLost, etcd.WatchStreamOpened) as seen:
                    # Without the other two it has no leader, and says so after an election.
                    for number, member in enumerate(members):
                        if number != cut_off:
                            member.pause()
                    while not any(isinstance(each, etcd.WatchStreamLost) for each in seen):
                        await asyncio.sleep(0.02)
                    for number, member in enumerate(members):
                        if number != cut_off:
                            member.resume()
                await client.put("k1", "", timeout=30.0)
                batch = await anext(watch)
                assert [e.kv.key for e in batch.events] == [b"k1"]
                assert "no leader" in seen[0].reason

    members = make_etcd_cluster(3)
    asyncio.run(main())


def test_a_stream_moves_to_a_member_that_is_alive(make_etcd_cluster):
    async def main():
        async with (
            asyncio.timeout(BOUND),
            quick(etcd.Client([m.endpoint for m in members])) as client,
        ):
            # Without a leader, writes would stand still for a while.
            statuses = [await client.maintenance.status(m.endpoint) for m in members]
            home = next(n for n, s in enumerate(statuses) if s.member != s.leader)
            client._shared.endpoints.home = home
            async with client.watch("k", prefix=True) as watch:
                with events.record(etcd.WatchStreamOpened) as opened:
                    await anext(watch)
                    members[home].pause()
                    while len({each.endpoint for each in opened}) < 2:
                        await asyncio.sleep(0.02)
                    await client.put("k1", "", timeout=30.0)
                    batch = await anext(watch)
                    assert [e.kv.key for e in batch.events] == [b"k1"]
                    members[home].resume()

    members = make_etcd_cluster(3)
    asyncio.run(main())


def test_tokens_that_run_out_and_ranges_that_are_not_permitted(make_etcd, make_proxy, etcd_binary):
    """Watches go on although their token has run out, and new streams get a new one."""

    async def as_ada(root, *, cut):
        proxy = make_proxy(server.port)
        ada = quick(etcd.Client(proxy.endpoint, user="ada", password="pass"))
        async with ada, ada.watch(f"k{cut}", prefix=True) as watch:
            await anext(watch)
            async with ada.watch("secret") as other:
                with pytest.raises(NotAuthorized):
                    await anext(other)
            await asyncio.sleep(2.1)  # longer than a token lives
            if cut:
                proxy.cut()
                await asyncio.sleep(0.1)
                proxy.heal()
            async with ada.watch(f"k{cut}", prefix=True, prev=True) as fresh:
                await anext(fresh)  # a watch on a stream whose token is too old
                await root.put(f"k{cut}", "")
                for each in (watch, fresh):
                    (event,) = (await anext(each)).events
                    assert event.kv.key == b"k%s" % str(cut).encode()

    async def main():
        root = etcd.Client(server.endpoint)
        auth = root.auth
        await auth.add_user("root", "secret")
        await auth.add_role("root")
        await auth.grant_role("root", "root")
        await auth.add_role("reader")
        await auth.grant("reader", "read", "k", prefix=True)
        await auth.add_user("ada", "pass")
        await auth.grant_role("ada", "reader")
        await auth.enable()
        await root.aclose()
        root = etcd.Client(server.endpoint, user="root", password="secret")
        async with asyncio.timeout(BOUND), root:
            await asyncio.gather(*(as_ada(root, cut=cut) for cut in (False, True)))
        wrong = etcd.Client(server.endpoint, user="ada", password="wrong")
        async with asyncio.timeout(BOUND), wrong, wrong.watch("k") as watch:
            with pytest.raises(NotAuthorized):
                await anext(watch)

    server = make_etcd(binary=etcd_binary, options=("--auth-token-ttl", "1"))
    asyncio.run(main())


def test_two_hundred_new_streams_leave_nothing_behind(play):
    async def main(scene):
        one = scene.follow()
        await scene.mirror.put(b"k")
        await scene.settle()
        hub = scene.client._hub
        with events.record(etcd.WatchStreamOpened) as opened:

            async def again(count):
                for _ in range(count):
                    opened.clear()
                    hub._stream.cancel()
                    await one.until(lambda: opened)
                    hub._failures = 0
                    await scene.mirror.put(b"k")
                await scene.settle()

            await again(20)
            threads, fds = threading.active_count(), open_files()
            await again(200)
        assert threading.active_count() <= threads
        assert open_files() <= fds
        assert len(hub._tasks) <= 4
        assert revisions(one)[-200:] == list(
            range(one.batches[-1].revision - 199, one.batches[-1].revision + 1)
        )

    play(main)


def test_connections_cut_again_and_again_leave_nothing_behind(play):
    async def main(scene):
        one = scene.follow()
        await scene.mirror.put(b"k")
        await scene.settle()

        async def again(count):
            for _ in range(count):
                scene.proxy.cut()
                scene.proxy.heal()
                await scene.mirror.put(b"k")
                await scene.settle()

        await again(2)
        threads, fds = threading.active_count(), open_files()
        await again(5)
        # The proxy's own threads and sockets are among them.
        await one.until(lambda: threading.active_count() <= threads)
        await one.until(lambda: open_files() <= fds)

    play(main)


@pytest.mark.parametrize("group", range(2))
def test_random_faults(make_etcd, make_proxy, etcd_binary, group):
    """Eight schedules at once, as each mostly waits; ``make chaos`` runs any number."""
    servers = [make_etcd(f"server{n}", binary=etcd_binary) for n in range(8)]
    proxies = [make_proxy(server.port) for server in servers]

    async def main():
        async with asyncio.timeout(BOUND), asyncio.TaskGroup() as tasks:
            for n, (server, proxy) in enumerate(zip(servers, proxies, strict=True)):
                tasks.create_task(Chaos(server, proxy, 8 * group + n, steps=12).run())

    asyncio.run(main())
