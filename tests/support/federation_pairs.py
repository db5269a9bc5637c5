"""Two clusters seen from outside: is the mirror equal, since when, and was anything done twice?"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from hastack.discovery import Delete, Put
from hastack.discovery._layout import InstanceKey, origin_prefix

WORKER = Path(__file__).with_name("forwarder_process.py")


class Book:
    """All that happens under a prefix, as a watch straight at the server tells it."""

    def __init__(self, store, prefix: bytes) -> None:
        self.store, self.prefix = store, prefix
        self.state: dict[bytes, bytes] = {}
        self.history: dict[bytes, list[bytes | None]] = defaultdict(list)
        self.events = 0
        self.listeners = []

    async def __aenter__(self):
        self.watch = self.store.watch(self.prefix, prefix=True, start_revision=1, buffer=1_000_000)
        await self.watch.__aenter__()
        self.task = asyncio.create_task(self._follow())
        return self

    async def _follow(self):
        async for batch in self.watch:
            assert not batch.resync, batch.reason
            now = time.monotonic()
            for event in batch.events:
                key = event.kv.key[len(self.prefix) :]
                value = None if event.kind == "delete" else event.kv.value
                self.events += 1
                self.history[key].append(value)
                if value is None:
                    self.state.pop(key, None)
                else:
                    self.state[key] = value
                for listener in self.listeners:
                    listener(key, value, now)

    async def __aexit__(self, *exc):
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.watch.__aexit__(None, None, None)
        if not self.task.cancelled():
            self.task.result()


class Pair:
    """A source, and its mirror in one destination."""

    def __init__(self, source: Book, mirror: Book) -> None:
        self.source, self.mirror = source, mirror
        self.differing: set[bytes] = set()
        self.equal_since = time.monotonic()
        self.put_at: dict[bytes, float] = {}
        self.latencies: list[float] = []
        source.listeners.append(self._changed)
        mirror.listeners.append(self._mirrored)

    def _changed(self, key, value, now):
        if self.source.state.get(key) != self.mirror.state.get(key):
            self.differing.add(key)
        elif key in self.differing:
            self.differing.discard(key)
            self.equal_since = now

    def _mirrored(self, key, value, now):
        self._changed(key, value, now)
        at = self.put_at.pop(value, None)
        if at is not None:
            self.latencies.append(now - at)

    @property
    def equal(self) -> bool:
        return not self.differing

    def check(self) -> None:
        """Every write of the mirror is a later state of the source than the one before.

        Values differ all, so a value that comes twice, or an older one after a newer, shows.
        """
        for key, values in self.mirror.history.items():
            said, place = self.source.history[key], 0
            for value in values:
                assert value in said[place:], (key, value)
                place = said.index(value, place) + 1


class Cluster:
    """One etcd, its registrations, and changes to them."""

    def __init__(self, name: str, store) -> None:
        self.name, self.store = name, store
        self.serial = 0
        self.live: list[int] = []
        self.pairs: list[Pair] = []

    def key(self, number: int) -> bytes:
        return InstanceKey("reg", self.name, "default", "db", f"{number:06}").to_bytes()

    def value(self) -> bytes:
        self.serial += 1
        return b'{"address":"10.0.0.1:80","metadata":{"of":"%s","n":"%d"}}' % (
            self.name.encode(),
            self.serial,
        )

    async def put(self, numbers, *, size: int = 100) -> None:
        numbers = list(numbers)
        for first in range(0, len(numbers), size):
            await self._txn([(n, self.value()) for n in numbers[first : first + size]])

    async def _txn(self, pairs) -> None:
        now = time.monotonic()
        for _, value in pairs:
            for pair in self.pairs:
                pair.put_at[value] = now
        await self.store.txn([], [Put(self.key(n), value) for n, value in pairs])
        self.live = sorted({*self.live, *(n for n, _ in pairs)})

    async def delete(self, numbers, *, size: int = 100) -> None:
        numbers = list(numbers)
        for first in range(0, len(numbers), size):
            await self.store.txn([], [Delete(self.key(n)) for n in numbers[first : first + size]])
        self.live = sorted({*self.live} - set(numbers))

    def registered(self) -> Book:
        return Book(self.store, origin_prefix("reg", self.name))

    def mirror_of(self, other: Cluster) -> Book:
        return Book(self.store, origin_prefix("mir", other.name))


class ForwarderProcess:
    """A forwarder that can be killed and started again."""

    def __init__(self, source: str, destination: str, origin: str) -> None:
        self.command = [sys.executable, str(WORKER), source, destination, origin]
        self.process: asyncio.subprocess.Process | None = None
        self.said: list[dict] = []
        self.readers = set()

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        reader = asyncio.create_task(self._read(self.process))
        self.readers.add(reader)
        reader.add_done_callback(self.readers.discard)

    async def _read(self, process) -> None:
        async for line in process.stdout:
            self.said.append(json.loads(line))
            del self.said[:-200]

    async def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()
            for reader in tuple(self.readers):
                await reader

    def heard(self, kind: str) -> list[dict]:
        return [each for each in self.said if each["kind"] == kind]


async def until(condition, seconds: float) -> float:
    """Wait for a condition; the answer is how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come to that"
        await asyncio.sleep(0.005)
    return time.monotonic() - began
