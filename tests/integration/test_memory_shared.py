"""A store that several processes share: its owner dies, stops, forks, and hears nonsense."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_processes import Worker

from hastack.discovery import memory
from hastack.discovery._memory_wire import Frames, Goodbye, Hello, Ping, decode, encode
from hastack.errors import (
    ClosedError,
    InvalidArgument,
    NotAuthorized,
    StoreError,
    StoreUnavailable,
)

BOUND = 40.0  # seconds; ends what hangs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def make_worker(path):
    started = []

    def make(where=path):
        started.append(Worker(where))
        return started[-1]

    yield make
    for worker in started:
        worker.kill()


@pytest.fixture
def owner(make_worker):
    """Another process, which owns the store."""
    worker = make_worker()
    assert isinstance(worker.do("return (await store.identity()).cluster"), int)
    return worker


def run(main, path):
    """``main(store)`` with this process's access to the store."""

    async def bounded():
        store = memory.connect(f"memory://{path}")
        try:
            async with asyncio.timeout(BOUND):
                return await main(store)
        finally:
            await store.aclose()

    return asyncio.run(bounded())


async def until(condition):
    """Wait for ``await condition()``; errors of a store that is away count as no."""
    while True:
        try:
            found = await condition()
        except StoreError:
            found = None
        if found:
            return found
        await asyncio.sleep(0.01)


# One owner


def test_processes_that_begin_at_once_agree_on_one_owner(make_worker):
    workers = [make_worker() for _ in range(6)]
    for n, worker in enumerate(workers):
        worker.begin(f"await store.put('worker/{n}', ''); return (await store.identity()).cluster")
    clusters = {worker.end() for worker in workers}
    assert len(clusters) == 1
    assert workers[0].do("return (await store.range('worker/', prefix=True)).count") == 6


def test_the_files_are_for_this_user_only(owner, path):
    for place in (path, path.with_name("store.sock")):
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert path.read_text() == f"{owner.process.pid}\n"


def test_a_socket_that_was_left_behind_is_replaced(owner, path):
    owner.kill()
    assert path.with_name("store.sock").exists()

    async def main(store):
        await store.put("a", "1")
        return await store.get("a")

    assert run(main, path).value == b"1"
    assert not path.with_name("store.sock").exists()  # the last handle was closed


@pytest.mark.parametrize("name", ["s", "n" * 200])
def test_paths_may_be_longer_than_a_socket_address(tmp_path, make_worker, name):
    deep = tmp_path.joinpath(*["directory"] * 12)
    deep.mkdir(parents=True)
    place = deep / name
    assert len(str(place)) > 108
    other = make_worker(place)
    other.do("await store.put('a', '1')")

    async def main(store):
        return (await store.get("a")).value

    assert run(main, place) == b"1"


def test_a_file_that_cannot_be_ours_is_refused(tmp_path):
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "directory").mkdir()

    async def main(store):
        await store.get("a")

    for name, error in (
        ("link", NotAuthorized),
        ("directory", NotAuthorized),
        ("absent/store", InvalidArgument),
    ):
        with pytest.raises(error):
            run(main, tmp_path / name)


def test_urls_that_make_no_sense_are_refused():
    for url in ("memory:///", "memory://a/b", "memory:///a?b", "etcd://a", "", 5):
        with pytest.raises(InvalidArgument) as refused:
            memory.connect(url)
        assert refused.value.parameter == "url"
    with pytest.raises(InvalidArgument), memory.connect("memory:///tmp/x").outage():
        pass


# Its end


def test_after_a_kill_watchers_get_the_difference_and_kept_keys_come_back(owner, path):
    async def main(store):
        await store.put("k/gone", "1")
        await store.put("other", "1")
        cluster = (await store.identity()).cluster
        async with (
            store.lease(60.0) as lease,
            store.keep("k/kept", "me", ttl=60.0) as kept,
            store.watch("k/", prefix=True, prev=True) as watch,
            store.watch("k/", prefix=True, start_revision=1) as late,
        ):
            snapshot = await anext(watch)
            assert [e.kv.key for e in snapshot.events] == [b"k/gone", b"k/kept"]
            await anext(late)
            owner.kill()
            batch = await anext(watch)
            assert (batch.resync, batch.reason) == (True, "restored")
            state = {b"k/gone": b"1", b"k/kept": b"me"}
            resyncs = 0
            while state != {b"k/kept": b"me"} or not resyncs:
                resyncs += batch.resync
                for event in batch.events:
                    assert (event.prev and event.prev.value) == state.get(event.kv.key)
                    if event.kind == "put":
                        state[event.kv.key] = event.kv.value
                    else:
                        del state[event.kv.key]
                if state != {b"k/kept": b"me"}:
                    batch = await anext(watch)
            assert resyncs == 1
            assert (await anext(late)).reason == "restored"
            assert await lease.context.wait_async(BOUND)
            assert "another one" in str(lease.context.cause())
            assert (await store.identity()).cluster != cluster
            assert await store.get("other") is None
            found = await store.get("k/kept")
            assert found.lease not in {0, lease.id}
            assert kept.present

    run(main, path)


def test_one_of_the_others_takes_over(owner, make_worker, path):
    others = [make_worker() for _ in range(3)]
    for n, worker in enumerate(others):
        worker.do(f"""
kept = store.keep('kept/{n}', '', ttl=30.0)
held.append(kept)
await kept.__aenter__()
""")
    before = others[0].do("return (await store.identity()).cluster")
    owner.kill()

    async def main(store):
        async def all_there():
            return (await store.range("kept/", prefix=True)).count == 3

        await until(all_there)
        after = (await store.identity()).cluster
        assert after != before
        # While this process has a part in it: it may itself be the new owner.
        loop = asyncio.get_running_loop()
        ask = "return (await store.identity()).cluster"
        found = [await loop.run_in_executor(None, worker.do, ask) for worker in others]
        assert set(found) == {after}

    run(main, path)


def test_a_write_that_was_under_way_is_said_to_be_uncertain(owner, path):
    async def main(store):
        await store.put("a", "1")
        owner.pause()
        writing = asyncio.ensure_future(store.put("a", "2", timeout=BOUND))
        await asyncio.sleep(0.1)
        owner.kill()
        with pytest.raises(StoreUnavailable) as lost:
            await writing
        assert lost.value.indeterminate
        assert await store.get("a") is None  # reading goes on by itself, in the new store

    run(main, path)


def test_an_owner_that_closes_lets_the_others_go_on(owner, path):
    async def main(store):
        async with store.watch("a") as watch:
            await anext(watch)
            await store.put("a", "1")
            await anext(watch)
            owner.begin("await store.aclose()")
            batch = await anext(watch)
            assert (batch.reason, [e.kind for e in batch.events]) == ("restored", ["delete"])
        assert owner.end() is None
        assert owner.do("return await store.get('a')").startswith("ClosedError")

    run(main, path)


def test_a_deleted_file_ends_the_owner_and_not_the_store(owner, path):
    async def main(store):
        before = (await store.identity()).cluster
        path.unlink()

        async def another():
            return (await store.identity()).cluster != before

        await until(another)
        mine = (await store.identity()).cluster
        assert owner.do("return (await store.identity()).cluster") == mine

    run(main, path)


# Its silence


def test_a_stopped_owner_is_an_error_in_time_and_nothing_is_lost(owner, path):
    async def main(store):
        cluster = (await store.identity()).cluster
        async with store.watch("a") as watch:
            await anext(watch)
            await store.put("a", "1")
            await anext(watch)
            assert watch.age < 5.0
            owner.pause()
            before = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.put("a", "2", timeout=0.5)
            with pytest.raises(StoreUnavailable):
                await store.get("a", timeout=0.5)
            assert time.monotonic() - before < BOUND / 2
            while watch.age < 2.0:
                await asyncio.sleep(0.05)
            while store._shared.link is not None:  # it is given up
                await asyncio.sleep(0.05)
            with pytest.raises(StoreUnavailable):
                await store.put("b", "", timeout=0.5)
            owner.resume()
            await until(lambda: store.put("a", "3"))
            last = None
            while last is None or last.kv.value != b"3":
                batch = await anext(watch)
                assert not batch.resync
                last = batch.events[-1]
        assert (await store.identity()).cluster == cluster

    run(main, path)


def test_leases_outlive_a_stop_of_the_owner(owner, make_worker, path):
    other = make_worker()
    other.do("""
lease = await store.grant(1.5)
await store.put('leased', '', lease=lease)
held.append(lease)
""")
    owner.pause()
    time.sleep(2.5)
    owner.resume()
    assert other.do("return await store.renew(held[0])") == 1.5
    assert other.do("return (await store.get('leased')) is not None")


def test_the_lease_of_a_killed_process_ends_with_its_ttl(owner, make_worker, path):
    other = make_worker()
    other.do("""
lease = store.lease(1.0)
held.append(lease)
await lease.__aenter__()
await store.put('leased', '', lease=lease)
""")

    async def main(store):
        async with store.watch("leased") as watch:
            assert len((await anext(watch)).events) == 1
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.0):  # kept alive
                    await anext(watch)
            other.kill()
            assert (await anext(watch)).events[0].kind == "delete"

    run(main, path)


def test_a_lease_that_cannot_be_renewed_is_lost_in_time(owner, path):
    async def main(store):
        async with store.lease(1.0) as lease:
            owner.pause()
            assert await lease.context.wait_async(BOUND)
            assert "could not be renewed" in str(lease.context.cause())

    run(main, path)


# Forks

FORKED = """
pid = os.fork()
if pid == 0:
    # The parent's loop is not the child's: a new one, in a new thread.
    import threading
    def child():
        async def main():
            mine = await store.identity()
            await store.put('child/cluster', str(mine.cluster))
            async with store.keep('child/kept', '', ttl=2.0):
                await asyncio.sleep(60)
        asyncio.run(main())
    thread = threading.Thread(target=child)
    thread.start()
    thread.join()
    os._exit(0)
held.append(pid)
return pid
"""


@pytest.mark.parametrize("who", ["owner", "client"])
def test_a_forked_child_is_an_ordinary_client(owner, make_worker, path, who):
    forker = owner if who == "owner" else make_worker()
    cluster = forker.do("return (await store.identity()).cluster")
    child = forker.do(FORKED)
    try:

        async def main(store):
            async def found():
                return await store.get("child/kept")

            await until(found)
            assert (await store.get("child/cluster")).value == str(cluster).encode()
            owner.kill()

            # The child holds neither the owner's lock nor its socket: somebody else takes over,
            # and the child's key comes back.
            async def back():
                return await store.get("child/kept")

            await until(back)
            assert (await store.identity()).cluster != cluster

        run(main, path)
    finally:
        os.kill(child, 9)


def test_a_forked_child_has_a_copy_of_a_store_of_one_process(owner):
    told = owner.do("""
private = memory.Store()
await private.put('a', 'before')
mine = (await private.identity()).cluster
ours = store.watch('a')
await ours.__aenter__()
read, write = os.pipe()
if (pid := os.fork()) == 0:
    import json
    def child():
        async def main():
            await private.put('b', 'child')
            found = [kv.key.decode() for kv in (await private.range('', prefix=True)).kvs]
            try:
                await anext(ours)
                told = 'told'
            except Exception as error:
                told = str(error)
            await ours.__aexit__(None, None, None)
            cluster = (await private.identity()).cluster
            os.write(write, json.dumps([found, cluster != mine, told]).encode())
        asyncio.run(main())
    import threading
    thread = threading.Thread(target=child)
    thread.start()
    thread.join()
    os._exit(0)
await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
await ours.__aexit__(None, None, None)
return [os.read(read, 1000).decode(), (await private.get('b')) is None]
""")
    child, parent_has_not = told
    found, another, watch = json.loads(child)
    assert found == ["a", "b"]
    assert another
    assert "parent" in watch
    assert parent_has_not


# Nonsense


def dial(path):
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(BOUND)
    one.connect(str(path.with_name("store.sock")))
    return one


def hear(one):
    """All messages until the owner closes."""
    frames, heard = Frames(1 << 20), []
    try:
        while data := one.recv(65536):
            heard += [decode(frame)[1] for frame in frames.feed(data)]
    except ConnectionError:
        pass
    return heard


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "malformed: a message of"),
        (encode(1, Ping()), "malformed: no greeting"),
        (encode(0, Hello(99)), "version 99: the owner speaks 1"),
        (encode(0, Hello(1)) + struct.pack("!I", 0), "malformed: a message of 0 bytes"),
        (encode(0, Hello(1)) + encode(5, None), "malformed: a message that only the owner"),
        (encode(0, Hello(1)) + struct.pack("!IBI", 5, 200, 1), "malformed: a message of unknown"),
    ],
)
def test_nonsense_is_answered_with_a_reason_and_the_owner_lives(owner, path, said, reason):
    with dial(path) as one:
        one.sendall(said)
        last = hear(one)[-1]
    assert isinstance(last, Goodbye)
    assert last.reason.startswith(reason)
    assert owner.do("return (await store.put('a', '')).revision") > 1


def test_any_nonsense_leaves_the_owner_alive(owner, path):
    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.booleans(), st.lists(st.binary(max_size=40), max_size=4))
    def fuzz(greeted, bodies):
        with dial(path) as one:
            try:
                if greeted:
                    one.sendall(encode(0, Hello(1)))
                for body in bodies:
                    one.sendall(struct.pack("!I", len(body)) + body)
                one.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            hear(one)

    fuzz()
    assert owner.do("return (await store.put('a', '')).revision") > 1


def test_another_version_of_the_owner_is_an_error_at_once(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path.with_name("store.sock")))
    listener.listen()

    async def main(store):
        waiting = asyncio.ensure_future(store.get("a"))
        loop = asyncio.get_running_loop()
        one, _ = await loop.run_in_executor(None, listener.accept)
        with one:
            one.sendall(encode(0, Goodbye("version 1: the owner speaks 2")))
            with pytest.raises(StoreError, match="version 1") as refused:
                await waiting
            assert not isinstance(refused.value, StoreUnavailable)

    try:
        run(main, path)
    finally:
        listener.close()


def test_a_peer_that_does_not_read_holds_up_nobody(owner, path):
    async def main(store):
        await store.put("big", "x" * 1_000_000)
        with dial(path) as one:
            from hastack.discovery._memory_wire import Call

            one.sendall(encode(0, Hello(1)))
            ask = encode(1, Call("range", (b"big", None, 0, 0, False, False)))
            one.settimeout(1.0)
            try:
                for _ in range(100_000):
                    one.sendall(ask)
                raise AssertionError("the owner reads on although nobody reads its answers")
            except TimeoutError:
                pass
            for n in range(50):
                await store.put("a", str(n))
        # Not ru_maxrss, which begins with that of the process that forked the owner.
        size = owner.do("""
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        return int(line.split()[1])
""")
        assert size < 300_000  # KiB

    run(main, path)


# Cancellation and closing


def test_a_watch_that_is_cancelled_all_the_time_loses_nothing(owner, path):
    async def main(store):
        async with store.watch("a", start_revision=1) as watch:
            writing = asyncio.ensure_future(write(store))
            found, cancelled = [], 0
            while len(found) < 200:
                step = asyncio.ensure_future(anext(watch))
                for _ in range(cancelled % 7):
                    await asyncio.sleep(0.0005 * (cancelled % 3))
                step.cancel()
                done, _ = await asyncio.wait((step,))
                if step.cancelled():
                    cancelled += 1
                else:
                    found += [e.kv.value for e in step.result().events]
            assert cancelled
            await writing
        assert found == [b"%d" % n for n in range(200)]

    async def write(store):
        for n in range(200):
            await store.put("a", str(n))

    run(main, path)


def test_calls_that_are_cancelled_leave_nothing_behind(owner, path):
    async def main(store):
        for turns in range(40):
            call = asyncio.ensure_future(store.put("a", str(turns)))
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            call.cancel()
            try:
                await call
            except asyncio.CancelledError:
                pass
        await store.put("a", "last")
        assert (await store.get("a")).value == b"last"
        link = store._shared.link
        await until(lambda: _true(not link._waiting))

    async def _true(value):
        return value

    run(main, path)


def test_a_closed_store_is_closed_for_all_who_wait(owner, path):
    async def main(store):
        async with store.watch("a") as watch, store.lease(30.0) as lease:
            await anext(watch)
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.05)
            await store.aclose()
            with pytest.raises(ClosedError):
                await waiting
            assert lease.context.done
            with pytest.raises(ClosedError):
                await store.get("a")
            with pytest.raises(ClosedError):
                store.watch("a")

    run(main, path)


def test_many_loops_and_threads_use_one_link(owner, path):
    store = memory.connect(f"memory://{path}")

    async def work(n):
        async with store.watch(f"t/{n}") as watch:
            await anext(watch)
            for m in range(20):
                await store.put(f"t/{n}", str(m))
            seen = []
            while len(seen) < 20:
                seen += [int(e.kv.value) for e in (await anext(watch)).events]
            return seen == list(range(20))

    async def main():
        loop = asyncio.get_running_loop()
        threads = [loop.run_in_executor(None, asyncio.run, work(n)) for n in range(4)]
        async with asyncio.timeout(BOUND):
            assert await asyncio.gather(*threads, work("here")) == [True] * 5
        await store.aclose()

    asyncio.run(main())
