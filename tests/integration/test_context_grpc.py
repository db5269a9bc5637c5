"""Contexts through real gRPC servers on loopback, with threads and with asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent import futures
from contextlib import contextmanager

import pytest

from hastack import context
from hastack.contrib import propagate
from hastack.errors import (
    Cancelled,
    CircuitOpen,
    ContextError,
    DeadlineExceeded,
    RateLimited,
    RetryBudgetExhausted,
)

grpc = pytest.importorskip("grpc")

from hastack.contrib import grpc as threads  # noqa: E402
from hastack.contrib import grpc_aio  # noqa: E402

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def requests(kind, data):
    return iter([data]) if kind.startswith("stream") else data


def consume(kind, answer):
    """The answer of a call of this kind as a list."""
    return [answer] if kind.endswith("unary") else list(answer)


def first(kind, request):
    return next(request) if kind.startswith("stream") else request


class Generic(grpc.GenericRpcHandler):
    """Serves /test/<kind> with the given behaviours."""

    def __init__(self, behaviors):
        self.behaviors = behaviors

    def service(self, details):
        name = details.method.rpartition("/")[2]
        behavior = self.behaviors.get(name)
        if behavior is None:
            return None
        return getattr(grpc, f"{name}_rpc_method_handler")(behavior)


def behaviors(work):
    """The four kinds of handler around ``work(data, servicer_context) -> bytes``."""

    def stream(kind):
        def run(request, sctx):
            yield work(first(kind, request), sctx)
            yield b"end"

        return run

    def unary(kind):
        return lambda request, sctx: work(first(kind, request), sctx)

    return {kind: (unary if kind.endswith("unary") else stream)(kind) for kind in KINDS}


@contextmanager
def serving(work, **options):
    server = grpc.server(
        futures.ThreadPoolExecutor(8), interceptors=[threads.ServerContext(**options)]
    )
    server.add_generic_rpc_handlers((Generic(behaviors(work)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        try:
            yield plain
        finally:
            server.stop(0.0).wait(20.0)


def call(channel, kind, data=b"x", **options):
    return consume(kind, getattr(channel, kind)(f"/test/{kind}")(requests(kind, data), **options))


def describe(data, sctx):
    ctx = context.current()
    left, trace = ctx.remaining(), propagate.traceparent()
    if left is not None:  # which one of those used here; the way took some of it
        left = min(seconds for seconds in (2, 5, 20, 30, 50) if left <= seconds + 0.5)
    return repr((left, trace and trace.trace_id[:4])).encode()


class TestThreadServer:
    @pytest.mark.parametrize("kind", KINDS)
    def test_no_timeout_is_no_deadline(self, kind):
        with serving(describe) as channel:
            assert call(channel, kind)[0] == b"(None, None)"

    @pytest.mark.parametrize("kind", KINDS)
    def test_deadline_and_trace_arrive(self, kind):
        with serving(describe) as channel:
            got = call(channel, kind, timeout=20.0, metadata=[("traceparent", TRACE)])
            assert got[0] == b"(20, '4bf9')"

    def test_max_timeout(self):
        with serving(describe, max_timeout=5.0) as channel:
            assert call(channel, "unary_unary") == [b"(5, None)"]
            assert call(channel, "unary_unary", timeout=50.0) == [b"(5, None)"]
            assert call(channel, "unary_unary", timeout=2.0) == [b"(2, None)"]

    def test_handlers_outside_stay_unknown(self):
        with serving(describe) as channel:
            with pytest.raises(grpc.RpcError) as info:
                channel.unary_unary("/test/other")(b"")
            assert info.value.code() is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("error", "code", "pushback"),
        [
            (RateLimited("api", retry_after=0.2501), "RESOURCE_EXHAUSTED", "251"),
            (CircuitOpen("db", retry_after=3.0), "UNAVAILABLE", "3000"),
            (RetryBudgetExhausted("db"), "RESOURCE_EXHAUSTED", None),
            (DeadlineExceeded("inner"), "DEADLINE_EXCEEDED", None),
            (Cancelled("inner"), "CANCELLED", None),
        ],
    )
    def test_errors_become_statuses(self, kind, error, code, pushback):
        def fail(data, sctx):
            sctx.set_trailing_metadata((("own", "kept"),))
            raise error

        with serving(fail) as channel:
            with pytest.raises(grpc.RpcError) as info:
                call(channel, kind)
            assert info.value.code().name == code
            assert info.value.details() == str(error)
            trailers = dict(info.value.trailing_metadata())
            assert trailers.get("grpc-retry-pushback-ms") == pushback
            assert trailers["own"] == "kept"

    @pytest.mark.parametrize("kind", KINDS)
    def test_client_cancel_ends_the_context(self, kind):
        started, causes = threading.Event(), []
        finished = threading.Event()

        def work(data, sctx):
            started.set()
            context.current().wait(30.0)
            causes.append(context.current().err())
            finished.set()
            return b""

        with serving(work) as channel:
            stub = getattr(channel, kind)(f"/test/{kind}")
            request = requests(kind, b"")
            running = stub.future(request) if kind.endswith("unary") else stub(request)
            assert started.wait(20.0)
            running.cancel()
            assert finished.wait(20.0)
        assert isinstance(causes[0], Cancelled)
        assert "RPC ended" in str(causes[0])

    def test_the_deadline_ends_a_blocking_handler(self):
        finished = threading.Event()

        def work(data, sctx):
            try:
                context.sleep(30.0)
            finally:
                finished.set()

        with serving(work) as channel:
            start = time.monotonic()
            with pytest.raises(grpc.RpcError) as info:
                call(channel, "unary_unary", timeout=0.1)
            assert info.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert finished.wait(20.0)
            assert time.monotonic() - start < 20.0

    def test_a_shut_down_root_makes_calls_unavailable(self):
        root = context.with_cancel()

        def work(data, sctx):
            root.cancel("SIGTERM")
            context.current().check()

        with serving(work, root=root) as channel:
            with pytest.raises(grpc.RpcError) as info:
                call(channel, "unary_unary")
            assert info.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "SIGTERM" in info.value.details()
        assert root._live is None

    def test_nothing_stays_linked_after_many_calls(self):
        root = context.with_cancel()
        with serving(lambda data, sctx: b"ok", root=root) as channel:
            for _ in range(50):
                call(channel, "unary_unary")
            assert not root.done
        assert root._live is None

    def test_the_context_of_a_stream_does_not_leak_into_the_thread(self):
        seen = []

        def work(data, sctx):
            seen.append(context.current().value("left over"))
            context.with_value("left over", 1).__enter__()
            return b""

        with serving(work) as channel:
            for _ in range(20):
                assert len(call(channel, "unary_stream")) == 2
        assert set(seen) == {None}


class TestThreadClient:
    @pytest.mark.parametrize("kind", KINDS)
    def test_remaining_and_trace_are_sent(self, kind):
        with serving(describe) as plain:
            channel = threads.context_channel(plain)
            assert call(channel, kind)[0] == b"(None, None)"
            trace = propagate.parse_traceparent(TRACE)
            with propagate.with_traceparent(trace), context.timeout(20.0):
                assert call(channel, kind)[0] == b"(20, '4bf9')"
                assert call(channel, kind, timeout=5.0)[0] == b"(5, '4bf9')"
                assert call(channel, kind, timeout=50.0)[0] == b"(20, '4bf9')"
                other = [("traceparent", TRACE.replace("4bf9", "aaaa"))]
                assert call(channel, kind, metadata=other)[0] == b"(20, 'aaaa')"

    def test_future_and_with_call(self):
        with serving(describe) as plain, threads.context_channel(plain) as channel:
            stub = channel.unary_unary("/test/unary_unary")
            with context.timeout(20.0) as ctx:
                assert stub.future(b"").result(20.0) == b"(20, None)"
                response, done = stub.with_call(b"")
                assert response == b"(20, None)"
                assert done.code() is grpc.StatusCode.OK
                end = time.monotonic() + 20.0
                while ctx._live is not None and time.monotonic() < end:
                    time.sleep(0.001)
                assert ctx._live is None

    @pytest.mark.parametrize("kind", KINDS)
    def test_deadline_raises_the_contexts_error(self, kind):
        with serving(lambda data, sctx: context.sleep(30.0)) as plain:
            channel = threads.context_channel(plain)
            with pytest.raises(DeadlineExceeded) as info, context.timeout(0.1):
                call(channel, kind)
            assert isinstance(info.value.__cause__, grpc.RpcError)

    @pytest.mark.parametrize("kind", KINDS)
    def test_cancel_from_another_thread_ends_the_call(self, kind):
        with serving(lambda data, sctx: context.sleep(30.0)) as plain:
            channel = threads.context_channel(plain)
            ctx = context.with_cancel()
            timer = threading.Timer(0.1, ctx.cancel, ("changed my mind",))
            timer.start()
            start = time.monotonic()
            with pytest.raises(Cancelled, match="changed my mind"), ctx:
                call(channel, kind)
            assert time.monotonic() - start < 20.0
            timer.join()

    def test_future_is_cancelled_with_the_context(self):
        with serving(lambda data, sctx: context.sleep(30.0)) as plain:
            channel = threads.context_channel(plain)
            with context.with_cancel() as ctx:
                future = channel.unary_unary("/test/unary_unary").future(b"")
                ctx.cancel()
                with pytest.raises(grpc.FutureCancelledError):
                    future.result(20.0)

    def test_an_ended_context_sends_nothing(self):
        calls = []
        with serving(lambda data, sctx: calls.append(1) or b"") as plain:
            channel = threads.context_channel(plain)
            with context.with_cancel() as ctx:
                ctx.cancel("off")
                for kind in KINDS:
                    with pytest.raises(Cancelled, match="off"):
                        call(channel, kind)
        assert calls == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_errors_stay_grpcs(self, kind):
        def fail(data, sctx):
            sctx.abort(grpc.StatusCode.NOT_FOUND, "no")

        with serving(fail) as plain:
            channel = threads.context_channel(plain)
            for scope in (context.timeout(20.0), context.using(context.background())):
                with pytest.raises(grpc.RpcError) as info, scope:
                    call(channel, kind)
                assert info.value.code() is grpc.StatusCode.NOT_FOUND

    def test_the_calls_own_shorter_timeout_stays_grpcs(self):
        with serving(lambda data, sctx: context.sleep(30.0)) as plain:
            channel = threads.context_channel(plain)
            with context.timeout(20.0), pytest.raises(grpc.RpcError) as info:
                call(channel, "unary_unary", timeout=0.05)
            assert not isinstance(info.value, ContextError)

    def test_subscribe_passes_through(self):
        with serving(describe) as plain:
            channel = threads.context_channel(plain)
            ready = threading.Event()

            def listen(state):
                if state is grpc.ChannelConnectivity.READY:
                    ready.set()

            channel.subscribe(listen, try_to_connect=True)
            assert ready.wait(20.0)
            channel.unsubscribe(listen)

    def test_two_hops_share_one_deadline(self):
        with serving(describe) as inner_plain:
            inner = threads.context_channel(inner_plain)

            def relay(data, sctx):
                return inner.unary_unary("/test/unary_unary")(data)

            with serving(relay) as outer_plain:
                outer = threads.context_channel(outer_plain)
                trace = propagate.parse_traceparent(TRACE)
                with propagate.with_traceparent(trace), context.timeout(30.0):
                    assert call(outer, "unary_unary") == [b"(30, '4bf9')"]


# asyncio


def aio_behaviors(work):
    async def take(kind, request):
        if kind.startswith("stream"):
            async for data in request:
                return data
        return request

    def unary(kind):
        async def run(request, sctx):
            return await work(await take(kind, request), sctx)

        return run

    def stream(kind):
        async def run(request, sctx):
            yield await work(await take(kind, request), sctx)
            yield b"end"

        return run

    return {kind: (unary if kind.endswith("unary") else stream)(kind) for kind in KINDS}


async def aio_requests(data):
    yield data


async def aio_call(channel, kind, data=b"x", **options):
    request = aio_requests(data) if kind.startswith("stream") else data
    running = getattr(channel, kind)(f"/test/{kind}")(request, **options)
    if kind.endswith("unary"):
        return [await running]
    return [response async for response in running]


def with_aio_server(handlers, scenario, *, pool=None, **options):
    async def main():
        server = grpc.aio.server(pool, interceptors=[grpc_aio.ServerContext(**options)])
        server.add_generic_rpc_handlers((Generic(handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        address = f"127.0.0.1:{port}"
        try:
            async with (
                grpc.aio.insecure_channel(address) as plain,
                grpc.aio.insecure_channel(
                    address, interceptors=grpc_aio.client_interceptors()
                ) as channel,
                asyncio.timeout(20.0),
            ):
                result = await scenario(plain, channel)
                assert asyncio.current_task().cancelling() == 0
                return result
        finally:
            await server.stop(0.0)

    return asyncio.run(main())


async def aio_describe(data, sctx):
    return describe(data, sctx)


class TestAioServer:
    @pytest.mark.parametrize("kind", KINDS)
    def test_deadline_and_trace_arrive(self, kind):
        async def scenario(plain, channel):
            assert (await aio_call(plain, kind))[0] == b"(None, None)"
            got = await aio_call(plain, kind, timeout=20.0, metadata=(("traceparent", TRACE),))
            assert got[0] == b"(20, '4bf9')"
            assert len(got) == (1 if kind.endswith("unary") else 2)

        with_aio_server(aio_behaviors(aio_describe), scenario)

    @pytest.mark.parametrize("kind", KINDS)
    def test_errors_become_statuses(self, kind):
        async def fail(data, sctx):
            sctx.set_trailing_metadata((("own", "kept"),))
            raise RateLimited("api", retry_after=1.0)

        async def scenario(plain, channel):
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await aio_call(plain, kind)
            assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            trailers = dict(info.value.trailing_metadata())
            assert trailers["grpc-retry-pushback-ms"] == "1000"
            assert trailers["own"] == "kept"

        with_aio_server(aio_behaviors(fail), scenario)

    @pytest.mark.parametrize("kind", KINDS)
    def test_client_cancel_ends_handler_and_context(self, kind):
        ended = threading.Event()

        async def scenario(plain, channel):
            started = asyncio.Event()

            async def work(data, sctx):
                ctx = context.current()
                started.set()
                try:
                    await asyncio.sleep(30.0)
                finally:
                    ctx.after_func(ended.set)

            handlers.update(aio_behaviors(work))
            task = asyncio.create_task(aio_call(plain, kind))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, 5.0)

        handlers = {}
        with_aio_server(handlers, scenario)

    def test_max_timeout_ends_a_handler(self):
        async def work(data, sctx):
            await asyncio.sleep(30.0)

        async def scenario(plain, channel):
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await aio_call(plain, "unary_unary")
            assert info.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        with_aio_server(aio_behaviors(work), scenario, max_timeout=0.05)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_shut_down_root_ends_handlers_as_unavailable(self, kind):
        root = context.with_cancel()

        async def work(data, sctx):
            asyncio.get_running_loop().call_later(0.02, root.cancel, "SIGTERM")
            await asyncio.sleep(30.0)

        async def scenario(plain, channel):
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await aio_call(plain, kind)
            assert info.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "SIGTERM" in info.value.details()

        with_aio_server(aio_behaviors(work), scenario, root=root)
        assert root._live is None

    def test_streams_that_write(self):
        async def write(request, sctx):
            await sctx.write(describe(request, sctx))
            await sctx.write(b"more")

        async def scenario(plain, channel):
            got = await aio_call(plain, "unary_stream", timeout=20.0)
            assert got == [b"(20, None)", b"more"]

        with_aio_server({"unary_stream": write}, scenario)

    def test_plain_functions_on_threads(self):
        def fail(request, sctx):
            raise RateLimited("api", retry_after=1.0)

        handlers = behaviors(describe)
        handlers["stream_unary"] = fail
        pool = futures.ThreadPoolExecutor(2)

        async def scenario(plain, channel):
            assert await aio_call(plain, "unary_unary", timeout=20.0) == [b"(20, None)"]
            got = await aio_call(plain, "unary_stream", timeout=20.0)
            assert got == [b"(20, None)", b"end"]
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await aio_call(plain, "stream_unary")
            assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

        with_aio_server(handlers, scenario, pool=pool)
        pool.shutdown()


class TestAioClient:
    @pytest.mark.parametrize("kind", KINDS)
    def test_remaining_and_trace_are_sent(self, kind):
        async def scenario(plain, channel):
            assert (await aio_call(channel, kind))[0] == b"(None, None)"
            trace = propagate.parse_traceparent(TRACE)
            async with propagate.with_traceparent(trace), context.timeout(20.0):
                assert (await aio_call(channel, kind))[0] == b"(20, '4bf9')"
                assert (await aio_call(channel, kind, timeout=5.0))[0] == b"(5, '4bf9')"

        with_aio_server(aio_behaviors(aio_describe), scenario)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("scope", ["async with", "with"])
    def test_deadline_raises_the_contexts_error(self, kind, scope):
        async def work(data, sctx):
            await asyncio.sleep(30.0)

        async def scenario(plain, channel):
            with pytest.raises(DeadlineExceeded):
                if scope == "with":
                    with context.timeout(0.1):
                        await aio_call(channel, kind)
                else:
                    async with context.timeout(0.1):
                        await aio_call(channel, kind)

        with_aio_server(aio_behaviors(work), scenario)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("scope", ["async with", "with"])
    def test_cancel_ends_the_call(self, kind, scope):
        async def work(data, sctx):
            await asyncio.sleep(30.0)

        async def scenario(plain, channel):
            ctx = context.with_cancel()
            timer = threading.Timer(0.1, ctx.cancel, ("changed my mind",))
            timer.start()
            with pytest.raises(Cancelled, match="changed my mind"):
                if scope == "with":
                    with ctx:
                        await aio_call(channel, kind)
                else:
                    async with ctx:
                        await aio_call(channel, kind)
            timer.join()
            assert ctx._live is None

        with_aio_server(aio_behaviors(work), scenario)

    def test_an_ended_context_sends_nothing(self):
        calls = []

        async def work(data, sctx):
            calls.append(1)
            return b""

        async def scenario(plain, channel):
            with context.with_cancel() as ctx:
                ctx.cancel("off")
                for kind in KINDS:
                    with pytest.raises(Cancelled, match="off"):
                        await aio_call(channel, kind)

        with_aio_server(aio_behaviors(work), scenario)
        assert calls == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_errors_stay_grpcs(self, kind):
        async def fail(data, sctx):
            await sctx.abort(grpc.StatusCode.NOT_FOUND, "no")

        async def scenario(plain, channel):
            async with context.timeout(20.0):
                with pytest.raises(grpc.aio.AioRpcError) as info:
                    await aio_call(channel, kind)
            assert info.value.code() is grpc.StatusCode.NOT_FOUND

        with_aio_server(aio_behaviors(fail), scenario)


def test_status_of_ignores_absurd_pushback():
    for retry_after in (-1.0, float("inf"), float("nan"), 1e9):
        error = RateLimited("x", retry_after=retry_after)
        assert threads.status_of(error)[2] == ()
