"""Probes against real servers that are well, ill, slow, silent and gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading

import pytest
from certificates import Authority

from hastack.discovery import GrpcHealth, Health, Http, Tcp
from hastack.discovery._probe import ProbeFailed, Prober, _health_request, _health_status
from hastack.errors import InvalidArgument

BOUND = 20.0


def ask(probe, timeout=5.0):
    async def main():
        async with asyncio.timeout(BOUND):
            return await Prober(Health(probe, timeout=timeout), None).ask()

    return asyncio.run(main())


@contextlib.contextmanager
def server(answer, *, tls=None):
    """Says ``answer`` to whoever connects; ``None`` says nothing and keeps the connection open."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(BOUND)
    heard, kept = [], []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                taken, _ = listener.accept()
                kept.append(taken)
                taken.settimeout(BOUND)
                with contextlib.suppress(OSError):
                    if tls is not None:
                        taken = tls.wrap_socket(taken, server_side=True)
                        kept.append(taken)
                    if answer is not None:
                        heard.append(taken.recv(65536))
                        taken.sendall(answer)
                        taken.shutdown(socket.SHUT_WR)
                        while taken.recv(65536):
                            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in kept:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        thread.join(BOUND)
        for each in kept:  # only now is it known who was accepted last
            each.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_tcp() -> None:
    with server(None) as (port, _):
        assert ask(Tcp("127.0.0.1", port)) is None
    assert isinstance(ask(Tcp("127.0.0.1", free_port())), ConnectionRefusedError)


def response(status):
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("answer", "accepted", "problem"),
    [
        (response("200 OK"), None, None),
        (response("204"), None, None),
        (response("302 Found"), None, None),
        (response("200 OK") + b"x" * 1_000_000, None, None),
        (response("503 Service Unavailable"), None, "answered 503"),
        (response("404 Not Found"), 404, None),
        (response("200 OK"), [201, 202], "answered 200"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", None, "no status line"),
        (b"HTTP/1.1 abc\r\n", None, "no status line"),
        (b"HTTP/1.1 200", None, "no status line"),
        (b"", None, "no status line"),
        (b"x" * 100_000, None, "no status line"),
    ],
)
def test_http(answer, accepted, problem) -> None:
    with server(answer) as (port, heard):
        error = ask(Http(f"http://127.0.0.1:{port}/healthz?full=1", status=accepted))
    assert heard[0].startswith(b"GET /healthz?full=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
    if problem is None:
        assert error is None
    else:
        assert isinstance(error, ProbeFailed)
        assert problem in str(error)


def test_a_server_that_is_silent_is_a_failure_in_time() -> None:
    with server(None) as (port, _):
        error = ask(Http(f"http://127.0.0.1:{port}"), timeout=0.1)
    assert isinstance(error, ProbeFailed)
    assert "no answer within 0.1 s" in str(error)


def test_https_checks_the_certificate(tmp_path) -> None:
    authority = Authority(tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*authority.issue("server"))
    ours = ssl.create_default_context(cafile=authority.path)
    with server(response("200 OK"), tls=theirs) as (port, _):
        assert ask(Http(f"https://127.0.0.1:{port}/", ssl_context=ours)) is None
        assert isinstance(ask(Http(f"https://127.0.0.1:{port}/")), ssl.SSLError)


def test_grpc_health_against_the_official_servicer() -> None:
    grpc = pytest.importorskip("grpc")
    health = pytest.importorskip("grpc_health.v1.health")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    one = grpc.server(__import__("concurrent.futures").futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, one)
    port = one.add_insecure_port("127.0.0.1:0")
    long_name = "s" * 300
    one.start()
    try:
        target = f"127.0.0.1:{port}"
        status = health_pb2.HealthCheckResponse
        servicer.set("orders", status.SERVING)
        servicer.set(long_name, status.SERVING)
        assert ask(GrpcHealth(target)) is None
        assert ask(GrpcHealth(target, service="orders")) is None
        assert ask(GrpcHealth(target, service=long_name)) is None
        servicer.set("orders", status.NOT_SERVING)
        assert "NOT_SERVING" in str(ask(GrpcHealth(target, service="orders")))
        servicer.set("orders", status.UNKNOWN)
        assert "UNKNOWN" in str(ask(GrpcHealth(target, service="orders")))
        assert "NOT_FOUND" in repr(ask(GrpcHealth(target, service="nobody")))
    finally:
        one.stop(0).wait(BOUND)
    assert ask(GrpcHealth(f"127.0.0.1:{free_port()}")) is not None
    for name in ("", "orders", long_name):
        wanted = health_pb2.HealthCheckRequest(service=name).SerializeToString()
        assert _health_request(name) == wanted
    for value in range(4):
        answer = health_pb2.HealthCheckResponse(status=value).SerializeToString()
        assert _health_status(answer) == value


def test_functions_of_all_kinds() -> None:
    async def well():
        return None

    async def ill():
        raise OSError("disk full")

    async def slow():
        await asyncio.sleep(BOUND)

    def stops():
        raise StopIteration

    assert ask(well) is None
    assert ask(lambda: None) is None
    assert ask(well) is None
    assert ask(lambda: well()) is None
    assert "disk full" in str(ask(ill))
    assert "returned False" in str(ask(lambda: False))
    assert isinstance(ask(stops), RuntimeError)
    assert "no answer" in str(ask(slow, timeout=0.05))


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda: Tcp("", 80), "host"),
        (lambda: Tcp("h", 0), "port"),
        (lambda: Tcp("h", 70000), "port"),
        (lambda: Http(""), "url"),
        (lambda: Http("ftp://h/"), "url"),
        (lambda: Http("http://"), "url"),
        (lambda: Http("http://h:99999999/"), "url"),
        (lambda: Http("http://h/ x"), "url"),
        (lambda: GrpcHealth(""), "target"),
        (lambda: Health(7), "probe"),
        (lambda: Health(Tcp), "probe"),
        (lambda: Health(print, interval=0), "interval"),
        (lambda: Health(print, timeout=-1), "timeout"),
        (lambda: Health(print, fail_after=0), "fail_after"),
        (lambda: Health(print, recover_after=1.5), "recover_after"),
    ],
)
def test_bad_arguments_are_named(make, parameter) -> None:
    with pytest.raises(InvalidArgument, match=f"^{parameter}="):
        make()


def test_what_probes_are_called() -> None:
    assert repr(Tcp("h", 1)) == "Tcp('h', 1)"
    assert repr(Http("http://h/")) == "Http('http://h/')"
    assert repr(GrpcHealth("h:1", service="s")) == "GrpcHealth('h:1', service='s')"
