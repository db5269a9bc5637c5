"""Guards in front of the methods of real gRPC servers, with threads and with asyncio."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from contextlib import asynccontextmanager, contextmanager

import pytest

from hastack import events, ratelimit
from hastack.errors import InvalidArgument

grpc = pytest.importorskip("grpc")

from hastack.contrib import grpc as threads  # noqa: E402
from hastack.contrib import grpc_aio  # noqa: E402
from hastack.contrib._grpc_rules import Rules  # noqa: E402
from hastack.observe._answers import retry_info  # noqa: E402

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Generic(grpc.GenericRpcHandler):
    """Serves /test.Svc/<kind> with the given behaviours."""

    def __init__(self, behaviors):
        self.behaviors = behaviors

    def service(self, details):
        name = details.method.rpartition("/")[2]
        kind = name.split("-")[0]
        found = self.behaviors.get(name)
        return None if found is None else getattr(grpc, f"{kind}_rpc_method_handler")(found)


def sync_behaviors(work=lambda: b"ok"):
    def unary(request, sctx):
        return work()

    def stream(request, sctx):
        yield work()
        yield b"end"

    return {kind: unary if kind.endswith("unary") else stream for kind in KINDS}


def async_behaviors():
    async def unary(request, sctx):
        return b"ok"

    async def stream(request, sctx):
        yield b"ok"
        yield b"end"

    async def written(request, sctx):
        await sctx.write(b"ok")
        await sctx.write(b"end")

    found = {kind: unary if kind.endswith("unary") else stream for kind in KINDS}
    return {**found, "unary_stream-written": written, "unary_unary-plain": lambda r, s: b"ok"}


@contextmanager
def serving(guards, behaviors=None):
    server = grpc.server(
        futures.ThreadPoolExecutor(8), interceptors=[threads.ServerContext(guards=guards)]
    )
    server.add_generic_rpc_handlers((Generic(behaviors or sync_behaviors()),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield channel
        finally:
            server.stop(0.0).wait(20.0)


@asynccontextmanager
async def serving_async(guards, behaviors=None):
    server = grpc.aio.server(interceptors=[grpc_aio.ServerContext(guards=guards)])
    server.add_generic_rpc_handlers((Generic(behaviors or async_behaviors()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield channel
        finally:
            await server.stop(0.0)


def ask(channel, name, data=b"x", **options):
    kind = name.split("-")[0]
    request = iter([data]) if kind.startswith("stream") else data
    answer = getattr(channel, kind)(f"/test.Svc/{name}")(request, **options)
    return [answer] if kind.endswith("unary") else list(answer)


async def ask_async(channel, name, data=b"x", **options):
    kind = name.split("-")[0]
    request = iter([data]) if kind.startswith("stream") else data
    call = getattr(channel, kind)(f"/test.Svc/{name}")(request, **options)
    return [await call] if kind.endswith("unary") else [part async for part in call]


def assert_limited(error):
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.trailing_metadata())
    pushback = int(trailers["grpc-retry-pushback-ms"])
    assert 0 < pushback <= 60_000
    assert retry_info(trailers["grpc-status-details-bin"]) == pytest.approx(
        pushback / 1000, abs=0.01
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_refuses_each_kind_of_call(kind):
    with serving(ratelimit.TokenBucket("1/min")) as channel:
        assert ask(channel, kind)[0] == b"ok"
        with pytest.raises(grpc.RpcError) as info:
            ask(channel, kind)
        assert_limited(info.value)


@pytest.mark.parametrize("name", [*KINDS, "unary_stream-written", "unary_unary-plain"])
def test_a_rule_refuses_each_kind_of_call_of_aio(name):
    async def main():
        async with serving_async(ratelimit.TokenBucket("1/min")) as channel:
            assert (await ask_async(channel, name))[0] == b"ok"
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await ask_async(channel, name)
            assert_limited(info.value)

    asyncio.run(main())


def test_details_are_what_the_official_messages_say():
    """Read by protobuf itself, in a pool of its own."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="google.rpc", syntax="proto3")

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, kind, type_name, many) in enumerate(fields, 1):
            made.field.add(
                name=field,
                number=number,
                type=kind,
                type_name=type_name or None,
                label=3 if many else 1,
            )

    message("Any", ("type_url", 9, "", False), ("value", 12, "", False))
    message("Duration", ("seconds", 3, "", False), ("nanos", 5, "", False))
    message("RetryInfo", ("retry_delay", 11, ".google.rpc.Duration", False))
    message("Status", ("code", 5, "", False), ("message", 9, "", False),
            ("details", 11, ".google.rpc.Any", True))  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def made(name):
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))()

    from hastack.errors import RateLimited

    for after in (0.0, 0.25, 1.0, 3.000000001, 999_999.0):
        code, text, trailers = threads.status_of(RateLimited("é" * 200, retry_after=after))
        status = made("Status")
        status.ParseFromString(dict(trailers)["grpc-status-details-bin"])
        assert (status.code, status.message) == (code.value[0], text)
        (detail,) = status.details
        assert detail.type_url == "type.googleapis.com/google.rpc.RetryInfo"
        info = made("RetryInfo")
        info.ParseFromString(detail.value)
        delay = info.retry_delay
        assert delay.seconds + delay.nanos * 1e-9 == pytest.approx(after, abs=2e-9)


def test_the_most_exact_pattern_counts_and_the_key_sees_the_call():
    seen = []

    def tenant(call):
        seen.append((call.method, call.request, call.peer.startswith("ipv4:127.0.0.1")))
        return call.metadata["tenant"]

    guards = {
        "/test.Svc/unary_unary": ratelimit.TokenBucket(
            "10/min", key=tenant, cost=lambda call: len(call.request)
        ),
        "/test.Svc/*": ratelimit.TokenBucket("1/min", name="service"),
        "*": ratelimit.TokenBucket("1/min", name="all"),
    }
    with serving(guards) as channel:
        for name in ("ada", "bob"):
            assert ask(channel, "unary_unary", b"12345678", metadata=[("tenant", name)]) == [b"ok"]
        with pytest.raises(grpc.RpcError) as info:
            ask(channel, "unary_unary", b"12345678", metadata=[("tenant", "ada")])
        assert_limited(info.value)
        assert ask(channel, "unary_unary", b"12", metadata=[("tenant", "ada")]) == [b"ok"]
        assert ask(channel, "stream_unary") == [b"ok"]
        with pytest.raises(grpc.RpcError, match="service"):
            ask(channel, "unary_stream")
    assert seen[0] == ("/test.Svc/unary_unary", b"12345678", True)


def test_an_open_breaker_is_unavailable_and_a_shadow_refuses_nobody():
    breaker = ratelimit.CircuitBreaker()
    breaker.force_open()
    shadow = ratelimit.Shadow(ratelimit.TokenBucket("1/min", name="trial"))
    with (
        serving({"/test.Svc/unary_unary": breaker, "*": shadow}) as channel,
        events.record(ratelimit.ShadowRejected) as seen,
    ):
        with pytest.raises(grpc.RpcError) as info:
            ask(channel, "unary_unary")
        assert info.value.code() is grpc.StatusCode.UNAVAILABLE
        for _ in range(3):
            assert ask(channel, "stream_stream") == [b"ok", b"end"]
    assert [event.name for event in seen] == ["trial"] * 2


def test_a_stream_holds_its_place_until_it_ends():
    limit = ratelimit.ConcurrencyLimit(1)
    go = threading.Event()

    def stream(request, sctx):
        yield b"first"
        go.wait(20.0)
        yield b"last"

    with serving(limit, {"unary_stream": stream}) as channel:
        call = channel.unary_stream("/test.Svc/unary_stream")(b"")
        assert next(call) == b"first"
        with pytest.raises(grpc.RpcError) as info:
            ask(channel, "unary_stream")
        assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert limit.in_flight() == 1
        go.set()
        assert list(call) == [b"last"]
        assert ask(channel, "unary_stream") == [b"first", b"last"]
    _until(lambda: limit.in_flight() == 0)


def test_a_client_that_goes_away_gives_its_place_back():
    limit = ratelimit.ConcurrencyLimit(1)

    def stream(request, sctx):
        while True:
            yield b"more" * 10_000

    with serving(limit, {"unary_stream": stream}) as channel:
        call = channel.unary_stream("/test.Svc/unary_stream")(b"")
        next(call)
        assert limit.in_flight() == 1
        call.cancel()
        _until(lambda: limit.in_flight() == 0)


def test_a_client_of_aio_that_goes_away_gives_its_place_back():
    limit = ratelimit.ConcurrencyLimit(1)

    async def stream(request, sctx):
        yield b"first"
        await asyncio.sleep(60.0)

    async def main():
        async with serving_async(limit, {"unary_stream": stream}) as channel:
            call = channel.unary_stream("/test.Svc/unary_stream")(b"")
            assert await call.read() == b"first"
            with pytest.raises(grpc.aio.AioRpcError):
                await ask_async(channel, "unary_stream")
            call.cancel()
            for _ in range(2000):
                if limit.in_flight() == 0:
                    break
                await asyncio.sleep(0.01)
            assert limit.in_flight() == 0

    asyncio.run(main())


def test_a_timeout_for_unary_calls_becomes_a_status():
    async def slow(request, sctx):
        await asyncio.sleep(60.0)

    async def main():
        async with serving_async(ratelimit.Timeout(0.05), {"unary_unary": slow}) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await ask_async(channel, "unary_unary")
            assert info.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    asyncio.run(main())


def test_bad_rules():
    guard = ratelimit.TokenBucket("1/s")
    for wrong in (7, {"orders": guard}, {"*": 7}, [("*", 1)], {7: guard}):
        with pytest.raises(InvalidArgument, match="guards"):
            threads.ServerContext(guards=wrong)
    assert Rules(None).guard_of("/a/b") is None
    assert Rules(None).guarded("/a/b", grpc.server, streams=False) is grpc.server


def test_names_of_strangers_take_no_memory_for_ever(monkeypatch):
    monkeypatch.setattr("hastack.contrib._grpc_rules._MOST_METHODS", 10)
    rules = Rules({"/a/b": ratelimit.TokenBucket("1/s")})
    for number in range(100):
        assert rules.guard_of(f"/x/{number}") is None
    assert len(rules._found) == 10
    assert rules.guard_of("/a/b") is not None


def _until(holds):
    done = threading.Event()
    for _ in range(2000):
        if holds():
            return
        done.wait(0.01)
    raise AssertionError("did not come to hold")


def test_who_calls_over_a_unix_socket(tmp_path):
    seen = []

    def key(call):
        seen.append((call.peer.partition(":")[0], call.metadata is call.metadata, repr(call)))
        return call.peer

    server = grpc.server(
        futures.ThreadPoolExecutor(2),
        interceptors=[threads.ServerContext(guards=ratelimit.TokenBucket("9/s", key=key))],
    )
    server.add_generic_rpc_handlers((Generic(sync_behaviors()),))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    with grpc.insecure_channel(f"unix:{tmp_path}/s") as channel:
        try:
            assert ask(channel, "unary_unary") == [b"ok"]
        finally:
            server.stop(0.0).wait(20.0)
    assert seen == [("unix", True, "Incoming('/test.Svc/unary_unary')")]
