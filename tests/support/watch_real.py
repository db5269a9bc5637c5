"""Watches of a real etcd, checked change by change against the histories that the test made.

`Mirror` writes to the server and keeps the same histories as the simulated store does; a
`Follower` watches, and its oracle checks each batch against them.
"""

from __future__ import annotations

import asyncio
import shutil
import time

from watch_model import History, Oracle, Store

from hastack.discovery import Delete, Put, etcd
from hastack.discovery._records import prefix_end
from hastack.discovery.etcd._watch import WatchHub
from hastack.discovery.etcd._watch_records import Range


def quick(client, *, interval=0.3, deadline=0.6):
    """Have the client notice a dead stream within a second."""
    client._hub = WatchHub(client, interval=interval, deadline=deadline)
    return client


class ServerForgot(Exception):
    """After a crash, the server's revisions are not those that it had answered with.

    etcd 3.5.0 to 3.5.5 do that when they are killed after a defragmentation or under load (etcd
    13766, 14685): they apply again what they had applied. Nothing can be said of such a history.
    """


class Mirror(Store):
    """One etcd and what was done to it. Only this object writes."""

    def __init__(self, server, **options):
        super().__init__(careless=False)
        self.server = server
        self.client = etcd.Client(server.endpoint, timeout=10.0, **options)
        self.backup = None

    async def change(self, ops):
        """Put ``(key, value)``, or delete where the value is ``None``, in one transaction."""
        then = [Delete(k) if v is None else Put(k, v) for k, v in ops]
        self.now.change(ops)  # before: a subscriber may know of it before the writer does
        done = await self.client.txn([], then)
        self._expect(done.revision)

    def _expect(self, revision):
        if revision != self.now.revision:
            raise ServerForgot(f"revision {revision}, where {self.now.revision} was answered")

    async def check_server(self):
        """After a restart: it is where it was."""
        self._expect((await self.client.identity(timeout=20.0)).revision)

    async def put(self, *keys, value=b"v"):
        for key in keys:
            await self.change([(key, value + b"%d" % self.now.revision)])

    async def compact_now(self, revision=None):
        revision = self.now.revision if revision is None else revision
        if revision > self.compacted:
            self.compact(revision)
            await self.client.maintenance.compact(revision)

    def copy_aside(self):
        """Stop the server, take a backup of its data, start it again."""
        self.server.kill()
        aside = self.server.directory / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(self.server.directory / "data", aside)
        self.backup = (aside, self.now, self.now.revision, self.compacted)
        self.server.start()

    def copy_back(self):
        """Stop the server, put the backup in the place of its data, start it again."""
        aside, history, revision, compacted = self.backup
        self.server.kill()
        self.server.wipe()
        shutil.copytree(aside, self.server.directory / "data")
        self.histories.append(history.until(revision))
        self.compacted = compacted
        self.server.start()

    def wipe(self):
        """Stop the server, lose its data, start it again."""
        self.server.kill()
        self.server.wipe()
        self.histories.append(History())
        self.compacted = 0
        self.backup = None
        self.server.start()

    async def aclose(self):
        await self.client.aclose()


class Follower:
    """A subscriber in a task of its own; ``slow`` holds it back until `go`."""

    def __init__(self, client, mirror, key, *, prefix=True, start=None, prev=False, buffer=10_000):
        self.watch = client.watch(
            key, prefix=prefix, start_revision=start, prev=prev, buffer=buffer
        )
        where = Range(key, prefix_end(key) if prefix else None, prev)
        self.oracle = Oracle(mirror, where, start)
        self.batches = []
        self.times = []
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.entered = asyncio.Event()
        self.task = asyncio.create_task(self._follow())

    async def _follow(self):
        async with self.watch:
            self.entered.set()
            async for batch in self.watch:
                self.times.append(time.monotonic())
                self.batches.append(batch)
                self.oracle.took(batch)
                await self.may_go.wait()

    @property
    def events(self):
        """Everything that was told one by one."""
        return [e for batch in self.batches if not batch.resync for e in batch.events]

    @property
    def resyncs(self):
        """Why it was told differences."""
        return [batch.reason for batch in self.batches if batch.resync]

    def check(self):
        if self.task.done():
            self.task.result()
            raise AssertionError("the watch ended")

    async def until(self, done, seconds=25.0):
        """Wait until ``done()`` says so."""
        end = time.monotonic() + seconds
        while not done():
            self.check()
            assert time.monotonic() < end, f"nothing more came: {self.batches[-3:]}"
            await asyncio.sleep(0.01)

    async def settle(self, seconds=25.0):
        """Wait until it knows what is there, and check that it does."""

        def settled():
            try:
                self.oracle.settled()
            except AssertionError:
                return False
            return True

        await self.until(settled, seconds)

    async def leave(self):
        self.task.cancel()
        await asyncio.wait((self.task,))
        if not self.task.cancelled():
            self.task.result()
