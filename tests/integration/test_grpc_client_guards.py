"""Guards and retries of gRPC clients against real servers, with threads and with asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent import futures
from contextlib import contextmanager

import pytest

from hastack import context, ratelimit
from hastack.errors import CircuitOpen, ConcurrencyLimited, InvalidArgument, RateLimited

grpc = pytest.importorskip("grpc")

from hastack.contrib import grpc as threads  # noqa: E402
from hastack.contrib import grpc_aio  # noqa: E402

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Server(grpc.GenericRpcHandler):
    """Serves /test.Svc/<kind>; ``work(sctx)`` runs first and may abort."""

    def __init__(self, work):
        self.work = work
        self.calls = []

    def service(self, details):
        kind = details.method.rpartition("/")[2]

        def run(request, sctx):
            self.calls.append(kind)
            self.work(sctx)
            return b"ok"

        def stream(request, sctx):
            yield run(request, sctx)
            yield b"end"

        return getattr(grpc, f"{kind}_rpc_method_handler")(
            run if kind.endswith("unary") else stream
        )


@contextmanager
def serving(work=lambda sctx: None, **guards):
    handler = Server(work)
    server = grpc.server(
        futures.ThreadPoolExecutor(8), interceptors=[threads.ServerContext(**guards)]
    )
    server.add_generic_rpc_handlers((handler,))
    handler.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler
    finally:
        server.stop(0.0).wait(20.0)


def failing(*codes, trailers=()):
    """Abort with these codes in turn, and then work."""
    left = list(codes)

    def work(sctx):
        if left:
            sctx.set_trailing_metadata(trailers)
            sctx.abort(left.pop(0), "as told")

    return work


class Threads:
    """Calls through a guarded channel on this thread."""

    def __init__(self, server, **rules):
        self.server, self.rules = server, rules

    def ask(self, kind="unary_unary"):
        with grpc.insecure_channel(f"127.0.0.1:{self.server.port}") as plain:
            channel = threads.context_channel(plain, **self.rules)
            request = iter([b"x"]) if kind.startswith("stream") else b"x"
            answer = getattr(channel, kind)(f"/test.Svc/{kind}")(request)
            return [answer] if kind.endswith("unary") else list(answer)


class Loop(Threads):
    """The same with asyncio."""

    def ask(self, kind="unary_unary"):
        return asyncio.run(self.main(kind))

    async def main(self, kind):
        interceptors = grpc_aio.client_interceptors(**self.rules)
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{self.server.port}", interceptors=interceptors
        ) as channel:
            request = iter([b"x"]) if kind.startswith("stream") else b"x"
            call = getattr(channel, kind)(f"/test.Svc/{kind}")(request)
            if kind.endswith("unary"):
                return [await call]
            found = [part async for part in call]
            await asyncio.sleep(0.05)  # the end of the call is told with a later turn
            return found


@pytest.fixture(params=[Threads, Loop], ids=lambda kind: kind.__name__)
def client(request):
    return request.param


def soon(**options):
    return ratelimit.Retry(base=0.001, cap=0.01, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_call_is_guarded_and_gives_its_place_back(client, kind):
    limit = ratelimit.ConcurrencyLimit(1)
    seen = []
    bucket = ratelimit.TokenBucket("3/h", key=lambda call: seen.append(call.method))
    with serving() as server:
        mine = client(server, guard=ratelimit.compose(limit, bucket))
        for _ in range(3):
            assert mine.ask(kind)[0] == b"ok"
            assert limit.in_flight() == 0
        with pytest.raises(RateLimited):
            mine.ask(kind)
        assert limit.in_flight() == 0
        assert len(server.calls) == 3
    assert seen[0] == f"/test.Svc/{kind}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_breaker_counts_by_status(client, kind):
    breaker = ratelimit.CircuitBreaker(min_calls=2, failure_rate=1.0)
    codes = grpc.StatusCode
    with serving(failing(codes.NOT_FOUND, codes.UNAVAILABLE, codes.INTERNAL)) as server:
        mine = client(server, guard=breaker)
        for failures in (0, 1, 2):
            with pytest.raises(grpc.RpcError):
                mine.ask(kind)
            if failures < 2:
                _until(lambda n=failures: breaker.snapshot().failures == n)
        assert breaker.snapshot().state.value == "closed"  # two of three
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        mine.ask(kind)


def test_an_idempotent_method_is_repeated(client):
    code = grpc.StatusCode.UNAVAILABLE
    with serving(failing(code, code)) as server:
        mine = client(server, retry=soon(attempts=3), idempotent=["/test.Svc/unary_unary"])
        assert mine.ask() == [b"ok"]
        assert len(server.calls) == 3


@pytest.mark.parametrize(
    ("code", "trailers", "idempotent", "times"),
    [
        ("UNAVAILABLE", (), (), 1),
        ("INTERNAL", (), True, 1),
        ("RESOURCE_EXHAUSTED", (), True, 1),
        ("RESOURCE_EXHAUSTED", (("grpc-retry-pushback-ms", "5"),), True, 2),
        ("UNAVAILABLE", (("grpc-retry-pushback-ms", "-1"),), True, 1),
        ("UNAVAILABLE", (("grpc-retry-pushback-ms", "soon"),), True, 1),
        ("UNAVAILABLE", (("grpc-retry-pushback-ms", "3600000"),), True, 1),
    ],
)
def test_only_what_is_safe_and_wanted_is_repeated(client, code, trailers, idempotent, times):
    with serving(failing(getattr(grpc.StatusCode, code), trailers=trailers)) as server:
        mine = client(server, retry=soon(attempts=2), idempotent=idempotent)
        if times == 1:
            with pytest.raises(grpc.RpcError):
                mine.ask()
        else:
            assert mine.ask() == [b"ok"]
        assert len(server.calls) == times


def test_streams_are_not_repeated(client):
    for kind in KINDS[1:]:
        with serving(failing(grpc.StatusCode.UNAVAILABLE)) as server:
            with pytest.raises(grpc.RpcError):
                client(server, retry=soon(attempts=3), idempotent=True).ask(kind)
            assert len(server.calls) == 1


def test_what_a_server_guard_says_is_waited_for(client):
    """Both ends are hastack's: the RetryInfo of one is the backoff of the other."""
    with serving(guards=ratelimit.TokenBucket("2/s", burst=1)) as server:
        mine = client(server, retry=soon(attempts=5), idempotent=True)
        begun = time.monotonic()
        assert [mine.ask() for _ in range(3)] == [[b"ok"]] * 3
        assert time.monotonic() - begun > 0.5


def test_retry_info_alone_is_understood():
    from hastack.contrib._grpc_calls import said_to_wait
    from hastack.contrib._grpc_status import status_details

    details = (("grpc-status-details-bin", status_details(8, "busy", 0.25)),)
    with serving(failing(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=details)) as server:
        with pytest.raises(grpc.RpcError) as info:
            Threads(server).ask()
        assert said_to_wait(info.value) == pytest.approx(0.25)


def test_a_local_refusal_is_repeated_for_any_method(client):
    bucket = ratelimit.TokenBucket("20/s", burst=1)
    with serving() as server:
        mine = client(server, guard=bucket, retry=soon(attempts=20))
        assert [mine.ask() for _ in range(3)] == [[b"ok"]] * 3


def test_the_deadline_bounds_all_tries(client):
    with serving(lambda sctx: sctx.abort(grpc.StatusCode.UNAVAILABLE, "no")) as server:
        retry = ratelimit.Retry(1000, base=0.05, cap=0.05)
        begun = time.monotonic()
        with context.timeout(1.0), pytest.raises((grpc.RpcError, TimeoutError)):
            client(server, retry=retry, idempotent=True).ask()
        assert time.monotonic() - begun < 20.0


def test_a_stream_holds_its_place_until_it_ends():
    limit = ratelimit.ConcurrencyLimit(1)
    go = threading.Event()

    with serving() as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as plain:
        server.work = lambda sctx: go.wait(20.0)
        channel = threads.context_channel(plain, guard=limit)
        call = channel.unary_stream("/test.Svc/unary_stream")(b"")
        assert limit.in_flight() == 1
        with pytest.raises(ConcurrencyLimited):
            channel.unary_unary("/test.Svc/unary_unary")(b"")
        go.set()
        assert list(call) == [b"ok", b"end"]
        _until(lambda: limit.in_flight() == 0)
        call = channel.unary_stream("/test.Svc/unary_stream")(b"")
        call.cancel()
        _until(lambda: limit.in_flight() == 0)


def test_a_future_is_guarded():
    limit = ratelimit.ConcurrencyLimit(1)
    with serving() as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as plain:
        call = threads.context_channel(plain, guard=limit).unary_unary("/test.Svc/unary_unary")
        future = call.future(b"")
        assert future.result(20.0) == b"ok"
        _until(lambda: limit.in_flight() == 0)
        limit.try_acquire()
        with pytest.raises(ConcurrencyLimited):
            call.future(b"")


def test_cancelled_at_every_await_of_aio():
    limit = ratelimit.ConcurrencyLimit(1, max_wait=10.0)

    async def main(port):
        interceptors = grpc_aio.client_interceptors(guard=limit, retry=soon(), idempotent=True)
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", interceptors=interceptors
        ) as channel:
            ask = channel.unary_unary("/test.Svc/unary_unary")
            for steps in range(25):
                call = ask(b"")
                task = asyncio.ensure_future(_awaited(call))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                call.cancel()
                await asyncio.gather(task, return_exceptions=True)
                for _ in range(500):
                    if limit.in_flight() == 0:
                        break
                    await asyncio.sleep(0.01)
                assert limit.in_flight() == 0
            async with asyncio.timeout(20.0):
                assert await ask(b"") == b"ok"

    with serving() as server:
        asyncio.run(main(server.port))


async def _awaited(call):
    return await call


def test_bad_rules():
    for wrong in (
        {"guard": 7},
        {"guard": ratelimit.Retry()},
        {"retry": 7},
        {"idempotent": "/test.Svc/unary_unary"},
        {"idempotent": [7]},
    ):
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            grpc_aio.client_interceptors(**wrong)
    assert repr(threads.Outgoing(b"/a/b", None, None)) == "Outgoing('/a/b')"


def _until(holds):
    pause = threading.Event()
    for _ in range(2000):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("did not come to hold")
