"""The embedded store answers as etcd does: random programs run on both, every answer compared."""

from __future__ import annotations

import asyncio
import itertools

import attrs
import pytest
from etcd_servers import Etcd, binaries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hastack.discovery import Compare, Delete, Get, KeyValue, Put, etcd, memory
from hastack.discovery.etcd import _wire
from hastack.errors import LeaseLost, StoreError

NAMES = [b"a", b"a/1", b"a/2", b"a/3", b"b", b"\xff", b"\xff\xff"]
names = st.sampled_from(NAMES)
ends = st.none() | st.sampled_from([b"a/2", b"b", b"\0", b"\xff", b"a"])
values = st.sampled_from([b"", b"1", b"2"])
slots = st.integers(0, 3)  # which of the leases; 0 is none, those that never were are refused
back = st.integers(-1, 8)  # how many revisions ago; -1 is the future
flags = st.booleans()

ops = st.one_of(
    st.tuples(st.just("put"), names, values, slots, flags),
    st.tuples(st.just("delete"), names, ends, flags),
    st.tuples(st.just("get"), names, ends, st.integers(0, 2)),
)
compares = st.one_of(
    st.tuples(names, st.just("value"), st.sampled_from(["==", "!=", "<", ">"]), values),
    st.tuples(
        names, st.just("version"), st.sampled_from(["==", "!=", "<", ">"]), st.integers(0, 3)
    ),
    st.tuples(
        names,
        st.sampled_from(["create_revision", "mod_revision"]),
        st.sampled_from(["==", "!=", "<", ">"]),
        back,
    ),
    st.tuples(names, st.just("lease"), st.sampled_from(["==", "!="]), slots),
)
steps = st.one_of(
    ops,
    ops,
    st.tuples(st.just("range"), names, ends, back, st.integers(0, 3), flags, flags),
    st.tuples(
        st.just("txn"),
        st.lists(compares, max_size=2),
        st.lists(ops, max_size=4),
        st.lists(ops, max_size=2),
    ),
    st.tuples(st.just("lease"), st.sampled_from(["grant", "revoke"]), st.integers(1, 3)),
    st.tuples(st.just("compact"), back),
    st.tuples(st.just("watch"), names, flags, back, flags),
)

_number = itertools.count()


class Side:
    """One store, its answers with revisions counted from the program's begin, leases by slot."""

    def __init__(self, store, prefix):
        self.store = store
        self.prefix = prefix
        self.leases = {0: 0}
        self.compacted = 0

    async def begin(self):
        # Nothing older than this put is looked at: programs before may have compacted it.
        self.base = (await self.store.put(self.prefix, b"begin")).revision
        return self

    async def grant(self):
        return await self.store.grant(600.0)

    async def revoke(self, lease):
        await self.store.revoke(lease)

    async def compact(self, revision):
        await self.store.compact(revision)

    def key(self, name):
        return self.prefix + name

    def end(self, end):
        return self.prefix[:-1] + b"0" if end == b"\0" else end and self.prefix + end

    def lease(self, slot):
        return self.leases.get(slot, 12345)

    def plain(self, answer):
        """The answer without what may differ between two stores that do the same."""
        if isinstance(answer, KeyValue):
            slot = {lease: slot for slot, lease in self.leases.items()}.get(answer.lease, -1)
            return attrs.evolve(
                answer,
                key=answer.key.removeprefix(self.prefix),
                create_revision=answer.create_revision and answer.create_revision - self.base,
                mod_revision=answer.mod_revision - self.base,
                lease=slot,
            )
        if isinstance(answer, (tuple, list)):
            return tuple(map(self.plain, answer))
        if attrs.has(type(answer)):
            fields = attrs.asdict(answer, recurse=False)
            found = {name: self.plain(value) for name, value in fields.items()}
            if "revision" in found:
                found["revision"] -= self.base
            return type(answer).__name__, found
        return answer

    def op(self, step):
        kind, name, *rest = step
        if kind == "put":
            value, slot, prev = rest
            return Put(self.key(name), value, self.lease(slot), prev)
        end, last = rest
        return (Delete if kind == "delete" else Get)(self.key(name), self.end(end), last)

    def compare(self, condition):
        name, target, relation, value = condition
        if target == "lease":
            value = self.lease(value)
        elif target in {"create_revision", "mod_revision"}:
            value = self.now - value if self.now - value > self.base else 0
        return Compare(self.key(name), target, relation, value)

    async def run(self, step):
        """Do it; an error is an answer, too."""
        self.now = (await self.store.identity()).revision
        try:
            return self.plain(await self.do(*step))
        except StoreError as error:
            kind = next(k for k in type(error).__mro__ if k in {LeaseLost, StoreError})
            return kind.__name__, error.code

    async def do(self, kind, *rest):
        store = self.store
        if kind == "put":
            name, value, slot, prev = rest
            return await store.put(self.key(name), value, lease=self.lease(slot), prev=prev)
        if kind == "delete":
            name, end, prev = rest
            return await store.delete(self.key(name), end=self.end(end), prev=prev)
        if kind == "get":
            name, end, limit = rest
            return await store.range(self.key(name), end=self.end(end), limit=limit)
        if kind == "range":
            name, end, ago, limit, keys_only, count_only = rest
            return await store.range(
                self.key(name),
                end=self.end(end),
                revision=max(self.base, self.now - ago),
                limit=limit,
                keys_only=keys_only,
                count_only=count_only,
            )
        if kind == "txn":
            compare, then, otherwise = rest
            return await store.txn(
                [self.compare(one) for one in compare],
                [self.op(one) for one in then],
                [self.op(one) for one in otherwise],
            )
        if kind == "compact":
            revision = max(self.base, self.now - rest[0])
            await self.compact(revision)
            self.compacted = revision
            return None
        if kind == "watch":
            return await self.watch(*rest)
        what, slot = rest
        if what == "revoke":
            return await self.revoke(self.lease(slot) or 12345)
        if slot not in self.leases:
            self.leases[slot] = await self.grant()
        return None

    async def watch(self, name, prefix, ago, prev):
        """What a watch hands over that begins in the past, up to now."""
        # What changed at the very revision that was compacted to, servers before 3.4.36 do not tell
        # for certain, so the client asks for a listing there.
        start = max(self.base, self.now - max(ago, 0)) + 1
        if start == self.compacted:
            start += 1
        found = []
        marker = self.key(b"marker")
        await self.store.put(marker, b"")
        async with self.store.watch(
            self.key(name) if not prefix else self.key(name[:1]),
            prefix=prefix,
            start_revision=start,
            prev=prev,
        ) as watch:
            last = (await self.store.put(self.key(name), b"last")).revision
            while not found or found[-1].revision < last:
                found.append(await anext(watch))
        # How events are cut into batches is nobody's promise, nor when a listing is made.
        resync = [batch.reason for batch in found if batch.resync]
        events = [event for batch in found for event in batch.events]
        if not resync:
            return events
        state = {event.kv.key: event.kv for event in events}
        return resync, [kv for _, kv in sorted(state.items()) if kv.version]


class EtcdSide(Side):
    async def grant(self):
        call = self.store._transport().call
        return (await call(_wire.LEASE_GRANT, _wire.LeaseGrantRequest(TTL=600))).ID

    async def revoke(self, lease):
        call = self.store._transport().call
        await call(_wire.LEASE_REVOKE, _wire.LeaseRevokeRequest(ID=lease))

    async def compact(self, revision):
        await self.store.maintenance.compact(revision)


@pytest.fixture
def server(tmp_path):
    if "3.4" not in binaries():
        pytest.skip("no etcd 3.4 on this machine")
    member = Etcd(tmp_path, binary=binaries()["3.4"], options=("--unsafe-no-fsync",)).start()
    yield member
    member.kill()


def test_every_answer_is_that_of_etcd(server):
    with asyncio.Runner() as runner:
        client = etcd.Client(server.endpoint)
        # As long as somebody watches, the stream of watches is not opened anew for each.
        guard = client.watch(b"guard")
        runner.run(guard.__aenter__())

        async def play(program):
            prefix = b"/%d/" % next(_number)
            sides = [
                await EtcdSide(client, prefix).begin(),
                await Side(memory.Store(), prefix).begin(),
            ]
            for n, step in enumerate(program):
                real, ours = [await side.run(step) for side in sides]
                assert ours == real, (n, step)

        @settings(
            max_examples=80,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(st.lists(steps, min_size=5, max_size=30))
        def programs(program):
            runner.run(asyncio.wait_for(play(program), 15.0))

        try:
            programs()
        finally:
            runner.run(guard.__aexit__(None, None, None))
            runner.run(client.aclose())
