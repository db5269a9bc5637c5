"""Balanced clients against real servers: gRPC, httpx and aiohttp."""

import asyncio
import gc
import socket
import threading
from collections import Counter
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import grpc
import httpx
import pytest

from hastack import context
from hastack.contrib import grpc_balance
from hastack.contrib._balanced import host_and_port
from hastack.contrib.aiohttp import balanced
from hastack.contrib.grpc_aio import client_interceptors
from hastack.contrib.httpx import AsyncBalancedTransport, BalancedTransport
from hastack.discovery import Instance
from hastack.discovery.balance import Balancer, ConsistentHash, Outlier, RoundRobin
from hastack.errors import ClosedError, DeadlineExceeded, InvalidArgument, NoInstance
from hastack.ratelimit import CircuitBreaker


def instance(number, address):
    return Instance(service="orders", id=f"o{number}", address=address)


def in_flight(balancer):
    return sum(endpoint.in_flight for endpoint in balancer.endpoints)


def idle(balancer):
    """Whether all calls have ended; some end on a thread of grpc."""
    for _ in range(500):
        if in_flight(balancer) == 0:
            return True
        threading.Event().wait(0.01)
    return False


def follow(addresses, **options):
    options.setdefault("policy", RoundRobin())
    # No test here lives until an instance is taken back.
    options.setdefault(
        "outlier",
        Outlier(
            breaker=lambda name: CircuitBreaker(
                name=name, min_calls=5, window_calls=10, open_for=600.0, open_max=600.0
            )
        ),
    )
    balancer = Balancer("orders", **options)
    balancer.update(instance(n, address) for n, address in enumerate(addresses))
    return balancer


# -- HTTP ---------------------------------------------------------------------------------


@contextmanager
def http_servers(count, *, failing=()):
    """Servers that say who they are and which host they were asked for."""
    servers = []
    for number in range(count):

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            name = f"o{number}"

            def do_GET(self):
                body = f"{self.name} {self.headers['Host']}".encode()
                self.send_response(500 if self.name in failing else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        # By default half a second each passes until they notice that they are to end.
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    try:
        yield [f"127.0.0.1:{server.server_port}" for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@contextmanager
def silent_port():
    """An address at which somebody listens who never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def closed_port():
    """An address at which nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def get_all_httpx(balancers, count, **options):
    with httpx.Client(transport=BalancedTransport(balancers, **options)) as client:
        return [client.get(f"http://orders/?n={n}") for n in range(count)]


def get_all_httpx_async(balancers, count, **options):
    async def main():
        async with httpx.AsyncClient(
            transport=AsyncBalancedTransport(balancers, **options)
        ) as client:
            return [await client.get(f"http://orders/?n={n}") for n in range(count)]

    return asyncio.run(main())


class Answer:
    def __init__(self, status_code, text):
        self.status_code = status_code
        self.text = text


def get_all_aiohttp(balancers, count, **options):
    async def main():
        async with aiohttp.ClientSession(middlewares=[balanced(balancers, **options)]) as session:
            found = []
            for n in range(count):
                async with session.get(f"http://orders/?n={n}") as response:
                    found.append(Answer(response.status, await response.text()))
            return found

    return asyncio.run(main())


HTTP = pytest.mark.parametrize(
    "get_all",
    [get_all_httpx, get_all_httpx_async, get_all_aiohttp],
    ids=["httpx", "httpx-async", "aiohttp"],
)


@HTTP
def test_requests_take_turns_and_keep_their_host(get_all):
    with http_servers(3) as addresses:
        balancer = follow(addresses)
        answers = get_all(balancer, 6)
        assert Counter(answer.text for answer in answers) == {f"o{n} orders": 2 for n in range(3)}
        assert in_flight(balancer) == 0


@HTTP
def test_an_instance_that_answers_500_or_not_at_all_is_set_aside(get_all):
    with http_servers(4, failing={"o1"}) as addresses:
        balancer = follow([*addresses[:3], "127.0.0.1:1"])
        served = Counter()
        for _ in range(8):
            try:
                served.update(answer.text.split()[0] for answer in get_all(balancer, 4))
            except (httpx.ConnectError, aiohttp.ClientConnectionError):
                served["refused"] += 1
        for _ in range(40):
            try:
                get_all(balancer, 1)
            except (httpx.ConnectError, aiohttp.ClientConnectionError):
                pass
        assert {answer.text.split()[0] for answer in get_all(balancer, 8)} == {"o0", "o2"}
        assert in_flight(balancer) == 0


@HTTP
def test_a_request_that_reached_nobody_goes_to_another_instance(get_all):
    with http_servers(1) as addresses, closed_port() as gone, closed_port() as too:
        balancer = follow([gone, too, *addresses], outlier=None)
        assert {answer.text for answer in get_all(balancer, 9)} == {"o0 orders"}
        assert in_flight(balancer) == 0


@HTTP
def test_nobody_is_asked_twice_when_nobody_can_be_reached(get_all):
    with closed_port() as gone, closed_port() as too:
        balancer = follow([gone, too], outlier=None)
        with pytest.raises((httpx.ConnectError, aiohttp.ClientConnectorError)):
            get_all(balancer, 1)
        assert in_flight(balancer) == 0


@HTTP
def test_a_key_keeps_requests_at_one_instance(get_all):
    with http_servers(4) as addresses:
        balancer = follow(addresses, policy=ConsistentHash())
        answers = get_all(balancer, 8, key=lambda request: str(request.url)[-1])
        again = get_all(balancer, 8, key=lambda request: str(request.url)[-1])
        assert [answer.text for answer in answers] == [answer.text for answer in again]
        assert len({answer.text for answer in answers}) > 1


@HTTP
def test_nobody_there(get_all):
    with pytest.raises(NoInstance):
        get_all(Balancer("orders"), 1)


def test_other_hosts_pass_through():
    with http_servers(1) as addresses:
        with httpx.Client(transport=BalancedTransport({"shop": follow([])})) as client:
            assert client.get(f"http://{addresses[0]}/").text == f"o0 {addresses[0]}"

        async def main():
            async with (
                httpx.AsyncClient(transport=AsyncBalancedTransport({"shop": follow([])})) as client,
                aiohttp.ClientSession(middlewares=[balanced({"shop": follow([])})]) as session,
            ):
                one = (await client.get(f"http://{addresses[0]}/")).text
                async with session.get(f"http://{addresses[0]}/") as response:
                    return one, await response.text()

        assert asyncio.run(main()) == (f"o0 {addresses[0]}",) * 2


def test_a_response_is_in_flight_until_it_is_closed():
    with http_servers(1) as addresses:
        balancer = follow(addresses)
        with httpx.Client(transport=BalancedTransport(balancer)) as client:
            with client.stream("GET", "http://orders/"):
                assert in_flight(balancer) == 1
            assert in_flight(balancer) == 0


def test_cancelled_requests_say_nothing_of_the_instance():
    async def main():
        async def never(reader, writer):
            while await reader.read(1000):
                pass
            writer.close()

        server = await asyncio.start_server(never, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        balancer = follow([f"127.0.0.1:{port}", f"127.0.0.1:{port}"])
        async with (
            httpx.AsyncClient(transport=AsyncBalancedTransport(balancer), timeout=None) as client,
            aiohttp.ClientSession(middlewares=[balanced(balancer)]) as session,
        ):
            for _ in range(10):
                for request in (client.get("http://orders/"), session.get("http://orders/")):
                    task = asyncio.ensure_future(request)
                    await asyncio.sleep(0.01)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
        server.close()
        await asyncio.sleep(0.05)  # the server's side of the connections
        assert in_flight(balancer) == 0
        assert not any(endpoint.ejected for endpoint in balancer.endpoints)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("h:80", ("h", 80)),
        ("h", ("h", None)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", None)),
        ("fe80::1", ("fe80::1", None)),
    ],
)
def test_addresses(address, parts):
    assert host_and_port(address) == parts


def test_mistakes_are_named():
    for bad in (None, {}, {"a": 1}, "orders"):
        with pytest.raises(InvalidArgument, match="balancers="):
            balanced(bad)
    with pytest.raises(InvalidArgument, match="balancer="):
        grpc_balance.channel("orders")
    with pytest.raises(InvalidArgument, match="address='h:http'"):
        host_and_port("h:http")
    balancer = follow(["h:http"])
    with httpx.Client(transport=BalancedTransport(balancer)) as client:
        with pytest.raises(InvalidArgument, match="address="):
            client.get("http://orders/")
    assert in_flight(balancer) == 0


# -- gRPC ---------------------------------------------------------------------------------


def text(data):
    return data.decode()


class Service(grpc.GenericRpcHandler):
    """Says who it is, in all four kinds of call."""

    def __init__(self, name, failing):
        self.name = name.encode()
        self.failing = failing

    def service(self, details):
        kind = details.method.rpartition("/")[2]

        def one(request, context):
            if self.failing:
                context.abort(grpc.StatusCode.UNAVAILABLE, "down")
            if request == b"missing":
                context.abort(grpc.StatusCode.NOT_FOUND, "missing")
            return self.name

        def many(request, context):
            yield one(request, context)
            if request == b"hang":
                gone = threading.Event()
                if context.add_callback(gone.set):
                    gone.wait(20)
            yield self.name

        return {
            "unary_unary": grpc.unary_unary_rpc_method_handler(one),
            "unary_stream": grpc.unary_stream_rpc_method_handler(many),
            "stream_unary": grpc.stream_unary_rpc_method_handler(lambda r, c: one(b"".join(r), c)),
            "stream_stream": grpc.stream_stream_rpc_method_handler(
                lambda r, c: many(b"".join(r), c)
            ),
        }[kind]


@contextmanager
def grpc_servers(count, *, failing=()):
    servers, addresses = [], []
    for number in range(count):
        server = grpc.server(futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((Service(f"o{number}", f"o{number}" in failing),))
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.start()
        servers.append(server)
    try:
        yield addresses
    finally:
        for server in servers:
            server.stop(0).wait(10)


def call_sync(channel, kind, request=b""):
    requests = iter([request]) if kind.startswith("stream") else request
    callable_ = getattr(channel, kind)(f"/s/{kind}")
    answer = callable_(requests, timeout=20)
    return list(answer) if kind.endswith("stream") else [answer]


async def call_aio(channel, kind, request=b""):
    requests = iter([request]) if kind.startswith("stream") else request
    call = getattr(channel, kind)(f"/s/{kind}")(requests, timeout=20)
    return [each async for each in call] if kind.endswith("stream") else [await call]


KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_calls_of_every_kind_take_turns(kind):
    with grpc_servers(3) as addresses:
        balancer = follow(addresses)
        with grpc_balance.channel(balancer) as channel:
            seen = Counter(call_sync(channel, kind)[0] for _ in range(6))
            assert idle(balancer)

        async def main():
            async with grpc_balance.aio_channel(balancer) as channel:
                return Counter([(await call_aio(channel, kind))[0] for _ in range(6)])

        assert seen == asyncio.run(main()) == {b"o0": 2, b"o1": 2, b"o2": 2}
        assert idle(balancer)


@pytest.mark.parametrize("kind", KINDS)
def test_a_grpc_instance_that_fails_is_set_aside_and_answers_are_no_failures(kind):
    with grpc_servers(3, failing={"o1"}) as addresses:
        for face in ("sync", "aio"):
            balancer = follow(addresses)

            async def main(balancer=balancer):
                async with grpc_balance.aio_channel(balancer) as channel:
                    for n in range(36):
                        request = b"missing" if n % 2 else b""
                        try:
                            await call_aio(channel, kind, request)
                        except grpc.RpcError:
                            pass

            if face == "aio":
                asyncio.run(main())
            else:
                with grpc_balance.channel(balancer) as channel:
                    for n in range(36):
                        try:
                            call_sync(channel, kind, b"missing" if n % 2 else b"")
                        except grpc.RpcError:
                            pass
            assert idle(balancer)
            states = {e.instance.id: e.ejected for e in balancer.endpoints}
            assert states == {"o0": False, "o1": True, "o2": False}, face


def test_futures_and_with_call():
    with grpc_servers(2) as addresses:
        balancer = follow(addresses)
        with grpc_balance.channel(balancer) as channel:
            get = channel.unary_unary("/s/unary_unary", response_deserializer=text)
            waiting = [get.future(b"") for _ in range(4)]
            assert Counter(each.result(10) for each in waiting) == {"o0": 2, "o1": 2}
            answer, call = get.with_call(b"")
            assert answer in {"o0", "o1"}
            assert call.code() is grpc.StatusCode.OK
            assert idle(balancer)


def test_cancelled_streams_end_and_say_nothing():
    with grpc_servers(2) as addresses:
        balancer = follow(addresses)
        with grpc_balance.channel(balancer) as channel:
            for _ in range(12):
                call = channel.unary_stream("/s/unary_stream")(b"hang")
                next(call)
                assert in_flight(balancer) == 1
                call.cancel()
                assert idle(balancer)

        async def main():
            async with grpc_balance.aio_channel(balancer) as channel:
                for _ in range(12):
                    call = channel.unary_stream("/s/unary_stream")(b"hang")
                    await call.read()
                    call.cancel()
                    await asyncio.wait_for(call.code(), 10)

        asyncio.run(main())
        assert idle(balancer)
        assert not any(endpoint.ejected for endpoint in balancer.endpoints)


def test_a_call_whose_interceptor_raised_is_over_as_well():
    """The interceptors of contexts raise DeadlineExceeded in place of grpc's error."""

    def connect(address):
        return grpc.aio.insecure_channel(address, interceptors=client_interceptors())

    told = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, found: told.append(found))
        async with grpc_balance.aio_channel(balancer, connect=connect) as channel:
            with pytest.raises(DeadlineExceeded):
                with context.timeout(0.05):  # so grpc finds out, and not the task
                    await channel.unary_unary("/s/unary_unary")(b"")
        gc.collect()  # that is when a task says that nobody took its error

    with silent_port() as address:
        balancer = follow([address])
        asyncio.run(main())
        assert idle(balancer)
        assert told == []


def test_instances_come_and_go_without_a_lost_call_and_connections_go_with_them():
    with grpc_servers(4) as addresses:
        balancer = follow(addresses[:2])
        made, failed, stop = [], [], threading.Event()

        def connect(address):
            made.append(address)
            return grpc.insecure_channel(address)

        with grpc_balance.channel(balancer, connect=connect) as channel:
            get = channel.unary_unary("/s/unary_unary")

            def work():
                while not stop.is_set():
                    try:
                        get(b"", timeout=10)
                    except Exception as error:
                        failed.append(error)

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for step in range(12):
                stop.wait(0.05)
                chosen = [addresses[(step + n) % 4] for n in range(2)]
                balancer.update(instance(addresses.index(a), a) for a in chosen)
            stop.set()
            for thread in threads:
                thread.join(20)
            assert not failed
            assert set(made) == set(addresses)
            get(b"", timeout=10)
            assert len(channel._connections._open) <= 3
        with pytest.raises(ClosedError, match="channel to orders"):
            get(b"")
        assert in_flight(balancer) == 0


def test_nobody_to_call_over_grpc():
    with grpc_balance.channel(Balancer("orders")) as channel:
        with pytest.raises(NoInstance):
            channel.unary_unary("/s/unary_unary")(b"")
        with pytest.raises(NoInstance):
            channel.unary_stream("/s/unary_stream")(b"")
        seen = []
        channel.subscribe(seen.append)
        assert seen == [grpc.ChannelConnectivity.READY]

    async def main():
        async with grpc_balance.aio_channel(Balancer("orders")) as channel:
            await channel.channel_ready()
            with pytest.raises(NoInstance):
                await channel.unary_unary("/s/unary_unary")(b"")

    asyncio.run(main())
    gc.collect()
