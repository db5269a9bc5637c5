"""Endpoints that die, freeze and come back; calls that are cancelled at every await."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from etcd_servers import binaries
from etcd_servers import cluster as start_cluster
from watch_real import quick

from hastack import context
from hastack.discovery import etcd
from hastack.discovery.etcd import _lines, _wire
from hastack.errors import (
    Cancelled,
    ClosedError,
    DeadlineExceeded,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)

BOUND = 40.0  # seconds; ends what hangs


def bounded(main):
    async def run():
        async with asyncio.timeout(BOUND):
            return await main()

    return asyncio.run(run())


def from_first(client):
    """Have the client begin with its first endpoint, instead of one by lot."""
    client._shared.endpoints.home = 0
    return client


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Three members for all tests: it takes seconds until they have a leader."""
    if not binaries():
        pytest.skip("no etcd on this machine")
    started = start_cluster(tmp_path_factory.mktemp("cluster"), 3)
    yield started
    for member in started:
        member.discard()


@pytest.fixture
def cluster(members):
    """The members; the first is not the leader, whose loss would stop all writes for a while."""
    for member in members:
        if member.process is None:
            member.start()
        member.resume()
        member.wait_until_up()
    client = etcd.Client([member.endpoint for member in members])
    with client.sync as sync:
        sync.delete("", prefix=True)
        leads = [
            status.leader == status.member
            for status in (sync.maintenance.status(member.endpoint) for member in members)
        ]
    return [member for _, member in sorted(zip(leads, members, strict=True), key=lambda p: p[0])]


def addresses(cluster):
    return [member.endpoint for member in cluster]


def test_calls_go_on_when_the_endpoint_is_killed(cluster):
    async def main():
        async with from_first(etcd.Client(addresses(cluster))) as client:
            await client.put("k", "0")
            cluster[0].kill()
            uncertain = []
            for n in range(1, 20):
                # A write that had been sent may fail, once, and says that it is uncertain.
                try:
                    await client.put("k", str(n))
                except StoreUnavailable as error:
                    uncertain.append(error.indeterminate)
                    await client.put("k", str(n))
            assert uncertain in ([], [True])
            assert (await client.get("k")).value == b"19"
            assert not client._shared.endpoints.is_well(cluster[0].endpoint)
            cluster[0].start(wait=False)
            cluster[0].wait_until_up()
            while not client._shared.endpoints.all_well:
                await client.get("k")
                await asyncio.sleep(0.05)
            await client.get("k")
            assert client._shared.endpoints.first() == cluster[0].endpoint

    bounded(main)


def test_a_read_leaves_a_frozen_endpoint_within_its_share_of_the_time(cluster):
    async def main():
        async with from_first(etcd.Client(addresses(cluster))) as client:
            await client.put("k", "v")
            cluster[0].pause()
            begin = time.monotonic()
            assert (await client.get("k", timeout=9.0)).value == b"v"
            assert time.monotonic() - begin < 8.0
            begin = time.monotonic()
            for _ in range(10):  # and nobody asks it again
                await client.put("k", "v")
            assert time.monotonic() - begin < 2.5
            cluster[0].resume()

    bounded(main)


def test_a_write_to_a_frozen_endpoint_is_uncertain_and_not_repeated(cluster):
    async def main():
        async with from_first(etcd.Client(addresses(cluster))) as client:
            first = await client.put("k", "0")
            cluster[0].pause()
            with pytest.raises(StoreTimeout, match="no answer within 1 s") as info:
                await client.put("k", "1", timeout=1.0)
            assert info.value.indeterminate
            assert isinstance(info.value, TimeoutError)
            assert info.value.endpoint == cluster[0].endpoint
            await client.put("k", "2")
            cluster[0].resume()
            # Once at most: a repetition would show in the version.
            assert (await client.get("k")).version <= 3
            assert first.revision

    bounded(main)


@pytest.fixture
def impatient(monkeypatch):
    """A connection that says nothing is doubted sooner."""
    monkeypatch.setattr(_lines, "SILENCE", 0.3)
    monkeypatch.setattr(_lines, "ANSWER", 0.7)


def test_a_silent_connection_is_replaced_long_before_pings_find_it(etcd, make_proxy, impatient):
    from hastack.discovery.etcd import Client

    async def main():
        proxy = make_proxy(etcd.port)
        async with Client(proxy.endpoint, timeout=3.0) as client:
            quick(client, interval=0.5, deadline=1.0)
            await client.put("k", "0")
            async with client.watch("k") as watch, client.lease(60.0):
                await anext(watch)
                before = client._transport()._lines._current[proxy.endpoint]
                begin = time.monotonic()
                proxy.silence()
                write = asyncio.create_task(client.put("k", "lost", timeout=30.0))
                assert (await client.get("k", timeout=30.0)).value == b"0"
                assert time.monotonic() - begin < 9.0  # a ping takes 13 s
                after = client._transport()._lines._current[proxy.endpoint]
                assert before.silent
                assert after is not before
                # What nobody may repeat had its time on the old one.
                with pytest.raises(StoreUnavailable, match="nothing was heard") as info:
                    await write
                assert info.value.indeterminate
                # The watch, which is on the background loop's connection, is found out as well.
                await client.put("k", "1")
                (event,) = (await anext(watch)).events
                assert event.kv.value == b"1"
                assert time.monotonic() - begin < 12.0
            lines = client._transport()._lines
            while lines._replaced:
                await asyncio.sleep(0.01)

    bounded(main)


def test_a_request_that_takes_long_is_no_silence(shared_etcd, impatient):
    from hastack.discovery.etcd import Client

    async def main():
        async with Client(shared_etcd.endpoint, timeout=30.0) as client:
            await client.identity()
            lines = client._transport()._lines
            (line,) = lines._current.values()
            asked = []
            doubt = lines.doubt
            lines.doubt = lambda line: asked.append(line) or doubt(line)
            # An answer that the server never gives; it answers others.
            stuck = line.stream(_wire.WATCH, both=True)()
            lines.asked(line)
            while line.since is not None:
                await asyncio.sleep(0.01)
            assert asked == [line]
            assert lines._current[shared_etcd.endpoint] is line
            assert not line.silent
            stuck.cancel()

    bounded(main)


def test_a_server_with_too_many_requests_is_asked_again_later():
    """Which etcd says when 5,000 entries wait to be applied: not to be had on purpose."""
    import grpc
    import grpc.aio

    from hastack.discovery.etcd import Client

    async def main():
        asked = []

        async def put(request, context):
            asked.append(request)
            if len(asked) != 4:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests"
                )
            return b""

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(put)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Put": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with Client(f"127.0.0.1:{port}") as client:
                await client.put("k", "v")  # not applied, so a write may be repeated
                assert len(asked) == 4
                assert client._shared.endpoints.all_well  # busy is not away
                # It does not go on for ever, and says why.
                with pytest.raises(StoreError, match="too many requests") as info:
                    await client.put("k", "v", timeout=2.0)
                assert info.value.code == "RESOURCE_EXHAUSTED"
                assert len(asked) < 14
        finally:
            await server.stop(None)

    bounded(main)


def test_a_cut_connection_is_made_anew(etcd, make_proxy):
    from hastack.discovery.etcd import Client

    proxy = make_proxy(etcd.port)

    async def main():
        async with Client(proxy.endpoint) as client:
            await client.put("k", "1")
            proxy.cut()
            with pytest.raises(StoreUnavailable) as info:
                await client.get("k", timeout=1.0)
            assert not info.value.indeterminate
            assert info.value.endpoint == proxy.endpoint
            # The write is not sent while nobody is there, and goes out when somebody is.
            late = asyncio.create_task(client.put("k", "2", timeout=20.0))
            await asyncio.sleep(0.1)
            proxy.heal()
            assert (await late).revision
            assert (await client.get("k")).value == b"2"

    bounded(main)


def test_an_address_where_nobody_listens_is_passed_over(etcd):
    from hastack.discovery.etcd import Client

    async def main():
        async with from_first(Client(["127.0.0.1:1", etcd.endpoint])) as client:
            assert (await client.put("k", "v")).revision
            assert not client._shared.endpoints.is_well("127.0.0.1:1")
        async with Client("127.0.0.1:1") as alone:
            with pytest.raises(StoreUnavailable) as info:
                await alone.put("k", "v", timeout=0.5)
            assert not info.value.indeterminate

    bounded(main)


def test_a_listener_that_never_answers_is_passed_over(etcd):
    import socket

    from hastack.discovery.etcd import Client

    with socket.create_server(("127.0.0.1", 0)) as dumb:
        address = f"127.0.0.1:{dumb.getsockname()[1]}"

        async def main():
            async with from_first(Client([address, etcd.endpoint], timeout=4.0)) as client:
                assert (await client.put("k", "v")).revision

        bounded(main)


def test_deadlines_and_cancellation_come_from_the_context(etcd):
    from hastack.discovery.etcd import Client

    etcd.pause()

    async def main():
        client = Client(etcd.endpoint)
        with pytest.raises(DeadlineExceeded):
            async with context.timeout(0.2):
                await client.get("k")
        with context.timeout(0.2), pytest.raises(DeadlineExceeded):
            await client.get("k")
        ctx = context.with_cancel()
        asyncio.get_running_loop().call_later(0.2, ctx.cancel, "enough")
        with context.using(ctx), pytest.raises(Cancelled, match="enough"):
            await client.get("k")
        with context.using(ctx), pytest.raises(Cancelled, match="enough"):
            await client.get("k")
        waiting = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.aclose()

    bounded(main)
    etcd.resume()


def test_a_cancelled_call_leaves_nothing_behind(etcd):
    from hastack.discovery.etcd import Client

    async def main():
        loop = asyncio.get_running_loop()
        async with Client(etcd.endpoint) as client:
            await client.put("k", "v")
            for delay in [0.0] * 20 + [0.0005 * n for n in range(40)]:
                call = loop.create_task(client.txn([], []))
                if delay:
                    await asyncio.sleep(delay)
                call.cancel()
                await asyncio.wait([call])
            for _ in range(50):
                left = asyncio.all_tasks() - {asyncio.current_task()}
                if not left:
                    break
                await asyncio.sleep(0.02)
            assert not left
            channels = [line.channel for line in client._transport()._lines._current.values()]
            assert not any(channel._active_calls for channel in channels)
            assert (await client.get("k")).value == b"v"

    bounded(main)


def test_closing_ends_the_calls_that_wait(etcd):
    from hastack.discovery.etcd import Client

    async def main():
        client = Client(etcd.endpoint)
        await client.put("k", "v")
        stream = await client._transport().stream(_wire.LEASE_KEEP_ALIVE)
        etcd.pause()
        calls = [asyncio.create_task(client.get("k")) for _ in range(3)]
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0.1)
        await client.aclose()
        for call in [*calls, reading]:
            with pytest.raises(ClosedError):
                await call
        with pytest.raises(ClosedError):
            await client.get("k")
        await client.aclose()

    bounded(main)
    etcd.resume()


def test_one_client_serves_many_loops_and_forgets_them(etcd):
    from hastack.discovery.etcd import Client

    client = Client(etcd.endpoint)
    for n in range(5):
        asyncio.run(client.put("k", str(n)))
    assert client.sync.get("k").value == b"4"
    errors = []

    def work(number):
        try:
            for n in range(20):
                asyncio.run(client.put(f"t{number}", str(n)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    asyncio.run(client.get("k"))
    assert len(client._transports) <= 2 + len(threads)
    client.sync.close()
    assert not client._transports


class TestStream:
    def test_reads_what_is_answered_until_it_is_closed(self, etcd):
        from hastack.discovery.etcd import Client

        async def main():
            async with Client(etcd.endpoint) as client:
                stream = await client._transport().stream(
                    _wire.LEASE_KEEP_ALIVE, require_leader=True
                )
                assert stream.endpoint == etcd.endpoint
                for lease in (1, 2):
                    await stream.write(_wire.LeaseKeepAliveRequest(ID=lease))
                    assert lease == (await stream.read()).ID
                reading = asyncio.create_task(stream.read())
                await asyncio.sleep(0.05)
                await stream.aclose()
                with pytest.raises(ClosedError):
                    await reading
                with pytest.raises(ClosedError):
                    await stream.write(_wire.LeaseKeepAliveRequest(ID=1))
                await stream.aclose()

        bounded(main)

    def test_a_cut_is_an_error_for_reader_and_writer(self, etcd, make_proxy):
        from hastack.discovery.etcd import Client

        proxy = make_proxy(etcd.port)

        async def main():
            async with Client(proxy.endpoint) as client:
                transport = client._transport()
                stream = await transport.stream(_wire.LEASE_KEEP_ALIVE)
                await stream.write(_wire.LeaseKeepAliveRequest(ID=1))
                await stream.read()
                proxy.cut()
                with pytest.raises(StoreUnavailable):
                    await stream.read()
                with pytest.raises(StoreUnavailable):
                    await stream.write(_wire.LeaseKeepAliveRequest(ID=1))
                with pytest.raises(StoreUnavailable):
                    await transport.stream(_wire.LEASE_KEEP_ALIVE, timeout=0.5)
                proxy.heal()
                stream = await transport.stream(_wire.LEASE_KEEP_ALIVE)
                await stream.write(_wire.LeaseKeepAliveRequest(ID=1))
                await stream.read()
                assert transport._stream_failures == 0

        bounded(main)

    def test_moves_to_another_endpoint(self, cluster):
        async def main():
            async with from_first(etcd.Client(addresses(cluster))) as client:
                transport = client._transport()
                stream = await transport.stream(_wire.WATCH, require_leader=True)
                assert stream.endpoint == cluster[0].endpoint
                create = _wire.WatchRequest(create_request=_wire.WatchCreateRequest(key=b"k"))
                await stream.write(create)
                assert (await stream.read()).created
                cluster[0].kill()
                with pytest.raises(StoreUnavailable):
                    await stream.read()
                stream = await transport.stream(_wire.WATCH)
                assert stream.endpoint in addresses(cluster)[1:]
                await stream.write(create)
                assert (await stream.read()).created

        bounded(main)

    def test_a_thousand_at_once_are_opened_a_few_at_a_time(self, etcd):
        from hastack.discovery.etcd import Client

        async def main():
            async with Client(etcd.endpoint, timeout=30.0) as client:
                transport = client._transport()
                streams = await asyncio.gather(
                    *(transport.stream(_wire.LEASE_KEEP_ALIVE) for _ in range(200))
                )
                await asyncio.gather(*(stream.aclose() for stream in streams))

        bounded(main)


def test_the_version_of_a_server_is_asked_once(etcd):
    from hastack.discovery.etcd import Client

    async def main():
        async with Client(etcd.endpoint) as client:
            transport = client._transport()
            version = await transport.server_version(etcd.endpoint)
            assert version >= (3, 4, 0)
            etcd.pause()
            assert await transport.server_version(etcd.endpoint) == version
            etcd.resume()

    bounded(main)
