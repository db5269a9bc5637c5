"""Real HTTP servers around an application, on a loopback port of their own, and a plain client."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from socketserver import ThreadingMixIn
from typing import NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

WAIT = 20.0  # only ends what hangs


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name]

    def __getitem__(self, name):
        if isinstance(name, int):
            return tuple.__getitem__(self, name)
        (value,) = self.all(name)
        return value

    def __contains__(self, name):
        return bool(self.all(name))


def ask(port, path="/", *, method="GET", headers=(), body=None):
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.putrequest(method, path)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def eventually(condition):
    """Wait for what another thread is about to do."""
    ends = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.005)


def listening():
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    return sock


@contextlib.contextmanager
def on_a_loop(start):
    """Run ``async with start() as port`` on a loop in a thread; yields the port."""
    ready = threading.Event()
    found = {}

    async def main():
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with start() as port:
                found["port"] = port
                ready.set()
                await found["stop"].wait()
        except BaseException as error:
            found["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(WAIT)
        if "error" in found:
            raise found["error"]
        yield found["port"]
    finally:
        if not found["loop"].is_closed():
            found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join(WAIT)
        assert not thread.is_alive()


def serving_asgi(app):
    """Uvicorn; yields its port."""
    import uvicorn

    @contextlib.asynccontextmanager
    async def start():
        sock = listening()
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_level="error",
            timeout_graceful_shutdown=1,
            proxy_headers=False,
            ws="wsproto",
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await task
            sock.close()

    return on_a_loop(start)


def serving_aiohttp(make_app):
    """aiohttp's own server, whose application is made on its loop; yields the port."""
    from aiohttp import web

    @contextlib.asynccontextmanager
    async def start():
        sock = listening()
        runner = web.AppRunner(
            make_app(), handler_cancellation=True, access_log=None, shutdown_timeout=1
        )
        await runner.setup()
        try:
            await web.SockSite(runner, sock).start()
            yield sock.getsockname()[1]
        finally:
            await runner.cleanup()
            sock.close()

    return on_a_loop(start)


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = False
    block_on_close = True

    def handle_error(self, request, client_address):
        """A client that went away is what some tests are about."""


@contextlib.contextmanager
def serving_wsgi(app):
    """The reference server, a thread for each connection; yields its port."""
    server = _Threads(("127.0.0.1", 0), _Quiet)
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(WAIT)
        server.server_close()
