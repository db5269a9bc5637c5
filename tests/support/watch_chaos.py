"""Random faults against a real etcd, and subscribers whose every batch is checked.

One schedule is a number: the same number makes the same plan, though not the same timing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

from watch_real import Follower, Mirror, ServerForgot, quick

from hastack.discovery import etcd

KEYS = [b"k%d" % n for n in range(12)] + [b"z%d" % n for n in range(3)]
ROUGH = ("restart", "wipe", "copy", "restore")  # each takes a second or so


class Chaos:
    """One schedule: a server, a proxy before it, subscribers, and what happens to them."""

    def __init__(self, server, proxy, seed, *, steps=25, say=lambda text: None):
        self.server = server
        self.proxy = proxy
        self.rng = random.Random(seed)
        self.steps = steps
        self.say = say
        self.mirror = Mirror(server)
        self.client = quick(etcd.Client(proxy.endpoint), interval=0.2, deadline=0.4)
        self.followers = []
        self.resyncs = 0
        self.batches = 0
        self.told = 0
        self.forgot = ""  # why the schedule ended early through no fault of the client's

    async def run(self):
        """Raises AssertionError when a subscriber was told anything but the truth."""
        try:
            for _ in range(2):
                await self.join()
            for _ in range(self.steps):
                await self.step()
            self.heal()
            for each in self.followers:
                each.may_go.set()
            for each in self.followers:
                await each.settle(30.0)
            await self.leave_all()
            await self.all_left()
        except ServerForgot as error:
            self.forgot = str(error)
        finally:
            self.heal()
            for each in self.followers:
                each.task.cancel()
            await self.client.aclose()
            await self.mirror.aclose()

    async def all_left(self):
        core, end = self.client._hub._core, time.monotonic() + 10.0
        while core.watches:
            assert time.monotonic() < end, "a subscription was left behind"
            await asyncio.sleep(0.01)

    def heal(self):
        self.proxy.heal()
        if self.server.process is not None:
            self.server.resume()

    async def step(self):
        names = ("write", "write", "write", "batch", "cut", "freeze", "stop", "compact")
        names += ("join", "join_at", "leave", "hold", "release", "pause", "defragment", "lose")
        name = self.rng.choice(names if self.rng.random() < 0.93 else ROUGH)
        self.say(f"{name} at {self.mirror.now.revision}")
        await getattr(self, name)()
        for each in self.followers:
            each.check()

    # What is written

    async def write(self):
        for _ in range(self.rng.randint(1, 8)):
            keys = self.rng.sample(KEYS, self.rng.choice((1, 1, 1, 2, 4)))
            stamp = b"%d" % self.rng.randrange(10**9)
            await self.mirror.change(
                [(key, None if self.rng.random() < 0.3 else stamp) for key in keys]
            )

    async def batch(self):
        for _ in range(self.rng.randint(20, 60)):
            key = self.rng.choice(KEYS)
            await self.mirror.change([(key, b"%d" % self.rng.randrange(10**9))])

    async def compact(self):
        await self.mirror.compact_now(max(1, self.mirror.now.revision - self.rng.randint(0, 5)))

    async def defragment(self):
        await self.mirror.client.maintenance.defragment(self.server.endpoint)

    # What goes wrong

    async def cut(self):
        self.proxy.cut()
        await self.meanwhile()
        self.proxy.heal()

    async def lose(self):
        """Cut in the middle of writes, and heal at once."""
        writing = asyncio.create_task(self.write())
        await asyncio.sleep(self.rng.random() * 0.01)
        self.proxy.cut()
        self.proxy.heal()
        await writing

    async def freeze(self):
        self.proxy.freeze()
        await self.meanwhile()
        if self.rng.random() < 0.5:
            self.proxy.cut()
        self.proxy.heal()

    async def stop(self):
        self.server.pause()
        await asyncio.sleep(self.rng.random() * 0.8)
        self.server.resume()

    async def restart(self):
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)
        await self.mirror.check_server()

    async def wipe(self):
        await asyncio.to_thread(self.mirror.wipe)

    async def copy(self):
        await asyncio.to_thread(self.mirror.copy_aside)
        await self.mirror.check_server()

    async def restore(self):
        if self.mirror.backup is None:
            await self.copy()
        with contextlib.ExitStack() as healed:
            if self.rng.random() < 0.5:
                self.proxy.cut()
                healed.callback(self.proxy.heal)
            await self.write()
            await asyncio.to_thread(self.mirror.copy_back)
            await self.mirror.check_server()
            await self.write()

    async def meanwhile(self):
        if self.rng.random() < 0.8:
            await self.write()
        if self.rng.random() < 0.4:
            await self.compact()
        await asyncio.sleep(self.rng.random() * 0.6)

    async def pause(self):
        await asyncio.sleep(self.rng.random() * 0.3)

    # Who watches

    async def join(self, start=None):
        if len(self.followers) >= 8:
            await self.leave()
        key, prefix = self.rng.choice(((b"k", True), (b"k", True), (b"z", True), (b"k3", False)))
        self.followers.append(
            Follower(
                self.client,
                self.mirror,
                key,
                prefix=prefix,
                start=start,
                prev=self.rng.random() < 0.3,
                buffer=self.rng.choice((1, 5, 10_000)),
            )
        )
        await self.followers[-1].entered.wait()

    async def join_at(self):
        now = self.mirror.now.revision
        await self.join(max(1, now + self.rng.choice((-40, -10, -3, 0, 1, 2))))

    async def leave(self):
        if self.followers:
            one = self.followers.pop(self.rng.randrange(len(self.followers)))
            self.count(one)
            await one.leave()

    async def leave_all(self):
        for one in self.followers:
            self.count(one)
            await one.leave()
        self.followers = []

    def count(self, one):
        self.batches += len(one.batches)
        self.told += sum(len(batch.events) for batch in one.batches)
        self.resyncs += sum(batch.resync for batch in one.batches)

    async def hold(self):
        if self.followers:
            self.rng.choice(self.followers).may_go.clear()

    async def release(self):
        for each in self.followers:
            each.may_go.set()
