"""One deadline from an HTTP request through gRPC, etcd, a plugin and the exporter, and one cancel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import wsgiref.simple_server
from socketserver import ThreadingMixIn

import pytest

pytest.importorskip("grpc")
pytest.importorskip("uvicorn")
pytest.importorskip("wasmtime")

import uvicorn
from otlp_servers import HttpServer
from whole_stack import (
    LONG,
    aio_service,
    ask,
    ask_and_leave,
    listening,
    policy,
    running,
    settles,
    settles_async,
    thread_service,
)

from hastack import context, observe, ratelimit
from hastack.contrib import asgi, wsgi
from hastack.discovery import etcd as etcd_client
from hastack.errors import Cancelled, DeadlineExceeded

STATIONS = ("etcd", "watch", "plugin", "flush", "limiter")
SHORT = 250  # milliseconds of the request; what hangs would take LONG


class Parts:
    """What the stations use, with each of them hanging."""

    def __init__(self, endpoint, collector):
        self.installed = observe.install(
            observe.ObserveConfig(
                service="suite",
                backends={"main": observe.BackendConfig(endpoint=collector.url, timeout=LONG)},
                queue=observe.QueueConfig(linger=0.01),
            ),
            set_global=False,
        )
        self.tracer = self.installed.tracer_provider.get_tracer("suite")
        self.client = etcd_client.Client(endpoint, timeout=LONG)
        self.plugin = policy()
        self.limiter = ratelimit.ConcurrencyLimit(1, max_wait=None, name="full")
        self.held = self.limiter.try_acquire()
        self.entered = threading.Semaphore(0)
        self.flushing = 0
        self.ends = []  # how the work at each station ended

    def flush(self):
        self.tracer.start_span("one").end()
        self.flushing += 1
        try:
            self.installed.force_flush(LONG)
        finally:
            self.flushing -= 1

    def busy(self):
        """Flushes under way on threads."""
        return self.flushing

    @contextlib.contextmanager
    def noting(self):
        self.entered.release()
        try:
            yield
        except BaseException as error:
            self.ends.append(type(error))
            raise
        self.ends.append(None)

    async def work_async(self, request, _):
        with self.noting():
            station = request.decode()
            if station == "etcd":
                await self.client.get("key")
            elif station == "watch":
                async with self.client.watch("prefix/", prefix=True) as watch:
                    async for _change in watch:
                        pass
            elif station == "plugin":
                await self.plugin.call_async("spin")
            elif station == "limiter":
                await self.limiter.acquire_async()
            elif station == "flush":
                await asyncio.to_thread(self.flush)
        return b"done"

    def work(self, request, _):
        with self.noting():
            station = request.decode()
            sync = self.client.sync
            if station == "etcd":
                sync.get("key")
            elif station == "watch":
                with sync.watch("prefix/", prefix=True) as watch:
                    for _change in watch:
                        pass
            elif station == "plugin":
                self.plugin.call("spin")
            elif station == "limiter":
                self.limiter.acquire()
            elif station == "flush":
                self.flush()
        return b"done"

    def close(self):
        self.plugin.close()
        self.installed.shutdown(0.5)
        self.client.sync.close()


@pytest.fixture
def hanging(etcd):
    """An etcd that is stopped, and a collector that never answers."""
    with HttpServer() as collector:
        parts = Parts(etcd.endpoint, collector)
        try:
            parts.client.sync.put("key", "there")
            etcd.pause()
            collector.always = "black hole"
            yield parts
        finally:
            etcd.resume()
            parts.close()


@contextlib.asynccontextmanager
async def serving(app):
    """Uvicorn on this loop; yields its address."""
    sock = listening()
    config = uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield sock.getsockname()
    finally:
        server.should_exit = True
        await task
        sock.close()


def http(call):
    """An application whose path names the station behind it."""

    async def app(scope, receive, send):
        answer = await call(scope["path"].strip("/").encode())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    return asgi.ContextMiddleware(asgi.GuardMiddleware(app))


def assert_504(answer):
    status, body, took = answer
    assert status == 504, body
    assert json.loads(body)["title"] == "Gateway Timeout"
    assert took < LONG / 2  # long before anything else would have ended it


class TestAsync:
    def test_the_deadline_ends_the_work_at_each_station(self, hanging):
        async def main():
            async with aio_service(hanging.work_async) as call, serving(http(call)) as address:
                for station in STATIONS:  # the first round makes what is kept: channels, threads
                    assert_504(
                        await asyncio.to_thread(ask, address, "/" + station, milliseconds=150)
                    )
                before = running()
                hanging.ends.clear()
                for station in STATIONS:
                    answer = await asyncio.to_thread(
                        ask, address, "/" + station, milliseconds=SHORT
                    )
                    assert_504(answer)
                assert await settles_async(before, hanging.busy) == {}
                return list(hanging.ends)

        ends = asyncio.run(main())
        assert len(ends) == len(STATIONS)
        # Inside, the task is cancelled, or the part has seen the deadline first; none has finished.
        assert set(ends) <= {DeadlineExceeded, asyncio.CancelledError}

    def test_a_client_that_leaves_ends_the_work_at_each_station(self, hanging):
        async def main():
            async with aio_service(hanging.work_async) as call, serving(http(call)) as address:
                for round_ in range(2):
                    before = running()
                    for station in STATIONS:
                        count = len(hanging.ends)
                        await asyncio.to_thread(
                            ask_and_leave,
                            address,
                            "/" + station,
                            after=lambda: hanging.entered.acquire(timeout=20),
                        )
                        until = time.monotonic() + 20
                        while len(hanging.ends) == count and time.monotonic() < until:
                            await asyncio.sleep(0.01)
                        assert len(hanging.ends) > count, station
                    if round_:
                        assert await settles_async(before, hanging.busy) == {}
                return list(hanging.ends)

        ends = asyncio.run(main())
        assert set(ends) <= {Cancelled, asyncio.CancelledError}

    def test_the_error_says_deadline_on_each_side_of_grpc(self, hanging):
        """Without HTTP: the caller of gRPC gets hastack's own error, whichever part hung."""

        async def main():
            async with aio_service(hanging.work_async) as call:
                for station in STATIONS:
                    with pytest.raises(DeadlineExceeded):
                        async with context.timeout(0.2):
                            await call(station.encode())

        asyncio.run(main())


class Threads(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    block_on_close = True


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving_wsgi(app):
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, Threads, Quiet)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestThreads:
    def test_the_deadline_ends_the_work_at_each_station(self, hanging):
        with thread_service(hanging.work) as call:

            def app(environ, start_response):
                answer = call(environ["PATH_INFO"].strip("/").encode())
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [answer]

            guarded = wsgi.ContextMiddleware(wsgi.GuardMiddleware(app))
            with serving_wsgi(guarded) as address:
                for station in STATIONS:
                    assert_504(ask(address, "/" + station, milliseconds=150))
                before = running()
                hanging.ends.clear()
                for station in STATIONS:
                    assert_504(ask(address, "/" + station, milliseconds=SHORT))
                assert settles(before) == {}
        assert len(hanging.ends) == len(STATIONS)
        # A context that the RPC has ended by the time it is looked at says Cancelled.
        assert set(hanging.ends) <= {DeadlineExceeded, Cancelled}

    def test_a_cancel_ends_the_work_at_each_station(self, hanging):
        cancellable = [each for each in STATIONS if each != "plugin"]
        with thread_service(hanging.work) as call:
            for round_ in range(2):
                before = running()
                for station in cancellable:
                    count = len(hanging.ends)
                    ctx = context.with_cancel()
                    caught = []

                    def run(station=station, ctx=ctx, caught=caught):
                        with context.using(ctx):
                            try:
                                call(station.encode())
                            except Cancelled as error:
                                caught.append(error)

                    thread = threading.Thread(target=run)
                    thread.start()
                    assert hanging.entered.acquire(timeout=20)
                    ctx.cancel("the caller has gone")
                    thread.join(20)
                    assert len(caught) == 1, station
                    until = time.monotonic() + 20
                    while len(hanging.ends) == count and time.monotonic() < until:
                        time.sleep(0.01)
                if round_:
                    assert settles(before) == {}
        assert set(hanging.ends) == {Cancelled}
