"""Looking after clusters: members, data files, alarms, snapshots. Both versions."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from etcd_servers import Etcd

from hastack.discovery import etcd
from hastack.errors import Compacted, DeadlineExceeded, InvalidArgument, StoreError

BOUND = 40.0  # seconds; ends what hangs


def bounded(main):
    async def run():
        async with asyncio.timeout(BOUND):
            return await main()

    return asyncio.run(run())


@pytest.fixture
def server(make_etcd, etcd_binary):
    return make_etcd(binary=etcd_binary)


def test_status_compaction_hash_and_defragmentation(server):
    async def main():
        async with etcd.Client(server.endpoint) as client:
            for n in range(20):
                last = await client.put("k", str(n) * 1000)
            status = await client.maintenance.status()
            assert (status.endpoint, status.revision) == (server.endpoint, last.revision)
            assert status.member == status.leader
            assert status.db_size >= status.db_size_in_use > 0
            assert (status.errors, status.learner) == ((), False)
            assert status.version.startswith("3.")
            before, _ = await client.maintenance.hash_kv()
            assert (before, -1) == await client.maintenance.hash_kv(last.revision)
            await client.maintenance.compact(last.revision, physical=True)
            _, compacted = await client.maintenance.hash_kv()
            assert compacted == last.revision
            with pytest.raises(Compacted):
                await client.maintenance.compact(last.revision)
            await client.maintenance.defragment()
            assert await client.maintenance.alarms() == ()
            with pytest.raises(InvalidArgument, match="alarm="):
                await client.maintenance.disarm(etcd.Alarm(1, "fire"))

    bounded(main)


def test_leases_are_listed(server):
    from hastack.discovery.etcd import _wire

    async def main():
        async with etcd.Client(server.endpoint, namespace="ns/") as client:
            granted = await client._transport().call(
                _wire.LEASE_GRANT, _wire.LeaseGrantRequest(TTL=60)
            )
            await client.put("k", "v", lease=granted.ID)
            assert (await client.get("k")).lease == granted.ID
            assert await client.maintenance.leases() == (granted.ID,)
            info = await client.maintenance.lease_info(granted.ID, keys=True)
            assert (info.id, info.granted, info.keys) == (granted.ID, 60, (b"k",))
            assert 50 <= info.ttl <= 60
            gone = await client.maintenance.lease_info(7)
            assert gone.ttl == -1

    bounded(main)


def test_a_full_store_raises_an_alarm_that_can_be_switched_off(make_etcd, etcd_binary):
    server = make_etcd(binary=etcd_binary, options=("--quota-backend-bytes", "300000"))

    async def main():
        async with etcd.Client(server.endpoint) as client:
            with pytest.raises(StoreError, match="space exceeded") as info:
                for n in range(100):
                    await client.put(f"k{n}", b"x" * 30_000)
            assert info.value.code == "RESOURCE_EXHAUSTED"
            (alarm,) = await client.maintenance.alarms()
            assert alarm.kind == "nospace"
            assert alarm.member == (await client.maintenance.status()).member
            await client.delete("", prefix=True)
            revision = (await client.identity()).revision
            await client.maintenance.compact(revision, physical=True)
            await client.maintenance.defragment()
            await client.maintenance.disarm(alarm)
            assert await client.maintenance.alarms() == ()
            await client.put("k", "v")

    bounded(main)


def test_a_snapshot_is_restored_by_etcd_itself(server, tmp_path):
    etcdctl = Path(server.binary).with_name("etcdctl")
    if not etcdctl.exists():
        etcdctl = Path(shutil.which("etcdctl") or "/nonexistent")
    target = tmp_path / "backup.db"

    async def main():
        async with etcd.Client(server.endpoint) as client:
            for n in range(100):
                await client.put(f"k{n}", os.urandom(20_000))
            await client.put("last", "value")
            size = await client.maintenance.save_snapshot(target)
            assert size == target.stat().st_size > 2_000_000
            assert [path.name for path in tmp_path.glob("backup*")] == ["backup.db"]
            # Left early, nothing stays behind: no stream, no file.
            async for piece in client.maintenance.snapshot():
                assert piece
                break
            with pytest.raises(DeadlineExceeded):
                with_no_time = client.maintenance.save_snapshot(tmp_path / "late.db")
                from hastack import context

                async with context.timeout(0.0):
                    await with_no_time
            assert not list(tmp_path.glob("late*"))

    bounded(main)
    restored = Etcd(tmp_path / "restored", binary=server.binary)
    command = [
        *(str(etcdctl), "snapshot", "restore", str(target)),
        *("--data-dir", str(restored.directory / "data"), "--name", restored.name),
        *("--initial-cluster", f"{restored.name}={restored.peers[restored.name]}"),
        *("--initial-advertise-peer-urls", restored.peers[restored.name]),
        *("--initial-cluster-token", "hastack"),
    ]
    restored.directory.mkdir()
    environment = {**os.environ, "ETCDCTL_API": "3"}
    if etcdctl.exists():
        subprocess.run(command, check=True, capture_output=True, timeout=30, env=environment)
        try:
            restored.start()
            client = etcd.Client(restored.endpoint)
            with client.sync as sync:
                assert sync.get("last").value == b"value"
                assert sync.range("k", prefix=True, count_only=True).count == 100
        finally:
            restored.kill()


def test_members_come_and_go(make_etcd_cluster, etcd_binary):
    # Otherwise a cluster takes no changes in its first five seconds.
    options = ("--strict-reconfig-check=false",)
    members = make_etcd_cluster(3, binary=etcd_binary, options=options)

    async def main():
        async with etcd.Client([member.endpoint for member in members]) as client:
            found = await client.cluster.members()
            assert sorted(each.name for each in found) == ["m0", "m1", "m2"]
            by_name = {each.name: each for each in found}
            assert by_name["m1"].client_urls == (f"http://{members[1].endpoint}",)
            learner = await client.cluster.add(["http://127.0.0.1:1"], learner=True)
            assert learner.learner
            assert learner.client_urls == ()
            with pytest.raises(StoreError, match="in sync with leader"):
                await client.cluster.promote(learner.id)
            moved = await client.cluster.update(learner.id, ["http://127.0.0.1:2"])
            urls = {url for each in moved for url in each.peer_urls}
            assert "http://127.0.0.1:2" in urls
            assert len(await client.cluster.remove(learner.id)) == 3
            statuses = [await client.maintenance.status(each.endpoint) for each in members]
            leader = statuses[0].leader
            heir = next(each.member for each in statuses if each.member != leader)
            await client.maintenance.move_leader(heir)
            assert (await client.maintenance.status()).leader == heir
        follower = next(m for m, s in zip(members, statuses, strict=True) if s.member != heir)
        async with etcd.Client(follower.endpoint) as alone:
            with pytest.raises(InvalidArgument, match="endpoints="):
                await alone.maintenance.move_leader(leader)

    bounded(main)


def test_the_blocking_face_of_it(server, tmp_path):
    client = etcd.Client(server.endpoint)
    with client.sync as sync:
        sync.put("k", "v")
        assert [member.name for member in sync.cluster.members()] == ["one"]
        assert sync.maintenance.save_snapshot(tmp_path / "s.db") > 0
        assert sum(map(len, sync.maintenance.snapshot())) > 0
        assert sync.auth.users() == ()
        sync.auth.add_user("root", "p")
        assert sync.auth.users() == ("root",)
