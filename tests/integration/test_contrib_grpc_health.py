"""grpc.health.v1 from the same state, on both kinds of servers, asked by the reference client."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("grpc_health.v1.health_pb2")
stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")

from hastack.contrib.grpc_health import _request, add_health  # noqa: E402
from hastack.contrib.grpc_server import AioGrpcServer, GrpcServer  # noqa: E402
from hastack.health import Health  # noqa: E402
from hastack.lifecycle import Lifecycle  # noqa: E402

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING


def slow_handler(started):
    def slow(request, rpc):
        started.set()
        time.sleep(0.4)
        return b"done"

    handlers = {"Slow": grpc.unary_unary_rpc_method_handler(slow)}
    return grpc.method_handlers_generic_handler("test.Test", handlers)


def test_a_synchronous_server_from_start_to_drain():
    life = Lifecycle("orders", lame_duck=0.5, drain=5.0, stop=2.0)
    health = Health(lifecycle=life)
    server = grpc.server(ThreadPoolExecutor(6))
    add_health(server, health, services=["a.B"], interval=0.02, max_watchers=1)
    started = threading.Event()
    server.add_generic_rpc_handlers((slow_handler(started),))
    port = server.add_insecure_port("127.0.0.1:0")
    life.add(GrpcServer(server))
    with life, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = stubs.HealthStub(channel)
        assert stub.Check(pb.HealthCheckRequest(), timeout=30).status == SERVING
        assert stub.Check(pb.HealthCheckRequest(service="a.B"), timeout=30).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(pb.HealthCheckRequest(service="no"), timeout=30)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(pb.HealthCheckRequest(service="a.B"), timeout=30)
        assert next(watch).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(pb.HealthCheckRequest(), timeout=30))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        life.shutdown()
        assert next(watch).status == NOT_SERVING  # and new calls are still served:
        assert stub.Check(pb.HealthCheckRequest(), timeout=30).status == NOT_SERVING
        time.sleep(0.3)
        call = channel.unary_unary("/test.Test/Slow").future(b"", timeout=30)
        assert started.wait(30.0)
        assert call.result(5.0) == b"done"  # it was in flight when the drain began
        assert list(watch) == []  # let go, lest it hold up the drain
        report = life.wait(30.0)
    assert report.ok
    assert report.drain < 2.0


def test_an_unknown_service_may_be_watched_and_a_watcher_frees_its_place():
    health = Health()
    server = grpc.server(ThreadPoolExecutor(4))
    add_health(server, health, interval=0.02, max_watchers=1)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = stubs.HealthStub(channel)
            for _ in range(2):
                watch = stub.Watch(pb.HealthCheckRequest(service="no"), timeout=30)
                assert next(watch).status == pb.HealthCheckResponse.SERVICE_UNKNOWN
                watch.cancel()
                time.sleep(0.2)
    finally:
        server.stop(None).wait(30.0)


def test_an_asyncio_server():
    async def main():
        life = Lifecycle("orders", lame_duck=0.2, drain=2.0, stop=1.0)
        health = Health(lifecycle=life)
        held = health.hold("warm-up")
        server = grpc.aio.server()
        add_health(server, health, interval=0.02, max_watchers=1)
        port = server.add_insecure_port("127.0.0.1:0")
        life.add(AioGrpcServer(server))
        async with life, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = stubs.HealthStub(channel)
            assert (await stub.Check(pb.HealthCheckRequest(), timeout=30)).status == NOT_SERVING
            watch = stub.Watch(pb.HealthCheckRequest(), timeout=30)
            assert (await watch.read()).status == NOT_SERVING
            held()
            assert (await watch.read()).status == SERVING
            for service, code in (("no", grpc.StatusCode.NOT_FOUND),):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.Check(pb.HealthCheckRequest(service=service), timeout=30)
                assert caught.value.code() is code
            second = stub.Watch(pb.HealthCheckRequest(), timeout=30)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await second.read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            life.shutdown()
            assert (await watch.read()).status == NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
        return life.report

    assert asyncio.run(main()).ok


def test_requests_are_read_as_protobuf_does():
    assert _request(b"") == ""
    assert _request(pb.HealthCheckRequest(service="a.B").SerializeToString()) == "a.B"
    long = "x" * 300
    assert _request(pb.HealthCheckRequest(service=long).SerializeToString()) == long
    unknown = b"\x10\x96\x01" + b"\x1d1234" + b"\x2112345678" + b"\x2a\x02hi"
    assert _request(unknown + b"\x0a\x01q") == "q"
    for broken in (b"\x0a", b"\x0a\x05x", b"\x0b", b"\xff" * 12):
        with pytest.raises(ValueError, match="HealthCheckRequest"):
            _request(broken)
